"""The words of what takes two persons: who they are, and what a kind of proposal is made of.

Apart from proposals.py, so that those whose work takes two persons need not know who settles it.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from tally.translated import Translate

Content = Mapping[str, Any]
"""What is proposed, ready for JSON: strings, integers, lists and objects."""


DECIDERS = frozenset({"reviewer", "admin"})
"""Roles that decide on votes."""
ADMINS = frozenset({"admin"})


class CannotBeDone(ValueError):
    """What was proposed cannot be done now; the message says why, in English. Nothing was.

    CannotBeDone(N_("there is no case {n}"), n=9) can be told in other languages, too."""

    def __init__(self, text: str, **values: object) -> None:
        super().__init__(text.format(**values) if values else text)
        self._text, self._values = text, values

    def told(self, _: Translate) -> str:
        """The message in the reader's language, where it is known there."""
        return _(self._text, **self._values)


@dataclass(frozen=True, slots=True)
class Person:
    """One of the staff, as the database has them at this moment."""

    number: int
    name: str
    """Unique and never another's: what records hold."""
    shown_as: str
    role: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing that takes two persons."""

    execute: Callable[[asyncpg.Connection, Content, Person, Person], Awaitable[str]]
    """(connection, content, proposed by, approved by) -> what came of it, one line in English.

    Runs in the transaction that settles the proposal: it opens none that outlives it, writes its
    own audit entry (last of all), and what it cannot do in a transaction it leaves, as a row, for
    a process to do. Raises CannotBeDone."""
    describe: Callable[[Content, Translate], str]
    """(content, translate) -> one line for whoever is to agree. Never fails on stored content."""
    roles: frozenset[str] = DECIDERS
    """Who may propose it, and who may agree."""
    look: Callable[[asyncpg.Connection, Content, bool], Awaitable[Content]] | None = None
    """(connection, content, hold) -> what it would move now: kept with the proposal, shown to
    whoever is to agree, and compared. With `hold` the connection is in the transaction that
    executes it, and what was looked at must not change before its end. None: the content says it
    all."""


def seen(ground: Content) -> str:
    """What a page hands back to say which ground it showed."""
    canonical = json.dumps(ground, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
