"""A small OpenID Connect provider for tests: one that behaves, and can be told not to."""

import base64
import contextlib
import hashlib
import secrets
import time
from urllib.parse import urlencode

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey


class IdentityProvider:
    """Whoever comes to /authorize is `claims`, without being asked."""

    def __init__(self):
        self.url = ""
        self.client_id = "console"
        self.claims = {"sub": "subject-1", "preferred_username": "li"}
        self.changed_claims = {}
        """What the id token says instead of the truth."""
        self.key = RSAKey.generate_key(2048, parameters={"kid": "1", "use": "sig"})
        self.signing_key = self.key
        self.refuses = False
        self.asked = []
        """What came to /token."""
        self._codes = {}

    async def configuration(self, request):
        return web.json_response(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    async def authorize(self, request):
        query = dict(request.query)
        assert query["client_id"] == self.client_id
        assert query["code_challenge_method"] == "S256"
        back = {"state": query["state"]}
        if self.refuses:
            back["error"] = "access_denied"
        else:
            back["code"] = secrets.token_urlsafe(16)
            self._codes[back["code"]] = query
        raise web.HTTPFound(f"{query['redirect_uri']}?{urlencode(back)}")

    async def token(self, request):
        form = dict(await request.post())
        self.asked.append(form)
        query = self._codes.pop(form.get("code"), None)
        if query is None:
            return web.json_response({"error": "invalid_grant"}, status=400)
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(challenge).decode().rstrip("=") != query["code_challenge"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": self.client_id,
            "iat": now,
            "exp": now + 300,
            "nonce": query["nonce"],
            **self.claims,
            **self.changed_claims,
        }
        id_token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.signing_key)
        return web.json_response(
            {"access_token": "a", "token_type": "Bearer", "id_token": id_token, "expires_in": 300}
        )

    async def keys(self, request):
        return web.json_response({"keys": [self.key.as_dict(private=False)]})


@contextlib.asynccontextmanager
async def running_provider():
    provider = IdentityProvider()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", provider.configuration)
    app.router.add_get("/authorize", provider.authorize)
    app.router.add_post("/token", provider.token)
    app.router.add_get("/keys", provider.keys)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield provider
    finally:
        await runner.cleanup()
