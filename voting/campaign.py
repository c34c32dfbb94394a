"""Campaign, Candidate and what belongs to them: the words of what people vote on.

Plain frozen values without I/O; `catalog` brings them from Postgres, `intake` from a folder.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

from antifraud.limits import PERIODS_US, Rate
from voting.notices import PublicNotice


class Order(enum.StrEnum):
    """In which order candidates are shown."""

    RANDOM = "random"
    LISTED = "listed"


class Visibility(enum.StrEnum):
    """When the public may see the counts."""

    LIVE = "live"
    DAILY = "daily"
    AFTER_CLOSE = "after-close"
    STAFF = "staff"


class Phase(enum.StrEnum):
    """Whether a campaign takes likes at a moment, and if not, why."""

    NOT_OPEN = "not-open"
    OPEN = "open"
    PAUSED = "paused"
    """Within the window, by a decision of the staff."""
    CLOSED = "closed"


class Identity(enum.StrEnum):
    """Whether a like must be of somebody whom a portal vouches for (level 3)."""

    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class CampaignDay:
    """One calendar day in the campaign's time zone: [starts_at, ends_at) in epoch microseconds."""

    date: date
    starts_at_us: int
    ends_at_us: int

    @property
    def number(self) -> int:
        """Days since 1970-01-01, as the journal stores it."""
        return (self.date - date(1970, 1, 1)).days


@dataclass(frozen=True, slots=True)
class VotingWindow:
    """When likes are taken: [opens_at, closes_at). `zone` decides what a day is."""

    opens_at: datetime
    closes_at: datetime
    zone: ZoneInfo
    # Worked out once: every like is held against them.
    opens_at_us: int = field(init=False, repr=False, compare=False)
    closes_at_us: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "opens_at_us", microseconds(self.opens_at))
        object.__setattr__(self, "closes_at_us", microseconds(self.closes_at))

    def day_at(self, moment_us: int) -> CampaignDay:
        """The campaign day that holds this moment. Days that a clock change makes 23 or 25
        hours long are that long here too."""
        return self.day_on(moment_at(moment_us, self.zone).date())

    def day_on(self, day: date) -> CampaignDay:
        start = datetime.combine(day, time(), self.zone)
        end = datetime.combine(day + timedelta(days=1), time(), self.zone)
        return CampaignDay(day, microseconds(start), microseconds(end))


@dataclass(frozen=True, slots=True)
class Rules:
    """What one device may do, and what the public sees."""

    likes_per_candidate_per_day: int = 1
    candidates_per_day: int = 0
    """0 = no limit."""
    likes_per_campaign: int = 0
    """0 = no limit."""
    order: Order = Order.RANDOM
    counts: Visibility = Visibility.LIVE
    counts_daily_at: time = time(18)
    identity: Identity = Identity.OPTIONAL


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast likes may come."""

    per_device: Rate = Rate(30, PERIODS_US["minute"])
    per_network: Rate = Rate(1200, PERIODS_US["minute"])
    """One IPv4 address or one IPv6 /64. Above it votes are held, not refused."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Whom one may like. Text only: whoever renders it escapes it."""

    number: int
    """1 to 65535 within the campaign, given at import, never reused: what the journal stores."""
    id: str
    name: str
    organisation: str
    unit: str
    """Who put the candidate forward."""
    channel: str
    title: str
    summary: str
    photo: str | None = None
    """Id of the picture on the card: of one of Campaign.pictures."""
    withdrawn: bool = False
    story: str = ""
    """Paragraphs between line breaks."""
    more_photos: tuple[str, ...] = ()
    """Ids of the further pictures of the candidate's page."""
    video: str | None = None
    """Id of one of Campaign.videos."""


class Picture(NamedTuple):
    """The sizes in pixels of one picture; its bytes are the catalog's."""

    id: str
    width: int
    height: int
    """Of card size."""
    large_width: int | None = None
    large_height: int | None = None
    """None where there is no large size."""


class Video(NamedTuple):
    """One video; its bytes are a file."""

    id: str
    kind: str
    """mp4 or mov."""
    size_bytes: int
    seconds: float
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """How a campaign presents itself in public; "" where nobody said."""

    lead: str = ""
    """One sentence below the title."""
    about: str = ""
    """Paragraphs between line breaks."""
    organiser: str = ""
    contact: str = ""
    """Whom to ask, about personal data too, and how."""
    colour: str = ""
    """As #b8291a."""
    cover: str | None = None
    """Id of one of Campaign.pictures."""


class ChangedField(NamedTuple):
    """One field of a change; both None where only that it changed is said."""

    name: str
    was: str | None = None
    became: str | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """One change made since the opening, as the public sees it."""

    at: datetime
    kind: str
    """voting.changes.Kind."""
    candidate: str | None
    """Id of whom it concerns; None = the whole campaign."""
    candidate_name: str | None
    """As it is now."""
    fields: tuple[ChangedField, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign with all its candidates (withdrawn ones included), in listed order."""

    number: int
    """1 to 65535, given at import, never reused: what tokens and the journal store."""
    id: str
    title: str
    window: VotingWindow
    rules: Rules = Rules()
    limits: Limits = Limits()
    origins: tuple[str, ...] = ()
    """Pages that may embed the cards, as a browser sends them in Origin; without portals that are
    switched off."""
    paused_because: str | None = None
    candidates: tuple[Candidate, ...] = ()
    is_test: bool = False
    """A rehearsal: likes are taken and shown, and nothing of it is published."""
    changes: tuple[Changed, ...] = ()
    """Since the opening, oldest first."""
    page: Page = Page()
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    """Of the candidates and the cover, by id; of who has withdrawn the card's alone."""
    videos: Mapping[str, Video] = field(default_factory=dict)
    """Of the candidates who have not withdrawn, by id."""
    portal_keys: Mapping[str, bytes] = field(default_factory=dict)
    """Origin of a portal that is not switched off -> the Ed25519 public key, 32 bytes, that its
    assertions of identity are checked with."""
    notices: tuple[PublicNotice, ...] = ()
    """As they were put up, the newest, which stands, last."""
    holds_all: bool = False
    """Every like that the rules do not turn away is held: the checks are in trouble."""
    derived_shards: int = 1
    """Devices whose id follows from something are spread over so many shards, for good."""
    by_id: dict[str, Candidate] = field(init=False, repr=False, compare=False)
    standing: tuple[Candidate, ...] = field(init=False, repr=False, compare=False)
    """Those who have not withdrawn, in listed order."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_id", {c.id: c for c in self.candidates})
        object.__setattr__(self, "standing", tuple(c for c in self.candidates if not c.withdrawn))

    def phase_at(self, now_us: int) -> Phase:
        """As the store decides too: outside its window a campaign is not paused."""
        if now_us >= self.window.closes_at_us:
            return Phase.CLOSED
        if now_us < self.window.opens_at_us:
            return Phase.NOT_OPEN
        return Phase.OPEN if self.paused_because is None else Phase.PAUSED


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Epoch microseconds of an aware datetime, without a float's rounding."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment_at(epoch_us: int, zone: tzinfo = UTC) -> datetime:
    """The aware datetime of epoch microseconds."""
    return (_EPOCH + timedelta(microseconds=epoch_us)).astimezone(zone)
