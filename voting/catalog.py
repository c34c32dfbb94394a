"""The catalog: campaigns, candidates and pictures, read from Postgres.

`voting.intake` writes them; whoever serves campaigns reads them here and holds them in memory.
`catalog_version` moves with every change, in the transaction of the change, so that a reader who
asks for it first, then loads, never misses one: at worst it loads the same state twice.
"""

import base64
import enum
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import time
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from antifraud.limits import Rate
from voting.campaign import (
    Campaign,
    Candidate,
    Changed,
    Identity,
    Limits,
    Order,
    Page,
    Picture,
    Rules,
    Video,
    Visibility,
    VotingWindow,
)
from voting.changes import public_changes
from voting.notices import PublicNotice, load_notices


class PhotoForm(enum.StrEnum):
    """What there is of each picture; the values are columns."""

    WEBP = "webp"
    JPEG = "jpeg"
    LARGE_WEBP = "large_webp"
    LARGE_JPEG = "large_jpeg"


async def catalog_version(connection: asyncpg.Connection) -> int:
    """A number that grows with every change of what `load_campaigns` gives."""
    version: int = await connection.fetchval("SELECT version FROM catalog")
    return version


async def load_campaigns(connection: asyncpg.Connection) -> dict[str, Campaign]:
    """Every campaign by id, with all its candidates in listed order, withdrawn ones included.

    One moment's state: a half-seen import cannot happen. Must not be called inside a transaction
    (asyncpg refuses one of another isolation level there).
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        campaigns = await connection.fetch(
            "SELECT number, id, title, time_zone, opens_at, closes_at, rules::text, limits::text,"
            " ARRAY(SELECT origin FROM unnest(origins) WITH ORDINALITY AS _ (origin, place)"
            "  WHERE origin <> ALL (origins_off) ORDER BY place) AS origins,"
            " paused_because, is_test, page::text, portal_keys::text, origins_off,"
            " derived_shards, holds_all_because IS NOT NULL AS holds_all"
            " FROM campaigns ORDER BY number"
        )
        changes = await public_changes(connection)
        notices = await load_notices(connection)
        rows = await connection.fetch(
            "SELECT campaign, number, id, name, organisation, unit, channel, title, summary,"
            " photo, withdrawn_at IS NOT NULL AS withdrawn, story, more_photos, video"
            " FROM candidates ORDER BY campaign, place, number"
        )
        pictures = await connection.fetch(
            "SELECT id, width, height, large_width, large_height FROM photos"
        )
        videos = await connection.fetch(
            "SELECT id, kind, bytes, seconds, width, height FROM videos"
        )
    media = (
        {row["id"]: Picture(*row) for row in pictures},
        {row["id"]: Video(*row) for row in videos},
    )
    candidates: defaultdict[int, list[Candidate]] = defaultdict(list)
    for row in rows:
        fields = dict(row)
        fields["more_photos"] = tuple(fields["more_photos"])
        candidates[fields.pop("campaign")].append(Candidate(**fields))
    return {
        row["id"]: _campaign(
            row,
            tuple(candidates[row["number"]]),
            changes.get(row["number"], ()),
            notices.get(row["number"], ()),
            *media,
        )
        for row in campaigns
    }


async def load_photo(
    connection: asyncpg.Connection, photo_id: str, form: PhotoForm
) -> bytes | None:
    """The picture with this id in one of its forms; None where there is none. The id is a digest of
    its source, so what is behind an id and a form never changes, but for a large one that comes
    later."""
    content: bytes | None = await connection.fetchval(
        f"SELECT {form.value} FROM photos WHERE id = $1",
        photo_id,
    )
    return content


def _campaign(
    row: Mapping[str, Any],
    candidates: tuple[Candidate, ...],
    changes: tuple[Changed, ...],
    notices: tuple[PublicNotice, ...],
    pictures: Mapping[str, Picture],
    videos: Mapping[str, Video],
) -> Campaign:
    page = page_from_json(row["page"])
    # Of who has withdrawn only the card says who it was: the rest is no longer served either.
    here = [candidate for candidate in candidates if not candidate.withdrawn]
    shown = {page.cover, *(candidate.photo for candidate in candidates)}
    shown.update(photo for candidate in here for photo in candidate.more_photos)
    played = {candidate.video for candidate in here}
    return Campaign(
        number=row["number"],
        id=row["id"],
        title=row["title"],
        window=window_from_row(row),
        rules=rules_from_json(row["rules"]),
        limits=limits_from_json(row["limits"]),
        origins=tuple(row["origins"]),
        paused_because=row["paused_because"],
        candidates=candidates,
        is_test=row["is_test"],
        changes=changes,
        page=page,
        pictures={key: pictures[key] for key in shown if key and key in pictures},
        videos={key: videos[key] for key in played if key and key in videos},
        portal_keys={
            origin: base64.b64decode(key)
            for origin, key in json.loads(row["portal_keys"]).items()
            if origin not in row["origins_off"]
        },
        notices=notices,
        derived_shards=row["derived_shards"],
        holds_all=row["holds_all"],
    )


def window_from_row(row: Mapping[str, Any]) -> VotingWindow:
    """The window of a row of `campaigns`, in its zone."""
    zone = ZoneInfo(row["time_zone"])
    return VotingWindow(row["opens_at"].astimezone(zone), row["closes_at"].astimezone(zone), zone)


# How rules and limits lie in the database: by field name, enums by value, times as "18:00", rates
# as "30/minute". A field that a row does not have yet takes its default.


def rules_to_json(rules: Rules) -> str:
    return json.dumps(
        {
            "likes_per_candidate_per_day": rules.likes_per_candidate_per_day,
            "candidates_per_day": rules.candidates_per_day,
            "likes_per_campaign": rules.likes_per_campaign,
            "order": rules.order.value,
            "counts": rules.counts.value,
            "counts_daily_at": rules.counts_daily_at.isoformat("minutes"),
            "identity": rules.identity.value,
        }
    )


def rules_from_json(text: str) -> Rules:
    readers: dict[str, Callable[[Any], Any]] = {
        "order": Order,
        "counts": Visibility,
        "counts_daily_at": time.fromisoformat,
        "identity": Identity,
    }
    return Rules(**{name: readers.get(name, int)(v) for name, v in json.loads(text).items()})


def page_to_json(page: Page) -> str:
    return json.dumps(asdict(page), ensure_ascii=False)


def page_from_json(text: str) -> Page:
    return Page(**json.loads(text))


def limits_to_json(limits: Limits) -> str:
    return json.dumps(
        {"per_device": str(limits.per_device), "per_network": str(limits.per_network)}
    )


def limits_from_json(text: str) -> Limits:
    return Limits(**{name: Rate.parse(value) for name, value in json.loads(text).items()})
