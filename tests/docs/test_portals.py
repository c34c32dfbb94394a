"""What portals' programmers are told works as it stands."""

import json
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.assertions import Portal
from tests.campaign_folders import MANIFEST
from voting.campaign import Campaign, Identity, VotingWindow
from voting.identity import Assertion, fingerprint, read_assertion, read_key
from voting.intake.manifest import read_manifest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "voting" / "identity.md").read_text()
ORIGIN = "https://www.example.cn"
SUBJECT = 'oX_8-用户😀"\\'


def block(language):
    (found,) = re.findall(rf"^ *```{language}\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL)
    return found


def dianzan(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With portal.pem in it; `.line` of it is what the command printed."""
    made = tmp_path_factory.mktemp("portal")
    done = dianzan("portal", "key", "--out", "portal.pem", "--portal", ORIGIN, cwd=made)
    assert done.returncode == 0, done.stderr
    (made / "line.txt").write_text(done.stdout)
    (made / "said.txt").write_text(done.stderr)
    return made


@pytest.fixture
def spring(folder):
    """The campaign whose [portal.keys] has the printed line."""
    text = MANIFEST.replace(
        "[channels]", f"[portal.keys]\n{folder.joinpath('line.txt').read_text()}\n[channels]"
    )
    (folder / "campaign.toml").write_text(text)
    manifest, problems = read_manifest(folder)
    assert problems == []
    now = datetime.now(UTC)
    window = VotingWindow(now, now + timedelta(days=1), ZoneInfo("Asia/Shanghai"))
    keys = {origin: read_key(key) for origin, key in manifest.portal_keys.items()}
    return Campaign(1, "spring", "", window, portal_keys=keys)


def takes(campaign, text, subject=SUBJECT):
    read = read_assertion(text.strip(), campaign, time.time())
    return isinstance(read, Assertion) and read.is_signed() and read.subject == subject


def run(command, folder):
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def test_key_is_the_owners_alone_and_is_not_written_over(folder):
    file = folder / "portal.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_text()
    again = dianzan("portal", "key", "--out", "portal.pem", "--portal", ORIGIN, cwd=folder)
    assert (again.returncode, again.stdout) == (2, "")
    assert "not written over" in again.stderr
    assert file.read_text() == before
    key = read_key((folder / "line.txt").read_text().split('"')[3])
    assert fingerprint(key) in (folder / "said.txt").read_text()
    assert "PRIVATE" not in (folder / "said.txt").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("key", "--out", "new.pem", "--portal", "www.example.cn/"), "must be scheme://host"),
        (("key", "--out", "none/new.pem", "--portal", "https://a.cn"), "cannot be written"),
        (("assert", "--key", "none.pem", "--portal", "https://a.cn"), "cannot be read"),
        (("assert", "--key", "portal.pem", "--portal", "https://a.cn/x"), "must be scheme://host"),
    ],
)
def test_command_says_which_of_its_words_is_wrong(folder, options, said):
    more = ("--campaign", "x", "--subject", "1") if options[0] == "assert" else ()
    done = dianzan("portal", *options, *more, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())
    assert "Errno" not in done.stderr


def test_command_makes_assertions(folder, spring):
    options = ("--key", "portal.pem", "--portal", ORIGIN, "--campaign", "spring")
    done = dianzan("portal", "assert", *options, "--subject", SUBJECT, cwd=folder)
    assert takes(spring, done.stdout), done.stderr
    for wrong in ("", "a" * 201):
        assert dianzan("portal", "assert", *options, "--subject", wrong, cwd=folder).returncode == 2


@pytest.mark.parametrize("content", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END"])
def test_command_says_what_is_no_key_and_quotes_nothing_of_it(folder, content):
    (folder / "other.pem").write_text(content)
    options = ("--key", "other.pem", "--portal", "https://a.cn", "--campaign", "x")
    done = dianzan("portal", "assert", *options, "--subject", "1", cwd=folder)
    assert done.returncode == 2
    assert done.stderr == "other.pem holds no private key as PEM without a password\n"


@needs("openssl")
def test_keys_that_openssl_makes_are_taken(folder, tmp_path):
    run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", "portal.pem"], tmp_path)
    public = run(["openssl", "pkey", "-in", "portal.pem", "-pubout"], tmp_path)
    key = read_key(public.splitlines()[1])
    assert isinstance(key, bytes)
    options = ("--key", "portal.pem", "--portal", "https://a.cn", "--campaign", "spring")
    done = dianzan("portal", "assert", *options, "--subject", SUBJECT, cwd=tmp_path)
    read = Portal("https://a.cn")
    window = VotingWindow(datetime.now(UTC), datetime.now(UTC), ZoneInfo("UTC"))
    assert takes(Campaign(1, "spring", "", window, portal_keys={read.origin: key}), done.stdout)


def test_python_lines_work(folder, spring):
    script = f"{block('python')}\nprint(like_assertion({SUBJECT!r}))"
    assert takes(spring, run([sys.executable, "-c", script], folder))


@needs("node")
def test_node_lines_work(folder, spring):
    script = f"{block('js')}\nconsole.log(likeAssertion({json.dumps(SUBJECT)}))"
    assert takes(spring, run(["node", "-e", script], folder))


@needs("php")
def test_php_lines_work(folder, spring):
    (folder / "like.php").write_text(
        f"{block('php')}\necho likeAssertion(json_decode({json.dumps(SUBJECT)!r}));"
    )
    assert takes(spring, run(["php", "like.php"], folder))


@needs("java")
def test_java_lines_work(folder, spring):
    text = block("java").replace(
        "class LikeAssertion {",
        "public class LikeAssertion {\n public static void main(String[] said) throws Exception {"
        f" System.out.println(of({json.dumps(SUBJECT)})); }}",
    )
    (folder / "LikeAssertion.java").write_text(text)
    assert takes(spring, run(["java", "LikeAssertion.java"], folder))


def test_manifest_lines_are_the_manifests(folder):
    lines = "\n".join(line[3:] for line in block("toml").splitlines())
    key = (folder / "line.txt").read_text().split('"')[3]
    text = MANIFEST[: MANIFEST.index("[portal]")] + lines.replace(
        "the public key: 44 characters", key
    )
    (folder / "campaign.toml").write_text(text)
    manifest, problems = read_manifest(folder)
    assert problems == []
    assert manifest.rules.identity is Identity.OPTIONAL
    assert list(manifest.portal_keys) == ["https://www.example.cn"]
