"""Publications against a real database: they add up, are chained, and survive a crash anywhere."""

import asyncio
import base64
import json
import shutil
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import asyncpg
import pytest

from antifraud.screen import Decision
from tally import audit
from tally.delivery import outbox
from tally.holds import Action, Case, decide
from tally.log.integrator import integrate, sign_grown
from tally.log.signed_note import SignerKey
from tally.log.store import LogConflict
from tally.publishing import publication, publication_files
from tally.publishing.publication import (
    PUBLISHER,
    Asked,
    Kind,
    PublicationError,
    publish,
    publishing,
    read_published,
    resume,
    until_flushed,
    write_folder,
)
from tally.publishing.publication_files import FolderInUse, new_folder
from tally.tallies import TallyError
from tally.verify import verify
from tests.campaigns import add_campaign
from tests.conftest import OneShard, wait_until_async
from tests.decided import counted, sums
from tests.journal_builder import JournalBuilder, make_vote, write
from tests.logged import KEYS
from voting.ballot import Outcome
from voting.journal import EntryId, Refusal

BY_HAND = Asked(Kind.PROVISIONAL, "li")
CLOCK = Asked(Kind.SCHEDULED, PUBLISHER)


async def add_some(poll, seed=0, votes=40):
    """Votes for all four candidates, some of them held at once."""
    random = Random(seed)
    await poll.add(
        [
            make_vote(random, random.randint(1, 4), Decision.HOLD if n % 7 == 0 else Decision.COUNT)
            for n in range(votes)
        ],
        refusals=[Refusal(1, Outcome.THROTTLED, 4), Refusal(3, Outcome.QUOTA_SPENT, 2)],
    )


async def close(postgres, entry=10_000, closed=True):
    """As the flusher leaves it when a `close` entry, or one that opens again, came by."""
    await postgres.execute(
        "INSERT INTO closings (campaign, shard, epoch, entry, seq, at, closed)"
        " VALUES (1, 0, 1, $1, 0, now(), $2)",
        entry,
        closed,
    )


async def published(postgres, asked=BY_HAND, keys=KEYS):
    found = await publish(postgres, keys, 1, asked)
    assert found is not None
    return found


async def holds(postgres, found, folder, **options):
    """Its folder, written and checked by the verifier, which shares no code with it."""
    await write_folder(postgres, KEYS, found, folder, **options)
    report = verify(folder)
    assert report.ok, report.as_text()
    return report


async def test_what_is_published_is_the_tally_and_holds(poll, postgres, tmp_path):
    await add_some(poll)
    flagged = await poll.add(counted(12, 2, seed=5))
    await decide(
        postgres, Case(await poll.flag(flagged)), Action.STRIKE, by="li", reason="=同一台手机"
    )
    await postgres.execute("UPDATE candidates SET withdrawn_at = now() WHERE number = 4")
    found = await published(postgres)
    await holds(postgres, found, tmp_path / "out")
    tally = json.loads((tmp_path / "out" / "tally.json").read_bytes())
    by_state = Counter()
    for (candidate, state), votes in (await sums(postgres, "tallies", 1)).items():
        by_state[f"c{candidate:03}", state.name.lower()] += votes
    for each in tally["candidates"]:
        for kind in ("counted", "held", "struck"):
            assert each[kind] == by_state[each["id"], kind]
    assert tally["received"] == 52 + 6
    assert tally["refused_by_reason"] == {"quota-spent": 2, "throttled": 4}
    assert tally["candidates"][-1]["id"] == "c004"
    assert tally["candidates"][-1]["rank"] is None
    assert (tally["kind"], tally["number"]) == ("provisional", 1)
    (decision,) = json.loads((tmp_path / "out" / "decisions.json").read_bytes())["decisions"]
    assert decision["role"] == "person"
    assert decision["moved"] == 12
    assert "li" not in json.dumps(decision)
    assert "'=同一台手机" in (tmp_path / "out" / "decisions.csv").read_text()


async def test_rules_and_what_was_changed_of_them_are_published(poll, postgres, tmp_path):
    await postgres.execute(
        "INSERT INTO campaign_changes (number, at, campaign, kind, candidate, was, became, reason,"
        " changed_by, approved_by, in_public) VALUES (1, now(), 1, 'quota', NULL,"
        " '{\"candidates_per_day\": 3}', '{\"candidates_per_day\": 5}', $1, $2, $3, true)",
        "省里要求",
        "li",
        "wang",
    )
    found = await published(postgres)
    await holds(postgres, found, tmp_path / "out")
    rules = json.loads((tmp_path / "out" / "rules.json").read_bytes())
    assert rules["rules"] == {"candidates_per_day": 3}
    (change,) = rules["changes"]
    assert change["became"] == {"candidates_per_day": 5}
    assert change["two_persons"] is True
    assert "wang" not in json.dumps(rules)


async def test_each_publication_carries_the_hash_of_the_one_before(poll, postgres, tmp_path):
    manifests = []
    for number in range(1, 4):
        await add_some(poll, seed=number)
        found = await published(postgres, CLOCK)
        await holds(postgres, found, tmp_path / str(number))
        manifest = json.loads(found.made.files["manifest.json"])
        manifests.append(found.made.manifest_hash.hex())
        before = {"number": number - 1, "manifest": manifests[number - 2]}
        assert manifest["previous"] == (before if number > 1 else None)
    kept = [name for name in found.made.files if name.startswith("checkpoints/votes/")]
    assert len(kept) == 3


async def test_a_campaign_without_a_vote_can_be_published(poll, postgres, tmp_path):
    await holds(postgres, await published(postgres), tmp_path / "out")


async def test_news_and_record_of_it_commit_with_it(poll, postgres):
    await postgres.execute(
        "INSERT INTO destinations (shown_as, form, address, events, made_by)"
        " VALUES ('office', 'webhook', 'https://example.cn/', '{published}', 'li')"
    )
    await add_some(poll)
    found = await published(postgres)
    (letter,) = await postgres.fetch("SELECT subject, content FROM outbox")
    assert letter["subject"] == "spring/1"
    assert json.loads(letter["content"])["manifest_sha256"] == found.made.manifest_hash.hex()
    assert "counted" not in letter["content"], "counts may be blind to whoever gets news"
    row = await postgres.fetchrow("SELECT * FROM audit_log ORDER BY number DESC LIMIT 1")
    assert (row["actor"], row["role"], row["action"], row["subject"]) == (
        "li", "command", "publication.made", "publication spring/1",
    )  # fmt: skip


async def test_nothing_of_a_rehearsal_is_published(poll, postgres):
    await postgres.execute("UPDATE campaigns SET is_test = true")
    with pytest.raises(PublicationError, match="rehearsal"):
        await published(postgres)
    assert await postgres.fetchval("SELECT count(*) FROM publications") == 0
    with pytest.raises(LookupError):
        await publish(postgres, KEYS, 77, BY_HAND)


async def test_sums_that_the_log_does_not_bear_out_are_not_published(poll, postgres):
    await add_some(poll)
    await postgres.execute("UPDATE tallies SET counted = counted + 1 WHERE candidate = 2")
    with pytest.raises(TallyError, match="41 votes by the sums, 40 in the log"):
        await published(postgres)
    assert await postgres.fetchval("SELECT count(*) FROM publications") == 0
    assert await postgres.fetchval("SELECT count(*) FROM checkpoints") == 0


async def test_what_the_verifier_could_not_read_is_refused_before_anything_is_signed(
    poll, postgres, monkeypatch, signed
):
    await add_some(poll)
    flag = await poll.flag(range(40))
    await decide(postgres, Case(flag), Action.STRIKE, by="li", reason="x" * 1_500)
    whole = len((await published(postgres)).made.files["decisions.json"])
    signed.clear()
    monkeypatch.setattr(publication_files, "FILE_BYTES_MAX", whole - 1)
    with pytest.raises(
        PublicationError, match=r"spring cannot be published: decisions\.json would"
    ):
        await published(postgres)
    assert not [text for text in signed if "/publications/" in text]
    assert await postgres.fetchval("SELECT count(*) FROM publications") == 1
    monkeypatch.setattr(publication_files, "FILE_BYTES_MAX", whole)
    assert (await published(postgres)).number == 2, "nothing is left half done"


async def test_ballots_for_nobody_are_not_published(poll, postgres):
    await add_some(poll)
    await postgres.execute("UPDATE refusals SET candidate = 99 WHERE candidate = 3")
    with pytest.raises(TallyError, match=r"unknown candidates \[99\]"):
        await published(postgres)


async def test_while_votes_come_and_are_decided_on_every_publication_holds(
    poll, postgres, postgres_dsn, tmp_path
):
    ended = asyncio.Event()

    async def go_on():
        for seed in range(12):
            await add_some(poll, seed, votes=60)
            indices = Random(seed).sample(range(len(poll.positions)), 15)
            action = Random(seed).choice(list(Action))
            await decide(postgres, Case(await poll.flag(indices)), action, by="li", reason="看着像")
        ended.set()

    going = asyncio.create_task(go_on())
    other = await asyncpg.connect(postgres_dsn)
    sizes = []
    try:
        while not ended.is_set() or not sizes:
            found = await publish(other, KEYS, 1, BY_HAND)
            await holds(other, found, tmp_path / str(found.number))
            sizes.append(found.content.tally["logs"]["votes"]["size"])
        await going
        found = await publish(other, KEYS, 1, BY_HAND)
        await close(other)
        sealed = await publish(other, KEYS, 1, Asked(Kind.CLOSE, PUBLISHER))
        report = await holds(other, sealed, tmp_path / "sealed", with_log=True)
    finally:
        await other.close()
    assert report.log
    assert found.content.tally["logs"]["votes"]["size"] == 720
    assert sizes == sorted(sizes)


async def test_two_at_once_make_two_publications_one_after_the_other(poll, postgres, postgres_dsn):
    await add_some(poll)
    others = [await asyncpg.connect(postgres_dsn) for _ in range(4)]
    try:
        made = await asyncio.gather(*(publish(one, KEYS, 1, BY_HAND) for one in others))
    finally:
        await asyncio.gather(*(one.close() for one in others))
    assert sorted(one.number for one in made) == [1, 2, 3, 4]
    previous = {
        one.number: (one.content.previous or {}).get("manifest") for one in made
    }  # fmt: skip
    hashes = {one.number: one.made.manifest_hash.hex() for one in made}
    assert previous == {1: None, 2: hashes[1], 3: hashes[2], 4: hashes[3]}


# A crash at each step.


class Crash(BaseException):
    """Nobody handles it: as if the process had ended there."""


def crash_before(monkeypatch, module, name):
    """The process ends before this is done, once."""
    whole = getattr(module, name)
    crashed = []

    def end(*arguments, **named):
        if not crashed:
            crashed.append(name)
            raise Crash(name)
        return whole(*arguments, **named)

    monkeypatch.setattr(module, name, end)
    return crashed


def crash_after(monkeypatch, module, name):
    """... and after."""
    whole = getattr(module, name)
    crashed = []

    async def end_async(*arguments, **named):
        result = await whole(*arguments, **named)
        if not crashed:
            crashed.append(name)
            raise Crash(name)
        return result

    def end(*arguments, **named):
        result = whole(*arguments, **named)
        if not crashed:
            crashed.append(name)
            raise Crash(name)
        return result

    monkeypatch.setattr(module, name, end_async if asyncio.iscoroutinefunction(whole) else end)
    return crashed


STEPS = {
    "before anything": (crash_before, publication, "begin"),
    "a root signed, nothing committed": (crash_after, publication, "sign_head"),
    "the numbers are fixed": (crash_after, publication, "begin"),
    "before the files": (crash_before, publication, "make_files"),
    "the files are made and signed": (crash_after, publication, "make_files"),
    "what is signed is noted, not committed": (crash_after, publication, "_remember"),
    "checkpoints are handed out, not committed": (crash_after, publication, "hand_out"),
    "news written, not committed": (crash_after, outbox, "add"),
    "record written, not committed": (crash_after, audit, "append"),
    "archive stored": (crash_after, publication, "finish"),
    "half of the folder written": (crash_after, publication, "write_files"),
    "the folder not renamed": (crash_before, publication_files, "_sync_all"),
    "the folder renamed": (crash_before, publication_files, "_sync"),
}


@pytest.fixture
def signed(monkeypatch):
    """Every text that was ever signed, whatever became of it."""
    texts = []
    sign = SignerKey.sign

    def remember(self, text):
        texts.append(text)
        return sign(self, text)

    monkeypatch.setattr(SignerKey, "sign", remember)
    return texts


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("by_publisher", [True, False])
async def test_after_a_crash_at_any_step_it_goes_on_and_never_says_two_things(
    poll, postgres, postgres_dsn, tmp_path, monkeypatch, signed, step, by_publisher
):
    keys = replace(KEYS, last_signed=tmp_path / "last-signed.json")
    await add_some(poll)
    earlier = await published(postgres, keys=keys)
    await add_some(poll, seed=2)
    crash, module, name = STEPS[step]
    crashed = crash(monkeypatch, module, name)
    dying = await asyncpg.connect(postgres_dsn)
    with pytest.raises(Crash):
        await write_folder(
            dying, keys, await publish(dying, keys, 1, BY_HAND), tmp_path / "crashed"
        )
    dying.terminate()
    assert crashed
    assert not (tmp_path / "crashed").exists() or step == "the folder renamed"
    left = [row["number"] for row in await postgres.fetch("SELECT number FROM publications")]
    # Meanwhile likes come, and a root is signed for them.
    await add_some(poll, seed=3)
    await integrate(postgres, keys)
    await sign_grown(postgres, keys)
    if by_publisher:
        await resume(postgres, keys)
        assert await postgres.fetchval(
            "SELECT count(*) FROM publications WHERE manifest_hash IS NULL"
        ) == 0  # fmt: skip
    again = await published(postgres, keys=keys)
    assert again.number == len(left) + 1
    for number in range(1, again.number + 1):
        found = await read_published(postgres, 1, number)
        report = await holds(postgres, found, tmp_path / f"{number}")
        assert report.number == number
    assert again.number in (2, 3)
    assert earlier.number == 1
    await _assert_nothing_was_said_twice(postgres, signed)


async def _assert_nothing_was_said_twice(postgres, signed):
    # A publication's number has one manifest, whoever signed it and how often.
    manifests = {}
    for text in signed:
        subject, number, digest, *_ = text.split("\n")
        if "/publications/" in subject:
            assert manifests.setdefault((subject, number), digest) == digest
    # What left a process is committed: one root for each size.
    roots = {}
    for row in await postgres.fetch("SELECT log, size, root, note FROM checkpoints"):
        text, _, _ = row["note"].rpartition("\n\n")
        _, size, root, *_ = text.split("\n")
        assert (int(size), base64.b64decode(root)) == (row["size"], bytes(row["root"]))
        assert roots.setdefault((row["log"], row["size"]), row["root"]) == row["root"]
    assert await postgres.fetchval("SELECT count(*) FROM audit_log") == await postgres.fetchval(
        "SELECT count(*) FROM publications"
    )
    assert (await audit.verify(postgres)).broken_at is None


async def test_whoever_publishes_is_alone_with_it(poll, postgres, postgres_dsn):
    await add_some(poll)
    other = await asyncpg.connect(postgres_dsn)
    try:
        async with publishing(other, 1):
            waiting = asyncio.create_task(published(postgres))

            async def is_waiting():
                return await other.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                )

            await wait_until_async(is_waiting, what="the second one waits")
            assert not waiting.done()
        assert (await asyncio.wait_for(waiting, 10)).number == 1
    finally:
        await other.close()


# The close, and the log.


async def test_nothing_is_sealed_before_the_close(poll, postgres):
    for kind in (Kind.CLOSE, Kind.FINAL):
        with pytest.raises(PublicationError, match="not closed"):
            await published(postgres, Asked(kind, PUBLISHER))
    await close(postgres)
    found = await published(postgres, Asked(Kind.CLOSE, PUBLISHER))
    (closing,) = found.content.tally["closings"]
    assert closing["entry"] == "1-10000"
    assert found.content.tally["reopened_after_seal"] == []


async def test_the_log_stays_shut_until_the_close_and_after_it_was_opened_again(
    poll, postgres, tmp_path
):
    await add_some(poll)
    early = await published(postgres)
    with pytest.raises(PublicationError, match="before the close"):
        await write_folder(postgres, KEYS, early, tmp_path / "out", with_log=True)
    await close(postgres)
    # Made before the close: it may cover votes of people who have not closed their pages yet.
    with pytest.raises(PublicationError, match="before the close"):
        await write_folder(postgres, KEYS, early, tmp_path / "out", with_log=True)
    sealed = await published(postgres, Asked(Kind.CLOSE, PUBLISHER))
    await holds(postgres, sealed, tmp_path / "sealed", with_log=True)
    await close(postgres, 10_001, closed=False)
    with pytest.raises(PublicationError, match="takes likes"):
        await write_folder(postgres, KEYS, sealed, tmp_path / "out", with_log=True)
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["sealed"]


async def test_opening_again_after_a_seal_leaves_a_mark_for_ever(poll, postgres):
    await close(postgres, 10)
    await close(postgres, 11, closed=False)
    await close(postgres, 12)
    # Opened again before anything was sealed: no mark.
    found = await published(postgres, Asked(Kind.CLOSE, PUBLISHER))
    assert found.content.tally["reopened_after_seal"] == []
    await close(postgres, 13, closed=False)
    assert len((await published(postgres)).content.tally["reopened_after_seal"]) == 1
    await close(postgres, 14)
    sealed = await published(postgres, Asked(Kind.CLOSE, PUBLISHER))
    assert len(sealed.content.tally["reopened_after_seal"]) == 1


async def test_the_log_of_a_publication_is_the_same_whenever_it_is_written(
    poll, postgres, tmp_path
):
    await add_some(poll)
    await close(postgres)
    sealed = await published(postgres, Asked(Kind.CLOSE, PUBLISHER))
    await holds(postgres, sealed, tmp_path / "first", with_log=True)
    await decide(postgres, Case(await poll.flag(range(5))), Action.STRIKE, by="li", reason="后来的")
    await published(postgres)
    again = await read_published(postgres, 1, 1)
    await holds(postgres, again, tmp_path / "again", with_log=True)
    names = [path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*")]
    for name in names:
        if (tmp_path / "first" / name).is_file():
            assert (tmp_path / "first" / name).read_bytes() == (
                tmp_path / "again" / name
            ).read_bytes(), name


async def test_other_keys_than_the_logs_publish_nothing(poll, postgres):
    await published(postgres)
    others = KEYS.__class__(name="dianzan-other", signing=b"o" * 32, salts=b"p" * 32)
    with pytest.raises(LogConflict, match="begun with the keys of"):
        await publish(postgres, others, 1, BY_HAND)


async def test_what_was_begun_is_finished_with_the_same_keys_or_not_at_all(
    poll, postgres, monkeypatch, tmp_path
):
    await add_some(poll)
    await close(postgres)
    crash_before(monkeypatch, publication, "make_files")
    with pytest.raises(Crash):
        await publish(postgres, KEYS, 1, Asked(Kind.CLOSE, PUBLISHER))
    monkeypatch.undo()
    others = KEYS.__class__(name="dianzan-other", signing=b"o" * 32, salts=b"p" * 32)
    with pytest.raises(LogConflict, match="begun with the keys of"):
        await resume(postgres, others)
    (found,) = await resume(postgres, KEYS)
    with pytest.raises(LogConflict, match="begun with the keys of"):
        await write_folder(postgres, others, found, tmp_path / "out", with_log=True)
    assert not (tmp_path / "out").exists()
    await holds(postgres, found, tmp_path / "out", with_log=True)


# Folders.


def test_a_folder_that_is_in_use_is_left_as_it_is(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("used", "file"):
        with pytest.raises(FolderInUse), new_folder(tmp_path / name):
            raise AssertionError
    assert (tmp_path / "used" / "mine.txt").read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "used"]


def test_an_empty_folder_is_taken_and_one_that_is_not_there_is_made(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "far/away"):
        with new_folder(tmp_path / name) as folder:
            (folder / "a").write_text("x")
            assert not (tmp_path / "far" / "away").exists()
        assert (tmp_path / name / "a").read_text() == "x"


def test_what_somebody_left_who_was_killed_half_way_is_cleared_away(tmp_path):
    for pid in (4_000_000, 1):  # nobody's, and somebody's who lives
        (tmp_path / f".out.{pid}.partial").mkdir()
    with new_folder(tmp_path / "out"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.1.partial", "out"]


def test_whoever_fills_the_name_meanwhile_keeps_it(tmp_path):
    with pytest.raises(FolderInUse), new_folder(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# What was acknowledged before.


async def test_it_waits_until_postgres_has_what_was_acknowledged(postgres, valkey):
    builder = JournalBuilder()
    await write(valkey, [builder.entry(3), builder.entry(2)])
    ends = await publication.journal_ends(OneShard(valkey))
    assert ends == {0: EntryId(1, 1)}
    with pytest.raises(PublicationError, match="does `dianzan flush` run"):
        await until_flushed(postgres, ends, within_seconds=0.1)
    await postgres.execute("INSERT INTO watermarks VALUES (0, 1, 1, 5, now())")
    await until_flushed(postgres, ends, within_seconds=0.1)
    await until_flushed(postgres, {}, within_seconds=0.1)


# As commands.


@pytest.fixture
async def flushing(start):
    process = await start("flush")
    yield
    process.terminate()
    await process.wait()


async def test_by_hand_everything_acknowledged_is_published_and_holds(
    edge, flushing, dianzan, tmp_path
):
    token = await edge.token()
    for candidate in ("c001", "c002", "c003"):
        assert (await edge.like(token, candidate))[0] == 201
    out = tmp_path / "out"
    done = await dianzan("publish", "--campaign", "spring", "--now", "--out", str(out), "--json")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert (told["counted"], told["kind"], told["number"]) == (3, "provisional", 1)
    checked = await dianzan(
        "verify", str(out), "--key", told["key"], without=("DIANZAN_VALKEY_URL",)
    )
    assert checked.code == 0, checked.out
    assert "spring, publication 1 (provisional)" in checked.out
    assert (tmp_path / "secrets" / "log.json").stat().st_mode & 0o777 == 0o600
    # Again, from the archive.
    again = await dianzan(
        *("publish", "--campaign", "spring", "--number", "1", "--out", str(tmp_path / "again"))
    )
    assert again.code == 0, again.err
    assert (tmp_path / "again" / "manifest.json").read_bytes() == (
        out / "manifest.json"
    ).read_bytes()


async def test_with_the_log_it_is_refused_before_the_close_and_recounted_after_it(
    edge, postgres, flushing, dianzan, tmp_path
):
    token = await edge.token()
    assert (await edge.like(token))[0] == 201
    arguments = ("publish", "--campaign", "spring", "--now", "--out", str(tmp_path / "out"))
    refused = await dianzan(*arguments, "--with-log")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        "dianzan: campaign spring has not closed yet: its log stays shut until then\n"
    )
    assert not (tmp_path / "out").exists()
    assert await postgres.fetchval("SELECT count(*) FROM publications") == 0
    await postgres.execute("UPDATE campaigns SET closes_at = now()")
    # Nobody but this command closes it.
    done = await dianzan(*arguments, "--with-log")
    assert done.code == 0, done.err
    checked = await dianzan("verify", str(tmp_path / "out"), "--json")
    assert json.loads(checked.out)["log"] is True
    openings = tmp_path / "out" / "log" / "openings.bin"
    content = bytearray(openings.read_bytes())
    content[9] ^= 1
    openings.write_bytes(content)
    checked = await dianzan("verify", str(tmp_path / "out"))
    assert checked.code == 1
    assert "log          FAILED" in checked.out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--campaign", "winter", "--now", "--out", "OUT"), 2, "no campaign 'winter'"),
        (("--campaign", "spring", "--now"), 2, "say --campaign ID, --out FOLDER"),
        (("--now", "--out", "OUT"), 2, "say --campaign ID"),
        (("--campaign", "spring", "--out", "OUT"), 2, "either --now or --number"),
        (("--campaign", "spring", "--now", "--number", "1", "--out", "OUT"), 2, "either"),
        (("--campaign", "spring", "--number", "7", "--out", "OUT"), 1, "has no publication 7"),
        (("--campaign", "spring", "--now", "--out", "."), 2, "is not empty"),
    ],
)  # fmt: skip
async def test_what_cannot_be_published_is_said_in_one_line(
    postgres, dianzan, tmp_path, arguments, code, says
):
    await add_campaign(postgres, "spring")
    arguments = [str(tmp_path / "out") if word == "OUT" else word for word in arguments]
    done = await dianzan("publish", *arguments)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


async def test_by_hand_no_second_key_is_made_beside_the_one_that_was_lost(
    postgres, dianzan, tmp_path
):
    await add_campaign(postgres, "spring")
    await integrate(postgres, KEYS)
    for what in (("--now",), ("--number", "1")):
        done = await dianzan(
            *("publish", "--campaign", "spring", *what, "--out", str(tmp_path / "out"))
        )
        assert (done.code, done.out) == (1, "")
        assert "begun with the keys of dianzan-test" in done.err
        assert not (tmp_path / "secrets" / "log.json").exists()


async def test_a_damaged_key_file_is_said_and_nothing_of_it_shown(postgres, dianzan, tmp_path):
    await add_campaign(postgres, "spring")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "log.json").write_text('{"signing": "secret"')
    done = await dianzan(
        *("publish", "--campaign", "spring", "--now", "--out", str(tmp_path / "out"))
    )
    assert done.code == 2
    assert "is damaged: restore it from a copy" in done.err
    assert 'secret"' not in done.err


async def test_verify_needs_nothing_but_the_folder(poll, postgres, dianzan, tmp_path):
    await write_folder(postgres, KEYS, await published(postgres), tmp_path / "out")
    without = ("DIANZAN_VALKEY_URL", "DIANZAN_POSTGRES_DSN")
    assert (await dianzan("verify", str(tmp_path / "out"), without=without)).code == 0
    shutil.rmtree(tmp_path / "out" / "checkpoints")
    done = await dianzan("verify", str(tmp_path / "out"), without=without)
    assert done.code == 1
    assert "missing: checkpoints/" in done.out
    assert (await dianzan("verify", str(tmp_path / "nowhere"), without=without)).code == 2


async def test_an_older_moment_never_gets_a_later_number(poll, postgres):
    for seed in range(3):
        await add_some(poll, seed)
        await published(postgres)
    rows = await postgres.fetch("SELECT at, as_of FROM publications ORDER BY number")
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert [row["as_of"] for row in rows] == sorted(row["as_of"] for row in rows)
    assert rows[-1]["at"] <= datetime.now(UTC) + timedelta(seconds=1)
