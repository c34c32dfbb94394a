"""The journal: the stream that holds every vote until Postgres has it, and its bytes.

The only place with key names and byte layouts; `ballot_box.lua` writes what is drawn here.

Keys (all that one vote needs lies under one hash tag, so one call does everything):

    {s0}:head                     hash    replid, epoch, seq: where the journal stands;
                                          adjudicated: number of the last adjudication;
                                          closed:<campaign number>: id of the entry that closed it,
                                          there as long as it is closed
    {s0}:journal                  stream  one entry per batch, one per adjudication, one per closing
                                          or reopening; field "e", layouts below
    {s0}:tally:<campaign>         hash    "<n>" counted, "h<n>" held, "s<n>" struck,
                                          "r<n>:<outcome>" refused; n = Candidate.number
    {s0}:day:<campaign>:<date>    hash    device -> device-day record, layout below
    {s0}:net:<campaign>:<date>    hash    network -> three u64: next_free of its limit of votes,
                                          of 20 times that, of its rate of new devices, epoch
                                          microseconds; wide network -> one u64, of new devices
    {s0}:cells:<campaign>:<date>  hash    what `watch` found suspicious and the function only
                                          reads: network or wide network, candidate u16 -> weight
                                          i16 in milli-nats, user agent class u8 (0 = any)
    {s0}:capacity:<campaign>:<date>  hash  network -> u8: how many times the capacity of its class
                                          it has; written by `watch`, only read by the function
    {s0}:spent:<nonce>            string  a solution of a challenge was handed in; ends by itself
                                          after four minutes, when the challenge is long out of date
    {s0}:flushed                  string  what the flusher last went on from; written only to see it
                                          on a replica's disk (DIANZAN_ACK=replica)
    {s0}:fingerprints             hash    user agent class, decimal -> u32 of each TLS fingerprint
                                          that it is seen with; written by `watch`, read by edges
    {s0}:life:<campaign>          hash    device -> likes in this campaign, decimal; only
                                          where the campaign limits them

An entry's id is "<epoch>-<n>", n = 0, 1, 2 ... within the epoch: it depends on no clock, a gap
shows, and an id can never come before one that was given earlier.

Entry, big-endian, no padding:

    +---------+-------+-------+----------+-----+-------+-----------+-------+----------+
    | version | shard | epoch | campaign | day | at_us | first_seq | votes | refusals |
    |   u8    |  u8   |  u16  |   u16    | u32 |  u64  |    u64    |  u16  |   u16    |
    +---------+-------+-------+----------+-----+-------+-----------+-------+----------+
    then `votes` times (seq counts up from first_seq):
    +--------+---------+------+-----------+-------+-----+-----------+----------+-----+
    | device | network | wide | candidate | click | asn | net class | ua class | tls |
    |   8    |    8    |  8   |    u16    |   6   | u32 |    u8     |    u8    | u32 |
    +--------+---------+------+-----------+-------+-----+-----------+----------+-----+
    | token age s | level | dwell cs | rules | score | reasons | verdict |
    |     u32     |  u8   |   u16    |  u16  |  i16  |    3    |   u8    |
    +-------------+-------+----------+-------+-------+---------+---------+
    then `refusals` times: candidate u16, outcome u8, ballots u16.

Entry of an adjudication: what a decision of the staff moves in this shard's tally. It has no
votes, so the next entry's first_seq is the same (version 2; `number` counts from 1 in a shard)

    +---------+-------+-------+----------+--------+-------+-----------+--------+---+----------+
    | version | shard | epoch | campaign | number | at_us | first_seq | deltas | 0 | decision |
    |   u8    |  u8   |  u16  |   u16    |  u32   |  u64  |    u64    |  u16   |u16|   u32    |
    +---------+-------+-------+----------+--------+-------+-----------+--------+---+----------+
    then `deltas` times: candidate u16, counted i32, held i32, struck i32.

Entry of a closing: after it this shard takes no like of the campaign, until another one opens it
again. It has no votes either, and nothing follows its header (version 3)

    +---------+-------+-------+----------+--------+-------+-----------+---+---+
    | version | shard | epoch | campaign | closed | at_us | first_seq | 0 | 0 |
    |   u8    |  u8   |  u16  |   u16    |  u32   |  u64  |    u64    |u16|u16|
    +---------+-------+-------+----------+--------+-------+-----------+---+---+
    closed: 1, or 0 where it opens again.

Device-day record: next_free u64, then per like (oldest first)

    +-----------+-------+-------+-----+
    | candidate | click | epoch | seq |
    |    u16    |   6   |  u16  | u40 |
    +-----------+-------+-------+-----+
"""

import re
import struct
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

from antifraud.screen import Decision, Verdict
from antifraud.signals import Signals
from voting.ballot import Ballot, Outcome, Position

LAYOUT = 1
"""Version byte of an entry."""
ADJUDICATION_LAYOUT = 2
"""Version byte of an adjudication's entry."""
CLOSING_LAYOUT = 3
"""Version byte of an entry that closes a campaign or opens it again."""

ENTRY_FIELD = b"e"

HEADER = struct.Struct(">BBHHIQQHH")
VOTE = struct.Struct(">8s8s8sH6sIBBIIBHHh3sB")
REFUSAL = struct.Struct(">HBH")
DECISION = struct.Struct(">I")
DELTA = struct.Struct(">Hiii")
CELL = struct.Struct(">hB")
CELLS_MAX = 4_096
"""Cells that are marked at a time, the loudest of them."""
LIKE = struct.Struct(">H6sHBI")
RECORD_HEAD = struct.Struct(">Q")
_COUNT = int(Decision.COUNT)
_EPOCH_DAY = date(1970, 1, 1)
_TALLY_FIELD = re.compile(
    r"(?P<kind>[hs]?)(?P<candidate>\d+)|r(?P<refused>\d+):(?P<outcome>\d+)", re.ASCII
)


class JournalError(Exception):
    """Bytes in the journal that this version cannot read, or an entry that should be there and
    is not. Never skipped: whoever meets one stops and says so."""


class EntryId(NamedTuple):
    """Place of one entry in a shard's journal."""

    epoch: int
    number: int

    @classmethod
    def parse(cls, stream_id: bytes | str) -> "EntryId":
        text = stream_id.decode() if isinstance(stream_id, bytes) else stream_id
        epoch, _, number = text.partition("-")
        return cls(int(epoch), int(number))

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}"


class Refusal(NamedTuple):
    """Ballots of one batch turned away for one candidate and reason."""

    candidate: int
    outcome: Outcome
    ballots: int


class Vote(NamedTuple):
    """One vote as the journal keeps it; the fields of `VOTE`, in its order."""

    device: bytes
    network: bytes
    network_wide: bytes
    candidate: int
    click: bytes
    asn: int
    network_class: int
    user_agent_class: int
    tls_hash: int
    token_age_seconds: int
    token_level: int
    dwell_centiseconds: int
    rules: int
    score: int
    reasons: bytes
    verdict: int
    """antifraud.screen.Decision: COUNT or HOLD."""


class Entry(NamedTuple):
    """One batch of one campaign and day, as it lies in the journal."""

    shard: int
    epoch: int
    campaign: int
    day: date
    at_us: int
    first_seq: int
    votes_packed: bytes
    """Votes back to back, `VOTE.size` bytes each."""
    refusals: tuple[Refusal, ...]

    @property
    def vote_count(self) -> int:
        return len(self.votes_packed) // VOTE.size

    def votes(self) -> Iterator[Vote]:
        return map(Vote._make, VOTE.iter_unpack(self.votes_packed))


class Delta(NamedTuple):
    """What a decision moves for one candidate."""

    candidate: int
    counted: int
    held: int
    struck: int


class Adjudication(NamedTuple):
    """A decision's effect on one shard's tally of one campaign, as it lies in the journal."""

    shard: int
    epoch: int
    campaign: int
    number: int
    at_us: int
    first_seq: int
    """Of the next vote: an adjudication has none of its own."""
    decision: int
    deltas: tuple[Delta, ...]

    @property
    def vote_count(self) -> int:
        return 0


class Closing(NamedTuple):
    """One shard's end of a campaign (or its beginning anew), as it lies in the journal."""

    shard: int
    epoch: int
    campaign: int
    closed: bool
    """False: open again."""
    at_us: int
    first_seq: int
    """Of the next vote: every one before it was cast before this."""

    @property
    def vote_count(self) -> int:
        return 0


AnyEntry = Entry | Adjudication | Closing
"""Whatever lies in a journal."""


def pack_ballot(
    ballot: Ballot, network: bytes, network_wide: bytes, signals: Signals, verdict: Verdict
) -> bytes:
    """What the edge hands to the store for one ballot: the vote that it becomes if nothing speaks
    against it. `network` and `network_wide` are the day's pseudonyms of the ballot's prefixes."""
    return VOTE.pack(
        ballot.device,
        network,
        network_wide,
        ballot.candidate,
        ballot.click,
        signals.asn,
        signals.network_class,
        signals.user_agent_class,
        signals.tls_hash,
        min(signals.token_age_seconds, 0xFFFFFFFF),
        signals.token_level,
        min(signals.dwell_centiseconds, 0xFFFF),
        verdict.rules,
        verdict.score,
        verdict.reasons,
        _COUNT,
    )


def unpack_entry(packed: bytes) -> AnyEntry:
    """An entry of any kind out of its bytes; JournalError where they are not one."""
    if len(packed) < HEADER.size:
        raise JournalError(f"an entry of {len(packed)} bytes has no whole header")
    header = HEADER.unpack_from(packed)
    if header[0] == ADJUDICATION_LAYOUT:
        return _unpack_adjudication(packed, header)
    if header[0] == CLOSING_LAYOUT:
        return _unpack_closing(packed, header)
    layout, shard, epoch, campaign, day, at_us, first_seq, votes, refusals = header
    if layout != LAYOUT:
        raise JournalError(
            f"an entry of layout {layout}; this version reads {LAYOUT}, {ADJUDICATION_LAYOUT} and "
            f"{CLOSING_LAYOUT}"
        )
    votes_end = HEADER.size + votes * VOTE.size
    if len(packed) != votes_end + refusals * REFUSAL.size:
        raise JournalError(
            f"an entry of {len(packed)} bytes claims {votes} votes and {refusals} refusals"
        )
    return Entry(
        shard,
        epoch,
        campaign,
        _EPOCH_DAY + timedelta(days=day),
        at_us,
        first_seq,
        packed[HEADER.size : votes_end],
        tuple(
            Refusal(candidate, Outcome(outcome), ballots)
            for candidate, outcome, ballots in REFUSAL.iter_unpack(packed[votes_end:])
        ),
    )


def unwrap_entry(found: Any) -> tuple[EntryId, bytes]:
    """An entry as a client of the stream gives it, (id, fields) -> (id, its bytes)."""
    stream_id: bytes
    fields: dict[bytes, bytes]
    stream_id, fields = found
    if ENTRY_FIELD not in fields:
        raise JournalError(f"entry {stream_id.decode()} has no field {ENTRY_FIELD.decode()!r}")
    return EntryId.parse(stream_id), fields[ENTRY_FIELD]


def read_entry(id_: EntryId, packed: bytes) -> AnyEntry:
    """The entry under this id; JournalError says which one cannot be read, and why."""
    try:
        return unpack_entry(packed)
    except (JournalError, ValueError, OverflowError) as why:
        raise JournalError(f"entry {id_}: {why}") from why


def _unpack_adjudication(packed: bytes, header: tuple[int, ...]) -> Adjudication:
    _, shard, epoch, campaign, number, at_us, first_seq, deltas, _ = header
    deltas_at = HEADER.size + DECISION.size
    if len(packed) != deltas_at + deltas * DELTA.size:
        raise JournalError(f"an adjudication of {len(packed)} bytes claims {deltas} deltas")
    (decision,) = DECISION.unpack_from(packed, HEADER.size)
    return Adjudication(
        shard,
        epoch,
        campaign,
        number,
        at_us,
        first_seq,
        decision,
        tuple(map(Delta._make, DELTA.iter_unpack(packed[deltas_at:]))),
    )


def _unpack_closing(packed: bytes, header: tuple[int, ...]) -> Closing:
    _, shard, epoch, campaign, closed, at_us, first_seq, *_ = header
    if len(packed) != HEADER.size or closed not in (0, 1):
        raise JournalError(f"a closing of {len(packed)} bytes says {closed}")
    return Closing(shard, epoch, campaign, bool(closed), at_us, first_seq)


class Like(NamedTuple):
    """One like out of a device-day record."""

    candidate: int
    click: bytes
    position: Position


def unpack_device_day(record: bytes, shard: int) -> tuple[int, list[Like]]:
    """(next_free_us, likes of the day, oldest first) of a device-day record."""
    if not record:
        return 0, []
    (next_free_us,) = RECORD_HEAD.unpack_from(record)
    likes = [
        Like(candidate, click, Position(shard, epoch, seq_high << 32 | seq_low))
        for candidate, click, epoch, seq_high, seq_low in LIKE.iter_unpack(
            record[RECORD_HEAD.size :]
        )
    ]
    return next_free_us, likes


# Key names.


def head_key(shard: int) -> str:
    return f"{{s{shard}}}:head"


def closed_field(campaign: int) -> str:
    """Of the head: where it is there, the campaign with this number is closed."""
    return f"closed:{campaign}"


def journal_key(shard: int) -> str:
    return f"{{s{shard}}}:journal"


def flushed_key(shard: int) -> str:
    return f"{{s{shard}}}:flushed"


def tally_key(shard: int, campaign_id: str) -> str:
    return f"{{s{shard}}}:tally:{campaign_id}"


GRACE_US = 15 * 60 * 1_000_000
"""So long after midnight the function still reads the day before."""


def day_key(shard: int, campaign_id: str, day: date) -> str:
    return f"{{s{shard}}}:day:{campaign_id}:{day.isoformat()}"


def network_key(shard: int, campaign_id: str, day: date) -> str:
    return f"{{s{shard}}}:net:{campaign_id}:{day.isoformat()}"


def cells_key(shard: int, campaign_id: str, day: date) -> str:
    return f"{{s{shard}}}:cells:{campaign_id}:{day.isoformat()}"


def fingerprints_key(shard: int) -> str:
    return f"{{s{shard}}}:fingerprints"


def capacity_key(shard: int, campaign_id: str, day: date) -> str:
    return f"{{s{shard}}}:capacity:{campaign_id}:{day.isoformat()}"


def spent_key(shard: int, nonce: str) -> str:
    """`nonce` as its challenge spells it: hexadecimal digits."""
    return f"{{s{shard}}}:spent:{nonce}"


class TallyField(NamedTuple):
    """A field of the tally hash: one sum of one candidate."""

    kind: str
    """"" counted, "h" held, "s" struck, "r" refused."""
    candidate: int
    outcome: Outcome | None
    """Of kind "r"."""


def parse_tally_field(field: bytes) -> TallyField:
    """JournalError where the name is not one that the function writes."""
    found = _TALLY_FIELD.fullmatch(field.decode(errors="replace"))
    if found is None:
        raise JournalError(f"the tally has a field {field!r}")
    outcome = Outcome(int(found["outcome"])) if found["outcome"] else None
    if outcome is not None:
        return TallyField("r", int(found["refused"]), outcome)
    return TallyField(found["kind"], int(found["candidate"]), None)


def counted_sums(sums: Mapping[bytes, int]) -> dict[int, int]:
    """Candidate.number -> votes counted, out of a whole tally hash."""
    return {int(field): votes for field, votes in sums.items() if field.isdigit()}


class DayKey(NamedTuple):
    """What the name of a day's hash says."""

    kind: str
    """"day", "net", "cells" or "capacity"."""
    campaign_id: str
    date: date


def parse_day_key(key: str) -> DayKey | None:
    """Of the keys that are one day's; None for any other key."""
    _, _, rest = key.partition(":")
    kind, _, rest = rest.partition(":")
    campaign_id, _, day = rest.rpartition(":")
    if kind not in ("day", "net", "cells", "capacity"):
        return None
    try:
        return DayKey(kind, campaign_id, date.fromisoformat(day))
    except ValueError:
        return None


def life_key(shard: int, campaign_id: str) -> str:
    return f"{{s{shard}}}:life:{campaign_id}"
