"""The audit log: a chain that only grows, and shows what was done to it."""

import asyncio

import asyncpg
import pytest

from tally import audit
from tally.publishing.publication import Asked, Kind, publish
from tests.logged import KEYS


async def add(connection, n=1, **fields):
    async with connection.transaction():
        return await audit.append(
            connection,
            **{
                "actor": "li",
                "role": "reviewer",
                "action": "case.strike",
                "subject": f"flag {n}",
                "details": {"reason": "同一脚本", "votes": n},
                **fields,
            },
        )


async def tamper(connection, statement, *arguments):
    """As somebody who owns the table."""
    await connection.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
    await connection.execute(statement, *arguments)
    await connection.execute("ALTER TABLE audit_log ENABLE TRIGGER USER")


async def test_rows_are_numbered_from_one_without_gaps_and_chained(postgres):
    assert (await audit.verify(postgres)) == audit.Verified(0, audit.Head(0, bytes(32)))
    assert [await add(postgres, n) for n in (1, 2, 3)] == [1, 2, 3]
    verified = await audit.verify(postgres)
    assert (verified.rows, verified.broken_at) == (3, None)
    assert verified.head == await audit.head(postgres)


async def test_a_row_is_there_only_if_what_it_tells_of_is(postgres):
    with pytest.raises(ZeroDivisionError):
        async with postgres.transaction():
            await audit.append(postgres, actor="li", role="admin", action="a", subject="s")
            raise ZeroDivisionError
    assert (await audit.head(postgres)).number == 0
    assert await add(postgres) == 1


async def test_many_at_once_make_one_chain(postgres, postgres_dsn):
    async def several(first):
        connection = await asyncpg.connect(postgres_dsn)
        try:
            for n in range(first, first + 10):
                await add(connection, n)
        finally:
            await connection.close()

    await asyncio.gather(*(several(first) for first in range(0, 50, 10)))
    verified = await audit.verify(postgres)
    assert (verified.rows, verified.broken_at) == (50, None)


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log"])
async def test_the_database_itself_refuses_a_change(postgres, statement):
    await add(postgres)
    with pytest.raises(asyncpg.PostgresError):
        await postgres.execute(statement)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("actor", "wang"),
        ("role", "admin"),
        ("action", "case.release"),
        ("subject", "flag 7"),
        ("details", "{}"),
        ("hash", bytes(32)),
        ("previous", b"\1" * 32),
    ],
)
async def test_a_changed_column_is_found_in_its_row(postgres, column, value):
    for n in range(1, 6):
        await add(postgres, n)
    await tamper(postgres, f"UPDATE audit_log SET {column} = $1 WHERE number = 3", value)
    verified = await audit.verify(postgres)
    assert (verified.rows, verified.broken_at) == (2, 3)


async def test_a_changed_time_is_found(postgres):
    await add(postgres)
    await tamper(postgres, "UPDATE audit_log SET at = at + interval '1 microsecond'")
    assert (await audit.verify(postgres)).broken_at == 1


async def test_a_row_that_was_taken_out_is_found(postgres):
    for n in range(1, 6):
        await add(postgres, n)
    await tamper(postgres, "DELETE FROM audit_log WHERE number = 2")
    verified = await audit.verify(postgres)
    assert verified.broken_at == 3
    assert "row 2 is missing" in verified.why


async def test_a_cut_off_end_and_a_chain_made_anew_are_found_by_a_head_that_was_kept(postgres):
    for n in range(1, 4):
        await add(postgres, n)
    kept = await audit.head(postgres)
    await tamper(postgres, "DELETE FROM audit_log WHERE number = 3")
    assert (await audit.verify(postgres)).broken_at is None
    assert (await audit.verify(postgres, kept)).broken_at == 3
    await add(postgres, 4)
    verified = await audit.verify(postgres, kept)
    assert verified.broken_at == 3
    assert "not the one that was kept" in verified.why


async def test_a_cut_off_end_is_found_by_the_head_of_a_publication(poll, postgres):
    await add(postgres, 1)
    await add(postgres, 2)
    await publish(postgres, KEYS, 1, Asked(Kind.PROVISIONAL, "li"))
    # Its own row comes after its head.
    assert (await audit.verify(postgres)).rows == 3
    await tamper(postgres, "DELETE FROM audit_log WHERE number > 1")
    verified = await audit.verify(postgres)
    assert verified.broken_at == 2
    assert "row 2 is missing: the end is cut off" in verified.why
    await add(postgres, 3)
    verified = await audit.verify(postgres)
    assert verified.broken_at == 2
    assert "not the one that was kept" in verified.why


@pytest.mark.parametrize(
    "fields",
    [
        {"actor": ""},
        {"subject": "x" * 301},
        {"details": {"share": 0.5}},
        {"details": {"text": "x" * 300_000}},
    ],
)
async def test_what_cannot_be_told_is_refused_and_nothing_is_written(postgres, fields):
    with pytest.raises(ValueError):  # noqa: PT011
        await add(postgres, **fields)
    assert (await audit.head(postgres)).number == 0


async def test_every_row_can_be_hashed_again_from_its_export(postgres):
    import hashlib
    import json

    for n in range(1, 4):
        await add(postgres, n, subject=f"旗 {n} <b>")
    previous = "00" * 32
    async for row in audit.rows(postgres):
        told = json.loads(audit.as_json(row))
        own = told.pop("hash")
        assert told["previous"] == previous
        text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256(text.encode()).hexdigest()
        assert own == previous
