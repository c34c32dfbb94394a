"""The integrator: votes become leaves, decisions become rulings, and heads get signed.

One at a time, by the session lock of the logs, which is taken outside the transaction: a snapshot
taken after it sees all that the integrator before committed. A step is one transaction: votes after
the logs' watermark up to the flushers', grouped by campaign, in order of their positions, become
leaves with their tiles, ranges and heads, and the watermark moves. A crash at any point leaves all
of it or nothing, and what comes after goes on from what was committed; nothing is signed before
it is. So a size has one root.

Decisions follow, in order of their numbers, each when all of its votes are leaves. So at the end of
a step that left nothing out (`Integrated.more`), the rulings folded over the leaves are the tally
of the same snapshot.

One transaction over all campaigns, because their votes share positions and a watermark: where one
campaign's tiles are damaged, no log grows until somebody has mended them. Signing goes by campaign.

Weak where the database itself is put back to an earlier copy: then other votes can take the places
of leaves that were signed. What was signed last is kept beside it (last_signed.py): such a log is
not signed any more.
"""

import contextlib
import struct
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter

import asyncpg

from antifraud.screen import Decision
from tally.holds import WATCH, State
from tally.log.keys import LogKeys
from tally.log.last_signed import LastSigned
from tally.log.leaves import LoggedVote, Role, Ruling, VoteLeaves
from tally.log.store import (
    LOG_SQL,
    POSTGRES_EPOCH_US,
    Head,
    LogConflict,
    LoggedRange,
    LogWriter,
    VoteDays,
    add_ranges,
    find_leaves,
    read_head,
)
from tally.patience import Guard
from tally.store import held_lock
from voting.campaign import microseconds, moment_at
from voting.checkpoint import Checkpoint
from voting.log_reader import Log
from voting.merkle import EMPTY_ROOT
from voting.settings import Settings

LEAVES_MAX = 100_000
"""Of one step: about a second, 100 MB."""

_ROW = struct.Struct(">2x4xq4xq4xh4x2x2s4x2x6s4xh4xi4xh")
"""seq, at, campaign, candidate's 2 bytes, click's 6, network class, rules, verdict."""
_Row = tuple[int, int, int, bytes, bytes, int, int, int]
_CAMPAIGN = itemgetter(2)
_HELD = int(Decision.HOLD)
_HOUR_US = 3_600_000_000
_DECISIONS_READ = 1_000
_SEQS_MAPPED = 16_384


@dataclass(frozen=True, slots=True)
class Integrated:
    """What a step came to."""

    votes: int
    rulings: int
    more: bool
    """It stopped at its limit: another step has work at once."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A campaign's two logs, with every vote and decision of one transaction's snapshot in them."""

    votes: Head
    rulings: Head


async def integrate(
    connection: asyncpg.Connection, keys: LogKeys, *, leaves_max: int = LEAVES_MAX
) -> Integrated:
    """One step over all campaigns. The connection must be in no transaction. Whoever else
    integrates is waited for.

    About 8 us a leaf. Raises LogConflict where the logs were begun with other keys, or where what
    is stored does not fit together; nothing is written then.
    """
    async with logs_locked(connection):
        return await _step_alone(connection, keys, leaves_max)


@contextlib.asynccontextmanager
async def snapshot(
    connection: asyncpg.Connection, keys: LogKeys, campaign: int
) -> AsyncIterator[Snapshot]:
    """Integrate all that is committed, and stay in the transaction that did the last of it.

    What the caller reads in it (tallies, decisions) fits the two heads exactly; what it writes
    commits with them at the end, or is undone with them where it raises. Repeatable read: a caller
    that moves a row which somebody else has moved since gets asyncpg.SerializationError, and may
    begin again. LookupError where there is no such campaign.
    """
    async with logs_locked(connection):
        # What is much, in transactions of its own: the last one is short.
        while (await _step_alone(connection, keys, LEAVES_MAX)).more:
            pass
        async with connection.transaction(isolation="repeatable_read"):
            await connection.execute(LOG_SQL["make_this_commit_durable"])
            while (await _step(connection, keys, LEAVES_MAX)).more:
                pass
            yield Snapshot(
                await read_head(connection, campaign, Log.VOTES),
                await read_head(connection, campaign, Log.RULINGS),
            )


@contextlib.asynccontextmanager
async def logs_locked(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Alone with the logs, and with what is signed of them. Waits for whoever is at them."""
    if connection.is_in_transaction():
        raise RuntimeError("the logs' lock must be taken before the snapshot")
    async with held_lock(connection, LOG_SQL["lock_logs"], LOG_SQL["unlock_logs"]):
        yield


async def _step_alone(connection: asyncpg.Connection, keys: LogKeys, leaves_max: int) -> Integrated:
    async with connection.transaction(isolation="repeatable_read"):
        await connection.execute(LOG_SQL["make_this_commit_durable"])
        return await _step(connection, keys, leaves_max)


async def _step(connection: asyncpg.Connection, keys: LogKeys, leaves_max: int) -> Integrated:
    await check_keys(connection, keys)
    await connection.execute(LOG_SQL["make_logs"], EMPTY_ROOT, [])
    writers = _Writers(connection)
    rulings: defaultdict[int, list[Ruling]] = defaultdict(list)
    progress = await connection.fetch(LOG_SQL["read_progress"])
    days = await VoteDays.list(connection)
    votes, complete_until, votes_left = 0, [], False
    for row in progress:
        taken = await _take_votes(days, row, max(1, leaves_max // len(progress)))
        if taken is None:
            complete_until.append(row["at"])
            continue
        votes += await _log_votes(connection, keys, writers, taken, rulings)
        complete_until.append(row["at"] if taken.last else min(taken.until, row["at"]))
        votes_left |= not taken.last
    # A verdict's ruling comes with its leaf, before any decision on it.
    for campaign, of_campaign in rulings.items():
        writer = await writers.of(campaign, Log.RULINGS)
        writer.append([ruling.pack() for ruling in of_campaign])
    ruled = sum(map(len, rulings.values()))
    decided, decisions_left = await _log_decisions(
        connection, writers, leaves_max, whole=not votes_left
    )
    await writers.save()
    if complete_until:
        complete = [Log.VOTES] if decisions_left else [Log.VOTES, Log.RULINGS]
        await connection.execute(LOG_SQL["advance_logs"], min(complete_until), complete)
    return Integrated(votes, ruled + decided, votes_left or decisions_left)


async def check_keys(connection: asyncpg.Connection, keys: LogKeys) -> None:
    """Remember the keys that the logs are begun with, and take no others ever after: leaves with
    other salts could not be opened, and a note by another key would be nobody's word. Raises
    LogConflict."""
    ours = str(keys.signer.verifier), keys.salts_check
    row = await connection.fetchrow(LOG_SQL["read_identity"])
    if row is None:
        await connection.execute(LOG_SQL["add_identity"], *ours)
        row = await connection.fetchrow(LOG_SQL["read_identity"])
    if (row["verifier_key"], bytes(row["salts_check"])) != ours:
        raise _other_keys(row["verifier_key"])


async def load_or_make_keys(connection: asyncpg.Connection, settings: Settings) -> LogKeys:
    """The keys of the file; made where there is none, unless the logs were begun with others: a new
    file would only be taken for the right one later. Raises LogConflict, LogKeysError."""
    path = settings.log_keys_path
    row = None if path.exists() else await connection.fetchrow(LOG_SQL["read_identity"])
    if row is not None:
        raise _other_keys(row["verifier_key"])
    return LogKeys.load_or_make(path, settings.last_signed_path)


def _other_keys(verifier_key: str) -> LogConflict:
    return LogConflict(
        f"the logs were begun with the keys of {verifier_key}: copy that installation's file of "
        "log keys (DIANZAN_LOG_KEYS_FILE)"
    )


class _Writers:
    """The logs that a step appends to, each opened when it is first asked for."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._open: dict[tuple[int, Log], LogWriter] = {}

    async def of(self, campaign: int, log: Log) -> LogWriter:
        writer = self._open.get((campaign, log))
        if writer is None:
            writer = await LogWriter.open(self._connection, campaign, log)
            self._open[campaign, log] = writer
        return writer

    async def save(self) -> None:
        for _, writer in sorted(self._open.items()):
            await writer.save(self._connection)


# Votes.


@dataclass(frozen=True, slots=True)
class _Taken:
    """The next votes of a shard, whatever campaign they are of."""

    shard: int
    epoch: int
    rows: list[_Row]
    """As _ROW has them, by seq, dense."""
    last: bool
    """Nothing is committed after them."""

    @property
    def until(self) -> datetime:
        return moment_at(self.rows[-1][1] + POSTGRES_EPOCH_US)


async def _take_votes(days: VoteDays, row: asyncpg.Record, votes_max: int) -> _Taken | None:
    """The next ones after the logs' watermark, of one epoch; None where there are none.

    Within an epoch seqs are dense: where one is missing that the flusher has passed, to go on would
    leave out a vote for ever, so LogConflict says so instead.
    """
    shard = row["shard"]
    flushed = row["epoch"], row["seq"]
    logged = row["logged_epoch"], row["logged_seq"]
    if flushed <= logged:
        return None
    first = await days.first_after(shard, *logged)
    if first is None or first > flushed:
        return None
    epoch, seq = first
    to_seq = seq + votes_max - 1
    if epoch == flushed[0]:
        to_seq = min(to_seq, flushed[1])
    if epoch == logged[0] and seq != logged[1] + 1:
        raise LogConflict(f"shard {shard}, epoch {epoch}: no vote {logged[1] + 1} before {seq}")
    packed = await days.copy("copy_votes_to_log", shard, epoch, seq, to_seq)
    rows = sorted(_ROW.iter_unpack(packed))  # days follow each other, their seqs may not
    for place, each in enumerate(rows, seq):
        if each[0] != place:
            raise LogConflict(f"shard {shard}, epoch {epoch}: no vote {place} before {each[0]}")
    if epoch == flushed[0] and rows[-1][0] != to_seq:
        raise LogConflict(f"shard {shard}, epoch {epoch}: no vote {rows[-1][0] + 1}")
    return _Taken(shard, epoch, rows, (epoch, rows[-1][0]) >= flushed)


async def _log_votes(
    connection: asyncpg.Connection,
    keys: LogKeys,
    writers: _Writers,
    taken: _Taken,
    rulings: defaultdict[int, list[Ruling]],
) -> int:
    """Append them to their campaigns' logs; `rulings` gets those of the ones that are held."""
    of_campaigns: defaultdict[int, list[list[_Row]]]
    of_campaigns = defaultdict(list)
    for campaign, neighbours in groupby(taken.rows, _CAMPAIGN):
        of_campaigns[campaign].append(list(neighbours))
    await connection.execute(LOG_SQL["make_logs"], EMPTY_ROOT, list(of_campaigns))
    for campaign, runs in sorted(of_campaigns.items()):
        leaves = VoteLeaves(campaign, keys.campaign_salts(campaign))
        votes = [
            LoggedVote(seq, at + POSTGRES_EPOCH_US, candidate, click)
            for run in runs
            for seq, at, _, candidate, click, _, _, _ in run
        ]
        writer = await writers.of(campaign, Log.VOTES)
        start = writer.append(leaves.records(taken.shard, taken.epoch, votes))
        await writer.save_tiles(connection, all_of_them=False)
        logged = LoggedRange(
            start,
            taken.shard,
            taken.epoch,
            [run[0][0] for run in runs],
            [len(run) for run in runs],
        )
        await add_ranges(connection, campaign, [logged])
        leaf = start
        for run in runs:
            for each in run:
                if each[7] == _HELD:
                    at_ms = (each[1] + POSTGRES_EPOCH_US) // 1000
                    rulings[campaign].append(
                        Ruling(leaf, State.HELD, 0, each[6], at_ms, Role.VERDICT)
                    )
                leaf += 1
    await _add_hourly_mix(connection, taken.rows)
    await connection.execute(
        LOG_SQL["move_log_watermark"], taken.shard, taken.epoch, taken.rows[-1][0]
    )
    return len(taken.rows)


async def _add_hourly_mix(
    connection: asyncpg.Connection,
    rows: Sequence[_Row],
) -> None:
    seen = Counter(
        (campaign, (at + POSTGRES_EPOCH_US) // _HOUR_US, network_class, verdict)
        for _, at, campaign, _, _, network_class, _, verdict in rows
    )
    sums: defaultdict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0, 0])
    for (*key, verdict), votes in seen.items():
        of_key = sums[key[0], key[1], key[2]]
        of_key[0] += votes
        of_key[1] += votes if verdict == _HELD else 0
    columns = zip(*((*key, *votes) for key, votes in sorted(sums.items())), strict=True)
    await connection.execute(LOG_SQL["add_hourly_mix"], *map(list, columns))


# Decisions.


async def _log_decisions(
    connection: asyncpg.Connection, writers: _Writers, leaves_max: int, *, whole: bool
) -> tuple[int, bool]:
    """Append the rulings of the next decisions; how many, and whether some are left. One decision
    is never divided, so the last one may go beyond the limit. `whole`: all votes are leaves."""
    ruled = 0
    waiting: set[int] = set()
    """Campaigns in which a decision waits for a vote: those after it wait too."""
    progress = {
        row["shard"]: (row["logged_epoch"], row["logged_seq"])
        for row in await connection.fetch(LOG_SQL["read_progress"])
    }
    decisions = await connection.fetch(LOG_SQL["list_decisions_to_log"], _DECISIONS_READ)
    for decision in decisions:
        if ruled >= leaves_max:
            return ruled, True
        campaign = decision["campaign"]
        if campaign in waiting:
            continue
        moved = await connection.fetch(LOG_SQL["read_moved_votes"], decision["number"])
        if any(
            (row["epoch"], row["seqs"][-1]) > progress.get(row["shard"], (0, 0)) for row in moved
        ):
            if whole:
                raise LogConflict(f"decision {decision['number']} moved votes that are no leaves")
            waiting.add(campaign)
            continue
        writer = await writers.of(campaign, Log.RULINGS)
        role = Role.WATCH if decision["decided_by"] == WATCH else Role.PERSON
        at_ms = microseconds(decision["at"]) // 1000
        for row in moved:
            for first in range(0, len(row["seqs"]), _SEQS_MAPPED):
                seqs = row["seqs"][first : first + _SEQS_MAPPED]
                leaves = await find_leaves(connection, campaign, row["shard"], row["epoch"], seqs)
                rulings = (
                    Ruling(
                        leaf, row["to_state"], decision["number"], decision["rules"], at_ms, role
                    )
                    for leaf in leaves
                )
                writer.append([ruling.pack() for ruling in rulings])
                await writer.save_tiles(connection, all_of_them=False)
                ruled += len(leaves)
        writer.decision = decision["number"]
    return ruled, bool(waiting) or len(decisions) == _DECISIONS_READ


# Signing.


async def sign_head(
    connection: asyncpg.Connection,
    keys: LogKeys,
    campaign: int,
    log: Log,
    *,
    lines: Sequence[str] = (),
) -> str:
    """Sign a log's head as the caller's transaction sees it, which must be a snapshot's
    (`snapshot`), or committed; the note, which is nobody's before `hand_out`. `lines`: more that
    the statement says.

    The first line after the root is `time`, up to when nothing is missing. Raises LogConflict where
    this size was signed with another root, or a larger one was signed: the log is not what it was.
    """
    await check_keys(connection, keys)
    row = await connection.fetchrow(LOG_SQL["lock_log"], campaign, log)
    if row is None:
        raise LookupError(f"campaign {campaign} has no log yet")
    size, root, at = row["size"], bytes(row["root"]), row["at"]
    signed = None if row["checkpoint"] is None else Checkpoint.of_note(row["checkpoint"])
    kept = await connection.fetchval(LOG_SQL["read_root_of_size"], campaign, log, size)
    if (
        (signed is not None and signed.size > size)
        or (signed is not None and signed.size == size and signed.root != root)
        or (kept is not None and bytes(kept) != root)
    ):
        raise LogConflict(
            f"the log {log.word} of {row['id']} was signed otherwise: size {size} would get a "
            "second root"
        )
    statement = Checkpoint(
        origin_of(keys, row["id"], log), size, root, (f"time {_moment(at)}", *lines)
    )
    return keys.signer.sign(statement.text())


async def hand_out(
    connection: asyncpg.Connection, campaign: int, log: Log, note: str, *, keep: bool
) -> None:
    """Let a note out with the commit of the caller's transaction, in which nothing but the last one
    of a log is shown. `keep`: for ever, not only until the next one. What it says is in
    `LastSigned` by then."""
    await connection.execute(LOG_SQL["make_this_commit_durable"])
    checkpoint = Checkpoint.of_note(note)
    row = await connection.fetchrow(LOG_SQL["lock_log"], campaign, log)
    shown = None if row["checkpoint"] is None else Checkpoint.of_note(row["checkpoint"])
    if shown is None or (shown.size, _time_of(shown)) <= (checkpoint.size, _time_of(checkpoint)):
        await connection.execute(LOG_SQL["show_checkpoint"], campaign, log, note)
    if keep:
        said = checkpoint.size, checkpoint.root, _time_of(checkpoint)
        await connection.execute(LOG_SQL["add_checkpoint"], campaign, log, *said, note)


async def sign_checkpoint(
    connection: asyncpg.Connection,
    keys: LogKeys,
    campaign: int,
    log: Log,
    *,
    lines: Sequence[str] = (),
    keep: bool,
) -> str:
    """Sign a log's head and hand it out. Raises as `sign_head`."""
    async with connection.transaction():
        note = await sign_head(connection, keys, campaign, log, lines=lines)
        await hand_out(connection, campaign, log, note, keep=keep)
        return note


async def sign_grown(
    connection: asyncpg.Connection, keys: LogKeys, *, guard: Guard = contextlib.nullcontext
) -> int:
    """Sign every log that has grown since its last checkpoint, or whose last one is an hour old;
    how many. The first of each hour is kept. For the publisher, each 10 s at most.

    Every log is held against what was signed last, signed or not, so that a database that was put
    back is known at the first look. `guard` is around each log. Raises LogConflict.
    """
    signed = 0
    # Under the lock: a snapshot's transaction cannot move a head's row that somebody else moved.
    async with logs_locked(connection):
        await check_keys(connection, keys)
        known = LastSigned.load(keys)
        due = []
        for row in await connection.fetch(LOG_SQL["list_logs"]):
            log, head = Log(row["log"]), (row["size"], bytes(row["root"]))
            origin = origin_of(keys, row["id"], log)
            async with guard(f"what was signed of {origin}"):
                await known.check_log(
                    connection, origin, campaign=row["campaign"], log=log, head=head
                )
                last = None if row["checkpoint"] is None else Checkpoint.of_note(row["checkpoint"])
                hour, kept = _hour(row["at"]), row["kept_at"]
                grown = last is None or last.size != row["size"]
                if grown or (last is not None and _hour(_time_of(last)) < hour):
                    keep = grown and (kept is None or _hour(kept) < hour)
                    due.append((row["campaign"], log, origin, keep))
                    known.logs[origin] = head
        # All of them at once, before the first one leaves. Who dies here has them signed later.
        known.save(keys)
        for campaign, log, origin, keep in due:
            async with guard(f"checkpoint of {origin}"):
                await sign_checkpoint(connection, keys, campaign, log, keep=keep)
                signed += 1
    return signed


def origin_of(keys: LogKeys, campaign_id: str, log: Log) -> str:
    """Which log of which installation: the first line of its checkpoints."""
    return f"{keys.name}/{campaign_id}/{log.word}"


def _hour(moment: datetime) -> int:
    return microseconds(moment) // _HOUR_US


def _time_of(checkpoint: Checkpoint) -> datetime:
    """Up to when nothing is missing; the epoch where it does not say."""
    for line in checkpoint.lines:
        if line.startswith("time "):
            return datetime.fromisoformat(line.removeprefix("time "))
    return datetime.fromtimestamp(0, UTC)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
