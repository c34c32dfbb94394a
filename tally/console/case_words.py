"""What a case's figures mean, for people who know no statistics."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from antifraud.detectors.evidence import (
    AGE_MISFIT,
    AGENT_RATIO,
    DATACENTRE_SHARE,
    DWELL_MISFIT,
    ISSUE_RATIO,
    LEAD_RATIO,
    PACE,
    REPEAT_SHARE,
    STACK_MISFIT,
)
from antifraud.user_agents import AUTOMATION, FIRST_MODEL, UNKNOWN
from tally.case_evidence import Bar
from tally.case_files import FlagOfCase
from tally.holds import Action, State
from tally.translated import N_, Translate


class Figure(NamedTuple):
    """A figure of a flag's evidence, by its name there."""

    label: str
    meaning: str
    form: Callable[[float], str]
    speaks_from: float | None = None
    """From here on (up to here, where `below`) it counts as evidence."""
    below: bool = False


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _times(value: float) -> str:
    return f"× {value:,.1f}"


def _plain(value: float) -> str:
    return f"{value:,.2f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


FIGURES: Mapping[str, Figure] = {
    "agent_ratio": Figure(
        N_("Same phone model"),
        N_("How many times more often than usual two random votes come from one phone model."),
        _times,
        AGENT_RATIO,
    ),
    "tls_misfit": Figure(
        N_("Encryption unlike the phone"),
        N_("How far the encrypted connections differ from those of the phones that are claimed."),
        _plain,
        STACK_MISFIT,
    ),
    "dwell_misfit": Figure(
        N_("Too regular a look at the card"),
        N_("How far the times from the card to the tap differ from any spread that people have."),
        _plain,
        DWELL_MISFIT,
    ),
    "age_misfit": Figure(
        N_("Too regular an age of tokens"),
        N_("How far the ages of new device tokens differ from any spread that people have."),
        _plain,
        AGE_MISFIT,
    ),
    "lead_ratio": Figure(
        N_("Old tokens of one age"),
        N_("How many times more often than usual two old tokens are of the same age."),
        _times,
        LEAD_RATIO,
    ),
    "issue_ratio": Figure(
        N_("Old tokens of one hour"),
        N_("How many times more often than usual two old tokens were issued in the same hour."),
        _times,
        ISSUE_RATIO,
    ),
    "datacentre_share": Figure(
        N_("From rented servers"),
        N_("Share of the votes that came from datacentres. Usually it is one in a thousand."),
        _percent,
        DATACENTRE_SHARE,
    ),
    "pace": Figure(
        N_("Rhythm"),
        N_("How much the gaps between votes vary: people are at 0.8 and above, a metronome at 0."),
        _plain,
        PACE,
        below=True,
    ),
    "repeat_share": Figure(
        N_("One phone again and again"),
        N_("Share of the votes from home lines on which one phone kept coming with new tokens."),
        _percent,
        REPEAT_SHARE,
    ),
    "surprise": Figure(
        N_("Surprise"),
        N_("How unlikely so many votes at once are by chance alone: each 2.3 is a factor of ten."),
        _plain,
    ),
    "cells": Figure(
        N_("Groups"),
        N_("In how many groups of votes (a network, a stretch of time) it was found."),
        _whole,
    ),
    "votes": Figure(N_("Votes"), N_("How many votes of the campaign this flag names."), _whole),
}
"""Every figure that the detectors write down; a test holds them together."""

KINDS: Mapping[str, str] = {
    "client": N_("phones"),
    "dwell": N_("look at the card"),
    "age": N_("age of tokens"),
    "network": N_("networks"),
    "pace": N_("rhythm"),
    "repeat": N_("one phone again"),
}
"""Families of evidence (antifraud.flags.KIND_NATS)."""

CLAIMS: Mapping[str, str] = {
    "client": N_("the phones are far too alike, or not what they claim to be"),
    "dwell": N_("the times from the card to the tap are too regular for people"),
    "age": N_("the device tokens were fetched in one go, or are used too regularly for people"),
    "pace": N_("one vote follows the other as evenly as a metronome"),
    "repeat": N_("on home lines one phone came again and again with new tokens"),
    "network": N_("nearly all come from rented servers"),
}

RULES: Mapping[str, str] = {
    "burst": N_("a burst of votes"),
    "lockstep": N_("votes in lockstep"),
    "preminted": N_("tokens fetched beforehand"),
    "reminting": N_("tokens fetched anew"),
}

ACTIONS: Mapping[Action, str] = {
    Action.HOLD: N_("hold"),
    Action.RELEASE: N_("count"),
    Action.STRIKE: N_("strike"),
}
STATES: Mapping[State, tuple[str, str]] = {
    # State -> (badge, text)
    State.COUNTED: ("good", N_("counted")),
    State.HELD: ("warn", N_("held")),
    State.STRUCK: ("bad", N_("struck")),
}
REASONS: Mapping[str, str] = {
    "network-limit": N_("above its network's limit"),
    "new-devices": N_("too many new devices of its network"),
    "cell": N_("its network was marked"),
    "datacentre": N_("from a datacentre"),
    "moved-to-datacentre": N_("moved to a datacentre"),
    "private-network": N_("from a private address"),
    "automation": N_("a program"),
    "no-agent": N_("says not what it is"),
    "no-language": N_("names no language"),
    "no-fetch-metadata": N_("lacks what its browser sends"),
    "tls-unlike-agent": N_("encryption unlike its phone"),
    "other-agent": N_("another phone than its token's"),
    "token-fresh": N_("token younger than 5 s"),
    "token-new": N_("token younger than a day"),
    "token-matured": N_("token older than a day"),
    "vouched": N_("a portal vouches for its user"),
    "dwell-below-0.8s": N_("tap within 0.8 s"),
    "dwell-below-2s": N_("tap within 2 s"),
    "bad-view": N_("forged or used card view"),
}
"""Heuristics and what the store adds (antifraud.heuristics.REASON_NAMES)."""

_DESKTOPS: Mapping[int, str] = {
    UNKNOWN: N_("not said"),
    AUTOMATION: N_("a program"),
    2: "Windows",
    3: "macOS",
    4: "Linux",
    9: N_("WeChat on Windows"),
    10: N_("WeChat on a Mac"),
    11: "iPad",
    12: "Edge",
    13: "Opera",
    14: N_("QQ Browser"),
    15: N_("Sogou Browser"),
    16: N_("360 Browser"),
    17: "Firefox",
    18: "ChromeOS",
}


def agent_name(number: int, _: Translate) -> str:
    """Of a user agent class: phones are known by the number of their group alone."""
    if number >= FIRST_MODEL:
        return _("phone model {n}", n=number - FIRST_MODEL + 1)
    known = _DESKTOPS.get(number)
    return _("another browser") if known is None else _(known)


def seconds(value: float, _: Translate) -> str:
    """A short length of time."""
    for unit, name in ((86_400, N_("{n} d")), (3_600, N_("{n} h")), (60, N_("{n} min"))):
        if value >= unit:
            return _(name, n=f"{value / unit:.0f}")
    return _("{n} s", n=f"{value:.1f}".removesuffix(".0") if value < 10 else f"{value:.0f}")


def range_name(bar: Bar, _: Translate) -> str:
    """Of a bar that is a range of seconds."""
    if bar.low < 0:
        return _("younger than the look")
    if bar.high is None:
        return _("from {low}", low=seconds(bar.low, _))
    return f"{seconds(bar.low, _)} – {seconds(bar.high, _)}"


class Shown(NamedTuple):
    """A figure, ready for the page; texts not translated yet."""

    label: str
    meaning: str
    value: str
    limit: str
    """"" = none."""
    speaks: bool


def figures_of(flag: FlagOfCase) -> list[Shown]:
    """Those that speak against the votes first. What this version does not know stands under its
    own name."""
    shown = []
    for name, value in flag.evidence.items():
        figure = FIGURES.get(name)
        if figure is None or not isinstance(value, (int, float)):
            shown.append(Shown(name, "", _any(value), "", False))
            continue
        speaks, limit = False, ""
        if figure.speaks_from is not None:
            limit = ("≤ " if figure.below else "≥ ") + figure.form(figure.speaks_from)
            speaks = (value < figure.speaks_from) if figure.below else (value > figure.speaks_from)
        shown.append(Shown(figure.label, figure.meaning, figure.form(value), limit, speaks))
    order = {figure.label: n for n, figure in enumerate(FIGURES.values())}
    return sorted(shown, key=lambda one: (not one.speaks, order.get(one.label, len(order))))


def _any(value: Any) -> str:
    return str(value)[:200]


def sentence_of(flag: FlagOfCase, language: str, _: Translate) -> str:
    """What the flag claims. The detectors write Chinese; in English it is told by its kinds."""
    if language == "zh":
        return flag.sentence
    claims = [_(CLAIMS[kind]) for kind in CLAIMS if kind in flag.kinds]
    if not claims:
        return flag.sentence
    return _("Of these {n} votes, {claims}.", n=f"{flag.votes:,}", claims="; ".join(claims))
