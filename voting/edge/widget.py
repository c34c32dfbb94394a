"""The widget's files: frozen builds by version, and the newest one under v1."""

import re
from importlib.resources import files

from aiohttp import web

from voting.edge.answers import problem, public_headers

_VERSION = re.compile(r"v1\.(\d+)")
_TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}


def _read_builds() -> dict[int, dict[str, bytes]]:
    """Minor version -> file name -> content."""
    folder = files("voting") / "widget" / "dist"
    builds: dict[int, dict[str, bytes]] = {}
    for build in folder.iterdir():
        if found := _VERSION.fullmatch(build.name):
            builds[int(found[1])] = {
                item.name: item.read_bytes()
                for item in build.iterdir()
                if item.name.rpartition(".")[2] in _TYPES
            }
    return builds


_BUILDS = _read_builds()


async def get_widget(request: web.Request) -> web.Response:
    """GET /embed/v1.N/{name}: a frozen build, kept for good; /embed/v1/{name}: the newest."""
    version, name = request.match_info["version"], request.match_info["name"]
    frozen = _VERSION.fullmatch(version)
    minor = int(frozen[1]) if frozen else max(_BUILDS)
    content = _BUILDS.get(minor, {}).get(name)
    if content is None:
        return problem("not-found")
    cache = "public, max-age=31536000, immutable" if frozen else "public, max-age=300"
    return web.Response(
        body=content, headers=public_headers(_TYPES[name.rpartition(".")[2]], cache)
    )
