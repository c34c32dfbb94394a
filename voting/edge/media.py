"""Photos and videos: their addresses, and what `photos` and `videos`, which serve them, share.

    /v1/photos/{id}.webp|jpg         card size
    /v1/photos/{id}-large.webp|jpg   large, where there is one
    /v1/videos/{id}.mp4|mov          whole or in ranges

An id is a digest of the source: what is behind an address never changes, and caches keep it for
good. Where DIANZAN_MEDIA_URL is set, all addresses point there, to the same paths below it: a CDN
before the edge, or an object store that holds what `dianzan media export` writes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiohttp import web

from voting.campaign import Campaign
from voting.settings import Settings


class ShownSize(NamedTuple):
    """One size of a picture, for a template."""

    webp: str
    jpeg: str
    """Addresses."""
    width: int
    height: int


class ShownPicture(NamedTuple):
    """One picture, for a template: card size and large."""

    webp: str
    jpeg: str
    width: int
    height: int
    large: ShownSize | None
    """None where there is nothing larger than the card."""

    @property
    def largest(self) -> ShownSize:
        return self.large or ShownSize(self.webp, self.jpeg, self.width, self.height)


class ShownVideo(NamedTuple):
    """One video, for a template."""

    src: str
    media_type: str
    """video/mp4 or video/quicktime. Not for the `type` of a <source>: browsers that play a MOV
    deny that they do."""
    seconds: float
    size_bytes: int
    width: int | None
    height: int | None
    """None where the file does not say."""

    @property
    def length(self) -> str:
        """As 2:05."""
        minutes, seconds = divmod(round(self.seconds), 60)
        return f"{minutes}:{seconds:02}"


VIDEO_TYPES: Mapping[str, str] = {"mp4": "video/mp4", "mov": "video/quicktime"}


def media_origin(settings: Settings) -> str:
    """What a page's img-src and media-src must name beside 'self'; "" where that is all."""
    if settings.media_url is None:
        return ""
    parts = urlsplit(settings.media_url)
    return f"{parts.scheme}://{parts.netloc}"


def picture(
    campaign: Campaign, photo_id: str | None, root: str, media_url: str | None
) -> ShownPicture | None:
    """A picture's addresses and sizes; None where there is none. `root`: the way to the edge's own
    root, relative or a whole address, with a slash at its end or ""."""
    if photo_id is None or (known := campaign.pictures.get(photo_id)) is None:
        return None
    base = f"{_base(root, media_url)}v1/photos/{photo_id}"
    large = None
    if known.large_width and known.large_height and known.large_width > known.width:
        large = ShownSize(
            f"{base}-large.webp", f"{base}-large.jpg", known.large_width, known.large_height
        )
    return ShownPicture(f"{base}.webp", f"{base}.jpg", known.width, known.height, large)


def video(
    campaign: Campaign, video_id: str | None, root: str, media_url: str | None
) -> ShownVideo | None:
    """The same of a video."""
    if video_id is None or (known := campaign.videos.get(video_id)) is None:
        return None
    return ShownVideo(
        f"{_base(root, media_url)}v1/videos/{video_id}.{known.kind}",
        VIDEO_TYPES[known.kind],
        known.seconds,
        known.size_bytes,
        known.width,
        known.height,
    )


def photo_members(
    campaign: Campaign, photo_id: str | None, media_url: str | None
) -> dict[str, Any] | None:
    """A picture as JSON has it: paths from the edge's root, or addresses below `media_url`."""
    shown = picture(campaign, photo_id, "/", media_url)
    if shown is None:
        return None
    members = shown._asdict()
    members["large"] = shown.large._asdict() if shown.large else None
    return members


def etag_of(digest: str, size: str = "") -> str:
    """Of what is behind a digest: it is the same for good."""
    return f'"{digest}{size}"'


def is_known(request: web.Request, etag: str) -> bool:
    """Whether the client has it already and wants to hear just that."""
    known = request.if_none_match or ()
    return any(one.value == "*" or f'"{one.value}"' == etag for one in known)


def _base(root: str, media_url: str | None) -> str:
    return root if media_url is None else f"{media_url}/"
