"""A checked folder -> Postgres, in one transaction.

Votes refer to a campaign and a candidate by number. A number is given once and never reused, and
whoever was voted for stays in the table: a candidate that the list no longer has is withdrawn.

The danger is a list that was renumbered under votes: `c003` is somebody else now, and the votes
of the former c003 would be hers. So an id that changes its name after the opening is refused, and
so is a candidate who goes or comes back, unless staff say that they mean it.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from voting.catalog import limits_to_json, rules_to_json
from voting.intake.folder import Checked
from voting.intake.manifest import FILE as MANIFEST
from voting.intake.manifest import Manifest
from voting.intake.photos import Card
from voting.intake.problems import Problem, error, errors_in, warning
from voting.intake.roster import CANDIDATES_MAX, Listed, Roster

_ONE_IMPORT_AT_A_TIME = 0x6469616E7A01
"""Key of the advisory lock."""

_ACCEPT = "import with --accept-changes if that is meant"


@dataclass(frozen=True, slots=True)
class Held:
    """One candidate as the database has it."""

    number: int
    id: str
    name: str
    withdrawn_at: datetime | None


async def known_photos(connection: asyncpg.Connection) -> frozenset[str]:
    """Ids of the pictures that need not be made again."""
    return frozenset(row["id"] for row in await connection.fetch("SELECT id FROM photos"))


async def save(
    connection: asyncpg.Connection, checked: Checked, *, accept_changes: bool, write: bool
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
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _ONE_IMPORT_AT_A_TIME)
        campaign = await connection.fetchrow(
            "SELECT number, time_zone, opens_at <= now() AS has_opened FROM campaigns"
            " WHERE id = $1",
            manifest.id,
        )
        held = await _held_candidates(connection, campaign["number"] if campaign else 0)
        problems = []
        if campaign is not None:
            problems += zone_changes(
                ZoneInfo(campaign["time_zone"]),
                manifest,
                has_opened=campaign["has_opened"],
                accepted=accept_changes,
            )
            if roster.ids_are_known:
                problems += list_changes(
                    held, roster, has_opened=campaign["has_opened"], accepted=accept_changes
                )
        numbers = numbers_for(held, roster.candidates)
        if max(numbers.values(), default=0) > CANDIDATES_MAX:
            message = f"the campaign would need more than {CANDIDATES_MAX} candidate numbers"
            problems.append(error(roster.file, message))
        if not write or not checked.ok or errors_in(problems):
            return problems
        campaign_number = await _write_campaign(connection, manifest)
        await _write_photos(connection, checked.cards)
        await _write_candidates(connection, campaign_number, checked, roster, numbers)
        await connection.execute(
            "UPDATE candidates SET withdrawn_at = now()"
            " WHERE campaign = $1 AND withdrawn_at IS NULL AND id <> ALL ($2::text[])",
            campaign_number,
            list(numbers),
        )
        # Every edge asks for this number each second and loads the catalog when it has moved.
        await connection.execute("UPDATE catalog SET version = version + 1")
        return problems


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
        "SELECT number, id, name, withdrawn_at FROM candidates WHERE campaign = $1"
        " ORDER BY place, number",
        campaign,
    )
    return [Held(*row) for row in rows]


async def _write_campaign(connection: asyncpg.Connection, manifest: Manifest) -> int:
    """The campaign's number. Whether it is paused is not the list's to say and stays."""
    number: int = await connection.fetchval(
        """
        INSERT INTO campaigns (number, id, title, time_zone, opens_at, closes_at, rules, limits,
                               origins, channels)
        VALUES (coalesce((SELECT number FROM campaigns WHERE id = $1),
                         (SELECT coalesce(max(number), 0) + 1 FROM campaigns)),
                $1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (id) DO UPDATE SET
            title = excluded.title, time_zone = excluded.time_zone,
            opens_at = excluded.opens_at, closes_at = excluded.closes_at,
            rules = excluded.rules, limits = excluded.limits,
            origins = excluded.origins, channels = excluded.channels, imported_at = now()
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
    )
    return number


def _channels_to_json(channels: Mapping[str, int] | None) -> str:
    return json.dumps(channels or {}, ensure_ascii=False)


async def _write_photos(connection: asyncpg.Connection, cards: Iterable[Card]) -> None:
    await connection.executemany(
        "INSERT INTO photos (id, width, height, webp, jpeg) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (id) DO NOTHING",
        # Read one by one as they are sent: all of them need not fit into memory.
        (
            (card.id, card.width, card.height, card.webp.read_bytes(), card.jpeg.read_bytes())
            for card in cards
        ),
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
                                title, summary, photo)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (campaign, number) DO UPDATE SET
            place = excluded.place, name = excluded.name, organisation = excluded.organisation,
            unit = excluded.unit, channel = excluded.channel, title = excluded.title,
            summary = excluded.summary, photo = excluded.photo, withdrawn_at = NULL
        """,
        [
            (
                campaign,
                numbers[candidate.id],
                candidate.id,
                place,
                candidate.name,
                candidate.organisation,
                candidate.unit,
                candidate.channel,
                candidate.title,
                candidate.summary,
                checked.photo_ids.get(candidate.id),
            )
            for place, candidate in enumerate(roster.candidates, 1)
        ],
    )
