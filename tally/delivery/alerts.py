"""Alerts: what somebody should know now, found by looking every 15 s, sent by the outbox.

Two kinds. News: a flag of high effect, a proposal that waits, an objection; told once. States: a
part that is down, Postgres or the log behind, disk nearly full, reconciliation off, letters that
could not be delivered; told when they begin and when they end, with some room in between, so that
what hovers about a limit is told once. What was told is read from the outbox, so a restart tells
nothing twice; a destination that comes later hears of what is still on.

Known weakness: whoever looks needs Postgres and the publisher to be there. Where one of them is
down, nothing is sent: metrics and a watch from outside have to tell.
"""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from tally.delivery import outbox
from tally.delivery.outbox import Connect, Event
from tally.disks import disk_of
from tally.parts import PartState, PartStatus, look_at_parts
from tally.store import read_queries
from voting.heartbeat import Part
from voting.hot_state import HotState
from voting.settings import Settings

SQL = read_queries(Path(__file__).with_name("alerts.sql"))

LOOK_EVERY_SECONDS = 15.0
QUIET_AT_START_SECONDS = 45.0
"""Of parts nothing new is said before: who starts after everything stood still finds the old
heartbeats of all others."""
LAG_ENDS_AT = 0.5
"""Of its limit."""
DISK_ENDS_BELOW_PERCENT = 3
"""Under its limit."""
RECONCILIATION_FACT = "reconciliation_off"
"""In the publisher's heartbeat: the campaigns whose sums differ, as text; "" = all is well; not
there = not known."""
_SINCE = " since "
_SUBJECT_OF_WHAT_MAX = 150
_TEXT_MAX = 1_000

log = structlog.get_logger()


@dataclass(slots=True)
class State:
    """What is known now about everything of one kind that can be wrong."""

    on: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What is wrong -> what is said of it."""
    between: set[str] = field(default_factory=set)
    """Neither wrong nor well: what was told stays as it is."""
    well: set[str] | None = None
    """What is known to be well; None = everything that is in neither of the two."""
    known: bool = True
    """False: nothing is known; nothing begins, nothing ends."""


def parts_down(statuses: Iterable[PartStatus]) -> State:
    """Processes and servers that do not answer. A process is back when it is heard of again: whose
    row went, after a day of silence, is not."""
    statuses = list(statuses)
    found = State(well={_what(s.name, s.instance) for s in statuses if s.state is PartState.OK})
    for status in statuses:
        if status.state is PartState.DOWN:
            found.on[_what(status.name, status.instance)] = {
                "part": status.name,
                "instance": status.instance or None,
                "why": status.facts.get("why"),
                "since": _iso(status.since),
            }
    return found


def lags(lags_seconds: Mapping[str, float | None], limit_seconds: float) -> State:
    """What is behind; None = not behind."""
    found = State()
    for what, seconds in lags_seconds.items():
        if seconds is None or math.isnan(seconds):
            continue
        if seconds > limit_seconds:
            found.on[what] = {"what": what, "behind_seconds": round(seconds)}
        elif seconds > limit_seconds * LAG_ENDS_AT:
            found.between.add(what)
    return found


def disk(used_bytes: int, free_bytes: int, limit_percent: int) -> State:
    """Whether the disk is nearly full; what the system keeps for itself counts as used."""
    whole = used_bytes + free_bytes
    percent = 100.0 * used_bytes / whole if whole else 0.0
    found = State()
    if percent >= limit_percent:
        found.on["disk"] = {"used_percent": math.floor(percent), "free_mb": free_bytes // 2**20}
    elif percent > limit_percent - DISK_ENDS_BELOW_PERCENT:
        found.between.add("disk")
    return found


def reconciliation(statuses: Iterable[PartStatus]) -> State:
    """Whether hot state, journal and Postgres hold the same, by the publisher's word."""
    for status in statuses:
        if status.name == Part.PUBLISH and status.state in (PartState.OK, PartState.SLOW):
            off = status.facts.get(RECONCILIATION_FACT)
            if off is None:
                continue
            return State({"sums": {"what": str(off)[:_TEXT_MAX]}} if off else {})
    return State(known=False)


def _what(*words: str) -> str:
    """A name for the same thing each time, fit for a letter's subject."""
    said = " ".join(word for word in words if word)
    return "".join(c if c.isprintable() else "?" for c in said)[:_SUBJECT_OF_WHAT_MAX]


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None


class Alerts:
    """Looks and tells. One per installation: the publisher's."""

    def __init__(self, settings: Settings, connect: Connect, hot: HotState) -> None:
        self._settings = settings
        self._connect = connect
        self._hot = hot
        self._began = time.monotonic()

    async def look(self) -> int:
        """One look at everything; how many letters it wrote. Raises asyncpg's errors: what was
        written by then stays, and the rest is found at the next look."""
        statuses = await look_at_parts(self._connect, self._hot)
        usage = disk_of(self._settings.data_dir)
        limit = self._settings.alert_lag_seconds
        flush = [s.facts.get("lag_seconds") for s in statuses if s.name == Part.FLUSH]
        flush_lags = [float(lag) for lag in flush if isinstance(lag, int | float)]
        async with self._connect() as connection:
            behind = {
                "postgres": max(flush_lags, default=None),
                "log": await connection.fetchval(SQL["read_log_lag"]),
            }
            states = {
                Event.LAG: lags(behind, limit),
                Event.RECONCILIATION_OFF: reconciliation(statuses),
                Event.DISK_NEARLY_FULL: disk(
                    usage.used_bytes, usage.free_bytes, self._settings.alert_disk_percent
                ),
            }
            if time.monotonic() - self._began >= QUIET_AT_START_SECONDS:
                states[Event.PART_DOWN] = parts_down(statuses)
            written = 0
            for begun, state in states.items():
                written += await tell(connection, begun, state, datetime.now(UTC))
            written += await tell_dead_letters(connection, datetime.now(UTC))
            written += await tell_news(connection, self._settings)
        if written:
            log.info("alerts-written", letters=written)
        return written


async def tell(
    connection: asyncpg.Connection,
    begun: Event,
    state: State,
    now: datetime,
    *,
    not_to: Mapping[str, int] | None = None,
) -> int:
    """Begin what is new, end what is over, and let late-comers know what is on; how many letters
    were written. `not_to`: what -> the destination that is not told of it."""
    if not state.known:
        return 0
    written = 0
    told: dict[str, list[str]] = {}
    for subject in await outbox.unended(connection, begun):
        told.setdefault(subject.rpartition(_SINCE)[0], []).append(subject)
    async with connection.transaction():
        for what, facts in state.on.items():
            subjects = told.get(what) or [f"{what}{_SINCE}{_iso(now)}"]
            # Who was told of it has its letter already.
            written += await outbox.add(
                connection,
                begun,
                subjects[-1],
                {"at": _iso(now), **facts},
                not_to=not_to.get(what) if not_to else None,
            )
        for what, subjects in told.items():
            if what in state.on or what in state.between:
                continue
            if state.well is not None and what not in state.well:
                continue
            for subject in subjects:
                content = {"what": what, "at": _iso(now), "since": subject.rpartition(_SINCE)[2]}
                written += await outbox.add_end(connection, begun, subject, content)
    return written


async def tell_dead_letters(connection: asyncpg.Connection, now: datetime) -> int:
    """Of letters that could not be delivered; whoever did not take them is not told."""
    quiet = [Event.DEAD_LETTERS, Event.DEAD_LETTERS_GONE, Event.TEST]
    rows = await connection.fetch(SQL["read_dead_letters"], quiet)
    state, own = State(), {}
    for row in rows:
        what = f"destination {row['number']}"
        state.on[what] = {"destination": row["shown_as"], "dead_letters": row["letters"]}
        own[what] = row["number"]
    return await tell(connection, Event.DEAD_LETTERS, state, now, not_to=own)


async def tell_news(connection: asyncpg.Connection, settings: Settings) -> int:
    """Flags of high effect, proposals and objections of the last day that nobody was told of."""
    written = 0
    base = settings.console_origin
    flags = await connection.fetch(
        SQL["read_flags_of_effect"],
        settings.alert_flag_votes,
        settings.alert_flag_places,
        Event.FLAG,
    )
    for row in flags:
        content = {
            **_campaign(row),
            "flag": row["case_number"],
            "votes": int(row["votes"]),
            "places": row["places"],
            "sentence": row["sentence"][:_TEXT_MAX],
            "url": f"{base}/flags/{row['case_number']}" if base else None,
        }
        written += await _once(
            connection, Event.FLAG, f"flag {row['case_number']}", content, row["at"]
        )
    for row in await connection.fetch(SQL["read_proposals_open"], Event.PROPOSAL):
        content = {
            **_campaign(row),
            "proposal": row["number"],
            "proposal_kind": row["kind"],
            "reason": row["reason"][:_TEXT_MAX],
            "by": row["shown_as"],
            "url": f"{base}/proposals" if base else None,
        }
        written += await _once(
            connection, Event.PROPOSAL, f"proposal {row['number']}", content, row["at"]
        )
    for row in await connection.fetch(SQL["read_objections_new"], Event.OBJECTION):
        # Who objects and what they say stays in the console: it may be personal.
        content = {
            **_campaign(row),
            "objection": row["number"],
            "url": f"{base}/objections/{row['number']}" if base else None,
        }
        written += await _once(
            connection, Event.OBJECTION, f"objection {row['number']}", content, row["at"]
        )
    return written


def _campaign(row: asyncpg.Record) -> dict[str, Any]:
    return {"campaign": row["campaign_id"], "title": row["title"]}


async def _once(
    connection: asyncpg.Connection,
    event: Event,
    subject: str,
    content: Mapping[str, Any],
    at: datetime,
) -> int:
    said = {"at": _iso(at), **{key: value for key, value in content.items() if value is not None}}
    async with connection.transaction():
        return await outbox.add(connection, event, subject, said, happened_at=at)
