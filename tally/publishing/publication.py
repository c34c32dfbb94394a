"""What is published at one moment: how it comes about, and how it survives a crash.

    1  the numbers: one transaction fixes them, with both logs' sizes, roots and checkpoints
    2  the files, made from them in memory, and the signature; what was signed is noted beside the
       database (last_signed.py)
    3  one transaction: archive and manifest's hash, the checkpoints that are handed out, the news
       for the outbox, the audit entry
    4  the folder, written aside and put into its place by a rename

A crash after 1 is answered by making the files again, after 3 by writing the folder again. What is
signed leaves memory only with 3, so one number never has two manifests. A campaign's publications
are made by one at a time, each carries the manifest's hash of the one before, and one that is not
finished is finished before the next is begun.

Numbers come from sums that are kept up with every vote, not from the votes: a campaign of 100
million takes as long as one of a hundred, but for what the integrator has to catch up on.
"""

import asyncio
import base64
import contextlib
import enum
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import asyncpg

from antifraud.heuristics import RULES_VERSION
from tally import audit
from tally.closing import FlushedClosing, flushed_closings
from tally.delivery import outbox
from tally.holds import WATCH
from tally.log.integrator import (
    Snapshot,
    check_keys,
    hand_out,
    logs_locked,
    origin_of,
    sign_head,
    snapshot,
)
from tally.log.keys import LogKeys
from tally.log.last_signed import LastSigned, put_back
from tally.log.store import open_ranges, read_head, read_records
from tally.patience import Guard
from tally.publishing.publication_files import (
    TALLY_FORMAT,
    CandidateTally,
    Content,
    HashingFile,
    Made,
    TooLarge,
    check_sizes,
    make_files,
    make_log_manifest,
    new_folder,
    tally_candidates,
    write_files,
)
from tally.store import held_lock, read_queries
from tally.tallies import TallyError
from voting.ballot import Outcome
from voting.hot_state import HotState
from voting.journal import EntryId, journal_key, unwrap_entry
from voting.log_reader import Log

SQL = read_queries(Path(__file__).with_name("publication.sql"))

PUBLISHER = "publish"
"""Who asks where the clock does."""
FLUSH_WITHIN_SECONDS = 30.0
_LOOK_EVERY_SECONDS = 0.05
_TRIES = 5
"""Of a snapshot that somebody else's commit made void."""


class PublicationError(Exception):
    """It cannot be published now; the message says why. Nothing was changed."""


class Kind(enum.StrEnum):
    """What a publication is worth."""

    SCHEDULED = "scheduled"
    PROVISIONAL = "provisional"
    """By hand: one person's doing."""
    CLOSE = "close"
    """By the publisher, when the campaign has closed."""
    FINAL = "final"
    """Two persons agreed to it."""


SEALS = frozenset({Kind.CLOSE, Kind.FINAL})
"""Only of a campaign that takes no more likes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """By whom, and what for."""

    kind: Kind
    by: str
    """PUBLISHER, or a person's name."""
    approved_by: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """One that is there."""

    campaign: int
    number: int
    content: Content
    made: Made


class Sums(NamedTuple):
    """What would be published now: what two persons agree on."""

    counted: int
    held: int
    struck: int
    last_decision: int
    last_change: int
    """Of the campaign: who was withdrawn since has no rank."""
    closings: str
    """The entries that it goes up to, "" while it is open."""


# Making one.


Settle = Callable[[asyncpg.Connection, str], Awaitable[None]]
"""Writes down what became of what two persons agreed on, in the transaction that does it."""


async def publish(
    connection: asyncpg.Connection,
    keys: LogKeys,
    campaign: int,
    asked: Asked,
    *,
    agreed: Sums | None = None,
    settle: Settle | None = None,
) -> Published | None:
    """Publish what is committed now: steps 1 to 3, after those of one that was left unfinished.
    None where two persons `agreed` on something else than what it is now.

    The connection must be in no transaction; waits for whoever else publishes this campaign. Raises
    PublicationError; LookupError for an unknown campaign; TallyError and LogConflict where sums and
    log do not fit.
    """
    async with publishing(connection, campaign):
        last = await connection.fetchrow(SQL["read_last_publication"], campaign)
        if last is not None and last["manifest_hash"] is None:
            await finish(connection, keys, campaign, last["number"])
        number = await begin(connection, keys, campaign, asked, agreed=agreed, settle=settle)
        return None if number is None else await finish(connection, keys, campaign, number)


async def begin(
    connection: asyncpg.Connection,
    keys: LogKeys,
    campaign: int,
    asked: Asked,
    *,
    agreed: Sums | None = None,
    settle: Settle | None = None,
) -> int | None:
    """Step 1; the publication's number. For whoever holds the campaign's lock (`publishing`)."""
    for attempt in range(_TRIES):
        try:
            async with snapshot(connection, keys, campaign) as heads:
                number = None
                if agreed is None or await read_sums(connection, campaign) == agreed:
                    number = await _fix(connection, keys, campaign, asked, heads)
                if settle is not None:
                    await settle(
                        connection,
                        f"publication {number}"
                        if number
                        else "not made: votes were decided on, or the campaign changed, since it "
                        "was agreed to",
                    )
                return number
        except asyncpg.SerializationError:
            if attempt == _TRIES - 1:
                raise
    raise AssertionError("returned or raised")


async def finish(
    connection: asyncpg.Connection, keys: LogKeys, campaign: int, number: int
) -> Published:
    """Steps 2 and 3, or what they came to before. For whoever holds the campaign's lock. Raises
    LogConflict where these are not the keys of step 1, or the database was put back."""
    await check_keys(connection, keys)
    row = await connection.fetchrow(SQL["read_publication"], campaign, number)
    content = content_from(row["content"])
    if row["manifest_hash"] is not None:
        return Published(campaign, number, content, await read_made(connection, campaign, number))
    await _check_not_put_back(connection, keys, campaign, content.campaign)
    sizes = [content.tally["logs"][log.word]["size"] for log in Log]
    checkpoints: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for log, size, note in await connection.fetch(SQL["list_checkpoints"], campaign, *sizes):
        checkpoints[Log(log).word][size] = note
    for log in Log:
        # Its own are kept from step 3 on.
        checkpoints[log.word][content.tally["logs"][log.word]["size"]] = content.notes[log.word]
    # Half a second for many candidates: nobody else in this process need wait.
    made = await asyncio.to_thread(make_files, content, checkpoints, keys.signer)
    archive = await asyncio.to_thread(made.archive, row["as_of"])
    # The logs' rows are no one else's to move while their checkpoints are handed out.
    async with logs_locked(connection), connection.transaction():
        # Before it leaves. Who dies behind this line makes the same files again.
        _remember(keys, content, made)
        done = await connection.fetchrow(
            SQL["finish_publication"], campaign, number, made.manifest_hash, archive
        )
        if done is None:
            raise PublicationError(f"publication {number} was finished by somebody else meanwhile")
        for log in Log:
            await hand_out(connection, campaign, log, content.notes[log.word], keep=True)
        subject = f"{content.campaign}/{number}"
        told = {
            "campaign": content.campaign,
            "number": number,
            "kind": content.kind,
            "as_of": content.tally["as_of"],
            "manifest_sha256": made.manifest_hash.hex(),
        }
        # No counts: whoever gets news need not be allowed to see them yet.
        await outbox.add(connection, outbox.Event.PUBLISHED, subject, told)
        by_clock = done["asked_by"] == PUBLISHER
        await audit.append(
            connection,
            actor=done["asked_by"],
            role="part" if by_clock else "person" if done["approved_by"] else "command",
            action="publication.made",
            subject=f"publication {subject}",
            details={**told, "approved_by": done["approved_by"]},
        )
    return Published(campaign, number, content, made)


def publishing(
    connection: asyncpg.Connection, campaign: int
) -> contextlib.AbstractAsyncContextManager[None]:
    """Alone with a campaign's publications. Waits for whoever is at it."""
    return held_lock(connection, SQL["lock_publications"], SQL["unlock_publications"], campaign)


async def resume(
    connection: asyncpg.Connection, keys: LogKeys, *, guard: Guard = contextlib.nullcontext
) -> list[Published]:
    """Finish what a crash left unfinished. `guard` is around each campaign."""
    finished = []
    for row in await connection.fetch(SQL["list_last_publications"]):
        async with guard(f"publications of campaign {row['campaign']}"):
            if row["unfinished"]:
                async with publishing(connection, row["campaign"]):
                    finished.append(await finish(connection, keys, row["campaign"], row["number"]))
    return finished


# What was signed before.


async def _check_not_put_back(
    connection: asyncpg.Connection, keys: LogKeys, campaign: int, campaign_id: str
) -> None:
    """LogConflict where something was signed of this campaign that the database does not have."""
    known = LastSigned.load(keys)
    for log in Log:
        head = await read_head(connection, campaign, log)
        origin = origin_of(keys, campaign_id, log)
        await known.check_log(
            connection, origin, campaign=campaign, log=log, head=(head.size, head.root)
        )
    number, manifest = known.publications.get(_name(keys, campaign_id), (None, None))
    if number is None:
        return
    row = await connection.fetchrow(SQL["read_manifest_hash"], campaign, number)
    # Not finished: it is held against what it becomes.
    if row is None or row["manifest_hash"] not in (None, manifest):
        raise put_back(f"publication {number} of {campaign_id} is not the one that was signed")


def _remember(keys: LogKeys, content: Content, made: Made) -> None:
    """Note what is about to leave. Raises LogConflict where another one left under its number."""
    known = LastSigned.load(keys)
    name = _name(keys, content.campaign)
    signed = content.number, made.manifest_hash
    before = known.publications.get(name, signed)
    if before[0] == content.number and before != signed:
        raise put_back(f"publication {content.number} of {content.campaign} was signed otherwise")
    known.publications[name] = signed
    for of_log in content.tally["logs"].values():
        size, root = of_log["size"], base64.b64decode(of_log["root"])
        if known.logs.get(of_log["origin"], (0, b""))[0] <= size:
            known.logs[of_log["origin"]] = size, root
    known.save(keys)


def _name(keys: LogKeys, campaign_id: str) -> str:
    return f"{keys.name}/{campaign_id}"


# Step 1.


async def _fix(
    connection: asyncpg.Connection,
    keys: LogKeys,
    campaign: int,
    asked: Asked,
    heads: Snapshot,
) -> int:
    """Read it all in this one snapshot, and write it down."""
    last = await connection.fetchrow(SQL["read_last_publication"], campaign)
    if last is not None and last["manifest_hash"] is None:
        raise PublicationError(f"publication {last['number']} is not finished")
    row = await connection.fetchrow(SQL["read_published_campaign"], campaign)
    if row["is_test"]:
        raise PublicationError(
            f"{row['id']} is a rehearsal: nothing of it is published or counts anywhere"
        )
    await _check_not_put_back(connection, keys, campaign, row["id"])
    closings = await flushed_closings(connection, campaign)
    if asked.kind in SEALS and closings is None:
        raise PublicationError(f"{row['id']} has not closed yet: there is nothing to seal")
    number = 1 if last is None else last["number"] + 1
    zone = ZoneInfo(row["time_zone"])
    as_of = await connection.fetchval(SQL["read_as_of"]) or datetime.fromtimestamp(0, UTC)
    listed = await _read_candidates(connection, campaign, row["id"])
    sums = {
        kind: sum(each[kind] for each in listed)
        for kind in ("received", "counted", "held", "struck", "refused")
    }
    if sums["received"] - sums["refused"] != heads.votes.size:
        raise TallyError(
            f"campaign {row['id']}: {sums['received'] - sums['refused']} votes by the sums, "
            f"{heads.votes.size} in the log"
        )
    head = await audit.head(connection)
    tally = {
        "format": TALLY_FORMAT,
        "campaign": row["id"],
        "campaign_number": campaign,
        "title": row["title"],
        "number": number,
        "kind": asked.kind.value,
        "as_of": _moment(as_of, zone),
        **sums,
        "refused_by_reason": await _read_reasons(connection, campaign),
        "logs": {
            log.word: {
                "origin": origin_of(keys, row["id"], log),
                "size": of_log.size,
                "root": base64.b64encode(of_log.root).decode(),
            }
            for log, of_log in ((Log.VOTES, heads.votes), (Log.RULINGS, heads.rulings))
        },
        "rules_version": RULES_VERSION,
        "closings": _closings(closings, zone),
        "reopened_after_seal": await _read_reopenings(connection, campaign, zone),
        "audit": {"number": head.number, "hash": head.hash.hex()},
        "candidates": listed,
    }
    content = Content(
        tally=tally,
        decisions=await _read_decisions(connection, campaign, zone),
        rules=await _read_rules(connection, row, zone),
        previous=None
        if last is None
        else {"number": last["number"], "manifest": bytes(last["manifest_hash"]).hex()},
        # Handed out in step 3: here the sizes are not committed yet.
        notes={log.word: await sign_head(connection, keys, campaign, log) for log in Log},
    )
    try:
        await asyncio.to_thread(check_sizes, content)
    except TooLarge as why:
        raise PublicationError(f"{row['id']} cannot be published: {why}") from None
    await connection.execute(
        SQL["add_publication"],
        campaign,
        number,
        asked.kind,
        as_of,
        json.dumps(content.as_json(), ensure_ascii=False),
        asked.by,
        asked.approved_by,
    )
    return number


async def _read_candidates(
    connection: asyncpg.Connection, campaign: int, campaign_id: str
) -> list[dict[str, Any]]:
    refused: defaultdict[int, int] = defaultdict(int)
    for candidate, _, ballots in await connection.fetch(SQL["read_refusals_by_reason"], campaign):
        refused[candidate] += ballots
    rows = await connection.fetch(SQL["read_candidate_tallies"], campaign)
    unknown = sorted(
        {row["number"] for row in rows if row["id"] is None}
        | refused.keys() - {row["number"] for row in rows}
    )
    if unknown:
        raise TallyError(f"campaign {campaign_id} has ballots for unknown candidates {unknown}")
    return tally_candidates([CandidateTally(**row, refused=refused[row["number"]]) for row in rows])


async def _read_reasons(connection: asyncpg.Connection, campaign: int) -> dict[str, int]:
    sums: defaultdict[str, int] = defaultdict(int)
    for _, outcome, ballots in await connection.fetch(SQL["read_refusals_by_reason"], campaign):
        sums[Outcome(outcome).name.lower().replace("_", "-")] += ballots
    return dict(sorted(sums.items()))


async def _read_decisions(
    connection: asyncpg.Connection, campaign: int, zone: ZoneInfo
) -> list[dict[str, Any]]:
    ids = {
        row["number"]: row["id"]
        for row in await connection.fetch(SQL["read_candidate_tallies"], campaign)
    }
    moves: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for decision, candidate, *kinds in await connection.fetch(SQL["list_decision_moves"], campaign):
        moved = dict(zip(("counted", "held", "struck"), kinds, strict=True))
        moves[decision].append({"id": ids[candidate], **moved})
    return [
        {
            "number": row["number"],
            "at": _moment(row["at"], zone),
            "action": row["action"],
            "reason": row["reason"],
            # Who it was is on record inside; what counts outside is whether it was anybody.
            "role": "watch" if row["decided_by"] == WATCH else "person",
            "rules": row["rules"],
            "votes": row["votes"],
            "moved": row["moved"],
            "candidates": moves[row["number"]],
        }
        for row in await connection.fetch(SQL["list_decisions"], campaign)
    ]


async def _read_rules(
    connection: asyncpg.Connection, row: Mapping[str, Any], zone: ZoneInfo
) -> dict[str, Any]:
    changes = await connection.fetch(SQL["list_changes"], row["number"])
    return {
        "title": row["title"],
        "time_zone": row["time_zone"],
        "opens_at": _moment(row["opens_at"], zone),
        "closes_at": _moment(row["closes_at"], zone),
        "rules": _plain(row["rules"]),
        "limits": _plain(row["limits"]),
        "origins": list(row["origins"]),
        "rules_version": RULES_VERSION,
        "detectors_versions": await connection.fetchval(
            SQL["list_detectors_versions"], row["number"]
        ),
        "changes": [
            {
                "number": change["number"],
                "at": _moment(change["at"], zone),
                "kind": change["kind"],
                "candidate": change["candidate"],
                "was": _plain(change["was"]),
                "became": _plain(change["became"]),
                "reason": change["reason"],
                "two_persons": change["two_persons"],
            }
            for change in changes
        ],
    }


async def _read_reopenings(
    connection: asyncpg.Connection, campaign: int, zone: ZoneInfo
) -> list[str]:
    """When it was opened again after something had been sealed: the mark that stays."""
    sealed: dict[int, EntryId] = {}
    for seal in await connection.fetch(SQL["list_seals"], campaign):
        for each in json.loads(seal["closings"]):
            entry = EntryId.parse(each["entry"])
            sealed[each["shard"]] = min(entry, sealed.get(each["shard"], entry))
    return [
        _moment(row["at"], zone)
        for row in await connection.fetch(SQL["list_reopenings"], campaign)
        if row["shard"] in sealed and EntryId(row["epoch"], row["entry"]) > sealed[row["shard"]]
    ]


def _closings(
    closings: Mapping[int, FlushedClosing] | None, zone: ZoneInfo
) -> list[dict[str, Any]]:
    """The `close` entries that this covers all votes before; none while it takes likes."""
    return [
        {"shard": shard, "entry": str(closing.entry), "at": _moment(closing.at, zone)}
        for shard, closing in sorted((closings or {}).items())
    ]


def _moment(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).isoformat(timespec="milliseconds")


def _plain(text: str) -> Any:
    """JSON as canonical JSON can hold it: a fraction stays what it was written as."""
    return json.loads(text, parse_float=str)


# Reading one.


def content_from(text: str) -> Content:
    """As it is stored."""
    return Content(**json.loads(text))


async def read_made(connection: asyncpg.Connection, campaign: int, number: int) -> Made:
    """The files of one that is finished."""
    archive = await connection.fetchval(SQL["read_archive"], campaign, number)
    return await asyncio.to_thread(Made.unpack, bytes(archive))


async def read_published(
    connection: asyncpg.Connection, campaign: int, number: int
) -> Published | None:
    """One that is finished; None where there is none."""
    row = await connection.fetchrow(SQL["read_publication"], campaign, number)
    if row is None or row["manifest_hash"] is None:
        return None
    made = await read_made(connection, campaign, number)
    return Published(campaign, number, content_from(row["content"]), made)


async def read_sums(connection: asyncpg.Connection, campaign: int) -> Sums:
    """What would be published now, in this transaction's eyes."""
    row = await connection.fetchrow(SQL["read_sums"], campaign)
    closings = await flushed_closings(connection, campaign) or {}
    return Sums(
        row["counted"],
        row["held"],
        row["struck"],
        await connection.fetchval(SQL["read_last_decision"], campaign),
        await connection.fetchval(SQL["read_last_change"], campaign),
        " ".join(f"{shard}:{one.entry}" for shard, one in sorted(closings.items())),
    )


# Step 4.


async def write_folder(
    connection: asyncpg.Connection,
    keys: LogKeys,
    published: Published,
    target: Path,
    *,
    with_log: bool = False,
) -> None:
    """Write its folder, which is there whole or not at all. `with_log`: what opens every leaf, too;
    about 10 us a leaf. Raises FolderInUse; PublicationError for the log of a campaign that takes
    likes: it tells whom each receipt is for; LogConflict where these are not the log's keys, or the
    database was put back."""
    if with_log:
        await check_keys(connection, keys)
        await _check_not_put_back(connection, keys, published.campaign, published.content.campaign)
        if not published.content.tally["closings"]:
            raise PublicationError(
                f"publication {published.number} was made before the close: its log stays shut"
            )
        if await flushed_closings(connection, published.campaign) is None:
            raise PublicationError(
                f"{published.content.campaign} takes likes: its log stays shut until the close"
            )
    with new_folder(target) as folder:
        await asyncio.to_thread(write_files, folder, published.made.files)
        if with_log:
            await _write_log(connection, keys, published, folder)


async def _write_log(
    connection: asyncpg.Connection, keys: LogKeys, published: Published, folder: Path
) -> None:
    sizes = {log: published.content.tally["logs"][log.word]["size"] for log in Log}
    campaign = published.campaign
    openings = HashingFile(folder / "log" / "openings.bin")
    async for piece in open_ranges(connection, keys, campaign, sizes[Log.VOTES]):
        openings.write(piece)
    rulings = HashingFile(folder / "log" / "rulings.bin")
    async for records in read_records(connection, campaign, Log.RULINGS, sizes[Log.RULINGS]):
        rulings.write(b"".join(records))
    written = {"openings.bin": openings.close(), "rulings.bin": rulings.close()}
    write_files(folder, make_log_manifest(published.content, published.made, written, keys.signer))


# What was acknowledged before.


async def journal_ends(hot: HotState) -> dict[int, EntryId]:
    """The last entry of each shard's journal: whatever was acknowledged until now is in it or
    before it. A shard whose journal is empty is not among them."""
    ends = {}
    for shard in hot.shards:
        found = await hot.of(shard).xrevrange(journal_key(shard), count=1)
        if found:
            ends[shard], _ = unwrap_entry(found[0])
    return ends


async def until_flushed(
    connection: asyncpg.Connection,
    ends: Mapping[int, EntryId],
    *,
    within_seconds: float = FLUSH_WITHIN_SECONDS,
) -> None:
    """Wait until Postgres has all up to there. PublicationError where it does not come."""
    deadline = time.monotonic() + within_seconds
    while True:
        flushed = {
            row["shard"]: EntryId(row["epoch"], row["entry"])
            for row in await connection.fetch(SQL["read_watermarks"])
        }
        behind = [shard for shard, end in ends.items() if flushed.get(shard, EntryId(0, -1)) < end]
        if not behind:
            return
        if time.monotonic() > deadline:
            raise PublicationError(
                f"likes of shard {behind[0]} did not reach Postgres within {within_seconds:g} s: "
                "does `dianzan flush` run?"
            )
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
