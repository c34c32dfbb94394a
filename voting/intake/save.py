"""A checked folder -> Postgres, in one transaction.

Votes refer to a campaign and a candidate by number. A number is given once and never reused, and
whoever was voted for stays in the table: a candidate that the list no longer has is withdrawn.

The danger is a list that was renumbered under votes: `c003` is somebody else now, and the votes
of the former c003 would be hers. So an id that changes its name after the opening is refused, and
so is a candidate who goes or comes back, unless staff say that they mean it.

What an import changes of a campaign that is there is written down as changes, like those that staff
make one by one (voting/changes.py).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from voting.campaign import Page, VotingWindow
from voting.catalog import (
    limits_from_json,
    limits_to_json,
    page_from_json,
    page_to_json,
    rules_from_json,
    rules_to_json,
)
from voting.changes import (
    CANDIDATE_FIELDS,
    PAGE_FIELDS,
    Kind,
    Recorded,
    identity_facts,
    limit_facts,
    lock_changes,
    moved,
    quota_facts,
    record,
    visibility_facts,
    window_facts,
)
from voting.identity import key_shown
from voting.intake.folder import Checked
from voting.intake.manifest import FILE as MANIFEST
from voting.intake.manifest import Manifest
from voting.intake.photos import Card
from voting.intake.problems import Problem, error, errors_in, warning
from voting.intake.roster import CANDIDATES_MAX, Listed, Roster
from voting.intake.videos import FoundVideo

_ACCEPT = "import with --accept-changes if that is meant"


@dataclass(frozen=True, slots=True)
class Held:
    """One candidate as the database has it."""

    number: int
    id: str
    name: str
    withdrawn_at: datetime | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """CANDIDATE_FIELDS as they are stored."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who imports, as the list of changes and the public rules page have it."""

    name: str = "import"
    approved_by: str | None = None
    reason: str = "名单导入 / imported list"


_THE_COMMAND = Author()


async def known_photos(connection: asyncpg.Connection) -> frozenset[str]:
    """Ids of the pictures that need not be made again: those in both sizes."""
    rows = await connection.fetch("SELECT id FROM photos WHERE large_width IS NOT NULL")
    return frozenset(row["id"] for row in rows)


async def save(
    connection: asyncpg.Connection,
    checked: Checked,
    *,
    accept_changes: bool,
    write: bool,
    author: Author = _THE_COMMAND,
) -> list[Problem]:
    """Compare with the campaign that is there, and write if nothing speaks against it.

    Returns what the comparison found. Nothing is written where that, or the folder, holds an
    error, nor without `write`. A crash at any point leaves the database as it was.
    """
    manifest, roster = checked.manifest, checked.roster
    if manifest is None or roster is None:
        return []
    async with connection.transaction():
        # Two imports at once would give the same numbers out. Held until the end of ours.
        await lock_changes(connection)
        compared = await _compare(connection, checked, manifest, roster, accept_changes)
        if not write or not checked.ok or errors_in(compared.problems):
            return compared.problems
        # Pictures first: what names them comes behind them.
        await write_photos(connection, checked.cards)
        await write_videos(connection, checked.videos)
        campaign_number = await _write_campaign(connection, manifest, checked.cover)
        await _write_candidates(connection, campaign_number, checked, roster, compared.numbers)
        await connection.execute(
            "UPDATE candidates SET withdrawn_at = now()"
            " WHERE campaign = $1 AND withdrawn_at IS NULL AND id <> ALL ($2::text[])",
            campaign_number,
            list(compared.numbers),
        )
        await record(
            connection,
            campaign_number,
            compared.changes,
            opened=compared.has_opened,
            reason=author.reason,
            changed_by=author.name,
            approved_by=author.approved_by,
        )
        return compared.problems


@dataclass(frozen=True, slots=True)
class Compared:
    """A checked folder beside the campaign that is there."""

    campaign: int | None
    """Its number; None where there is none yet."""
    has_opened: bool
    is_test: bool
    version: int
    """Number of the campaign's last change."""
    problems: list[Problem]
    changes: list[Recorded]
    """What would be written down."""
    numbers: Mapping[str, int]
    """Candidate id -> number, those of the list alone."""


async def compare(
    connection: asyncpg.Connection, checked: Checked, *, accept_changes: bool
) -> Compared | None:
    """What importing the folder would do now; None where it could not be read that far. Called in
    a transaction, what it says holds to its end."""
    manifest, roster = checked.manifest, checked.roster
    if manifest is None or roster is None:
        return None
    async with connection.transaction():
        await lock_changes(connection)
        return await _compare(connection, checked, manifest, roster, accept_changes)


async def _compare(
    connection: asyncpg.Connection,
    checked: Checked,
    manifest: Manifest,
    roster: Roster,
    accept_changes: bool,
) -> Compared:
    campaign = await connection.fetchrow(
        "SELECT number, title, time_zone, opens_at, closes_at, rules::text, limits::text, origins,"
        " channels::text, page::text, portal_keys::text, is_test,"
        " opens_at <= clock_timestamp() AS has_opened,"
        " (SELECT coalesce(max(number), 0) FROM campaign_changes AS h"
        "  WHERE h.campaign = c.number) AS version"
        " FROM campaigns AS c WHERE id = $1 FOR UPDATE",
        manifest.id,
    )
    held = await _held_candidates(connection, campaign["number"] if campaign else 0)
    numbers = numbers_for(held, roster.candidates)
    problems: list[Problem] = []
    if max(numbers.values(), default=0) > CANDIDATES_MAX:
        message = f"the campaign would need more than {CANDIDATES_MAX} candidate numbers"
        problems.append(error(roster.file, message))
    if campaign is None:
        first = [Recorded(Kind.IMPORTED, {}, {"candidates": len(roster.candidates)})]
        return Compared(None, False, False, 0, problems, first, numbers)
    has_opened: bool = campaign["has_opened"]
    if roster.ids_are_known:
        problems = (
            list_changes(held, roster, has_opened=has_opened, accepted=accept_changes) + problems
        )
    problems = (
        zone_changes(
            ZoneInfo(campaign["time_zone"]),
            manifest,
            has_opened=has_opened,
            accepted=accept_changes,
        )
        + problems
    )
    changes = campaign_changes(campaign, manifest, checked.cover)
    changes += candidate_changes(held, checked, roster, numbers)
    is_test, version = campaign["is_test"], campaign["version"]
    return Compared(campaign["number"], has_opened, is_test, version, problems, changes, numbers)


# The rules.


def list_changes(
    held: Iterable[Held], roster: Roster, *, has_opened: bool, accepted: bool
) -> list[Problem]:
    """What the list would do to candidates who are there."""
    doubt: Callable[..., Problem] = warning if accepted else error
    listed_by_id = {candidate.id: candidate for candidate in roster.candidates}
    problems = []
    for candidate in held:
        listed = listed_by_id.get(candidate.id)
        place: dict[str, Any] = {
            "row": listed.row if listed else None,
            "column": roster.id_column,
            "value": candidate.id,
        }
        if listed is None:
            if candidate.withdrawn_at is None:
                message = (
                    f"{candidate.id} ({candidate.name}) is in the campaign and not in this list: "
                    "will be withdrawn, votes and number stay"
                )
                problems.append(doubt(roster.file, _asking(message, accepted), **place))
            continue
        if candidate.withdrawn_at is not None:
            message = (
                f"{candidate.id} ({candidate.name}) was withdrawn on "
                f"{candidate.withdrawn_at:%Y-%m-%d}: comes back with all votes"
            )
            problems.append(doubt(roster.file, _asking(message, accepted), **place))
        if listed.name != candidate.name:
            message = f"{candidate.id} was {candidate.name} and is {listed.name} now"
            if has_opened:
                message += (
                    f": the votes of {candidate.name} would go to {listed.name}. If the list was "
                    "renumbered, give everyone the former number; if only a name was corrected, "
                )
                message += _ACCEPT if not accepted else "this is right"
            level = doubt if has_opened else warning
            problems.append(level(roster.file, message, **place))
    return problems


def zone_changes(
    zone: ZoneInfo, manifest: Manifest, *, has_opened: bool, accepted: bool
) -> list[Problem]:
    """Another zone is another day: who has used up today's likes would get them anew."""
    if not has_opened or zone.key == manifest.window.zone.key:
        return []
    message = f"was {zone.key} when the campaign opened: days and daily quotas shift"
    level = warning if accepted else error
    return [
        level(
            MANIFEST,
            _asking(message, accepted),
            column="campaign.time_zone",
            value=manifest.window.zone.key,
        )
    ]


def _asking(message: str, accepted: bool) -> str:
    return message if accepted else f"{message}; {_ACCEPT}"


def campaign_changes(
    campaign: Mapping[str, Any], manifest: Manifest, cover: str | None
) -> list[Recorded]:
    """What the manifest changes of a campaign, as its row has it."""
    zone = ZoneInfo(campaign["time_zone"])
    before = VotingWindow(
        campaign["opens_at"].astimezone(zone), campaign["closes_at"].astimezone(zone), zone
    )
    rules = rules_from_json(campaign["rules"]), manifest.rules
    limits = limits_from_json(campaign["limits"]), manifest.limits
    facts = {
        "title": campaign["title"],
        "origins": list(campaign["origins"]),
        "channels": json.loads(campaign["channels"]),
        **page_facts(page_from_json(campaign["page"])),
    }
    becomes = {
        "title": manifest.title,
        "origins": list(manifest.origins),
        "channels": manifest.channels or {},
        **page_facts(replace(manifest.page, cover=cover)),
    }
    found: list[tuple[Kind, dict[str, Any], dict[str, Any]]] = [
        (Kind.IMPORTED, facts, becomes),
        (Kind.WINDOW, window_facts(before), window_facts(manifest.window)),
        (Kind.QUOTA, quota_facts(rules[0]), quota_facts(rules[1])),
        (Kind.VISIBILITY, visibility_facts(rules[0]), visibility_facts(rules[1])),
        (Kind.LIMITS, limit_facts(limits[0]), limit_facts(limits[1])),
        (Kind.IDENTITY, identity_facts(rules[0]), identity_facts(rules[1])),
        (Kind.PORTAL_KEYS, *_keys_moved(json.loads(campaign["portal_keys"]), manifest)),
    ]
    changes = [Recorded(kind, *moved(was, becomes)) for kind, was, becomes in found]
    return [change for change in changes if change.became]


def _keys_moved(
    was: Mapping[str, str], manifest: Manifest
) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """By portal the fingerprint of its key; None = it has none."""
    both = {*was, *manifest.portal_keys}
    shown = (
        {origin: key_shown(keys[origin]) if origin in keys else None for origin in sorted(both)}
        for keys in (was, manifest.portal_keys)
    )
    return next(shown), next(shown)


def page_facts(page: Page) -> dict[str, Any]:
    return {name: getattr(page, name) for name in PAGE_FIELDS}


def candidate_facts(listed: Listed, checked: Checked) -> dict[str, Any]:
    """CANDIDATE_FIELDS as they are stored."""
    media = {
        "photo": checked.photo_ids.get(listed.id),
        "more_photos": list(checked.more_photo_ids.get(listed.id, ())),
        "video": checked.video_ids.get(listed.id),
    }
    return {
        name: media[name] if name in media else getattr(listed, name) for name in CANDIDATE_FIELDS
    }


def candidate_changes(
    held: Iterable[Held], checked: Checked, roster: Roster, numbers: Mapping[str, int]
) -> list[Recorded]:
    """What the list changes of candidates; each by the number that it has or gets."""
    known = {candidate.id: candidate for candidate in held}
    changes = []
    for listed in roster.candidates:
        facts = candidate_facts(listed, checked)
        before, number = known.get(listed.id), numbers[listed.id]
        if before is None:
            became = {"id": listed.id, **facts}
            changes.append(Recorded(Kind.CANDIDATE_ADDED, {}, became, number))
            continue
        if before.withdrawn_at is not None:
            changes.append(Recorded(Kind.CANDIDATE_RETURNED, candidate=number))
        was, becomes = moved(before.facts, facts)
        if becomes:
            changes.append(Recorded(Kind.CANDIDATE_CORRECTED, was, becomes, number))
    changes += [
        Recorded(Kind.CANDIDATE_WITHDRAWN, candidate=candidate.number)
        for candidate in known.values()
        if candidate.id not in numbers and candidate.withdrawn_at is None
    ]
    return changes


def numbers_for(held: Iterable[Held], listed: Iterable[Listed]) -> dict[str, int]:
    """Candidate id -> number: the one it has, or the next that nobody ever had."""
    number_of = {candidate.id: candidate.number for candidate in held}
    unused = count(max(number_of.values(), default=0) + 1)
    return {
        candidate.id: number_of[candidate.id] if candidate.id in number_of else next(unused)
        for candidate in listed
    }


# Reading and writing; the caller holds the lock.


async def _held_candidates(connection: asyncpg.Connection, campaign: int) -> list[Held]:
    rows = await connection.fetch(
        "SELECT * FROM candidates WHERE campaign = $1 ORDER BY place, number", campaign
    )
    return [
        Held(
            *(row["number"], row["id"], row["name"], row["withdrawn_at"]),
            {name: row[name] for name in CANDIDATE_FIELDS},
        )
        for row in rows
    ]


async def _write_campaign(
    connection: asyncpg.Connection, manifest: Manifest, cover: str | None
) -> int:
    """The campaign's number. Whether it is paused is not the list's to say and stays."""
    number: int = await connection.fetchval(
        """
        INSERT INTO campaigns (number, id, title, time_zone, opens_at, closes_at, rules, limits,
                               origins, channels, page, portal_keys, derived_shards)
        VALUES (coalesce((SELECT number FROM campaigns WHERE id = $1),
                         (SELECT coalesce(max(number), 0) + 1 FROM campaigns)),
                $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, (SELECT shards FROM catalog))
        ON CONFLICT (id) DO UPDATE SET
            title = excluded.title, time_zone = excluded.time_zone,
            opens_at = excluded.opens_at, closes_at = excluded.closes_at,
            rules = excluded.rules, limits = excluded.limits,
            origins = excluded.origins, channels = excluded.channels, page = excluded.page,
            portal_keys = excluded.portal_keys, imported_at = now()
        RETURNING number
        """,
        manifest.id,
        manifest.title,
        manifest.window.zone.key,
        manifest.window.opens_at,
        manifest.window.closes_at,
        rules_to_json(manifest.rules),
        limits_to_json(manifest.limits),
        list(manifest.origins),
        _channels_to_json(manifest.channels),
        page_to_json(replace(manifest.page, cover=cover)),
        json.dumps(dict(manifest.portal_keys)),
    )
    return number


def _channels_to_json(channels: Mapping[str, int] | None) -> str:
    return json.dumps(channels or {}, ensure_ascii=False)


async def write_photos(connection: asyncpg.Connection, cards: Iterable[Card]) -> None:
    """Pictures by their ids; those that are there stay, and get a large size where they have
    none."""
    await connection.executemany(
        "INSERT INTO photos (id, width, height, webp, jpeg,"
        " large_width, large_height, large_webp, large_jpeg)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE SET"
        " large_width = excluded.large_width, large_height = excluded.large_height,"
        " large_webp = excluded.large_webp, large_jpeg = excluded.large_jpeg"
        " WHERE photos.large_width IS NULL",
        # Read one by one as they are sent: all of them need not fit into memory.
        (
            (
                *(card.id, card.width, card.height),
                *(card.webp.read_bytes(), card.jpeg.read_bytes()),
                *(card.large_width, card.large_height),
                *(card.large_webp.read_bytes(), card.large_jpeg.read_bytes()),
            )
            for card in cards
        ),
    )


async def write_videos(connection: asyncpg.Connection, videos: Iterable[FoundVideo]) -> None:
    """What is known of videos whose files are in their place already (voting/media_files.py)."""
    await connection.executemany(
        "INSERT INTO videos (id, kind, bytes, seconds, width, height)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING",
        [(one.id, one.kind, one.size_bytes, one.seconds, one.width, one.height) for one in videos],
    )


async def _write_candidates(
    connection: asyncpg.Connection,
    campaign: int,
    checked: Checked,
    roster: Roster,
    numbers: Mapping[str, int],
) -> None:
    await connection.executemany(
        """
        INSERT INTO candidates (campaign, number, id, place, name, organisation, unit, channel,
                                title, summary, photo, story, more_photos, video)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        ON CONFLICT (campaign, number) DO UPDATE SET
            place = excluded.place, name = excluded.name, organisation = excluded.organisation,
            unit = excluded.unit, channel = excluded.channel, title = excluded.title,
            summary = excluded.summary, photo = excluded.photo, story = excluded.story,
            more_photos = excluded.more_photos, video = excluded.video, withdrawn_at = NULL
        """,
        [
            (
                campaign,
                numbers[candidate.id],
                candidate.id,
                place,
                *candidate_facts(candidate, checked).values(),
            )
            for place, candidate in enumerate(roster.candidates, 1)
        ],
    )
