"""A bare aiohttp application: reads the request and gives a fixed answer, and does nothing else.

    python -m loadtest.peers.bare_aiohttp

The floor under every handler on aiohttp. The answer has the bytes and headers of a counted like.
"""

from aiohttp import web

from loadtest.crowds import ORIGIN
from loadtest.peers.serving import serve

BODY = (
    b'{"outcome":"counted","candidate":"c017","likes":1234,"remaining_today":9,'
    b'"receipt":"AAAAAAAAAAAAAAAAAAAAAA"}'
)

HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "Cache-Control": "no-store",
    "Server": "dianzan",
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Origin": ORIGIN,
    "Vary": "Origin",
    "Access-Control-Expose-Headers": "Retry-After",
}


async def post_like(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=BODY, status=201, headers=HEADERS)


def make_app() -> web.Application:
    app = web.Application()
    app.add_routes([web.post("/v1/likes", post_like)])
    return app


if __name__ == "__main__":
    serve(make_app())
