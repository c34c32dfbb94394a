"""GET /v1/photos/...: pictures out of memory or Postgres."""

from aiohttp import web

from voting.catalog import PhotoForm
from voting.edge.answers import FOR_GOOD, public_headers, public_problem
from voting.edge.live_catalog import DATABASE_AWAY
from voting.edge.media import etag_of, is_known
from voting.edge.parts import EDGE

_FOR_NOW = "public, max-age=300"
_FORMS = {
    # (size, kind) of the address: (form, media type)
    ("", "webp"): (PhotoForm.WEBP, "image/webp"),
    ("", "jpg"): (PhotoForm.JPEG, "image/jpeg"),
    ("-large", "webp"): (PhotoForm.LARGE_WEBP, "image/webp"),
    ("-large", "jpg"): (PhotoForm.LARGE_JPEG, "image/jpeg"),
}


async def get_photo(request: web.Request) -> web.Response:
    """GET /v1/photos/{photo}[-large].webp or .jpg; an id never changes what it shows. Where there
    is no large size, it is card size for now: it may come with the next import."""
    catalog = request.app[EDGE].catalog
    photo, size, kind = (request.match_info[name] for name in ("photo", "size", "kind"))
    picture = catalog.pictures.get(photo)
    if picture is None:
        return public_problem("not-found" if catalog.read else "store-down")
    stands_in = bool(size) and picture.large_width is None
    form, media_type = _FORMS["" if stands_in else size, kind]
    made = public_headers(media_type, _FOR_NOW if stands_in else FOR_GOOD)
    made["ETag"] = etag_of(photo, "" if stands_in else size)
    if is_known(request, made["ETag"]):
        return web.Response(status=304, headers=made)
    try:
        content = await catalog.photo(photo, form)
    except DATABASE_AWAY:
        return public_problem("store-down")
    if content is None:
        return public_problem("not-found")
    return web.Response(body=content, headers=made)
