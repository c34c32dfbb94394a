"""`dianzan portal ...`: a portal's key pair, and assertions to try it with (voting/identity.py).

Both are for the portal's side: they read no settings and no database. A portal may as well make its
key with openssl, and its assertions with whatever signs Ed25519 there: voting/identity.md.
"""

import base64
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from voting.identity import SUBJECT_CHARACTERS_MAX, VALID_SECONDS_MAX, fingerprint
from voting.intake.manifest import origin_of

portal = typer.Typer(no_args_is_help=True, help="Portals that vouch for their users.")


@portal.command("key")
def key(
    out: Annotated[Path, typer.Option(metavar="FILE", help="New file for the private key.")],
    origin: Annotated[
        str, typer.Option("--portal", help="The portal's origin, as https://www.example.cn.")
    ],
) -> None:
    """Make a key pair: the private key into FILE, the public one as a line for campaign.toml.

    FILE is readable by its owner only, is never written over, and belongs on the portal's servers
    and nowhere else. The line belongs below [portal.keys]. The fingerprint, on stderr, is what the
    console shows of that key.
    """
    origin = _origin(origin)
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        typer.echo(f"{out} is there already: a key is not written over", err=True)
        raise typer.Exit(2) from None
    except OSError as why:
        typer.echo(f"{out} cannot be written: {why.strerror}", err=True)
        raise typer.Exit(2) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    public = private.public_key().public_bytes_raw()
    typer.echo(f"{json.dumps(origin)} = {json.dumps(base64.b64encode(public).decode())}")
    typer.echo(f"fingerprint: {fingerprint(public)}", err=True)


@portal.command("assert")
def assert_(
    key: Annotated[Path, typer.Option(metavar="FILE", help="The private key, as PEM.")],
    portal: Annotated[str, typer.Option(help="The portal's origin, as in [portal.keys].")],
    campaign: Annotated[str, typer.Option(help="Id of the campaign.")],
    subject: Annotated[str, typer.Option(help="The portal's id of the user.")],
    seconds: Annotated[
        int, typer.Option(min=1, max=VALID_SECONDS_MAX, help="How long it is valid.")
    ] = 300,
) -> None:
    """Print an assertion, signed now: what a portal's own program must make for each visitor.

    Try it: `curl -d '{"campaign": "...", "identity": "..."}' -H 'Content-Type: text/plain'
    https://likes.example.cn/v1/devices` answers 201 with a token of level 3, or 401 with a detail
    that says what is wrong.
    """
    if not 1 <= len(subject) <= SUBJECT_CHARACTERS_MAX:
        raise typer.BadParameter(
            f"1 to {SUBJECT_CHARACTERS_MAX} characters", param_hint="--subject"
        )
    private = _private_key(key)
    typer.echo(sign_assertion(private, _origin(portal), campaign, subject, time.time(), seconds))


def sign_assertion(
    private: Ed25519PrivateKey,
    portal: str,
    campaign: str,
    subject: str,
    now: float,
    seconds: int = 300,
) -> str:
    """One assertion, as a portal makes it."""
    iat = int(now)
    claims = {"iss": portal, "aud": campaign, "sub": subject, "iat": iat, "exp": iat + seconds}
    signed = _part({"alg": "EdDSA", "typ": "JWT"}) + b"." + _part(claims)
    return b".".join((signed, _url64(private.sign(signed)))).decode()


def _origin(text: str) -> str:
    """As the service has it; what an import would refuse is refused here."""
    try:
        return origin_of(text)
    except ValueError as why:
        raise typer.BadParameter(str(why), param_hint="--portal") from None


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        found = load_pem_private_key(path.read_bytes(), None)
    except OSError as why:
        typer.echo(f"{path} cannot be read: {why.strerror}", err=True)
        raise typer.Exit(2) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # No cause: its text could quote what is in the file.
        typer.echo(f"{path} holds no private key as PEM without a password", err=True)
        raise typer.Exit(2) from None
    if not isinstance(found, Ed25519PrivateKey):
        typer.echo(f"{path} holds a key of another kind: Ed25519 is needed", err=True)
        raise typer.Exit(2)
    return found


def _part(content: Mapping[str, object]) -> bytes:
    return _url64(json.dumps(content).encode())


def _url64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
