"""Style sheets, scripts and drawings of the public pages, read once at the start."""

import hashlib
from importlib.resources import files

from aiohttp import web

from voting.edge.answers import FOR_GOOD, headers, problem
from voting.edge.compressed import Body, answer

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "jpg": "image/jpeg",
}
_FOR_A_WHILE = "public, max-age=300"
_DIGEST_BYTES = 6


def digest_of(content: bytes) -> str:
    """A few characters that change with the content."""
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


def _read() -> dict[str, tuple[Body, str]]:
    return {
        item.name: (Body(item.read_bytes()), _TYPES[item.name.rpartition(".")[2]])
        for item in (files("voting.edge") / "static").iterdir()
    }


STATIC = _read()
_DIGESTS = {name: digest_of(body.plain) for name, (body, _) in STATIC.items()}


def asset(name: str) -> str:
    """Address of a file from the edge's root, with its digest: kept for good, and another one when
    the file is another."""
    return f"static/{name}?{_DIGESTS[name]}"


async def get_static(request: web.Request) -> web.Response:
    """GET /static/{name}[?digest]."""
    name = request.match_info["name"]
    found = STATIC.get(name)
    if found is None:
        return problem("not-found")
    body, content_type = found
    # Another digest is an older page's or a newer edge's: whoever keeps this must ask again.
    cache = FOR_GOOD if request.query_string == _DIGESTS[name] else _FOR_A_WHILE
    return answer(request, body, headers(content_type, cache))
