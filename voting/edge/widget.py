"""The widget's files: frozen builds by version, and the newest one under v1."""

import base64
import functools
import hashlib
import re
from importlib.resources import files

from aiohttp import hdrs, web

from voting.edge.answers import FOR_GOOD, problem, public_headers
from voting.edge.compressed import Body, answer

_VERSION = re.compile(r"v1\.(\d+)")
_TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}


def _read_builds() -> dict[int, dict[str, Body]]:
    """Minor version -> file name -> content."""
    folder = files("voting") / "widget" / "dist"
    builds: dict[int, dict[str, Body]] = {}
    for build in folder.iterdir():
        if found := _VERSION.fullmatch(build.name):
            builds[int(found[1])] = {
                item.name: Body(item.read_bytes())
                for item in build.iterdir()
                if item.name.rpartition(".")[2] in _TYPES
            }
    return builds


_BUILDS = _read_builds()
NEWEST = f"v1.{max(_BUILDS)}"


def integrity(version: str, name: str) -> str:
    """What a page that pins this file says of it (Subresource Integrity)."""
    content = _BUILDS[int(version.removeprefix("v1."))][name].plain
    return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()


async def get_widget(request: web.Request) -> web.Response:
    """GET /embed/v1.N/{name}: a frozen build, kept for good; /embed/v1/{name}: the newest."""
    version, name = request.match_info["version"], request.match_info["name"]
    frozen = _VERSION.fullmatch(version)
    minor = int(frozen[1]) if frozen else max(_BUILDS)
    content = _BUILDS.get(minor, {}).get(name)
    if content is None:
        return problem("not-found")
    cache = FOR_GOOD if frozen else "public, max-age=300"
    made = public_headers(_TYPES[name.rpartition(".")[2]], cache)
    made[hdrs.ETAG] = etag = _etag(content)
    if etag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
        return web.Response(status=304, headers=made)
    return answer(request, content, made)


@functools.cache
def _etag(content: Body) -> str:
    return f'W/"{hashlib.blake2b(content.plain, digest_size=9).hexdigest()}"'
