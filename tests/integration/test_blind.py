"""Counts are blind where the campaign says so, on every public path: all routes are walked."""

import json
import re
from datetime import UTC, datetime, timedelta
from random import Random
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from antifraud.screen import Decision
from tally.campaigns.campaign_changes import Change, apply
from tally.log.integrator import integrate, sign_grown
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.decided import Poll
from tests.integration.conftest import running_edge
from tests.journal_builder import make_vote
from tests.logged import KEYS
from voting.ballot import Position
from voting.changes import Kind
from voting.edge.app import build_app
from voting.edge.site.static import STATIC
from voting.journal import tally_key
from voting.notices import Concerned, Notice, notice_to_json

CANDIDATES = 5
SOON = (datetime.now(ZoneInfo("Asia/Shanghai")) + timedelta(hours=2)).strftime("%H:%M")
VISIBILITIES = {
    "live": {"counts": "live"},
    "daily": {"counts": "daily", "counts_daily_at": SOON},
    "after-close": {"counts": "after-close"},
    "staff": {"counts": "staff"},
}
MADE_BY_COUNTS = {
    "/v1/campaigns/{campaign}/counts",
    "/v1/campaigns/{campaign}/counts/{candidate}.{kind}",
    "/embed/v1/card/{campaign}/{candidate}",
    "/campaigns/{campaign}/ranking",
    "/campaigns/{campaign}/candidates/{candidate}",
    "/campaigns/{campaign}/notice",
    "/campaigns/{campaign}/notice/{number}",
}
"""The paths that show counts where the campaign does."""


def count_of(candidate):
    """What nothing else can look like."""
    return 40_000_000 + 1_111_111 * candidate


async def walk(edge, campaign_id, receipts):
    """(route, body) of every public GET, for each candidate, log, receipt that there is."""
    first = edge.parts.catalog.campaigns[campaign_id].candidates[0]
    photo, video = first.photo, first.video
    candidates = [f"c{n:03}" for n in range(1, CANDIDATES + 1)]
    fills = {
        "campaign": [campaign_id],
        "candidate": candidates,
        "photo": [photo],
        "size": ["", "-large"],
        "video": [video],
        "kind": ["webp", "jpg", "mp4", "svg", "png"],
        "colour": ["b8291a"],
        "receipt": receipts,
        "log": ["votes", "rulings"],
        "level": ["0", "entries"],
        "tile": ["000.p/5", "000.p/10"],
        "version": ["v1", "v1.0"],
        "number": ["1", "2"],
        "part": ["1"],
        "anything": ["nothing-here"],
    }
    queries = {
        "/receipt": [f"?receipt={quote(one)}" for one in receipts],
        "/campaigns/{campaign}": ["", f"?q={quote('候选人')}", f"?channel={quote('省级')}"],
        "/embed": [f"?campaign={campaign_id}"],
        "/embed/": [f"?campaign={campaign_id}{part}" for part in ("", "&part=lines")],
        "/v1/campaigns/{campaign}/candidates": ["", "?order=random", "?order=random&seed=1"],
    }
    seen = {}
    for resource in build_app(edge.parts).router.resources():
        if not any(route.method in ("GET", "*") for route in resource):
            continue
        canonical = resource.canonical
        names = dict(fills)
        if canonical == "/static/{name}":
            names["name"] = sorted(STATIC)
        elif canonical.startswith("/embed/"):
            names["name"] = ["like.js", "like.css", "like-work.js"]
        paths = [canonical]
        for name in re.findall(r"\{(\w+)\}", canonical):
            assert name in names, f"{canonical}: say here what {{{name}}} may be"
            paths = [path.replace(f"{{{name}}}", fill) for path in paths for fill in names[name]]
        for path in paths:
            for query in queries.get(canonical, [""]):
                async with edge.http.get(edge.url + path + query) as answer:
                    body = await answer.read()
                    head = "\n".join(f"{key}: {value}" for key, value in answer.headers.items())
                    assert answer.status < 500, path
                seen.setdefault(canonical, []).append((path, head + "\n" + body.decode("latin-1")))
    return seen


def shows_a_count(text):
    """However it is written: 41111112, 41,111,112, 41.1M, 4111 万."""
    bare = re.sub(r"(?<=\d)[,_' \u2009\u202f](?=\d)", "", text)
    return any(
        str(count_of(n)) in bare or f"{count_of(n) / 1e6:.1f}M" in bare
        or f"{count_of(n) // 10_000}万" in bare
        for n in range(1, CANDIDATES + 1)
    )  # fmt: skip


async def put_notices_up(postgres, campaign):
    """Two, wherever one can have a count in it; as if counts had been shown at the time."""
    n = count_of(1)
    table = Concerned(1, f"{n}", f"{n}", n, n, n, 1, 1)
    for number in (1, 2):
        notice = Notice(
            f"{n:,} 票",
            (f"{n} 票",),
            (("一、", (f"{n}",)), ("二、", (f"{n}",))),
            f"{n}",
            f"{n}",
            (table,),
            (n, n, n),
            counts_as_of=datetime.now(UTC) - timedelta(minutes=30),
        )
        await postgres.execute(
            "INSERT INTO notices VALUES ($1, $2, now(), $3, 'li', 'wang')",
            campaign,
            number,
            json.dumps(notice_to_json(notice)),
        )


@pytest.fixture
async def filled(tmp_path, valkey, valkey_url, postgres, postgres_dsn):
    """An edge with a campaign of each visibility, each with votes, a log, changes, a withdrawal."""
    await postgres.execute("INSERT INTO photos VALUES ('0123456789abcdef', 4, 5, '\\x00', '\\x00')")
    polls = {}
    for visibility, rules in VISIBILITIES.items():
        number = await add_campaign(postgres, visibility, candidates=CANDIDATES, rules=rules)
        poll = Poll(postgres, valkey, number, visibility, shard=number, seed=number)
        poll.builder.at_us = int(datetime.now(UTC).timestamp() - 1_800) * 1_000_000
        await poll.add(
            [make_vote(Random(n), n % CANDIDATES + 1, Decision.COUNT) for n in range(10)]
        )
        polls[visibility] = poll
    await postgres.execute("INSERT INTO videos VALUES ('fedcba9876543210', 'mp4', 9, 1)")
    await postgres.execute(
        "UPDATE candidates SET photo = '0123456789abcdef', video = 'fedcba9876543210',"
        " story = '事迹' WHERE number = 1"
    )
    while (await integrate(postgres, KEYS)).more:
        pass
    await sign_grown(postgres, KEYS)
    # Whoever reads a count, wherever, reads these.
    for table in ("tallies", "minutes"):
        await postgres.execute(f"UPDATE {table} SET counted = 40000000 + 1111111 * candidate")
    for visibility, number in zip(VISIBILITIES, range(1, 5), strict=True):
        for candidate in range(1, CANDIDATES + 1):
            await valkey.hset(tally_key(0, visibility), str(candidate), count_of(candidate))
        for kind, candidate in (
            (Kind.CANDIDATE_CORRECTED, "c001"),
            (Kind.CANDIDATE_WITHDRAWN, "c005"),
            (Kind.PAUSED, None),
        ):
            change = Change(
                kind, {"name": "改名"} if candidate == "c001" else {}, candidate, "原因"
            )
            await apply(postgres, visibility, change, by="li", role="admin", made_from=None)
        assert number == polls[visibility].campaign
        await put_notices_up(postgres, number)
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        receipts = {
            visibility: edge.parts.receipts.seal(
                [Position(*poll.positions[n][1:]) for n in range(3)], poll.campaign
            )
            for visibility, poll in polls.items()
        }
        yield edge, receipts


async def test_no_public_path_shows_a_count_that_the_campaign_hides(filled):
    edge, receipts = filled

    async def counted():
        async with edge.http.get(f"{edge.url}/v1/campaigns/live/counts") as answer:
            return answer.status == 200 and b'"c001":41111111' in await answer.read()

    await wait_until_async(counted, what="counts on the board")
    for visibility in VISIBILITIES:
        seen = await walk(edge, visibility, receipts[visibility])
        shown = {
            route for route, bodies in seen.items() for _, text in bodies if shows_a_count(text)
        }
        assert shown == (MADE_BY_COUNTS if visibility == "live" else set()), visibility
        if visibility == "live":
            assert len(seen) > 15
            logged = seen["/v1/receipts/{receipt}"]
            assert all('"state":"logged"' in text for _, text in logged), "the walk sees proofs too"


async def test_the_like_of_a_voter_shows_no_count_that_the_campaign_hides(filled, postgres):
    edge, _ = filled
    for visibility in VISIBILITIES:
        await apply(
            postgres, visibility, Change(Kind.RESUMED, reason="好了"), by="li", role="admin",
            made_from=None,
        )  # fmt: skip

    for visibility in VISIBILITIES:

        async def liked(visibility=visibility):
            token = await edge.token(visibility)
            status, body = await edge.like(token, "c002", campaign=visibility)
            return status == 201 and body

        body = await wait_until_async(liked, seconds=3, what="the end of the pause")
        assert ("likes" in body) == (visibility == "live")
        assert shows_a_count(str(body).replace(f"{count_of(2) + 1}", f"{count_of(2)}")) == (
            visibility == "live"
        )
