"""The figures of the public pages, on a campaign of 750 candidates with photos: Lighthouse with its
own idea of a phone (4 times slower, 1.6 Mbit/s, 150 ms), in Debian's Chromium.

Of times the best of some runs counts: what a busy machine takes away from a page is not the page's.
A large photo has 150 kB here, one of card size 60, the cover 120.
`make figures` prints them.
"""

import asyncio
import json
import os
import shutil

import pytest

from tests.browser.axe import NODE_MODULES
from tests.browser.chromium import CHROMIUM, needs_chromium
from tests.integration.conftest import running_edge
from tests.public_campaigns import add_public_campaign

LIGHTHOUSE = NODE_MODULES / "lighthouse" / "cli" / "index.js"
RUNS_MAX = 5
SCORE = 0.95
BEFORE_IMAGES_BYTES = 400_000
AUDITS = {
    "largest-contentful-paint": 2_500,
    "cumulative-layout-shift": 0.02,
    "total-blocking-time": 200,
}

pytestmark = [
    needs_chromium,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not LIGHTHOUSE.exists() or shutil.which("node") is None,
        reason="no Lighthouse here: npm ci in tests/browser brings it",
    ),
]


@pytest.fixture
async def site(tmp_path, valkey_url, postgres_dsn, postgres):
    await add_public_campaign(postgres, candidates=750, photos=24)
    async with running_edge(tmp_path, valkey_url, postgres_dsn, challenge="off") as edge:
        yield edge


async def lighthouse(url, folder):
    """The report of one run, or None where the browser did not answer in time."""
    report = folder / "lighthouse.json"
    flags = ["--headless=new", "--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    process = await asyncio.create_subprocess_exec(
        "node", str(LIGHTHOUSE), url, "--quiet", "--no-enable-error-reporting",
        "--output=json", f"--output-path={report}", f"--chrome-flags={' '.join(flags)}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"CHROME_PATH": CHROMIUM},
    )  # fmt: skip
    out, _ = await process.communicate()
    if not report.exists():
        return None
    found = json.loads(report.read_text())
    report.unlink()
    return found if found.get("runtimeError") is None else print(out.decode()[-300:])


def figures(report):
    scores = {name: one["score"] or 0 for name, one in report["categories"].items()}
    audits = {name: report["audits"][name]["numericValue"] for name in AUDITS}
    requests = report["audits"]["network-requests"]["details"]["items"]
    before_images = sum(
        one["transferSize"] for one in requests if one.get("resourceType") not in ("Image", "Media")
    )
    return scores, audits, before_images


@pytest.mark.slow
@pytest.mark.parametrize("path", ["", "/candidates/c001"])
async def test_a_page_is_light_steady_and_sound(site, tmp_path, path):
    """What no other work on the machine changes."""
    report = None
    while report is None:
        report = await lighthouse(f"{site.url}/campaigns/spring{path}", tmp_path)
    scores, audits, before_images = figures(report)
    assert before_images < BEFORE_IMAGES_BYTES
    assert audits["cumulative-layout-shift"] < AUDITS["cumulative-layout-shift"]
    assert {name for name, score in scores.items() if score < SCORE} <= {"performance"}


@pytest.mark.figures
@pytest.mark.parametrize("path", ["", "/candidates/c001"])
async def test_a_page_is_quick(site, tmp_path, path):
    url = f"{site.url}/campaigns/spring{path}"
    best_score, best_audits, misses = 0, {}, ["no run"]
    for _ in range(RUNS_MAX):
        report = await lighthouse(url, tmp_path)
        if report is None:
            continue
        scores, audits, before_images = figures(report)
        print(path or "/", scores, audits, before_images, report["environment"]["benchmarkIndex"])
        best_score = max(scores["performance"], best_score)
        for name, value in audits.items():
            best_audits[name] = min(value, best_audits.get(name, value))
        misses = [f"{name} {value}" for name, value in best_audits.items() if value >= AUDITS[name]]
        if best_score >= SCORE and not misses:
            break
    assert misses == []
    assert best_score >= SCORE
