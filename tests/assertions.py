"""What portals sign, for tests: sound assertions, and every way of getting one wrong."""

import base64
import json
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PORTAL = "https://www.example.cn"


def url64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def part(content):
    """One part of a JWT, of an object or of a text as it is to stand there."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return url64(raw)


class Portal:
    """One portal with its key."""

    def __init__(self, origin=PORTAL, key=None):
        self.origin = origin
        self.private = key or Ed25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes_raw()

    @property
    def line(self):
        """Its value in campaign.toml and in the database."""
        return base64.b64encode(self.public).decode()

    def claims(self, subject="openid-1", campaign="spring", at=None, **changed):
        now = int(time.time()) if at is None else at
        said = {"iss": self.origin, "aud": campaign, "sub": subject, "iat": now, "exp": now + 300}
        said |= changed
        return {name: value for name, value in said.items() if value is not ...}

    def sign(self, header, claims):
        signed = f"{part(header)}.{part(claims)}"
        return f"{signed}.{url64(self.private.sign(signed.encode()))}"

    def vouch(self, subject="openid-1", campaign="spring", *, header=None, **changed):
        """An assertion; `changed` claims replace the sound ones, ... leaves one out."""
        sound = {"alg": "EdDSA", "typ": "JWT"}
        return self.sign(header or sound, self.claims(subject, campaign, **changed))


async def add_keys(connection, *portals, campaign="spring", identity=None):
    """Give a campaign these portals' keys, and make all edges look again."""
    keys = {portal.origin: portal.line for portal in portals}
    await connection.execute(
        "UPDATE campaigns SET portal_keys = $2,"
        " origins = ARRAY(SELECT DISTINCT o FROM unnest(origins || $3::text[]) AS o),"
        " rules = CASE WHEN $4::text IS NULL THEN rules"
        " ELSE rules || jsonb_build_object('identity', $4) END WHERE id = $1",
        campaign,
        json.dumps(keys),
        list(keys),
        identity,
    )
    await connection.execute("UPDATE catalog SET version = version + 1")
