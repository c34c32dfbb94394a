"""What changes of a campaign after its import, and how it is written down.

Whoever changes a campaign or a candidate does it in one transaction: `lock_changes`, the change
itself, `record`, which also makes every edge look again. The list only grows; a candidate's history
is in it, and what the public is shown of it is `public_changes`.

What may be changed when, and by how many persons, is not said here: see
tally/campaigns/campaign_changes.py for the staff, intake/save.py for imports.
"""

import enum
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from voting.campaign import Changed, ChangedField, Limits, Rules, VotingWindow

_ONE_AT_A_TIME = 0x6469616E7A01
"""Key of the advisory lock."""


class Kind(enum.StrEnum):
    """What was changed."""

    PAUSED = "paused"
    RESUMED = "resumed"
    OPENED = "opened"
    """Opened at once, before its time."""
    EXTENDED = "extended"
    CLOSED = "closed"
    """Closed at once, before its time."""
    REOPENED = "reopened"
    """Open again after it was closed."""
    WINDOW = "window"
    """Other times, in whatever direction."""
    QUOTA = "quota"
    VISIBILITY = "visibility"
    """When counts are shown, and in which order the candidates."""
    LIMITS = "limits"
    IDENTITY = "identity"
    """Who may like: anybody, or whom a portal vouches for."""
    PORTAL_KEYS = "portal-keys"
    """Which key a portal signs with."""
    CANDIDATE_ADDED = "candidate-added"
    CANDIDATE_CORRECTED = "candidate-corrected"
    CANDIDATE_WITHDRAWN = "candidate-withdrawn"
    CANDIDATE_RETURNED = "candidate-returned"
    PORTAL_OFF = "portal-off"
    PORTAL_ON = "portal-on"
    TEST = "test"
    """Made a rehearsal, or the real thing."""
    IMPORTED = "imported"
    """First import; later ones: title, channels, portals."""


STAFF_ONLY = frozenset({Kind.TEST, Kind.IMPORTED})
"""Kinds that the public is not shown. All others it is, from the opening on: before it, the rules
are what they are on that day."""

QUOTA_FIELDS = ("likes_per_candidate_per_day", "candidates_per_day", "likes_per_campaign")
VISIBILITY_FIELDS = ("counts", "counts_daily_at", "order")
WINDOW_FIELDS = ("opens_at", "closes_at", "time_zone")
LIMIT_FIELDS = ("per_device", "per_network")
IDENTITY_FIELDS = ("identity",)
CANDIDATE_FIELDS = (
    *("name", "organisation", "unit", "channel", "title", "summary", "photo"),
    *("story", "more_photos", "video"),
)
PAGE_FIELDS = ("lead", "about", "organiser", "contact", "colour", "cover")

_SHOWN_IN_PUBLIC = frozenset(
    {
        *(*QUOTA_FIELDS, *VISIBILITY_FIELDS, *WINDOW_FIELDS, *LIMIT_FIELDS, *IDENTITY_FIELDS),
        *("origin", "name", "organisation", "unit", "channel", "title"),
    }
)
"""Fields whose values the public is shown; of others only that they changed. A summary may have
been corrected because it said what it should not have said, and a story, a picture or a video
likewise."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One change on its way into the list. Values are ready for JSON."""

    kind: Kind
    was: Mapping[str, Any] = field(default_factory=dict)
    became: Mapping[str, Any] = field(default_factory=dict)
    candidate: int | None = None
    """Candidate.number; None = the whole campaign."""


async def lock_changes(connection: asyncpg.Connection) -> None:
    """Campaigns are changed by one at a time: numbers are given out in turn, and what was read
    stays so. To the end of the transaction; whoever takes other locks takes this one first."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _ONE_AT_A_TIME)


async def record(
    connection: asyncpg.Connection,
    campaign: int,
    changes: Iterable[Recorded],
    *,
    opened: bool,
    reason: str,
    changed_by: str,
    approved_by: str | None = None,
) -> list[int]:
    """Write these changes down, in the transaction that makes them and under `lock_changes`; their
    numbers. `opened`: whether likes were taken before, so that the public is shown them."""
    rows = [
        (
            change.kind.value,
            change.candidate,
            json.dumps(change.was, ensure_ascii=False),
            json.dumps(change.became, ensure_ascii=False),
            opened and change.kind not in STAFF_ONLY,
        )
        for change in changes
    ]
    # Every edge asks for this number each second and loads the catalog when it has moved.
    await connection.execute("UPDATE catalog SET version = version + 1")
    if not rows:
        return []
    first = await connection.fetchval("SELECT coalesce(max(number), 0) + 1 FROM campaign_changes")
    at = await connection.fetchval("SELECT clock_timestamp()")
    await connection.executemany(
        "INSERT INTO campaign_changes (number, at, campaign, kind, candidate, was, became, reason,"
        " changed_by, approved_by, in_public)"
        " VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, $8, $9, $10, $11)",
        [
            (number, at, campaign, kind, candidate, was, became, reason, changed_by, approved_by,
             in_public)
            for number, (kind, candidate, was, became, in_public) in enumerate(rows, first)
        ],
    )  # fmt: skip
    return list(range(first, first + len(rows)))


async def public_changes(connection: asyncpg.Connection) -> dict[int, tuple[Changed, ...]]:
    """By campaign number what the public is shown, oldest first."""
    rows = await connection.fetch(
        "SELECT h.campaign, h.at, h.kind, h.was::text, h.became::text, h.reason,"
        " c.id AS candidate, c.name, p.time_zone"
        " FROM campaign_changes AS h JOIN campaigns AS p ON p.number = h.campaign"
        " LEFT JOIN candidates AS c ON (c.campaign, c.number) = (h.campaign, h.candidate)"
        " WHERE h.in_public ORDER BY h.number"
    )
    found: defaultdict[int, list[Changed]] = defaultdict(list)
    for row in rows:
        found[row["campaign"]].append(_changed(row))
    return {campaign: tuple(changes) for campaign, changes in found.items()}


def _changed(row: Mapping[str, Any]) -> Changed:
    was, became = json.loads(row["was"]), json.loads(row["became"])
    fields = tuple(
        ChangedField(name, _shown(was.get(name)), _shown(became.get(name)))
        if name in _SHOWN_IN_PUBLIC
        else ChangedField(name)
        for name in sorted({*was, *became})
        if name != "paused_because"  # the reason says it
    )
    at: datetime = row["at"]
    return Changed(at, row["kind"], row["candidate"], row["name"], fields, row["reason"])


def _shown(value: object) -> str | None:
    return None if value is None else str(value)


def moved(
    was: Mapping[str, Any], becomes: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of these fields those that differ: (what they were, what they become)."""
    names = [name for name in becomes if was.get(name) != becomes[name]]
    return {name: was.get(name) for name in names}, {name: becomes[name] for name in names}


# The fields of each kind, as they stand in the list.


def window_facts(window: VotingWindow) -> dict[str, Any]:
    return {
        "opens_at": window.opens_at.isoformat(),
        "closes_at": window.closes_at.isoformat(),
        "time_zone": window.zone.key,
    }


def quota_facts(rules: Rules) -> dict[str, Any]:
    return {name: getattr(rules, name) for name in QUOTA_FIELDS}


def visibility_facts(rules: Rules) -> dict[str, Any]:
    return {
        "counts": rules.counts.value,
        "counts_daily_at": rules.counts_daily_at.isoformat("minutes"),
        "order": rules.order.value,
    }


def identity_facts(rules: Rules) -> dict[str, Any]:
    return {"identity": rules.identity.value}


def limit_facts(limits: Limits) -> dict[str, Any]:
    return {"per_device": str(limits.per_device), "per_network": str(limits.per_network)}
