"""The verifier: what was published holds, and nothing else does."""

import io
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from tally import verify
from tally.canonical import canonical
from tally.log.leaves import Role, Ruling
from tally.log.signed_note import SignerKey
from tally.publishing.publication_files import Content, make_files, write_files
from tally.verify import NoPublication, Report, key_from
from tests.published import SIGNER, DrawnCampaign
from voting.checkpoint import Checkpoint

STRANGER = SignerKey("dianzan-test", bytes(32))


@pytest.fixture(scope="module")
def drawn():
    return DrawnCampaign()


@pytest.fixture(scope="module")
def published(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    drawn.publish(folder)
    return folder


@pytest.fixture
def folder(published, tmp_path):
    """A copy that a test may harm."""
    return Path(shutil.copytree(published, tmp_path / "copy"))


def checked(folder, key=None) -> Report:
    return verify.verify(folder, key)


def only_failure(folder, key=None):
    """(check, why) of the one that fails."""
    report = checked(folder, key)
    assert len(report.failed) == 1, report.as_text()
    return next(iter(report.failed.items()))


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_what_was_published_holds(tmp_path, seed, log):
    DrawnCampaign(votes=40 * seed + 7, decisions=seed, seed=seed, shards=seed % 2 + 1).publish(
        tmp_path, log=log
    )
    report = checked(tmp_path)
    assert report.ok, report.as_text()
    assert report.log is log
    assert (report.campaign, report.number, report.kind) == ("spring", 3, "provisional")


def test_a_campaign_without_a_vote_holds(tmp_path):
    drawn = DrawnCampaign(votes=0, decisions=0)
    drawn.publish(tmp_path)
    assert checked(tmp_path).ok, checked(tmp_path).as_text()


def test_the_same_content_gives_the_same_bytes(drawn):
    first, again = (make_files(drawn.content(), drawn.checkpoints(), SIGNER) for _ in range(2))
    assert first.files == again.files


def test_no_flipped_bit_in_any_file_passes(folder):
    positions = random.Random(1)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert len(names) > 30
    for name in names:
        path = folder / name
        content = path.read_bytes()
        # All of what is not covered by a hash, some of the rest.
        short = name.endswith((".sig", "manifest.json")) or name == "verifier.key"
        every = range(len(content)) if short and len(content) < 400 else ()
        chosen = {0, len(content) - 1, *every} | {
            positions.randrange(len(content)) for _ in range(12)
        }
        for at in chosen:
            bit = 1 << positions.randrange(8)
            path.write_bytes(content[:at] + bytes((content[at] ^ bit,)) + content[at + 1 :])
            assert not checked(folder).ok, f"{name}: byte {at} ^ {bit}"
        path.write_bytes(content)
    assert checked(folder).ok


def test_no_file_may_be_missing_cut_or_longer(folder):
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    for name in names:
        path = folder / name
        content = path.read_bytes()
        path.unlink()
        if name == "manifest.json":
            with pytest.raises(NoPublication):
                checked(folder)
        else:
            assert not checked(folder).ok, f"without {name}"
        for changed in (content[:-1], content + b"\n", content + b" ", b""):
            path.write_bytes(changed)
            assert not checked(folder).ok, f"{name} of {len(changed)} bytes"
        path.write_bytes(content)
    assert checked(folder).ok


@pytest.mark.parametrize(
    "add",
    [
        lambda folder: (folder / "more.txt").write_text("x"),
        lambda folder: (folder / ".hidden").write_text("x"),
        lambda folder: (folder / "log" / "more.bin").write_text("x"),
        lambda folder: (folder / "checkpoints" / "votes" / "000000000004.checkpoint").touch(),
        lambda folder: (folder / "empty").mkdir(),
        lambda folder: (folder / "link").symlink_to(folder / "tally.json"),
        lambda folder: (folder / "elsewhere").symlink_to("/etc"),
        lambda folder: os.mkfifo(folder / "pipe"),
    ],
)
def test_nothing_may_be_in_the_folder_that_is_not_in_its_manifest(folder, add):
    add(folder)
    check, _ = only_failure(folder)
    assert check == "files"


def test_a_file_may_not_be_a_link_to_what_it_should_be(folder, tmp_path):
    (folder / "tally.json").rename(tmp_path / "tally.json")
    (folder / "tally.json").symlink_to(tmp_path / "tally.json")
    assert only_failure(folder)[0] == "files"


def test_the_log_may_be_left_out_whole_and_not_in_part(folder):
    shutil.rmtree(folder / "log")
    assert checked(folder).ok
    (folder / "log").mkdir()
    assert only_failure(folder)[0] == "files"


def test_another_key_does_not_pass(folder, drawn):
    assert checked(folder, key_from(str(SIGNER.verifier))).ok
    assert only_failure_of_first(folder, key_from(str(STRANGER.verifier))) == "signature"
    # All of it made anew by a stranger holds by the folder's own key, and says whose it is.
    shutil.rmtree(folder)
    folder.mkdir()
    DrawnStranger().publish(folder, signer=STRANGER)
    report = checked(folder, key_from(str(SIGNER.verifier)))
    assert "signature" in report.failed
    assert "taken from the folder" in checked(folder).as_text()


def only_failure_of_first(folder, key):
    return next(iter(checked(folder, key).failed))


class DrawnStranger(DrawnCampaign):
    """The same, in the logs of a stranger with the same name."""

    def note(self, log, size):
        return STRANGER.sign(super().note(log, size).rpartition("\n\n")[0] + "\n")


def test_a_log_s_checkpoint_is_no_signature_of_a_manifest(folder, drawn):
    # Of a campaign called "publications", whose log would be called as the campaign is.
    digest = sha256((folder / "manifest.json").read_bytes()).digest()
    for log in ("spring", "spring/manifest"):
        checkpoint = Checkpoint(f"{SIGNER.name}/publications/{log}", 3, digest)
        (folder / "manifest.sig").write_text(SIGNER.sign(checkpoint.text()))
        # A campaign's id has no slash, and a log is called votes or rulings.
        assert checked(folder).ok is (log == "spring/manifest")


def test_a_key_file_and_a_key_say_the_same(folder, tmp_path):
    (tmp_path / "key").write_text(f"{SIGNER.verifier}\n")
    assert key_from(str(tmp_path / "key")) == key_from(str(SIGNER.verifier))
    for wrong in ("", "dianzan", "dianzan+00000000+AAAA", str(SIGNER.verifier)[:-1] + "x"):
        with pytest.raises(NoPublication):
            key_from(wrong)


# Signed, and wrong all the same: whoever holds the key cannot publish what does not add up.


def publish_changed(folder, drawn, *, tally=None, decisions=None, files=None, notes=None):
    content = drawn.content()
    content = Content(
        tally=json.loads(json.dumps(content.tally)),
        decisions=json.loads(json.dumps(content.decisions)),
        rules=content.rules,
        previous=content.previous,
        notes={**content.notes, **(notes or {})},
    )
    if tally:
        tally(content.tally)
    if decisions:
        decisions(content.decisions)
    made = make_files(content, drawn.checkpoints(), SIGNER)
    if files:
        made = signed_anew(replace(made, files={**made.files, **files(made.files)}))
    write_files(folder, made.files)


def signed_anew(made):
    """With a manifest and signature of its own."""
    from tally.publishing.publication_files import _listed, sign_manifest

    manifest = json.loads(made.files["manifest.json"])
    manifest["files"] = {
        name: _listed(content)
        for name, content in made.files.items()
        if name not in ("manifest.json", "manifest.sig")
    }
    packed = canonical(manifest)
    signature = sign_manifest(SIGNER, "publications/spring/manifest", 3, packed)
    return replace(made, files={**made.files, "manifest.json": packed, "manifest.sig": signature})


def _shift(tally, of, by, kind, amount=1):
    tally["candidates"][of][kind] += amount
    tally["candidates"][by][kind] -= amount


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("tally", lambda t: t.update(counted=t["counted"] + 1)),
        ("tally", lambda t: t.update(received=t["received"] + 1)),
        ("tally", lambda t: t["candidates"][0].update(counted=t["candidates"][0]["counted"] + 1)),
        ("tally", lambda t: t["candidates"][0].update(rank=2)),
        ("tally", lambda t: t["candidates"][0].update(share_ppm=1)),
        ("tally", lambda t: t["candidates"].reverse()),
        ("tally", lambda t: t["candidates"].pop()),
        ("tally", lambda t: t["candidates"][0].update(counted=True)),
        ("tally", lambda t: t["candidates"][0].update(held=-1)),
        ("tally", lambda t: t["candidates"][0].update(id=t["candidates"][1]["id"])),
        ("tally", lambda t: t.update(refused_by_reason={})),
        ("tally", lambda t: t["logs"]["votes"].update(size=1)),
        ("tally", lambda t: t.update(format="dianzan-tally-2")),
        ("checkpoints", lambda t: t["logs"]["votes"].update(root="A" * 44)),
        ("checkpoints", lambda t: t["logs"]["rulings"].update(size=10_000)),
        ("checkpoints", lambda t: t["logs"]["votes"].update(origin="dianzan-test/summer/votes")),
    ],
)
def test_a_signed_tally_that_does_not_add_up_fails(tmp_path, drawn, check, change):
    publish_changed(tmp_path, drawn, tally=change)
    assert check in checked(tmp_path).failed, checked(tmp_path).as_text()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop(),
        lambda d: d.reverse(),
        lambda d: d[0].update(moved=d[0]["moved"] + 1),
        lambda d: d[0]["candidates"][0].update(struck=d[0]["candidates"][0]["struck"] + 1),
    ],
)
def test_signed_decisions_that_do_not_make_the_tally_fail(tmp_path, drawn, change):
    publish_changed(tmp_path, drawn, decisions=change)
    report = checked(tmp_path)
    assert not report.ok


def edited(change):
    """A JSON file with a change in it."""

    def edit(content):
        value = json.loads(content)
        change(value)
        return canonical(value)

    return edit


@pytest.mark.parametrize(
    ("check", "name", "change"),
    [
        ("tally", "tally.json", edited(lambda t: t["candidates"][0].pop("held"))),
        ("tally", "tally.json", edited(lambda t: t["candidates"].append("nobody"))),
        ("tally", "tally.json", edited(lambda t: t.update(candidates=None))),
        ("tally", "tally.json", edited(lambda t: t.update(number=4))),
        ("decisions", "decisions.json", edited(lambda d: d["decisions"][0].update(action="x"))),
        ("decisions", "decisions.json", edited(lambda d: d.pop("decisions"))),
        ("tables", "tally.csv", lambda b: b.replace(b"'-2", b"-2")),
        ("tables", "tally.csv", lambda b: b.replace(b",25,", b",26,")),
        ("tables", "tally.csv", lambda b: b[3:]),
        ("decisions", "decisions.csv", lambda b: b + b"5,,,,,,,\r\n"),
        ("what-if", "what_if.json", lambda b: b.replace(b'"changes":[{', b'"changes":[{"x":1},{')),
        ("tally", "tally.json", lambda b: b.replace(b'"held":', b'"held": ')),
        ("tally", "tally.json", lambda b: b'{"campaign":"spring",' + b[1:]),
        ("tally", "tally.json", lambda b: b"[" * 100_000),
        ("tally", "rules.json", lambda b: b[:-1] + b',"x":1.5}'),
        ("signature", "verifier.key", lambda b: f"{STRANGER.verifier}\n".encode()),
        ("checkpoints", "checkpoints/votes/000000000064.checkpoint", lambda b: b"\n" + b),
    ],
)  # fmt: skip
def test_signed_files_that_say_different_things_fail(tmp_path, drawn, check, name, change):
    publish_changed(tmp_path, drawn, files=lambda files: {name: change(files[name])})
    report = checked(tmp_path)
    assert check in report.failed, report.as_text()


def workbook_with(**parts):
    """The same workbook with parts of it made anew."""

    def change(files):
        packed = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(files["tally.xlsx"])) as old,
            zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for name in old.namelist():
                change = parts.get(Path(name).stem, lambda xml: xml)
                new.writestr(name, change(old.read(name)))
        return {"tally.xlsx": packed.getvalue()}

    return change


BOMB = (
    b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 100 + b'">'
    + b"".join(
        b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 100) for n in range(8)
    )
    + b"]>"
)  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"sheet1": lambda xml: xml.replace(b"<v>25</v>", b"<v>26</v>")}, "does not say"),
        (
            {"sheet1": lambda xml: xml.replace(b"<v>25</v>", b"<f>24+1</f><v>25</v>")},
            "holds a formula",
        ),
        ({"sheet2": lambda xml: xml.replace(b"<v>3</v>", b"<v>4</v>")}, "does not say"),
        (
            {"sheet1": lambda xml: xml.replace(b"<worksheet", BOMB + b"<worksheet")},
            "declares a type",
        ),
        ({"sheet1": lambda xml: xml + b" " * (65 << 20)}, "too large"),
        ({"sharedStrings": lambda xml: xml[:-40]}, "cannot be read"),
        ({"sheet1": lambda xml: xml.replace(b'r="A2"', b'r="ZZ2"')}, "not in their place"),
        # Shown, and not where numbers and texts are.
        (
            {
                "sheet1": lambda xml: xml.replace(
                    b"</row>", b'<c r="N1" t="inlineStr"><is><t>x</t></is></c></row>', 1
                )
            },
            "neither a number nor a text",
        ),
        ({"sheet1": lambda xml: xml.replace(b'r="A2" ', b'r="A2" t="b" ')}, "neither a number"),
        (
            {
                "workbook.xml": lambda xml: xml.replace(
                    b"worksheets/sheet1.xml", b"worksheets/../theme/theme1.xml"
                )
            },
            "shows other sheets",
        ),
    ],
)
def test_a_signed_workbook_that_lies_or_attacks_fails_at_once(tmp_path, drawn, parts, says):
    publish_changed(tmp_path, drawn, files=workbook_with(**parts))
    check, why = only_failure(tmp_path)
    assert check == "tables"
    assert says in why


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda packed: packed.replace(b"xl/styles.xml", b"xl/sheet9.xml"), "nothing else"),
        (lambda packed: _marked(packed, b"PK\1\2", 8), "cannot be read"),
        (lambda packed: _garbled(packed, b"xl/worksheets/sheet1.xml"), "cannot be read"),
    ],
)
def test_a_workbook_of_other_or_unreadable_parts_fails(tmp_path, drawn, change, says):
    publish_changed(
        tmp_path, drawn, files=lambda files: {"tally.xlsx": change(files["tally.xlsx"])}
    )
    check, why = only_failure(tmp_path)
    assert check == "tables"
    assert says in why


def _marked(packed, header, at):
    """Every part said to be enciphered."""
    first, *parts = packed.split(header)
    at -= len(header)
    marked = [part[:at] + bytes((part[at] | 1,)) + part[at + 1 :] for part in parts]
    return header.join([first, *marked])


def _garbled(packed, name):
    """A part that is no compressed data."""
    at = packed.index(name) + len(name)
    return packed[:at] + b"\xff" * 40 + packed[at + 40 :]


def test_a_workbook_that_is_no_zip_fails(tmp_path, drawn):
    publish_changed(tmp_path, drawn, files=lambda files: {"tally.xlsx": b"PK\3\4" + bytes(100)})
    assert only_failure(tmp_path)[0] == "tables"


@pytest.mark.parametrize("log", ["votes", "rulings"])
def test_a_checkpoint_of_another_root_fails(tmp_path, drawn, log):
    other = DrawnCampaign(seed=99)
    other.rulings = other.rulings[: len(drawn.rulings)]
    publish_changed(
        tmp_path,
        drawn,
        notes={log: other.note(log, len(getattr(drawn, {"votes": "records"}.get(log, log))))},
    )
    assert "checkpoints" in checked(tmp_path).failed


class Forged(DrawnCampaign):
    """A log whose publication is signed as it should be, with a change in it."""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        # Another candidate behind a leaf: the leaf is another.
        (lambda d: d.openings.__setitem__(5, _other_candidate(d.openings[5])), "root"),
        (lambda d: d.openings.__setitem__(5, d.openings[6]), "twice"),
        (lambda d: d.openings.reverse(), "out of order"),
        (lambda d: d.openings.pop(), "as many leaves"),
        (lambda d: d.rulings.pop(), "as many leaves"),
        (lambda d: _move(d, 0, state=4), "by no decision"),
        (lambda d: _move(d, -1, leaf=10_000), "not in the log"),
        (lambda d: _move(d, -1, decision=77), "decision 77"),
        (lambda d: _move(d, -1, rules=9), "not as published"),
        (lambda d: _move(d, 0, at_ms=5), "root"),
        (lambda d: _move(d, -1, at_ms=5), "not as published"),
        (lambda d: _move(d, -1, role=0), "not as published"),
        (lambda d: d.rulings.__setitem__(slice(-2, None), d.rulings[:-3:-1]), "root"),
    ],
)
def test_a_log_that_is_not_the_signed_one_fails(tmp_path, change, says):
    drawn = Forged(seed=4)
    content = drawn.content()
    kept = drawn.checkpoints()
    drawn.checkpoints = lambda: kept
    change(drawn)
    drawn.publish(tmp_path, content=content)
    check, why = only_failure(tmp_path)
    assert check == "log"
    assert says in why


def _other_candidate(opening):
    return opening[:9] + bytes((opening[9] % 9 + 1,)) + opening[10:]


def _move(drawn, at, **fields):
    drawn.rulings[at] = drawn.rulings[at]._replace(**fields)


def test_a_log_that_counts_otherwise_than_the_tally_fails(tmp_path, drawn):
    def swap(tally):
        # Two votes change places, and all sums stay: only the log can tell.
        first, second = tally["candidates"][-2], tally["candidates"][-3]
        for each, by in ((first, 1), (second, -1)):
            each["held"] += by
            each["received"] += by

    content = drawn.content()
    tally = json.loads(json.dumps(content.tally))
    swap(tally)
    drawn.publish(tmp_path, content=replace(content, tally=tally))
    check, why = only_failure(tmp_path)
    assert check == "log"
    assert "by the log" in why


def rule(drawn, leaf, action):
    """One more decision, on one vote."""
    number, was, state = len(drawn.decisions) + 1, drawn.states[leaf], {"release": 0, "strike": 4}
    moved = Counter({was: -1, state[action]: 1})
    drawn.states[leaf] = state[action]
    drawn.rulings.append(Ruling(leaf, state[action], number, 3, 1_783_224_000_000, Role.PERSON))
    drawn.decisions.append(
        {
            "number": number, "at": "2026-07-05T12:00:00.000+08:00", "action": action,
            "reason": "机型太集中", "role": "person", "rules": 3, "votes": 1, "moved": 1,
            "candidates": [
                {
                    "id": f"c{drawn.votes[leaf][1]:03}",
                    "counted": moved[0], "held": moved[2], "struck": moved[4],
                }
            ],
        }
    )  # fmt: skip


def test_a_log_whose_decisions_moved_others_than_was_published_fails(tmp_path):
    drawn = DrawnCampaign(decisions=0)
    first = drawn.states.index(0)
    for leaf in (first, next(n for n in range(300) if drawn.votes[n][1] != drawn.votes[first][1])):
        rule(drawn, leaf, "strike")
    drawn.publish(tmp_path / "true")
    assert checked(tmp_path / "true").ok, checked(tmp_path / "true").as_text()
    # All sums stay: whom each of the two decisions struck is all that is untrue.
    one, two = drawn.decisions
    one["candidates"], two["candidates"] = two["candidates"], one["candidates"]
    drawn.publish(tmp_path / "untrue")
    assert only_failure(tmp_path / "untrue") == (
        "log",
        "log/rulings.bin: decision 1 moved other votes",
    )


def test_a_log_in_which_a_verdict_comes_after_a_decision_fails(tmp_path):
    drawn = DrawnCampaign(decisions=0)
    leaf = drawn.states.index(2)
    rule(drawn, leaf, "release")
    # Published as released, and held again by nobody.
    drawn.rulings.append(Ruling(leaf, 2, 0, 3, 1, Role.VERDICT))
    drawn.states[leaf] = 2
    drawn.publish(tmp_path)
    check, why = only_failure(tmp_path)
    assert check == "log"
    assert "by no decision" in why


def test_a_log_whose_decisions_are_not_in_their_order_fails(tmp_path):
    drawn = DrawnCampaign(decisions=0)
    for leaf in (0, 1):
        rule(drawn, leaf, "strike")
    drawn.rulings[-2:] = drawn.rulings[:-3:-1]
    drawn.publish(tmp_path)
    check, why = only_failure(tmp_path)
    assert check == "log"
    assert "not in its place" in why


def test_a_seal_says_where_the_journal_ended(tmp_path, drawn):
    closing = {"shard": 0, "entry": "1-1", "at": "2026-07-05T20:00:00.000+08:00"}
    drawn.publish(tmp_path / "sealed", content=drawn.content(kind="final", closings=[closing]))
    assert checked(tmp_path / "sealed").ok
    drawn.publish(tmp_path / "open", content=drawn.content(kind="final", closings=[]))
    assert only_failure(tmp_path / "open")[0] == "tally"


@pytest.mark.parametrize(
    "previous",
    [
        None,
        {"number": 1, "manifest": "ab" * 32},
        {"number": 3, "manifest": "ab" * 32},
        {"number": 2, "manifest": "ab"},
        {"number": 2},
    ],
)
def test_a_publication_that_does_not_name_the_one_before_fails(tmp_path, drawn, previous):
    drawn.publish(tmp_path, content=replace(drawn.content(number=3), previous=previous))
    assert only_failure(tmp_path)[0] == "manifest"


def test_the_first_publication_has_none_before_it(tmp_path, drawn):
    first = drawn.content(number=1)
    drawn.publish(tmp_path / "first", content=replace(first, previous=None))
    assert checked(tmp_path / "first").ok
    drawn.publish(tmp_path / "second", content=first)
    assert only_failure(tmp_path / "second")[0] == "manifest"


def test_what_a_folder_says_of_itself_cannot_write_on_the_terminal(folder):
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["x\x1b[2J\x1b[Hspring: everything holds"] = {}
    (folder / "manifest.json").write_bytes(canonical(manifest))
    (folder / "\x1b[2J").touch()
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).touch()
    report = checked(folder)
    assert not report.ok
    assert "\x1b" not in report.as_text()
    report.as_text().encode()  # a name that is no UTF-8 can be shown too
    assert "\x1b" not in "".join(report.failed.values())


def test_a_manifest_of_any_size_does_not_fill_the_memory(folder, monkeypatch):
    monkeypatch.setattr(verify, "MANIFEST_MAX_BYTES", 1 << 20)
    (folder / "manifest.json").write_bytes(b"[" + b"[]," * (1 << 20) + b"[]]")
    assert "larger than 1 MiB" in checked(folder).failed["manifest"]


def test_the_log_of_another_publication_fails(folder, drawn, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    drawn.publish(other, content=drawn.content(number=4))
    shutil.rmtree(folder / "log")
    shutil.copytree(other / "log", folder / "log")
    assert only_failure(folder)[0] == "log"


def test_many_leaves_are_counted_by_several_processes_to_the_same_end(tmp_path, drawn, monkeypatch):
    drawn.publish(tmp_path)
    monkeypatch.setattr(verify, "CHUNK_LEAVES", 16)
    assert checked(tmp_path).ok, checked(tmp_path).as_text()
    monkeypatch.setattr(verify, "_ALONE_BELOW_LEAVES", 0)
    assert checked(tmp_path).ok, checked(tmp_path).as_text()


# As a program.


def run_file(*arguments, cwd):
    """verify.py alone, far from everything else of ours."""
    program = cwd / "verify.py"
    shutil.copy(verify.__file__, program)
    command = [sys.executable, "-I", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_the_file_alone_is_a_program(published, tmp_path):
    done = run_file(str(published), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True


def test_it_imports_nothing_but_the_standard_library_and_cryptography():
    code = (
        f"import runpy, sys; runpy.run_path({verify.__file__!r})\n"
        "print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    foreign = set(done.stdout.splitlines()[-1].split())
    assert "cryptography" in foreign
    assert not foreign & {"tally", "voting", "antifraud", "deploy"}


def test_it_says_which_check_fails_and_exits_with_1(folder, tmp_path):
    (folder / "tally.csv").write_text("x")
    done = run_file(str(folder), cwd=tmp_path)
    assert done.returncode == 1
    assert "files        FAILED: not as they were signed: tally.csv" in done.stdout


def test_where_there_is_no_publication_it_exits_with_2(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    (folder / "manifest.json").unlink()
    for name in ("empty", "nowhere", "verify.py", folder.name):
        done = run_file(str(tmp_path / name), cwd=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert "is no published folder" in line


def test_a_folder_without_a_manifest_is_not_walked(tmp_path, monkeypatch):
    def walk(_):
        raise AssertionError

    monkeypatch.setattr(verify.os, "scandir", walk)
    with pytest.raises(NoPublication, match="is no published folder"):
        checked(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_it_may_not_read_is_said_and_exits_with_2(folder, tmp_path):
    (folder / "tally.json").chmod(stat.S_IWUSR)
    assert run_file(str(folder), cwd=tmp_path).returncode == 2


def test_a_wrong_key_on_the_command_line_exits_with_2(published, tmp_path):
    done = run_file(str(published), "--key", "nonsense", cwd=tmp_path)
    assert done.returncode == 2
    assert "verifier key" in done.stderr
