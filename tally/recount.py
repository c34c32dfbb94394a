"""Recount: judge the stored votes again under other rules, and say what would be another.

Reads, and touches nothing. What it can know:

- the facts that are stored with a vote (network class, kind of agent, token age, level, dwell), so
  every rule on those is asked anew;
- of a rule on a fact that is not stored (an oddity of the request), whether it held: from the three
  reasons that are. Where a fourth was lost, or `watch` had marked the vote's cell, the part of the
  stored score that cannot be explained is carried over as it is;
- limits as they were: whether a vote came above one is among its reasons.

What it cannot: admit what was refused or challenged away, for that left a sum and no row; and know
whether somebody who would have been challenged would have solved it (they stay counted, and are
told apart). Votes that a decision has spoken of stay as decided.
"""

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import asyncpg
import pydantic

from antifraud.heuristics import (
    CELL_CODE,
    DWELL_STEPS,
    HEURISTICS,
    NETWORK_LIMIT_CODE,
    NEW_DEVICES_CODE,
    RULES,
    STORE_WEIGHTS,
    TOKEN_AGE_STEPS,
    Rules,
    StoreWeights,
)
from antifraud.networks import NetworkClass
from antifraud.screen import BANDS, SCORE_LIMIT, Bands, Decision, conclude, screen_by
from antifraud.signals import LOW_END, PROVEN, Signals
from tally.holds import State
from tally.store import SQL
from tally.tallies import read_campaign

_NO_HEURISTICS = Rules(version=1, prior_nats=0.0, weights_nats={}, family_caps_nats={})
_JUDGED_BY = {rules.version: rules for rules in (_NO_HEURISTICS, RULES)}
"""By the version that is stored with a vote."""


class RulesError(Exception):
    """The file holds no rules; the message lists everything that is wrong with it."""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All that judging depends on but the facts."""

    rules: Rules = RULES
    bands: Bands = BANDS
    store: StoreWeights = STORE_WEIGHTS


_Nats = Annotated[float, pydantic.Field(ge=-32, le=32)]
_FAMILIES = frozenset(rule.family for rule in HEURISTICS)
_STORE_NAMES = {"network-limit": "network_limit", "new-devices": "new_devices"}


class _File(pydantic.BaseModel):
    """A file of rules. What it does not name is as it is in force."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    version: Annotated[int, pydantic.Field(ge=0, le=65_535)] = RULES.version
    prior_nats: _Nats = RULES.prior_nats
    weights_nats: dict[str, _Nats] = {}
    family_caps_nats: dict[str, _Nats] = {}
    bands_nats: dict[str, _Nats] = {}

    @pydantic.model_validator(mode="after")
    def _names_exist(self) -> "_File":
        for table, names, known in (
            ("weights_nats", self.weights_nats, {*RULES.weights_nats, *_STORE_NAMES}),
            ("family_caps_nats", self.family_caps_nats, _FAMILIES),
            ("bands_nats", self.bands_nats, set(Bands._fields)),
        ):
            if unknown := sorted(names.keys() - known):
                raise ValueError(
                    f"{table}: there is no {', '.join(unknown)}; known: {', '.join(sorted(known))}"
                )
        return self


def read_rules(path: Path) -> RuleSet:
    """The rules in a file. RulesError says what is wrong with it."""
    try:
        held = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as why:
        raise RulesError(f"{path}: this is no TOML: {why}") from None
    except pydantic.ValidationError as why:
        said = "; ".join(
            ": ".join(filter(None, (".".join(map(str, problem["loc"])), problem["msg"])))
            for problem in why.errors(include_url=False, include_input=False)
        )
        raise RulesError(f"{path}: {said}") from None
    weights = {**RULES.weights_nats, **held.weights_nats}
    store = {
        field: round(1000 * weights.pop(name))
        for name, field in _STORE_NAMES.items()
        if name in weights
    }
    bands = BANDS._replace(**{name: round(1000 * n) for name, n in held.bands_nats.items()})
    if not bands.challenge <= bands.hold <= bands.refuse:
        raise RulesError(f"{path}: bands_nats: challenge, hold and refuse must not go down")
    return RuleSet(
        Rules(
            held.version,
            held.prior_nats,
            weights,
            {**RULES.family_caps_nats, **held.family_caps_nats},
        ),
        bands,
        STORE_WEIGHTS._replace(**store),
    )


def write_rules(rules: RuleSet) -> str:
    """The file of these rules, to begin another with."""
    by_code = {rule.name: rule.code for rule in HEURISTICS}
    lines = [
        "# Rules of judging, in nats (log-odds). What is left out is as it is in force.",
        f"version = {rules.rules.version}",
        f"prior_nats = {rules.rules.prior_nats}",
        "",
        "[weights_nats]",
        *(
            f'"{name}" = {nats}  # reason {by_code[name]}'
            for name, nats in rules.rules.weights_nats.items()
        ),
        *(
            f'"{name}" = {getattr(rules.store, field) / 1000}  # added by the store'
            for name, field in _STORE_NAMES.items()
        ),
        "",
        "[family_caps_nats]",
        *(f"{name} = {nats}" for name, nats in rules.rules.family_caps_nats.items()),
        "",
        "[bands_nats]  # from which score on a vote is ...",
        *(f"{name} = {millinats / 1000}" for name, millinats in rules.bands._asdict().items()),
    ]
    return "\n".join(lines) + "\n"


class Alike(NamedTuple):
    """Votes of one candidate that are judged alike."""

    candidate: int
    network_class: int
    user_agent_class: int
    """0 none, 1 automation, 2 any other."""
    token_age_step: int
    """Counted from 1: which of TOKEN_AGE_STEPS."""
    token_level: int
    dwell_step: int
    rules: int
    score: int
    reasons: int
    verdict: int
    state: int | None
    """A decision's, if one has spoken of them."""
    votes: int


@dataclass
class Recount:
    """What other rules would make of a campaign's votes."""

    now: Counter[int] = field(default_factory=Counter)
    """Candidate -> counted as things are."""
    then: Counter[int] = field(default_factory=Counter)
    """The same under the other rules."""
    challenged: Counter[int] = field(default_factory=Counter)
    """Of `then`: who would have had to solve a challenge first."""
    votes: int = 0
    decided: int = 0
    """Votes that stay as a decision left them."""
    would_hold: int = 0
    """Counted now, held (or refused) under the other rules."""
    would_count: int = 0
    """The other way round."""
    judged_by: Counter[int] = field(default_factory=Counter)
    """Version of the rules that a vote was judged by -> votes."""


def recount(groups: Iterable[Alike], rules: RuleSet) -> Recount:
    """Judge again. Raises RulesError for votes that were judged by a version not known here."""
    found = Recount()
    conclude_again = _judge_again(rules)
    for group in groups:
        found.votes += group.votes
        found.judged_by[group.rules] += group.votes
        if group.state is not None:
            found.decided += group.votes
            if group.state == State.COUNTED:
                found.now[group.candidate] += group.votes
                found.then[group.candidate] += group.votes
            continue
        decision = conclude_again(group)
        counted = group.verdict == Decision.COUNT
        counts = decision in (Decision.COUNT, Decision.CHALLENGE)
        if counted:
            found.now[group.candidate] += group.votes
        if counts:
            found.then[group.candidate] += group.votes
        if decision is Decision.CHALLENGE:
            found.challenged[group.candidate] += group.votes
        found.would_hold += group.votes * (counted and not counts)
        found.would_count += group.votes * (counts and not counted)
    return found


def _judge_again(rules: RuleSet) -> Any:
    by_new = screen_by(rules.rules)
    by_old = {version: screen_by(old) for version, old in _JUDGED_BY.items()}
    oddities = {rule.code: rule.oddity for rule in HEURISTICS if rule.oddity}

    @lru_cache(maxsize=1 << 16)
    def again(facts: tuple[int, ...]) -> Decision:
        network, agent, age_step, level, dwell_step, version, score, packed = facts
        if version not in by_old:
            known = ", ".join(map(str, sorted(by_old)))
            raise RulesError(f"votes were judged by rules {version}; this version knows {known}")
        codes = packed.to_bytes(3, "big")
        signals = Signals(
            network_class=NetworkClass(network),
            user_agent_class=agent,
            token_age_seconds=TOKEN_AGE_STEPS[age_step - 1],
            token_level=level,
            dwell_centiseconds=DWELL_STEPS[dwell_step - 1],
            oddities=sum(oddities.get(code, 0) for code in set(codes)),
        )
        before, after = by_old[version](signals), by_new(signals)
        over_limit, over_new = NETWORK_LIMIT_CODE in codes, NEW_DEVICES_CODE in codes
        # What the stored score holds beyond what the old rules explain (a marked cell, a reason
        # that found no room) is kept; what the store adds for limits, `conclude` adds by itself.
        unexplained = score - before.score
        unexplained -= STORE_WEIGHTS.network_limit * over_limit
        unexplained -= STORE_WEIGHTS.new_devices * over_new
        in_cell = unexplained if CELL_CODE in codes else 0
        partial = after.score + unexplained - in_cell
        return conclude(
            max(-SCORE_LIMIT, min(SCORE_LIMIT, partial)),
            after.reasons,
            proven=bool(level & PROVEN),
            slowly=bool(level & LOW_END),
            over_limit=over_limit,
            over_new_devices=over_new,
            cell_weight=in_cell,
            bands=rules.bands,
            weights=rules.store,
        ).decision

    def conclude_again(group: Alike) -> Decision:
        return again(group[1:9])

    return conclude_again


@dataclass(frozen=True, slots=True)
class Report:
    """A recount with names."""

    campaign: str
    version: int
    """Of the rules in the file."""
    recount: Recount
    ids: Mapping[int, str]
    refused: int
    """Ballots that left no row, and so cannot be judged again."""

    def as_json(self) -> dict[str, Any]:
        found = self.recount
        return {
            "campaign": self.campaign,
            "rules": self.version,
            "judged_by": {str(version): n for version, n in sorted(found.judged_by.items())},
            "votes": found.votes,
            "decided": found.decided,
            "would_hold": found.would_hold,
            "would_count": found.would_count,
            "would_challenge": found.challenged.total(),
            "cannot_judge": self.refused,
            "candidates": {
                id_: {
                    "now": found.now[number],
                    "then": found.then[number],
                    "difference": found.then[number] - found.now[number],
                    "challenged": found.challenged[number],
                }
                for number, id_ in self.ids.items()
            },
        }

    def table(self) -> str:
        """For eyes: who would have another count, then what it is made of."""
        found = self.recount
        moved = [number for number in self.ids if found.now[number] != found.then[number]]
        width = max((len(self.ids[number]) for number in moved), default=9)
        lines = [
            f"{self.campaign}: {found.votes:,} votes judged again by rules {self.version}",
            f"counted now and held then: {found.would_hold:,}; held now and counted then: "
            f"{found.would_count:,}",
            f"counted then, but challenged first: {found.challenged.total():,} (nobody knows who "
            "would have solved it)",
            f"left as decided: {found.decided:,}",
            f"not judged: {self.refused:,} ballots that were refused, which left no row",
            "",
        ]
        if not moved:
            return "\n".join((*lines, "No candidate's count would be another."))
        lines.append(f"{'candidate':<{width}}  {'now':>11}  {'then':>11}  {'difference':>11}")
        for number in sorted(moved, key=lambda n: found.then[n] - found.now[n]):
            now, then = found.now[number], found.then[number]
            lines.append(
                f"{self.ids[number]:<{width}}  {now:>11,}  {then:>11,}  {then - now:>+11,}"
            )
        return "\n".join(lines)


async def recount_campaign(dsn: str, campaign_id: str, rules: RuleSet) -> Report:
    """Recount one campaign out of Postgres, as of one moment.

    Raises UnknownCampaign, RulesError."""
    connection = await asyncpg.connect(dsn)
    try:
        campaign = await read_campaign(connection, campaign_id)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            rows = await connection.fetch(
                SQL["group_votes_for_recount"],
                campaign.number,
                list(TOKEN_AGE_STEPS),
                list(DWELL_STEPS),
            )
            refused = await connection.fetchval(SQL["read_refused"], campaign.number)
    finally:
        await connection.close()
    return Report(
        campaign.id,
        rules.rules.version,
        recount((Alike(*row.values()) for row in rows), rules),
        {candidate.number: candidate.id for candidate in campaign.candidates},
        refused,
    )
