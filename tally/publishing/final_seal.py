"""The final seal takes two persons: one proposes it, another agrees, and the publisher makes it.

What is agreed to are the sums of that moment. Where a decision moved votes or the campaign was
changed (somebody withdrawn) before the publisher came to it, it is not made, the proposal says so,
and it has to be agreed to anew.
"""

from collections.abc import Mapping
from typing import Any

import asyncpg

from tally.proposal_kinds import CannotBeDone, Content, Kind, Person
from tally.publishing.publication import SQL, Asked, Sums, read_sums
from tally.publishing.publication import Kind as PublicationKind
from tally.store import SQL as STORE_SQL
from tally.translated import N_, Translate

AGREED = "agreed to; the publisher makes it"
"""The answer of a proposal until the publisher has done it."""


async def look(connection: asyncpg.Connection, content: Content, hold: bool) -> Content:
    """The sums as they are. With `hold` nobody decides on votes before the transaction ends."""
    if hold:
        await connection.execute(STORE_SQL["lock_decisions"])
    number = await _campaign(connection, content)
    sums = await read_sums(connection, number)
    if not sums.closings:
        raise CannotBeDone(N_("the campaign has not closed yet"))
    return sums._asdict()


async def execute(
    connection: asyncpg.Connection, content: Content, proposed_by: Person, approved_by: Person
) -> str:
    """Nothing here: the files are the publisher's work, and a transaction is none of theirs."""
    return AGREED


def describe(content: Content, _: Translate) -> str:
    """One line for whoever is to agree."""
    sums = content.get("ground", {})
    return _(
        "Publish the final result of {campaign}: {counted} votes counted, {held} held, {struck} "
        "struck",
        campaign=content.get("campaign", "?"),
        **{kind: f"{sums.get(kind, 0):,}" for kind in ("counted", "held", "struck")},
    )


KIND = Kind(execute=execute, describe=describe, look=look)


async def _campaign(connection: asyncpg.Connection, content: Content) -> int:
    number: int | None = await connection.fetchval(
        SQL["find_campaign"], str(content.get("campaign", ""))
    )
    if number is None:
        raise CannotBeDone(N_("there is no such campaign any more"))
    row = await connection.fetchrow(SQL["read_published_campaign"], number)
    if row["is_test"]:
        raise CannotBeDone(N_("it is a rehearsal: nothing of it is published"))
    return number


def agreed_sums(content: Mapping[str, Any]) -> Sums:
    """What the two agreed on, out of a stored proposal."""
    return Sums(**content["ground"])


def asked_by(proposed_by: str, approved_by: str) -> Asked:
    """Their word, for the publication."""
    return Asked(PublicationKind.FINAL, proposed_by, approved_by)
