"""What staff change of a campaign without importing it anew: what may be changed when, by how many
persons, and what follows from it.

    change = Change(Kind.PAUSED, reason="机房检修，约一小时")
    applied = await apply(connection, "demo", change, by=staff.name, role=staff.role, made_from=17)

One change is one transaction: the campaign's row, the candidate's, the entry in `campaign_changes`,
the catalog's version (edges look at it each 0.8 s) and the audit entry. Nothing is overwritten: a
candidate's history is the list of changes.

What could favour someone takes two persons from the opening on: quotas, the window, when counts are
shown, limits. Not in a rehearsal, of which nothing is published. Who pauses needs nobody: it is the
brake. Which changes the public is shown is voting.changes.STAFF_ONLY's complement.

Closing early sets `closes_at` to the moment of the change; the journals' `close` entries follow at
once, by whoever is there first (tally/closing.py). What was answered before them is counted.
"""

import enum
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import asyncpg

from antifraud.limits import Rate
from tally import audit
from tally.delivery import outbox
from tally.proposal_kinds import ADMINS, CannotBeDone, Content, Person
from tally.proposal_kinds import Kind as ProposalKind
from tally.store import read_queries
from tally.translated import N_, Translate
from voting.campaign import Limits, Order, Rules, Visibility, VotingWindow
from voting.catalog import (
    limits_from_json,
    limits_to_json,
    rules_from_json,
    rules_to_json,
    window_from_row,
)
from voting.changes import (
    CANDIDATE_FIELDS,
    QUOTA_FIELDS,
    STAFF_ONLY,
    Kind,
    Recorded,
    limit_facts,
    lock_changes,
    moved,
    quota_facts,
    record,
    visibility_facts,
    window_facts,
)
from voting.intake.folder import LIKES_PER_DEVICE_DAY_MAX
from voting.intake.roster import CANDIDATES_MAX, FIELDS
from voting.intake.text import clean, fault_of, in_paragraphs, on_one_line

_SQL = read_queries(Path(__file__).with_name("campaign_changes.sql"))

REASON_CHARACTERS_MAX = 200
_NOW = "now"
"""Stands for the moment of the change, where that is not known yet."""
_WHOLE_NUMBER = re.compile(r"[0-9]{1,7}", re.ASCII)
_CANDIDATE_ID = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
_CAMPAIGN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,47}", re.ASCII)
_PHOTO_ID = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_MINUTE = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)


class State(enum.StrEnum):
    """Where a campaign is in its life. Whether it is paused is apart from that."""

    BEFORE = "before"
    OPEN = "open"
    AFTER = "after"


_ALWAYS = frozenset(State)
_BEFORE, _OPEN, _AFTER = (frozenset({state}) for state in State)


class When(NamedTuple):
    """When a kind of change may be made."""

    states: frozenset[State]
    two_persons: bool = False
    """From the opening on."""


WHEN: Mapping[Kind, When] = {
    Kind.PAUSED: When(_BEFORE | _OPEN),
    Kind.RESUMED: When(_ALWAYS),
    Kind.OPENED: When(_BEFORE),
    Kind.EXTENDED: When(_OPEN, two_persons=True),
    Kind.CLOSED: When(_OPEN, two_persons=True),
    Kind.REOPENED: When(_AFTER, two_persons=True),
    Kind.WINDOW: When(_BEFORE),
    Kind.QUOTA: When(_ALWAYS, two_persons=True),
    Kind.VISIBILITY: When(_ALWAYS, two_persons=True),
    Kind.LIMITS: When(_ALWAYS, two_persons=True),
    Kind.CANDIDATE_ADDED: When(_BEFORE | _OPEN),
    Kind.CANDIDATE_CORRECTED: When(_ALWAYS),
    Kind.CANDIDATE_WITHDRAWN: When(_ALWAYS),
    Kind.CANDIDATE_RETURNED: When(_ALWAYS),
    Kind.PORTAL_OFF: When(_ALWAYS),
    Kind.PORTAL_ON: When(_ALWAYS),
    Kind.TEST: When(_BEFORE),
}
"""Every kind that staff can make one by one; imports bring BY_IMPORT too."""
BY_IMPORT = frozenset({Kind.IMPORTED, Kind.IDENTITY, Kind.PORTAL_KEYS})


class Fault(NamedTuple):
    """What is wrong with one field of a change."""

    field: str
    text: str
    """English; `{name}` is filled from `values`."""
    values: Mapping[str, Any] = {}

    def __str__(self) -> str:
        return f"{self.field}: {self.text.format(**self.values)}"


class ChangeError(Exception):
    """The change was not made; nothing was written."""


class UnknownCampaign(ChangeError):
    """There is no such campaign."""


class ChangeRefused(ChangeError):
    """It may not be made, or not now, or is not well-formed; `faults` say why, all at once."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


class StaleChange(ChangeError):
    """Somebody changed the campaign since the form was made; `since` says what."""

    def __init__(self, since: "list[Entry]") -> None:
        super().__init__(f"{len(since)} changes were made since")
        self.since = since


class NeedsSecondPerson(ChangeError):
    """It takes a second person: propose it (KIND)."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change that somebody wants made. Values are text, as forms bring them, and moments
    carry an offset."""

    kind: Kind
    values: Mapping[str, str] = field(default_factory=dict)
    candidate: str | None = None
    """Its id."""
    reason: str = ""
    """The public is shown it with the change, see voting.changes."""

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "values": dict(self.values),
            "candidate": self.candidate,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Change":
        return cls(Kind(stored["kind"]), stored["values"], stored["candidate"], stored["reason"])


@dataclass(frozen=True, slots=True)
class CampaignNow:
    """A campaign as staff see and change it, at one moment."""

    number: int
    id: str
    title: str
    window: VotingWindow
    rules: Rules
    limits: Limits
    origins: tuple[str, ...]
    """All portals, those that are off included."""
    origins_off: tuple[str, ...]
    portal_keys: Mapping[str, str]
    """Portal -> its public key in base64; of those that have one, those that are off included."""
    channels: Mapping[str, int]
    paused_because: str | None
    is_test: bool
    now: datetime
    version: int
    """Number of its last change; 0 = it was never changed."""

    @property
    def zone(self) -> ZoneInfo:
        return self.window.zone

    @property
    def state(self) -> State:
        if self.now < self.window.opens_at:
            return State.BEFORE
        return State.OPEN if self.now < self.window.closes_at else State.AFTER

    def needs_second_person(self, kind: Kind) -> bool:
        """Whether a change of this kind takes two persons now."""
        return self.state is not State.BEFORE and not self.is_test and WHEN[kind].two_persons

    def shows_in_public(self, kind: Kind) -> bool:
        return self.state is not State.BEFORE and kind not in STAFF_ONLY

    def allows(self, kind: Kind) -> bool:
        """Whether this is the time for a change of this kind."""
        return self.state in WHEN[kind].states


@dataclass(frozen=True, slots=True)
class CandidateNow:
    """One candidate as staff see and change them."""

    number: int
    id: str
    place: int
    name: str
    organisation: str
    unit: str
    channel: str
    title: str
    summary: str
    photo: str | None
    withdrawn_at: datetime | None
    story: str
    more_photos: list[str]
    video: str | None

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in CANDIDATE_FIELDS}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the list of changes."""

    number: int
    at: datetime
    kind: Kind
    candidate: str | None
    candidate_name: str | None
    was: dict[str, Any]
    became: dict[str, Any]
    reason: str
    changed_by: str
    approved_by: str | None
    in_public: bool


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a change."""

    number: int
    """In `campaign_changes`."""
    campaign: CampaignNow
    """After it."""
    was: dict[str, Any]
    became: dict[str, Any]


# Reading.


async def read_campaign(connection: asyncpg.Connection, campaign_id: str) -> CampaignNow:
    """The campaign as it is; UnknownCampaign."""
    return await _read_campaign(connection, campaign_id, hold=False)


async def list_campaigns(connection: asyncpg.Connection) -> list[CampaignNow]:
    """All of them, the newest first."""
    rows = await connection.fetch(_SQL["list_campaigns"])
    return [_campaign(row) for row in rows]


async def read_candidate(
    connection: asyncpg.Connection, campaign: int, candidate_id: str
) -> CandidateNow | None:
    """One of a campaign (by its number), withdrawn or not; None where there is none."""
    row = await connection.fetchrow(_SQL["read_candidate"], campaign, candidate_id)
    return None if row is None else CandidateNow(**row)


async def list_candidates(connection: asyncpg.Connection, campaign: int) -> list[CandidateNow]:
    """All of a campaign in listed order, withdrawn ones included."""
    rows = await connection.fetch(_SQL["list_candidates"], campaign)
    return [CandidateNow(**row) for row in rows]


async def read_changes(
    connection: asyncpg.Connection,
    campaign: int,
    *,
    after: int = 0,
    candidate: int | None = None,
    public_only: bool = False,
    at_most: int = 1_000,
) -> list[Entry]:
    """Changes of a campaign (by its number), or of one of its candidates, the newest first."""
    rows = await connection.fetch(
        _SQL["read_changes"], campaign, after, candidate, public_only, at_most
    )
    return [
        Entry(
            row["number"],
            row["at"],
            Kind(row["kind"]),
            row["candidate"],
            row["candidate_name"],
            json.loads(row["was"]),
            json.loads(row["became"]),
            row["reason"],
            row["changed_by"],
            row["approved_by"],
            row["in_public"],
        )
        for row in rows
    ]


# Changing.


async def apply(
    connection: asyncpg.Connection,
    campaign_id: str,
    change: Change,
    *,
    by: str,
    role: str,
    made_from: int | None,
    approved_by: str | None = None,
) -> Applied:
    """Make a change, or raise a ChangeError and change nothing.

    In a transaction of its own, or as a part of the caller's, which then does nothing else with
    campaigns and ends soon: the audit log waits. `made_from`: CampaignNow.version of what whoever
    wants it was shown; None = whatever it is by now. `approved_by`: the second person, who is not
    the same as `by` (the caller has seen to that).
    """
    async with connection.transaction():
        planned = await _plan(connection, campaign_id, change, hold=True)
        campaign = planned.before
        if made_from is not None and made_from != campaign.version:
            since = await read_changes(connection, campaign.number, after=made_from)
            raise StaleChange(since)
        if approved_by is None and campaign.needs_second_person(change.kind):
            raise NeedsSecondPerson(f"{change.kind} of an open campaign")
        candidate = await _write(connection, planned)
        (number,) = await record(
            connection,
            campaign.number,
            [Recorded(change.kind, planned.was, planned.became, candidate)],
            opened=campaign.state is not State.BEFORE,
            reason=planned.reason,
            changed_by=by,
            approved_by=approved_by,
        )
        if change.kind is Kind.REOPENED and not campaign.is_test:
            await outbox.add(
                connection,
                outbox.Event.REOPENED,
                f"{campaign.id}/{number}",
                {"campaign": campaign.id, "reason": planned.reason, **planned.became},
            )
        after = await read_campaign(connection, campaign_id)
        await audit.append(
            connection,
            actor=by,
            role=role,
            action=f"campaign.{change.kind}",
            subject=f"campaign {campaign.id}",
            details={
                "change": number,
                "candidate": change.candidate,
                "was": planned.was,
                "became": planned.became,
                "reason": planned.reason,
                "approved_by": approved_by,
            },
        )
    return Applied(number, after, planned.was, planned.became)


async def look(connection: asyncpg.Connection, campaign_id: str, change: Change) -> Content:
    """What the change would do now, in words of data: for a page that asks whether it is meant.
    Raises as `apply`, but for staleness and the second person."""
    return (await _plan(connection, campaign_id, change, hold=False)).ground()


@dataclass(frozen=True, slots=True)
class _Planned:
    """A change that may be made, and what it comes to."""

    kind: Kind
    before: CampaignNow
    after: CampaignNow
    was: dict[str, Any]
    became: dict[str, Any]
    reason: str
    candidate: CandidateNow | None = None
    candidate_id: str | None = None

    def ground(self) -> Content:
        became = dict(self.became)
        if self.kind is Kind.OPENED:
            became["opens_at"] = _NOW
        elif self.kind is Kind.CLOSED:
            became["closes_at"] = _NOW
        return {
            "state": self.before.state.value,
            "was": self.was,
            "becomes": became,
            "candidate_name": self.candidate.name if self.candidate else None,
        }


async def _plan(
    connection: asyncpg.Connection, campaign_id: str, change: Change, *, hold: bool
) -> _Planned:
    if hold:
        await lock_changes(connection)
    campaign = await _read_campaign(connection, campaign_id, hold=hold)
    reason = clean(change.reason)
    faults = []
    if change.kind not in WHEN:
        faults.append(Fault("kind", N_("is not made one by one")))
    elif not campaign.allows(change.kind):
        faults.append(Fault("kind", _NOT_NOW[campaign.state]))
    if not reason:
        faults.append(Fault("reason", N_("is empty")))
    elif len(reason) > REASON_CHARACTERS_MAX:
        faults.append(
            Fault("reason", N_("has more than {most} characters"), {"most": REASON_CHARACTERS_MAX})
        )
    elif fault := fault_of(reason):
        text = N_("holds a character that cannot be seen ({which})")
        faults.append(Fault("reason", text, {"which": _which(fault)}))
    if faults:
        raise ChangeRefused(*faults)
    if change.kind in _OF_CANDIDATES:
        return await _plan_candidate(connection, campaign, change, reason)
    after, was, becomes = _OF_CAMPAIGNS[change.kind](campaign, change.values, reason)
    if change.kind is Kind.QUOTA:
        listed = await list_candidates(connection, campaign.number)
        too_many = _too_many_likes(after.rules, len(listed))
        if too_many is not None:
            raise ChangeRefused(too_many)
    if change.kind is Kind.TEST and await connection.fetchval(_SQL["was_open"], campaign.number):
        # An import may have moved the opening into the future: what was liked in a rehearsal must
        # not count for that, nor rules that one person set while it was one.
        raise ChangeRefused(Fault("is_test", N_("stays as it is: likes were taken before")))
    if was == becomes:
        raise ChangeRefused(Fault("kind", N_("changes nothing")))
    if change.kind not in _NAMED_BY_ORIGIN:
        was, becomes = moved(was, becomes)
    return _Planned(change.kind, campaign, after, was, becomes, reason)


_NOT_NOW = {
    State.BEFORE: N_("cannot be done before the campaign opens"),
    State.OPEN: N_("cannot be done while the campaign is open"),
    State.AFTER: N_("cannot be done after the campaign has closed"),
}

_Facts = dict[str, Any]
_Became = tuple[CampaignNow, _Facts, _Facts]
"""The campaign after it; the fields of the kind before and after it."""


def _pause(campaign: CampaignNow, _: Mapping[str, str], reason: str) -> _Became:
    return _paused(campaign, reason)


def _resume(campaign: CampaignNow, _: Mapping[str, str], reason: str) -> _Became:
    return _paused(campaign, None)


def _paused(campaign: CampaignNow, because: str | None) -> _Became:
    was = {"paused_because": campaign.paused_because}
    return replace(campaign, paused_because=because), was, {"paused_because": because}


def _open(campaign: CampaignNow, _: Mapping[str, str], reason: str) -> _Became:
    return _windowed(campaign, campaign.now, campaign.window.closes_at)


def _close(campaign: CampaignNow, _: Mapping[str, str], reason: str) -> _Became:
    return _windowed(campaign, campaign.window.opens_at, campaign.now)


def _extend(campaign: CampaignNow, values: Mapping[str, str], reason: str) -> _Became:
    closes_at = _read(values, closes_at=_moment)["closes_at"]
    if closes_at <= campaign.window.closes_at:
        raise ChangeRefused(Fault("closes_at", N_("is not later than it was")))
    return _windowed(campaign, campaign.window.opens_at, closes_at)


def _reopen(campaign: CampaignNow, values: Mapping[str, str], reason: str) -> _Became:
    closes_at = _read(values, closes_at=_moment)["closes_at"]
    if closes_at <= campaign.now:
        raise ChangeRefused(Fault("closes_at", N_("is in the past")))
    return _windowed(campaign, campaign.window.opens_at, closes_at)


def _set_window(campaign: CampaignNow, values: Mapping[str, str], reason: str) -> _Became:
    found = _read(values, opens_at=_moment, closes_at=_moment)
    faults = [Fault(name, N_("is in the past")) for name in found if found[name] <= campaign.now]
    if not faults and found["closes_at"] <= found["opens_at"]:
        faults = [Fault("closes_at", N_("must come after the opening"))]
    if faults:
        raise ChangeRefused(*faults)
    return _windowed(campaign, found["opens_at"], found["closes_at"])


def _windowed(campaign: CampaignNow, opens_at: datetime, closes_at: datetime) -> _Became:
    before, zone = campaign.window, campaign.zone
    window = VotingWindow(opens_at.astimezone(zone), closes_at.astimezone(zone), zone)
    return replace(campaign, window=window), window_facts(before), window_facts(window)


def _quota(campaign: CampaignNow, values: Mapping[str, str], reason: str) -> _Became:
    found = _read(
        values,
        likes_per_candidate_per_day=_whole(1, 100),
        candidates_per_day=_whole(0, 65_535),
        likes_per_campaign=_whole(0, 1_000_000),
    )
    rules = replace(campaign.rules, **{name: found[name] for name in QUOTA_FIELDS})
    return replace(campaign, rules=rules), quota_facts(campaign.rules), quota_facts(rules)


def _visibility(campaign: CampaignNow, values: Mapping[str, str], reason: str) -> _Became:
    found = _read(values, counts=_one_of(Visibility), counts_daily_at=_minute, order=_one_of(Order))
    rules = replace(campaign.rules, **found)
    return replace(campaign, rules=rules), visibility_facts(campaign.rules), visibility_facts(rules)


def _limits(campaign: CampaignNow, values: Mapping[str, str], reason: str) -> _Became:
    limits = Limits(**_read(values, per_device=_rate, per_network=_rate))
    return replace(campaign, limits=limits), limit_facts(campaign.limits), limit_facts(limits)


def _portal_off(campaign: CampaignNow, values: Mapping[str, str], reason: str) -> _Became:
    origin = values.get("origin", "")
    if origin not in campaign.origins or origin in campaign.origins_off:
        raise ChangeRefused(Fault("origin", N_("is none of the portals that are on")))
    off = (*campaign.origins_off, origin)
    was, becomes = {"origin": origin, "on": True}, {"origin": origin, "on": False}
    return replace(campaign, origins_off=off), was, becomes


def _portal_on(campaign: CampaignNow, values: Mapping[str, str], reason: str) -> _Became:
    origin = values.get("origin", "")
    if origin not in campaign.origins_off:
        raise ChangeRefused(Fault("origin", N_("is none of the portals that are off")))
    off = tuple(one for one in campaign.origins_off if one != origin)
    was, becomes = {"origin": origin, "on": False}, {"origin": origin, "on": True}
    return replace(campaign, origins_off=off), was, becomes


def _test(campaign: CampaignNow, values: Mapping[str, str], reason: str) -> _Became:
    if values.get("is_test") not in ("yes", "no"):
        raise ChangeRefused(Fault("is_test", N_("is none of the choices")))
    is_test = values["is_test"] == "yes"
    return replace(campaign, is_test=is_test), {"is_test": campaign.is_test}, {"is_test": is_test}


_OF_CAMPAIGNS = {
    Kind.PAUSED: _pause,
    Kind.RESUMED: _resume,
    Kind.OPENED: _open,
    Kind.EXTENDED: _extend,
    Kind.CLOSED: _close,
    Kind.REOPENED: _reopen,
    Kind.WINDOW: _set_window,
    Kind.QUOTA: _quota,
    Kind.VISIBILITY: _visibility,
    Kind.LIMITS: _limits,
    Kind.PORTAL_OFF: _portal_off,
    Kind.PORTAL_ON: _portal_on,
    Kind.TEST: _test,
}
_NAMED_BY_ORIGIN = (Kind.PORTAL_OFF, Kind.PORTAL_ON)
"""The portal stays in what is recorded, though it does not change."""
_OF_CANDIDATES = frozenset(WHEN) - frozenset(_OF_CAMPAIGNS)


def _too_many_likes(rules: Rules, candidates: int) -> Fault | None:
    """As imports are held to: see voting/intake/folder.py."""
    most = rules.likes_per_candidate_per_day * min(
        rules.candidates_per_day or candidates, candidates
    )
    if most <= LIKES_PER_DEVICE_DAY_MAX:
        return None
    return Fault(
        "likes_per_candidate_per_day",
        N_("lets one device give {likes} likes a day; at most {most}"),
        {"likes": most, "most": LIKES_PER_DEVICE_DAY_MAX},
    )


async def _plan_candidate(
    connection: asyncpg.Connection, campaign: CampaignNow, change: Change, reason: str
) -> _Planned:
    kind, values = change.kind, change.values
    adds = kind is Kind.CANDIDATE_ADDED
    candidate_id = (values.get("id") if adds else change.candidate) or ""
    if not _CANDIDATE_ID.fullmatch(candidate_id):
        raise ChangeRefused(Fault("id", N_("must be 1 to 32 of A-Z, a-z, 0-9, _ and -")))
    candidate = await read_candidate(connection, campaign.number, candidate_id)
    was: _Facts = {}
    became: _Facts = {}
    facts: _Facts = {} if candidate is None else candidate.facts()
    if adds and candidate is not None:
        raise ChangeRefused(Fault("id", N_("is {name}'s already"), {"name": candidate.name}))
    if not adds and candidate is None:
        raise ChangeRefused(Fault("id", N_("is not in the campaign")))
    if adds or kind is Kind.CANDIDATE_CORRECTED:
        facts |= await _read_facts(connection, campaign, values, whole=adds)
        was, became = moved({} if candidate is None else candidate.facts(), facts)
        if candidate is not None and not became:
            raise ChangeRefused(Fault("kind", N_("changes nothing")))
    withdrawn = candidate is not None and candidate.withdrawn_at is not None
    if kind is Kind.CANDIDATE_WITHDRAWN and withdrawn:
        raise ChangeRefused(Fault("id", N_("has withdrawn already")))
    if kind is Kind.CANDIDATE_RETURNED and not withdrawn:
        raise ChangeRefused(Fault("id", N_("is in the campaign already")))
    if kind is not Kind.CANDIDATE_WITHDRAWN:
        same = await connection.fetchval(
            _SQL["find_same_person"],
            *(campaign.number, facts["name"], facts["organisation"], facts["title"], candidate_id),
        )
        if same is not None:
            raise ChangeRefused(Fault("name", N_("is the same person as {id}"), {"id": same}))
    if adds:
        became = {"id": candidate_id, **facts}
    return _Planned(kind, campaign, campaign, was, became, reason, candidate, candidate_id)


async def _read_facts(
    connection: asyncpg.Connection, campaign: CampaignNow, values: Mapping[str, str], *, whole: bool
) -> _Facts:
    """The fields that are there, or all of them where a candidate is new."""
    readers = {
        one.name: _text(one.most_characters, one_line=one.name == "summary")
        if one.needed
        else _story(one.most_characters)
        for one in FIELDS
        if whole or one.name in values
    }
    # Further pictures and videos come with a list alone.
    facts = ({"more_photos": [], "video": None} if whole else {}) | _read(values, **readers)
    if campaign.channels and facts.get("channel") not in (None, *campaign.channels):
        raise ChangeRefused(Fault("channel", N_("is none of the campaign's channels")))
    if whole or "photo" in values:
        photo = values.get("photo") or None
        known = photo is None or (
            _PHOTO_ID.fullmatch(photo) and await connection.fetchval(_SQL["has_photo"], photo)
        )
        if not known:
            raise ChangeRefused(Fault("photo", N_("is not there")))
        facts["photo"] = photo
    return facts


async def _write(connection: asyncpg.Connection, planned: _Planned) -> int | None:
    """What was planned; the number of the candidate whom it concerns."""
    after = planned.after
    if planned.kind not in _OF_CANDIDATES:
        await connection.execute(
            _SQL["write_campaign"],
            after.number,
            after.window.opens_at,
            after.window.closes_at,
            rules_to_json(after.rules),
            limits_to_json(after.limits),
            list(after.origins_off),
            after.paused_because,
            after.is_test,
        )
        return None
    candidate = planned.candidate
    if candidate is None:
        became = planned.became
        numbers = len(await list_candidates(connection, after.number))
        if numbers >= CANDIDATES_MAX:
            raise ChangeRefused(
                Fault("id", N_("would need more than {most} numbers"), {"most": CANDIDATES_MAX})
            )
        number: int = await connection.fetchval(
            _SQL["add_candidate"],
            *(after.number, became["id"], *(became[name] for name in CANDIDATE_FIELDS)),
        )
        return number
    if planned.kind is Kind.CANDIDATE_CORRECTED:
        facts = candidate.facts() | planned.became
        await connection.execute(
            _SQL["correct_candidate"],
            *(after.number, candidate.number, *(facts[name] for name in CANDIDATE_FIELDS)),
        )
    else:
        withdraws = planned.kind is Kind.CANDIDATE_WITHDRAWN
        statement = "withdraw_candidate" if withdraws else "return_candidate"
        await connection.execute(_SQL[statement], after.number, candidate.number)
    return candidate.number


# One field each.


class _Unfit(Exception):
    """A field's text is not what it should be."""

    def __init__(self, text: str, **values: Any) -> None:
        super().__init__(text)
        self.text, self.values = text, values


_Reader = Callable[[str], Any]


def _read(values: Mapping[str, str], **readers: _Reader) -> dict[str, Any]:
    """Every field by its reader; ChangeRefused says what is wrong with all of them."""
    found: dict[str, Any] = {}
    faults = []
    for name, reader in readers.items():
        try:
            found[name] = reader(clean(values.get(name, "")))
        except _Unfit as why:
            faults.append(Fault(name, why.text, why.values))
    if faults:
        raise ChangeRefused(*faults)
    return found


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _Unfit(N_("must be a date and time, as in 2026-07-01T08:00+08:00")) from None
    if moment.utcoffset() is None:
        raise _Unfit(N_("has no time zone: write its offset, as in 2026-07-01T08:00+08:00"))
    if not 2000 <= moment.year < 2100:
        raise _Unfit(N_("must be between 2000 and 2099"))
    return moment


def _whole(least: int, most: int) -> _Reader:
    def read(text: str) -> int:
        if not _WHOLE_NUMBER.fullmatch(text) or not least <= int(text) <= most:
            raise _Unfit(
                N_("must be a whole number from {least} to {most}"), least=least, most=most
            )
        return int(text)

    return read


def _one_of(choices: type[enum.StrEnum]) -> _Reader:
    def read(text: str) -> enum.StrEnum:
        if text not in list(choices):
            raise _Unfit(N_("is none of the choices"))
        return choices(text)

    return read


def _minute(text: str) -> time:
    if not _MINUTE.fullmatch(text):
        raise _Unfit(N_("must be an hour and minute, as in 18:00"))
    return time.fromisoformat(text)


def _rate(text: str) -> Rate:
    try:
        return Rate.parse(text)
    except ValueError:
        raise _Unfit(N_("must be a rate, as in 30/minute (second, minute or hour)")) from None


def _text(most: int, *, one_line: bool) -> _Reader:
    def read(text: str) -> str:
        if one_line:
            text = on_one_line(text)  # a paragraph is no mistake there
        if not text:
            raise _Unfit(N_("is empty"))
        if len(text) > most:
            raise _Unfit(N_("has more than {most} characters"), most=most)
        if fault := fault_of(text):
            raise _Unfit(N_("holds a character that cannot be seen ({which})"), which=_which(fault))
        return text

    return read


def _story(most: int) -> _Reader:
    """Paragraphs, or nothing."""

    def read(text: str) -> str:
        text = in_paragraphs(text)
        if len(text) > most:
            raise _Unfit(N_("has more than {most} characters"), most=most)
        if fault := fault_of(text, paragraphs=True):
            raise _Unfit(N_("holds a character that cannot be seen ({which})"), which=_which(fault))
        return text

    return read


def _which(fault: str) -> str:
    """U+0007 out of voting.intake.text's sentence."""
    found = re.search(r"U\+[0-9A-F]{4,6}", fault)
    return found[0] if found else fault


async def _read_campaign(
    connection: asyncpg.Connection, campaign_id: str, *, hold: bool
) -> CampaignNow:
    row = None
    if _CAMPAIGN_ID.fullmatch(campaign_id):  # else it is none, and Postgres may not take it
        statement = _SQL["lock_campaign" if hold else "read_campaign"]
        row = await connection.fetchrow(statement, campaign_id)
    if row is None:
        raise UnknownCampaign(f"there is no campaign {campaign_id[:60]!r}")
    return _campaign(row)


def _campaign(row: Mapping[str, Any]) -> CampaignNow:
    window = window_from_row(row)
    return CampaignNow(
        number=row["number"],
        id=row["id"],
        title=row["title"],
        window=window,
        rules=rules_from_json(row["rules"]),
        limits=limits_from_json(row["limits"]),
        origins=tuple(row["origins"]),
        origins_off=tuple(row["origins_off"]),
        portal_keys=json.loads(row["portal_keys"]),
        channels=json.loads(row["channels"]),
        paused_because=row["paused_because"],
        is_test=row["is_test"],
        now=row["now"].astimezone(window.zone),
        version=row["version"],
    )


# Two persons: what the proposals of kind "change" are made of.


def content_of(campaign_id: str, change: Change) -> Content:
    """What a proposal of this change holds."""
    return {"campaign": campaign_id, "change": change.as_json()}


async def execute(
    connection: asyncpg.Connection, content: Content, proposed_by: Person, approved_by: Person
) -> str:
    """Make a proposed change, in the transaction that settles the proposal."""
    change = Change.from_json(content["change"])
    try:
        applied = await apply(
            connection,
            content["campaign"],
            change,
            by=proposed_by.name,
            role=proposed_by.role,
            made_from=None,  # `look` has shown what it does by now
            approved_by=approved_by.name,
        )
    except ChangeError as why:
        raise CannotBeDone(str(why)) from why
    return f"change {applied.number} of campaign {applied.campaign.id}"


def describe(content: Content, translate: Translate) -> str:
    """One line for whoever is to agree."""
    change = Change.from_json(content["change"])
    parts = [f"{content['campaign']}: {translate(TITLES[change.kind])}"]
    ground = content.get("ground", {})
    if change.candidate:
        name = ground.get("candidate_name")
        parts.append(f"{name} ({change.candidate})" if name else change.candidate)
    was = ground.get("was", {})
    for name, becomes in ground.get("becomes", {}).items():
        title = translate(FIELD_TITLES.get(name, name))
        shown = translate("at once") if becomes == _NOW else becomes
        parts.append(f"{title}: {was.get(name)} → {shown}")
    return " · ".join(parts)


async def _look(connection: asyncpg.Connection, content: Content, hold: bool) -> Content:
    change = Change.from_json(content["change"])
    try:
        return (await _plan(connection, content["campaign"], change, hold=hold)).ground()
    except ChangeError as why:
        raise CannotBeDone(str(why)) from why


TITLES: Mapping[Kind, str] = {
    Kind.PAUSED: N_("Paused"),
    Kind.RESUMED: N_("Resumed"),
    Kind.OPENED: N_("Opened at once"),
    Kind.EXTENDED: N_("Extended"),
    Kind.CLOSED: N_("Closed at once"),
    Kind.REOPENED: N_("Opened again"),
    Kind.WINDOW: N_("Other opening and closing times"),
    Kind.QUOTA: N_("Other quotas"),
    Kind.VISIBILITY: N_("Other visibility of counts, or order"),
    Kind.LIMITS: N_("Other limits"),
    Kind.IDENTITY: N_("Other rule on who may like"),
    Kind.PORTAL_KEYS: N_("Other keys of portals"),
    Kind.CANDIDATE_ADDED: N_("Candidate added"),
    Kind.CANDIDATE_CORRECTED: N_("Candidate corrected"),
    Kind.CANDIDATE_WITHDRAWN: N_("Candidate withdrawn"),
    Kind.CANDIDATE_RETURNED: N_("Candidate came back"),
    Kind.PORTAL_OFF: N_("Portal switched off"),
    Kind.PORTAL_ON: N_("Portal switched on again"),
    Kind.TEST: N_("Rehearsal or the real thing"),
    Kind.IMPORTED: N_("Imported"),
}
FIELD_TITLES: Mapping[str, str] = {
    "opens_at": N_("Opens"),
    "closes_at": N_("Closes"),
    "time_zone": N_("Time zone"),
    "likes_per_candidate_per_day": N_("Likes per candidate and day"),
    "candidates_per_day": N_("Candidates per day"),
    "likes_per_campaign": N_("Likes in the whole campaign"),
    "counts": N_("Counts are shown"),
    "counts_daily_at": N_("Hour of the daily counts"),
    "order": N_("Order of the candidates"),
    "per_device": N_("Limit of one device"),
    "per_network": N_("Limit of one network"),
    "paused_because": N_("Paused because"),
    "is_test": N_("Rehearsal"),
    "origin": N_("Portal"),
    "origins": N_("Portals"),
    "identity": N_("Sign-in at a portal"),
    "on": N_("Switched on"),
    "channels": N_("Channels"),
    "candidates": N_("Candidates"),
    "id": N_("Number (id)"),
    "name": N_("Name"),
    "organisation": N_("Organisation"),
    "unit": N_("Put forward by"),
    "channel": N_("Channel"),
    "title": N_("Title"),
    "summary": N_("Summary"),
    "photo": N_("Photo"),
    "story": N_("Story"),
    "more_photos": N_("Further photos"),
    "video": N_("Video"),
    "lead": N_("Campaign page: first sentence"),
    "about": N_("Campaign page: about"),
    "organiser": N_("Organiser"),
    "contact": N_("Contact"),
    "colour": N_("Colour"),
    "cover": N_("Cover"),
}

KIND = ProposalKind(execute=execute, describe=describe, roles=ADMINS, look=_look)
"""Proposals of kind "change"."""
