"""Signing in by an identity provider (OpenID Connect): the authorization code flow with PKCE, state
and nonce, by authlib, which also checks the id token's signature, issuer, audience and times.

Who comes is matched with an account that is there: by the subject that the account is bound to, or,
once, by the name under which it was announced (`dianzan staff add li --oidc`; the provider's
`preferred_username`), after which it is bound to that subject. Nobody gets an account by coming.

The provider's second factor is the provider's to ask for: ours is not asked for on this way.

State, nonce and PKCE's verifier wait in a cookie that is sealed, good for 10 minutes and once. It
is SameSite=Lax, as it has to come along when the provider sends the browser back.
"""

import base64
import json
import time
import warnings
from typing import Any

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from tally.accounts import staff
from tally.accounts.sealing import SealError
from tally.console import pages
from tally.console.parts import console_of, limiter
from tally.console.problems import problem
from tally.console.sign_in import finish_by_oidc
from tally.translated import N_

router = APIRouter()
log = structlog.get_logger()

CALLBACK = "/sign-in/oidc/callback"
_USE = b"oidc"
_GOOD_SECONDS = 600
_COOKIE_BYTES_MAX = 4_000
_TIMEOUT_SECONDS = 5.0

UNKNOWN = N_("The identity provider knows you, but there is no account for you here. Ask an admin.")
FAILED = N_("Signing in by the identity provider failed. Try again.")
AWAY = N_("The identity provider does not answer. Try again, or sign in by password.")


@router.get("/sign-in/oidc")
@limiter.limit("20/minute")
async def get_oidc(request: Request, back: str = "/") -> Response:
    """Off to the provider."""
    client = _client(request)
    if not request.state.seen.may_sign_in:
        return problem(request, 403)
    session: dict[str, Any] = {}
    request.scope["session"] = session  # authlib keeps there what has to wait
    try:
        response: Response = await client.authorize_redirect(
            request, f"{request.state.seen.origin}{CALLBACK}"
        )
    except Exception as why:
        return _away(request, why)
    held = {"back": pages.own_path(back), "until": int(time.time()) + _GOOD_SECONDS} | session
    sealed = console_of(request).seal.close(json.dumps(held).encode(), _USE)
    response.set_cookie(
        _cookie_name(request),
        base64.urlsafe_b64encode(sealed).decode(),
        max_age=_GOOD_SECONDS,
        path="/",
        secure=request.state.seen.https,
        httponly=True,
        samesite="lax",
    )
    return response


@router.get(CALLBACK)
@limiter.limit("20/minute")
async def get_oidc_callback(request: Request) -> Response:
    """Back from the provider."""
    client = _client(request)
    held = _opened(request)
    if held is None:
        return _failed(request, "no-state")
    back = held.pop("back")
    request.scope["session"] = held
    try:
        token = await client.authorize_access_token(request)
    except Exception as why:
        # Refused, another state, a code that was used; a wrong signature, issuer, audience, nonce
        # or time. What is none of these errors is the way there.
        if type(why).__module__.startswith(("joserfc.", "authlib.")) or isinstance(why, ValueError):
            return _failed(request, str(getattr(why, "error", type(why).__name__)))
        return _away(request, why)
    claims = token.get("userinfo") or {}
    subject, name = claims.get("sub"), claims.get("preferred_username")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        return _failed(request, "no-subject")
    async with console_of(request).pool.acquire() as connection:
        account = await staff.find_by_subject(
            connection, subject, name if isinstance(name, str) else None
        )
    if account is None or account.disabled_at is not None:
        log.info("sign-in-refused", address=request.state.address, way="oidc")
        return _done(request, problem(request, 403, why=pages.translator_of(request)(UNKNOWN)))
    return _done(request, await finish_by_oidc(request, account, back))


def _client(request: Request) -> Any:
    """authlib's client of the provider; it remembers the provider's metadata and keys. 404 where
    there is none."""
    settings = console_of(request).settings
    if settings.oidc_issuer is None:
        raise HTTPException(404)
    state = request.app.state
    if not hasattr(state, "oidc"):
        # Here, as most installations have no provider: it and httpx are 10 MB. authlib tells
        # whoever reads our log of httpx's next name, and first sees to it that it is heard.
        with warnings.catch_warnings():
            import authlib.deprecate  # noqa: F401

            warnings.simplefilter("ignore")
            from authlib.integrations.starlette_client import OAuth
        secret = settings.oidc_client_secret
        issuer = settings.oidc_issuer.rstrip("/")
        state.oidc = OAuth().register(
            "provider",
            client_id=settings.oidc_client_id,
            client_secret=secret.get_secret_value() if secret else None,
            server_metadata_url=f"{issuer}/.well-known/openid-configuration",
            client_kwargs={
                "scope": "openid profile",
                "code_challenge_method": "S256",
                "timeout": _TIMEOUT_SECONDS,
                **({} if secret else {"token_endpoint_auth_method": "none"}),
            },
        )
    return state.oidc


def _opened(request: Request) -> dict[str, Any] | None:
    """What waited, where the cookie is ours and not too old."""
    value = request.cookies.get(_cookie_name(request), "")
    if not value or len(value) > _COOKIE_BYTES_MAX:
        return None
    try:
        sealed = base64.urlsafe_b64decode(value)
        held: dict[str, Any] = json.loads(console_of(request).seal.open(sealed, _USE))
    except (SealError, ValueError):
        return None
    return held if held.pop("until") > time.time() else None


def _failed(request: Request, why: str) -> Response:
    log.info("oidc-failed", why=why[:100], address=request.state.address)
    return _done(request, problem(request, 403, why=pages.translator_of(request)(FAILED)))


def _away(request: Request, why: Exception) -> Response:
    log.warning("oidc-away", why=f"{type(why).__name__}: {why}"[:300])
    return problem(request, 503, why=pages.translator_of(request)(AWAY))


def _done(request: Request, response: Response) -> Response:
    """Once: who comes again begins again."""
    response.delete_cookie(
        _cookie_name(request),
        path="/",
        secure=request.state.seen.https,
        httponly=True,
        samesite="lax",
    )
    return response


def _cookie_name(request: Request) -> str:
    return "__Host-dianzan-oidc" if request.state.seen.https else "dianzan-oidc"
