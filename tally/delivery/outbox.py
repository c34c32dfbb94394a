"""The outbox: news for others, written in the transaction of what it tells of, sent afterwards.

    await outbox.add(connection, Event.PUBLISHED, "demo/3", {...})      # whoever has news
    async with PostOffice(settings, connect) as office:                 # the publisher
        await office.send_due()

At least once: a letter is claimed for LEASE, sent, and then said to be sent. Who dies in between
lets it come again, under the same id (`Dianzan-Id`), by which its receiver knows it. Letters of one
destination may overtake each other. What was not taken is tried again after 1 min, 2 min, 4 min ...
6 h, TRIES_MAX times (some 20 hours), and then is a dead letter: it stays, is shown, and goes again
when somebody asks for it.

Who hangs holds up nobody else: DEADLINE for each try in all, PER_DESTINATION of them at once,
AT_ONCE over all destinations.

Alerts are pairs of events: one where something begins, one where it ends (`ENDS`). A destination
asks for the beginning, and hears of the end of what it was told of. What has begun and not ended is
read from the outbox itself, so that a restart tells nothing twice.

Letters that were sent KEPT ago go (`forget_old`), of an alert both when both were sent; news of a
campaign's own (`KEPT_FOR_EVER`) and dead letters stay. What comes again after that, such as a flag
that still grows, is told again.
"""

import asyncio
import enum
import json
import random
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
import structlog

from tally.store import read_queries

SQL = read_queries(Path(__file__).with_name("outbox.sql"))

DEADLINE_SECONDS = 10.0
"""For one try, name look-up and answer included."""
LEASE = timedelta(seconds=60)
"""Well above the deadline: as long as we live nobody takes what we are sending."""
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=6)
TRIES_MAX = 12
AT_ONCE = 16
PER_DESTINATION = 2
KEPT = timedelta(days=90)
CONTENT_BYTES_MAX = 16_384
SUBJECT_CHARACTERS_MAX = 200
ERROR_CHARACTERS_MAX = 300

_CLAIM_EVERY_SECONDS = 0.5
_STEP_SECONDS = 30.0
"""After this a call claims nothing new, so that its caller comes round."""

log = structlog.get_logger()

Connect = Callable[[], AbstractAsyncContextManager[asyncpg.Connection]]
"""Gives a connection in no transaction, such as a pool's `acquire`."""


class Event(enum.StrEnum):
    """What there is news of. Subjects in brackets: the same event of the same subject is sent
    once."""

    PUBLISHED = "published"
    """[campaign/number] A publication is there."""
    CLOSED = "closed"
    """[campaign/change number] Likes are taken no more."""
    REOPENED = "reopened"
    """[campaign/change number] ... and are again."""
    NOTICE = "notice"
    """[campaign/number] A public notice was put up, or one taken back by a further one."""
    FLAG = "flag-of-high-effect"
    """[flag number] Places or many votes hang on it."""
    PROPOSAL = "proposal-open"
    """[proposal number] Waits for a second person."""
    OBJECTION = "objection"
    """[objection number] One was received."""
    PART_DOWN = "part-down"
    """[part, since when] Silent for too long, or says that it is not well."""
    PART_BACK = "part-back"
    LAG = "lag"
    """[what lags, since when] Postgres or the log is behind."""
    LAG_OVER = "lag-over"
    RECONCILIATION_OFF = "reconciliation-off"
    """[campaign, since when] Hot state, journal and Postgres do not hold the same."""
    RECONCILIATION_WELL = "reconciliation-well"
    DISK_NEARLY_FULL = "disk-nearly-full"
    """[since when]"""
    DISK_WELL = "disk-well"
    DEAD_LETTERS = "dead-letters"
    """[destination, since when] News could not be delivered. Never sent to that destination."""
    DEAD_LETTERS_GONE = "dead-letters-gone"
    TEST = "test"
    """[anything] Somebody tries a destination out."""


ENDS: Mapping[Event, Event] = {
    Event.PART_DOWN: Event.PART_BACK,
    Event.LAG: Event.LAG_OVER,
    Event.RECONCILIATION_OFF: Event.RECONCILIATION_WELL,
    Event.DISK_NEARLY_FULL: Event.DISK_WELL,
    Event.DEAD_LETTERS: Event.DEAD_LETTERS_GONE,
}
"""What begins -> what ends it."""

KEPT_FOR_EVER = (Event.PUBLISHED, Event.CLOSED, Event.REOPENED, Event.NOTICE)
"""Few, and the record of what the office was told."""

WANTED = tuple(event for event in Event if event not in {*ENDS.values(), Event.TEST})
"""What a destination can ask for."""


async def add(
    connection: asyncpg.Connection,
    event: Event,
    subject: str,
    content: Mapping[str, Any],
    *,
    happened_at: datetime | None = None,
    not_to: int | None = None,
) -> int:
    """Write one letter for each destination that wants it, in the caller's transaction; how many
    were new. Again for the same event and subject writes nothing.

    `content` is what its receivers get, as JSON: nothing in it that the campaign's visibility
    hides, and nothing personal. `happened_at`: destinations made after that are not told.
    `not_to`: a destination that is left out. Raises ValueError for content above
    CONTENT_BYTES_MAX or that is no JSON.
    """
    text = _checked(subject, content)
    done = await connection.execute(SQL["add_news"], event, subject, text, happened_at, not_to)
    return int(done.rsplit(" ", 1)[1])


async def add_end(
    connection: asyncpg.Connection, begun: Event, subject: str, content: Mapping[str, Any]
) -> int:
    """Tell whoever was told that this began that it has ended; how many letters were new."""
    text = _checked(subject, content)
    done = await connection.execute(SQL["add_end"], begun, ENDS[begun], subject, text)
    return int(done.rsplit(" ", 1)[1])


async def unended(connection: asyncpg.Connection, begun: Event) -> list[str]:
    """Subjects of what somebody was told to have begun, and not to have ended."""
    rows = await connection.fetch(SQL["read_unended"], begun, ENDS[begun])
    return [row["subject"] for row in rows]


async def forget_old(connection: asyncpg.Connection) -> int:
    """Delete letters that were sent KEPT ago; how many. What has begun and not ended stays."""
    done = await connection.execute(
        SQL["forget_old"], KEPT, list(KEPT_FOR_EVER), list(ENDS), list(ENDS.values())
    )
    return int(done.rsplit(" ", 1)[1])


async def add_test(connection: asyncpg.Connection, destination: int, by: str) -> uuid.UUID:
    """Write a test letter for one destination, whatever it asks for; its id."""
    text = json.dumps({"asked_by": by}, ensure_ascii=False)
    id_: uuid.UUID = await connection.fetchval(
        SQL["add_test"], destination, Event.TEST, f"test {uuid.uuid4()}", text
    )
    return id_


async def send_again(connection: asyncpg.Connection, letter: uuid.UUID) -> str | None:
    """Let a dead letter go again, with all its tries; what it was about, None where it is none."""
    row = await connection.fetchrow(SQL["send_again"], letter)
    return None if row is None else f"{row['event']} {row['subject']}"


def _checked(subject: str, content: Mapping[str, Any]) -> str:
    if not 0 < len(subject) <= SUBJECT_CHARACTERS_MAX or not subject.isprintable():
        raise ValueError("an event's subject is a short line of text")
    try:
        text = json.dumps(_without_nul(content), ensure_ascii=False, allow_nan=False)
    except TypeError as why:
        raise ValueError(f"an event's content is JSON: {why}") from None
    if len(text.encode()) > CONTENT_BYTES_MAX:
        raise ValueError(f"an event's content is above {CONTENT_BYTES_MAX} bytes")
    return text


def _without_nul(value: Any) -> Any:
    """The database holds any text but this character, and would end the caller's transaction."""
    match value:
        case str():
            return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        case Mapping():
            return {str(key): _without_nul(one) for key, one in value.items()}
        case list() | tuple():
            return [_without_nul(one) for one in value]
    return value


def pause_after(tries: int, drawn: float) -> timedelta:
    """How long to wait after so many tries that failed; `drawn` from [0, 1) spreads them by a
    tenth up or down, so that letters that failed together do not all come together."""
    pause: timedelta = min(FIRST_PAUSE * 2 ** min(tries - 1, 16), LONGEST_PAUSE)
    return pause * (0.9 + 0.2 * drawn)


@dataclass(frozen=True, slots=True)
class Letter:
    """One event on its way to one destination."""

    id: uuid.UUID
    """The same for every try."""
    event: Event
    subject: str
    content: dict[str, Any]
    made_at: datetime
    tries: int
    """This one included."""


@dataclass(frozen=True, slots=True)
class Addressee:
    """A destination as its row has it, secrets still sealed."""

    number: int
    form: str
    shown_as: str
    address: str
    secret: bytes | None


class NotTaken(Exception):
    """A letter was not delivered; the text says why and names no secret."""


Deliver = Callable[[Letter, Addressee], Any]
"""async (letter, addressee) -> None; raises NotTaken. tally.delivery.couriers.Couriers.deliver."""


@dataclass(slots=True)
class Sent:
    """What one call of `send_due` came to."""

    sent: int = 0
    failed: int = 0
    """To be tried again."""
    given_up: int = 0


class PostOffice:
    """Sends what is due. One per process; any number of processes may, each letter goes to one."""

    def __init__(self, connect: Connect, deliver: Deliver) -> None:
        self._connect = connect
        self._deliver = deliver
        self._under_way: dict[asyncio.Task[None], int] = {}
        """Task -> destination."""
        self._done = Sent()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._cut_short()

    async def send_due(self) -> Sent:
        """Send every letter whose time has come, and return when none is under way: at once where
        there is none, after about 40 s at the latest. Raises asyncpg's errors; letters under way
        then come again.

        While one destination hangs, others' letters are claimed and sent as they become due.
        """
        self._done = Sent()
        loop = asyncio.get_running_loop()
        until = loop.time() + _STEP_SECONDS
        try:
            while True:
                claimed = await self._claim() if loop.time() < until else 0
                if not self._under_way:
                    if not claimed:
                        return self._done
                    continue
                finished, _ = await asyncio.wait(
                    self._under_way,
                    timeout=_CLAIM_EVERY_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in finished:
                    del self._under_way[task]
                for ended in await asyncio.gather(*finished, return_exceptions=True):
                    if ended is not None:
                        raise ended  # Postgres is away: the others would not get far either
        except BaseException:
            await self._cut_short()
            raise

    async def _claim(self) -> int:
        free = AT_ONCE - len(self._under_way)
        if free <= 0:
            return 0
        destinations = list(self._under_way.values())
        busy = [n for n in set(destinations) if destinations.count(n) >= PER_DESTINATION]
        # A destination with one letter under way gets one more at most.
        each = PER_DESTINATION if not destinations else 1
        async with self._connect() as connection:
            rows = await connection.fetch(SQL["claim_due"], free, each, busy, LEASE)
        for row in rows:
            letter = Letter(
                row["id"],
                Event(row["event"]),
                row["subject"],
                json.loads(row["content"]),
                row["made_at"],
                row["tries"],
            )
            to = Addressee(
                row["number"], row["form"], row["shown_as"], row["address"], row["secret"]
            )
            self._under_way[asyncio.create_task(self._send(letter, to))] = to.number
        return len(rows)

    async def _send(self, letter: Letter, to: Addressee) -> None:
        why = None
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self._deliver(letter, to)
        except NotTaken as error:
            why = str(error)
        except TimeoutError:
            why = f"no answer within {DEADLINE_SECONDS:g} s"
        except Exception:
            # A defect of a courier must not stop the post; its text could name a secret.
            log.exception("courier-failed", destination=to.number, form=to.form)
            why = "the courier failed: see the publisher's log"
        # A crash here: delivered and not said so. It comes again with the same id.
        async with self._connect() as connection:
            if why is None:
                await connection.execute(SQL["say_sent"], letter.id)
                self._done.sent += 1
                return
            given_up = await connection.fetchval(
                SQL["say_failed"],
                letter.id,
                letter.tries,
                _printable(why),
                pause_after(letter.tries, random.random()),  # noqa: S311 # spreads, hides nothing
                letter.tries >= TRIES_MAX,
            )
        if given_up:
            self._done.given_up += 1
        else:
            self._done.failed += 1
        log.warning(
            "news-given-up" if given_up else "news-not-taken",
            destination=to.number,
            news=letter.event.value,
            tries=letter.tries,
            why=_printable(why),
        )

    async def _cut_short(self) -> None:
        """Stop what is under way. Whether it arrived is not known: it comes again after LEASE."""
        tasks = list(self._under_way)
        self._under_way.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _printable(text: str) -> str:
    """One line, short: what a stranger's server answered comes to a page."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line[:ERROR_CHARACTERS_MAX]
