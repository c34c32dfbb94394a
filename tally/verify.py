"""Checks a published folder, without network or database and without the program that made it.

    python verify.py FOLDER [--key FILE-OR-KEY] [--json]        or: dianzan verify FOLDER ...

One file, on Python 3.11 or newer with `cryptography`; it imports nothing else of ours and shares no
code with what writes publications, so that a mistake there is not repeated here. It may be handed
to whoever wants to check.

What is checked, in this order:

    manifest      its form, that it is canonical JSON (RFC 8785), and that it names the one before
    signature     manifest.sig signs the manifest, by the given key or by the one in the folder
    files         each file of the manifest is there with its size and SHA-256, and no other
    tally         received = counted + held + struck + refused, for each candidate and in all; ranks
                  and shares follow from the counts; the votes' log holds as many leaves as there
                  are votes; a seal says where the journal ended
    what-if       the ranks that change if held votes counted
    decisions     what they struck is what is struck; decisions.csv says the same
    tables        tally.csv and tally.xlsx say what tally.json says
    checkpoints   each is signed by the same key; sizes and roots are those of the tally
    log           (with log/) manifest and signature of its own; both Merkle roots, and those of all
                  checkpoints, worked out again from every leaf; each candidate recounted, and what
                  each decision moved of whom, when and by whom

Every form is strict: what is read is written again and compared byte for byte, so that no bit of
any file can be other than it was signed.

What it cannot tell: whether those who liked may like, whether a like was kept off the service,
whether the publication before is the one that you were given (compare `previous` with its
manifest's SHA-256), and, without `--key`, whose key it is that signed. Of the workbook it reads the
cells, not how they are shown; README.txt is for people, and not read. It tells that what was
recorded is what was counted.

Exit codes: 0 everything holds; 1 something does not (it says what); 2 there is no publication to
look at, or it cannot be read.
"""

import argparse
import base64
import binascii
import contextlib
import csv
import hashlib
import io
import itertools
import json
import multiprocessing
import operator
import os
import re
import stat
import struct
import sys
import zipfile
import zlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MEMORY_MAX_BYTES = 64 << 20
"""Of a file that is read at once, also of one in a workbook; those of log/ are read in pieces."""
MANIFEST_MAX_BYTES = 16 << 20
"""Of a manifest, which is read before anybody's signature is."""
FILES_MAX = 100_000
CHUNK_LEAVES = 1 << 16
PROCESSES = 2
_ALONE_BELOW_LEAVES = 4 * CHUNK_LEAVES
"""So few that starting processes takes longer."""

_INTEGER_MAX = 2**53 - 1
_MANIFEST, _SIGNATURE, _KEY = "manifest.json", "manifest.sig", "verifier.key"
_LOG_FILES = ("log/openings.bin", "log/rulings.bin")
_LOG_OWN = ("log/manifest.json", "log/manifest.sig")
_ALWAYS = frozenset(
    {
        "README.txt",
        "decisions.csv",
        "decisions.json",
        "rules.json",
        "rulings.checkpoint",
        "tally.csv",
        "tally.json",
        "tally.xlsx",
        "votes.checkpoint",
        "what_if.json",
        _KEY,
    }
)
_CHECKPOINT_FILE = re.compile(r"checkpoints/(votes|rulings)/(\d{12})\.checkpoint", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOGS = ("votes", "rulings")

_OPENING_BYTES = 36
_RULING = struct.Struct(">BQBIIQB")
_VOTE_RECORD_VERSION, _RULING_VERSION = 1, 1
_COUNTED, _HELD, _STRUCK = 0, 2, 4
_BY_VERDICT = 0
_LEADS_TO = {"release": _COUNTED, "hold": _HELD, "strike": _STRUCK}
_ROLE_NUMBERS = {"watch": 1, "person": 2}
_SEALS = ("close", "final")
_CAMPAIGNS_MAX = 1 << 16
_EMPTY_ROOT = sha256(b"").digest()


class Failed(Exception):
    """Something does not hold; the message says what."""


class NoPublication(Exception):
    """There is nothing to check, or it cannot be read."""


# Canonical JSON.


def canonical(value: Any) -> bytes:
    """RFC 8785, for values without fractions."""
    if value is None or isinstance(value, bool):
        return {None: b"null", True: b"true", False: b"false"}[value]
    if isinstance(value, int):
        if abs(value) > _INTEGER_MAX:
            raise Failed("a number is too large")
        return b"%d" % value
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).encode()
    if isinstance(value, list):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
    return b"{" + b",".join(canonical(k) + b":" + canonical(v) for k, v in members) + b"}"


def read_json(name: str, content: bytes) -> dict[str, Any]:
    """An object in canonical form, or Failed."""

    def no_fraction(text: str) -> Any:
        raise Failed(f"{name}: the number {text[:20]} is no integer")

    try:
        value = json.loads(content.decode(), parse_float=no_fraction, parse_constant=no_fraction)
        same = isinstance(value, dict) and canonical(value) == content
    except (ValueError, RecursionError):  # no JSON, no UTF-8, half of a surrogate pair
        raise Failed(f"{name} is not JSON") from None
    if not same:
        raise Failed(f"{name} is not canonical JSON (RFC 8785)")
    return dict(value)


# Keys and signed notes (https://c2sp.org/signed-note).


@dataclass(frozen=True)
class Key:
    """What a signature is checked by."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        return sha256(self.name.encode() + b"\n\x01" + self.public).digest()[:4]

    @property
    def fingerprint(self) -> str:
        return sha256(self.public).hexdigest()

    def __str__(self) -> str:
        kind_and_key = base64.b64encode(b"\1" + self.public).decode()
        return f"{self.name}+{self.id.hex()}+{kind_and_key}"


def read_key(text: str) -> Key:
    """A verifier key's line; ValueError where it is none, or was not copied whole."""
    name, _, rest = text.partition("+")
    try:
        kind_and_key = base64.b64decode(rest.partition("+")[2], validate=True)
    except binascii.Error:
        raise ValueError("this is no verifier key") from None
    key = Key(name, kind_and_key[1:])
    if not name or re.search(r"\s", name) or len(kind_and_key) != 33 or str(key) != text:
        raise ValueError("this is no verifier key, or one that was damaged")
    return key


def open_note(name: str, content: bytes, key: Key) -> str:
    """The text that this key, and nobody else, signed in exactly this form; or Failed."""
    try:
        note = content.decode()
        text, _, signature = note.rpartition("\n\n")
        dash, who, encoded = signature.removesuffix("\n").split(" ")
        id_and_signature = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise Failed(f"{name} is no note with one signature") from None
    text += "\n"
    again = f"{text}\n{dash} {who} {base64.b64encode(id_and_signature).decode()}\n"
    if dash != "—" or again != note or len(id_and_signature) != 68:
        raise Failed(f"{name} is no note with one signature")
    if who != key.name or id_and_signature[:4] != key.id:
        raise Failed(f"{name} is signed by another key than {key.name}")
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(id_and_signature[4:], text.encode())
    except InvalidSignature:
        raise Failed(f"{name}: the signature is wrong") from None
    return text


class Checkpoint(NamedTuple):
    """A log's size and root, as somebody signed them (https://c2sp.org/tlog-checkpoint)."""

    origin: str
    size: int
    root: bytes


def read_checkpoint(name: str, content: bytes, key: Key) -> Checkpoint:
    lines = open_note(name, content, key).split("\n")
    try:
        origin, size, root = lines[:3]
        found = Checkpoint(origin, int(size), base64.b64decode(root, validate=True))
    except ValueError:
        raise Failed(f"{name} is no checkpoint") from None
    strict = str(found.size) == size and base64.b64encode(found.root).decode() == root
    if not strict or found.size < 0 or len(found.root) != 32 or not origin:
        raise Failed(f"{name} is no checkpoint")
    return found


# The folder.


class Folder:
    """A published folder. Follows no link, reads nothing but ordinary files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            if not os.path.lexists(root / _MANIFEST):
                # At once: whoever mistook a folder does not wait until all of it was walked.
                raise NoPublication(f"{root} is no published folder: it has no {_MANIFEST}")
            self.files, self.folders = self._walk()
        except OSError as why:
            raise NoPublication(f"{root} cannot be read: {why.strerror}") from None

    def _walk(self) -> tuple[set[str], set[str]]:
        """All names in it: of ordinary files, and of everything else."""
        files: set[str] = set()
        folders: set[str] = set()
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    mode = entry.stat(follow_symlinks=False).st_mode
                    if stat.S_ISREG(mode):
                        files.add(name)
                    elif stat.S_ISDIR(mode):
                        folders.add(name)
                        waiting.append(name)
                    else:
                        raise Failed(f"{name!r} is neither a file nor a folder (a link?)")
                    if len(files) + len(folders) > FILES_MAX:
                        raise Failed(f"the folder holds more than {FILES_MAX} files")
        return files, folders

    def open(self, name: str) -> io.BufferedReader:
        if name not in self.files:
            raise Failed(f"{name} is missing")
        try:
            descriptor = os.open(self.root / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            return open(descriptor, "rb")  # noqa: PTH123
        except OSError as why:
            raise NoPublication(f"{name} cannot be read: {why.strerror}") from None

    def read(self, name: str) -> bytes:
        """All of a file."""
        limit = MANIFEST_MAX_BYTES if name == _MANIFEST else MEMORY_MAX_BYTES
        with self.open(name) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise Failed(f"{name} is larger than {limit >> 20} MiB")
        return content

    def digest(self, name: str) -> tuple[int, str]:
        """(size, SHA-256) of a file of any size."""
        with self.open(name) as file:
            hashed = hashlib.file_digest(file, "sha256")
            return file.tell(), hashed.hexdigest()


@dataclass
class Known:
    """What the checks before have made sure of."""

    folder: Folder
    key: Key | None
    """The given one; None until the folder's own was read."""
    key_given: bool
    manifest: dict[str, Any] = field(default_factory=dict)
    json: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> object of each JSON file that was read."""

    @property
    def tally(self) -> dict[str, Any]:
        return self.read("tally.json")

    @property
    def signed_by(self) -> Key:
        if self.key is None:
            raise Failed("there is no key to check by")
        return self.key

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of this very publication."""
        if name not in self.json:
            found = read_json(name, self.folder.read(name))
            for word in ("campaign", "number"):
                if found.get(word) != self.manifest.get(word):
                    raise Failed(f"{name} is of another publication: its {word} differs")
            self.json[name] = found
        return self.json[name]


# What is checked.


def check_manifest(known: Known) -> None:
    manifest = known.manifest = read_json(_MANIFEST, known.folder.read(_MANIFEST))
    files = manifest["files"]
    if manifest["format"] != "dianzan-publication-1":
        raise Failed(f"{_MANIFEST} is of a format that this program does not know")
    if not isinstance(manifest["campaign"], str) or _count(manifest["number"]) < 1:
        raise Failed(f"{_MANIFEST} does not say which publication it is of")
    unknown = {name for name in files if not _CHECKPOINT_FILE.fullmatch(name)} - _ALWAYS
    missing = _ALWAYS - files.keys()
    if unknown or missing:
        raise Failed(
            f"{_MANIFEST} does not list what a publication holds: {_names(unknown | missing)}"
        )
    before, number = manifest["previous"], manifest["number"]
    if (before is None) != (number == 1) or (
        before is not None
        and (before["number"] != number - 1 or not _SHA256.fullmatch(before["manifest"]))
    ):
        raise Failed(f"{_MANIFEST} does not name the publication before it")


def check_signature(known: Known) -> None:
    if known.key is None:
        known.key = _key_of_folder(known.folder)
    manifest = known.folder.read(_MANIFEST)
    campaign, number = known.manifest["campaign"], known.manifest["number"]
    _check_signed(known, _SIGNATURE, f"publications/{campaign}/manifest", number, manifest)
    own = _key_of_folder(known.folder)
    if own != known.key:
        raise Failed(f"{_KEY} holds another key than the one that signed")


def check_files(known: Known) -> None:
    folder, listed = known.folder, known.manifest["files"]
    wanted = {*listed, _MANIFEST, _SIGNATURE}
    if "log" in folder.folders:
        wanted |= {*_LOG_FILES, *_LOG_OWN}
    _check_names(folder, wanted)
    _check_digests(folder, "", listed)


def check_tally(known: Known) -> None:
    tally = known.tally
    if tally["format"] != "dianzan-tally-1":
        raise Failed("tally.json is of a format that this program does not know")
    known.read("rules.json")
    for word in ("kind", "as_of"):
        if tally[word] != known.manifest[word]:
            raise Failed(f"tally.json and {_MANIFEST} differ in {word}")
    candidates = tally["candidates"]
    for name, who in [*((each["id"], each) for each in candidates), ("the whole tally", tally)]:
        parts = [_count(who[kind]) for kind in ("counted", "held", "struck", "refused")]
        if _count(who["received"]) != sum(parts):
            raise Failed(f"{name}: received is not counted + held + struck + refused")
    for kind in ("received", "counted", "held", "struck", "refused"):
        if sum(each[kind] for each in candidates) != tally[kind]:
            raise Failed(f"the candidates' {kind} do not add up to the whole tally's")
    if sum(map(_count, tally["refused_by_reason"].values())) != tally["refused"]:
        raise Failed("the reasons of refusal do not add up to refused")
    if tally["logs"]["votes"]["size"] != tally["received"] - tally["refused"]:
        raise Failed("the votes' log does not hold as many leaves as there are votes")
    if tally["kind"] in _SEALS and not tally["closings"]:
        raise Failed("it is a seal, and does not say where the journal ended")
    _check_order(tally)


def _check_order(tally: dict[str, Any]) -> None:
    """Ranks, order and shares, and that nobody is named twice."""
    candidates = tally["candidates"]
    for word in ("id", "number"):
        if len({each[word] for each in candidates}) != len(candidates):
            raise Failed(f"two candidates have the same {word}")
    wanted = sorted(candidates, key=_listed_order)
    if wanted != candidates:
        raise Failed("the candidates are not in the order of their ranks")
    ranks = _ranks(candidates, lambda each: int(each["counted"]))
    for each in candidates:
        if each["rank"] != ranks.get(each["number"]):
            raise Failed(f"{each['id']}: rank {each['rank']} does not follow from the counts")
        if each["share_ppm"] != _share_ppm(each["counted"], tally["counted"]):
            raise Failed(f"{each['id']}: the share does not follow from the counts")


def check_what_if(known: Known) -> None:
    what_if = known.read("what_if.json")
    candidates = known.tally["candidates"]
    now = _ranks(candidates, lambda each: int(each["counted"]))
    then = _ranks(candidates, lambda each: int(each["counted"] + each["held"]))
    wanted = [
        {
            "id": each["id"],
            "number": each["number"],
            "counted": each["counted"],
            "held": each["held"],
            "rank": now[each["number"]],
            "rank_if_held_counted": then[each["number"]],
        }
        for each in candidates
        if now.get(each["number"]) != then.get(each["number"])
    ]
    wanted.sort(key=lambda change: (change["rank_if_held_counted"], change["number"]))
    if what_if["changes"] != wanted:
        raise Failed("what_if.json does not follow from the tally")


def check_decisions(known: Known) -> None:
    decisions = known.read("decisions.json")["decisions"]
    struck: Counter[str] = Counter()
    moved_in_all = 0
    for before, decision in itertools.pairwise([{"number": 0}, *decisions]):
        name = f"decision {decision['number']}"
        if decision["number"] <= before["number"]:
            raise Failed(f"{name} is not in its place")
        state = _LEADS_TO.get(decision["action"])
        if state is None:
            raise Failed(f"{name}: {decision['action']!r} is no decision")
        sums: Counter[int] = Counter()
        for candidate in decision["candidates"]:
            kinds = [candidate[kind] for kind in ("counted", "held", "struck")]
            if sum(kinds) != 0:
                raise Failed(f"{name} makes votes out of nothing")
            sums.update(dict(zip((_COUNTED, _HELD, _STRUCK), kinds, strict=True)))
            struck[candidate["id"]] += candidate["struck"]
        if sums[state] != _count(decision["moved"]) or decision["moved"] > decision["votes"]:
            raise Failed(f"{name} does not say what it moved")
        moved_in_all += decision["moved"]
    for each in known.tally["candidates"]:
        if struck.pop(each["id"], 0) != each["struck"]:
            raise Failed(f"{each['id']}: what decisions struck is not what is struck")
    if any(struck.values()):
        raise Failed("decisions struck votes of candidates that are not in the tally")
    if known.tally["logs"]["rulings"]["size"] < moved_in_all:
        raise Failed("the rulings' log holds less than the decisions moved")
    if _read_csv(known.folder, "decisions.csv") != _texts(_decision_rows(decisions)):
        raise Failed("decisions.csv does not say what decisions.json says")


def check_tables(known: Known) -> None:
    rows = _tally_rows(known.tally)
    if _read_csv(known.folder, "tally.csv") != _texts(rows):
        raise Failed("tally.csv does not say what tally.json says")
    table, summary = _read_workbook(known.folder.read("tally.xlsx"))
    if table != _cells(rows):
        raise Failed("tally.xlsx does not say what tally.json says")
    if summary != _cells(_summary_rows(known.tally)):
        raise Failed("the second sheet of tally.xlsx does not say what tally.json says")


def check_checkpoints(known: Known) -> None:
    logs = known.tally["logs"]
    kept: dict[str, dict[int, Checkpoint]] = {"votes": {}, "rulings": {}}
    for log in _LOGS:
        name = f"{log}.checkpoint"
        found = read_checkpoint(name, known.folder.read(name), known.signed_by)
        wanted = logs[log]
        origin = f"{known.signed_by.name}/{known.manifest['campaign']}/{log}"
        if found.origin != origin or wanted["origin"] != origin:
            raise Failed(f"{name} is of another log")
        root = base64.b64encode(found.root).decode()
        if (found.size, root) != (_count(wanted["size"]), wanted["root"]):
            raise Failed(f"{name} and tally.json differ in size or root")
        if found.size == 0 and found.root != _EMPTY_ROOT:
            raise Failed(f"{name}: an empty log has another root")
        kept[log][found.size] = found
    for name in sorted(known.manifest["files"]):
        if (match := _CHECKPOINT_FILE.fullmatch(name)) is None:
            continue
        log, size = match[1], int(match[2])
        found = read_checkpoint(name, known.folder.read(name), known.signed_by)
        if found.origin != logs[log]["origin"] or found.size != size:
            raise Failed(f"{name} is of another log or size")
        if size > logs[log]["size"] or kept[log].setdefault(size, found) != found:
            raise Failed(f"{name} contradicts {log}.checkpoint")


CHECKS: tuple[tuple[str, Callable[[Known], None]], ...] = (
    ("manifest", check_manifest),
    ("signature", check_signature),
    ("files", check_files),
    # Below this line nothing is read that was not signed.
    ("tally", check_tally),
    ("what-if", check_what_if),
    ("decisions", check_decisions),
    ("tables", check_tables),
    ("checkpoints", check_checkpoints),
)
_FIRST = 3
"""So many must hold before the rest is looked at."""


def _check_signed(known: Known, signature: str, subject: str, number: int, manifest: bytes) -> None:
    key = known.signed_by
    digest = base64.b64encode(sha256(manifest).digest()).decode()
    text = open_note(signature, known.folder.read(signature), key)
    if text != f"{key.name}/{subject}\n{number}\n{digest}\n":
        raise Failed(f"{signature} signs another manifest")


def _key_of_folder(folder: Folder) -> Key:
    content = folder.read(_KEY)
    try:
        key = read_key(content.decode().removesuffix("\n"))
        if f"{key}\n".encode() != content:
            raise ValueError
    except ValueError:
        raise Failed(f"{_KEY} holds no verifier key") from None
    return key


def _check_names(folder: Folder, wanted: set[str]) -> None:
    extra = folder.files - wanted
    folders = {str(up) for name in wanted for up in Path(name).parents if str(up) != "."}
    extra |= folder.folders - folders
    if extra:
        raise Failed(f"not in the manifest: {_names(extra)}")
    if missing := wanted - folder.files:
        raise Failed(f"missing: {_names(missing)}")


def _check_digests(folder: Folder, within: str, listed: dict[str, Any]) -> None:
    wrong = set()
    for name, wanted in sorted(listed.items()):
        size, digest = folder.digest(within + name)
        if wanted != {"sha256": digest, "size": size}:
            wrong.add(within + name)
    if wrong:
        raise Failed(f"not as they were signed: {_names(wrong)}")


def _count(value: Any) -> int:
    """A number of votes."""
    if type(value) is not int or value < 0:
        raise Failed(f"{str(value)[:40]!r} is no count")
    return value


def _names(names: Iterable[str]) -> str:
    first, *more = sorted(names)
    shown = [first, *more[:9]]
    return ", ".join(shown) + (f" and {len(more) - 9} more" if len(more) > 9 else "")


# What follows from counts.


def _listed_order(each: dict[str, Any]) -> tuple[bool, int, int]:
    return each["withdrawn"], -each["counted"], each["number"]


def _ranks(candidates: list[dict[str, Any]], votes: Callable[[Any], int]) -> dict[int, int]:
    """Candidate number -> rank: one more than how many have more votes. Who was withdrawn has
    none."""
    standing = [each for each in candidates if not each["withdrawn"]]
    first: dict[int, int] = {}
    for place, n in enumerate(sorted(map(votes, standing), reverse=True), 1):
        first.setdefault(n, place)
    return {each["number"]: first[votes(each)] for each in standing}


def _share_ppm(counted: int, of: int) -> int:
    """Parts per million, halves rounded up; 0 of nothing."""
    return (2_000_000 * counted + of) // (2 * of) if of else 0


# Tables: what tally.csv, tally.xlsx and decisions.csv hold.

_KINDS = {
    "scheduled": "定时发布",
    "provisional": "临时发布（一人所为，非最终结果）",
    "close": "截止封存",
    "final": "最终结果（两人核准）",
}
_ACTIONS = {"hold": "搁置", "release": "放回", "strike": "剔除"}
_ROLES = {"watch": "规则自动", "person": "工作人员"}


@dataclass(frozen=True)
class Share:
    """A share as tables show it."""

    ppm: int

    def __str__(self) -> str:
        return f"{self.ppm // 10_000}.{self.ppm % 10_000:04}%"


_Row = list[str | int | Share]


def _tally_rows(tally: dict[str, Any]) -> list[_Row]:
    rows: list[_Row] = [
        [
            *("名次", "编号", "姓名", "工作单位", "推荐单位", "推荐渠道"),
            *("收到", "计入", "搁置", "剔除", "拒绝", "占比", "备注"),
        ]
    ]
    for each in tally["candidates"]:
        rows.append(
            [
                "" if each["rank"] is None else each["rank"],
                *(each[word] for word in ("id", "name", "organisation", "unit", "channel")),
                *(each[kind] for kind in ("received", "counted", "held", "struck", "refused")),
                Share(each["share_ppm"]),
                "已退出" if each["withdrawn"] else "",
            ]
        )
    return rows


def _summary_rows(tally: dict[str, Any]) -> list[_Row]:
    return [
        ["活动", tally["title"]],
        ["活动编号", tally["campaign"]],
        ["发布序号", tally["number"]],
        ["类型", _KINDS[tally["kind"]]],
        ["截至", tally["as_of"]],
        ["收到", tally["received"]],
        ["计入", tally["counted"]],
        ["搁置", tally["held"]],
        ["剔除", tally["struck"]],
        ["拒绝", tally["refused"]],
    ]


def _decision_rows(decisions: list[dict[str, Any]]) -> list[_Row]:
    rows: list[_Row] = [
        ["序号", "时间", "决定", "理由", "决定者", "规则版本", "涉及票数", "变动票数"]
    ]
    for each in decisions:
        rows.append(
            [
                each["number"],
                each["at"],
                _ACTIONS[each["action"]],
                each["reason"],
                _ROLES[each["role"]],
                *(each[word] for word in ("rules", "votes", "moved")),
            ]
        )
    return rows


_FORMULA_STARTS = set("=+-@＝＋－＠\t\r\n\0")


def _texts(rows: list[_Row]) -> list[list[str]]:
    """As a CSV file has them: what a spreadsheet could take for a formula begins with an
    apostrophe."""
    return [
        [
            f"'{cell}" if isinstance(cell, str) and cell[:1] in _FORMULA_STARTS else str(cell)
            for cell in row
        ]
        for row in rows
    ]


def _cells(rows: list[_Row]) -> list[list[str | int]]:
    """As a workbook has them, empty cells at the end left out; shares in parts per million."""
    return [
        _trimmed([cell.ppm if isinstance(cell, Share) else cell for cell in row]) for row in rows
    ]


def _trimmed(row: list[Any]) -> list[Any]:
    while row and row[-1] == "":
        row.pop()
    return row


def _read_csv(folder: Folder, name: str) -> list[list[str]]:
    content = folder.read(name)
    if not content.startswith(b"\xef\xbb\xbf"):
        raise Failed(f"{name} does not begin with the mark of UTF-8")
    try:
        return list(csv.reader(io.StringIO(content[3:].decode(), newline=""), strict=True))
    except (ValueError, csv.Error):
        raise Failed(f"{name} cannot be read") from None


_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_SHARE_COLUMN = 11
"""Of the first sheet."""
_PARTS = [
    "[Content_Types].xml",
    "_rels/.rels",
    "docProps/app.xml",
    "docProps/core.xml",
    "xl/_rels/workbook.xml.rels",
    "xl/sharedStrings.xml",
    "xl/styles.xml",
    "xl/theme/theme1.xml",
    "xl/workbook.xml",
    "xl/worksheets/sheet1.xml",
    "xl/worksheets/sheet2.xml",
]
"""All of a workbook of ours, so that nothing is shown that is not read."""
_ESCAPED = re.compile(r"_x([0-9A-F]{4})_")


def _read_workbook(content: bytes) -> list[list[list[str | int]]]:
    """The cells of both sheets: whole numbers, fractions in parts per million, and texts."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as workbook:
            if sorted(workbook.namelist()) != _PARTS:
                raise Failed("tally.xlsx does not hold two sheets and nothing else")
            sheets = _PARTS[-2:]
            leads_to = [each.get("Target") for each in _read_xml(workbook, _PARTS[4])]
            if not {name.removeprefix("xl/") for name in sheets} <= set(leads_to):
                raise Failed("tally.xlsx shows other sheets than it holds")
            shared = _read_xml(workbook, "xl/sharedStrings.xml")
            texts = [_text_of(item) for item in shared.iter(f"{_SHEET}si")]
            return [
                _read_sheet(_read_xml(workbook, name), texts, share_column)
                for name, share_column in zip(sheets, (_SHARE_COLUMN, None), strict=True)
            ]
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,  # of another compression
        RuntimeError,  # enciphered
        ElementTree.ParseError,
        EOFError,
    ):
        raise Failed("tally.xlsx cannot be read") from None


def _read_xml(workbook: zipfile.ZipFile, name: str) -> ElementTree.Element:
    with workbook.open(name) as part:
        xml = part.read(MEMORY_MAX_BYTES + 1)
    # Entities are what makes a small document a large one; no workbook of ours has any.
    if len(xml) > MEMORY_MAX_BYTES or not xml.startswith(b'<?xml version="1.0" encoding="UTF-8"'):
        raise Failed(f"tally.xlsx: {name} is too large, or not what it should be")
    if b"<!DOCTYPE" in xml or b"<!ENTITY" in xml:
        raise Failed(f"tally.xlsx: {name} declares a type of its own")
    return ElementTree.fromstring(xml)  # noqa: S314


def _read_sheet(
    sheet: ElementTree.Element, texts: list[str], share_column: int | None
) -> list[list[str | int]]:
    rows: list[list[str | int]] = []
    for row in sheet.iter(f"{_SHEET}row"):
        cells: list[str | int] = []
        for cell in row.iter(f"{_SHEET}c"):
            column, number = _place(cell.get("r", ""))
            if number != len(rows) + 1 or not len(cells) <= column < 100:
                raise Failed("tally.xlsx has cells that are not in their place")
            cells += [""] * (column - len(cells))
            cells.append(_value_of(cell, texts, is_share=column == share_column))
        rows.append(_trimmed(cells))
    return rows


def _place(reference: str) -> tuple[int, int]:
    """(column from 0, row from 1) of "C7"."""
    match = re.fullmatch(r"([A-Z]{1,2})([1-9]\d{0,6})", reference)
    if match is None:
        raise Failed("tally.xlsx has a cell without a place")
    column = 0
    for letter in match[1]:
        column = 26 * column + ord(letter) - ord("A") + 1
    return column - 1, int(match[2])


def _value_of(cell: ElementTree.Element, texts: list[str], *, is_share: bool) -> str | int:
    if cell.find(f"{_SHEET}f") is not None:
        raise Failed("tally.xlsx holds a formula")
    value, kind = cell.find(f"{_SHEET}v"), cell.get("t", "n")
    if kind not in ("n", "s") or cell.find(f"{_SHEET}is") is not None:
        raise Failed("tally.xlsx has a cell that is neither a number nor a text of its list")
    if value is None or value.text is None:
        return ""
    if kind == "s":
        return texts[int(value.text)]
    if not is_share:
        return int(value.text)
    ppm = round(float(value.text) * 1_000_000)
    if ppm / 1_000_000 != float(value.text):
        raise Failed("tally.xlsx holds a number that is no share")
    return ppm


def _text_of(item: ElementTree.Element) -> str:
    text = "".join(part.text or "" for part in item.iter(f"{_SHEET}t"))
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


# The log.


class Piece(NamedTuple):
    """What came of one chunk of leaves."""

    root: bytes
    nodes: dict[int, list[bytes]]
    """For each checkpoint's size that lies in it: the complete subtrees up to there."""
    votes: dict[tuple[int, int], int]
    """(candidate, state) -> votes."""
    ends: dict[int, tuple[int, int]]
    """Shard -> its first and last position."""


def check_log(known: Known) -> None:
    """Root of both logs and of every checkpoint, and the tally, out of the leaves alone."""
    _check_log_manifest(known)
    tally, folder = known.tally, known.folder
    votes, rulings = (tally["logs"][log]["size"] for log in _LOGS)
    openings_file, rulings_file = (folder.root / name for name in _LOG_FILES)
    if openings_file.stat().st_size != votes * _OPENING_BYTES:
        raise Failed("log/openings.bin does not hold as many leaves as the log")
    if rulings_file.stat().st_size != rulings * _RULING.size:
        raise Failed("log/rulings.bin does not hold as many leaves as the log")
    states, moves = _fold_rulings(known, votes)
    campaign = _count(tally["campaign_number"])
    if campaign >= _CAMPAIGNS_MAX:
        raise Failed("tally.json: no campaign has such a number")
    head = struct.pack(">BBH", 0, _VOTE_RECORD_VERSION, campaign)
    with _pool(votes + rulings) as run:
        for log, path, work in (
            ("rulings", rulings_file, _hash_rulings),
            ("votes", openings_file, _hash_votes),
        ):
            size = tally["logs"][log]["size"]
            roots = _checkpoint_roots(known, log)
            tasks = [
                (
                    str(path),
                    at,
                    min(CHUNK_LEAVES, size - at),
                    head,
                    bytes(states[at : at + CHUNK_LEAVES]) if log == "votes" else b"",
                    [one for one in roots if at < one <= at + CHUNK_LEAVES],
                )
                for at in range(0, size, CHUNK_LEAVES)
            ]
            pieces = list(run(work, tasks))
            _check_roots(log, pieces, roots)
    _check_positions(pieces)
    # The openings are now known to be those that were signed.
    _check_moves(known, moves)
    _check_recount(tally, pieces)


def _check_log_manifest(known: Known) -> None:
    own = known.read("log/manifest.json")
    manifest = known.folder.read(_MANIFEST)
    if own["format"] != "dianzan-log-1" or set(own["files"]) != {"openings.bin", "rulings.bin"}:
        raise Failed("log/manifest.json is of a format that this program does not know")
    if own["publication"] != sha256(manifest).hexdigest():
        raise Failed("log/ belongs to another publication")
    subject = f"publications/{own['campaign']}/log"
    signed = known.folder.read("log/manifest.json")
    _check_signed(known, "log/manifest.sig", subject, own["number"], signed)
    _check_digests(known.folder, "log/", own["files"])


_Moves = dict[int, Counter[tuple[int, int]]]
"""Decision -> (candidate, state) -> votes that it gained, or lost below 0."""


def _fold_rulings(known: Known, votes: int) -> tuple[bytearray, _Moves]:
    """State of every leaf after all rulings, and what the decisions among them moved."""
    states, ruled = bytearray(votes), bytearray(votes)
    candidates = _candidates_of(known.folder, votes)
    wanted = {
        each["number"]: (
            _LEADS_TO[each["action"]],
            each["rules"],
            round(datetime.fromisoformat(each["at"]).timestamp() * 1000),
            _ROLE_NUMBERS[each["role"]],
        )
        for each in known.read("decisions.json")["decisions"]
    }
    moves: _Moves = defaultdict(Counter)
    last_decision = _BY_VERDICT
    with known.folder.open("log/rulings.bin") as file:
        while packed := file.read(_RULING.size * 4096):
            for version, leaf, state, decision, *of_decision in _RULING.iter_unpack(packed):
                if version != _RULING_VERSION or leaf >= votes:
                    raise Failed("log/rulings.bin speaks of a leaf that is not in the log")
                if states[leaf] == state:
                    raise Failed(f"log/rulings.bin: leaf {leaf} moves to where it is")
                if decision != _BY_VERDICT:
                    if (state, *of_decision) != wanted.get(decision):
                        raise Failed(f"log/rulings.bin: decision {decision} is not as published")
                    if decision < last_decision:
                        raise Failed(f"log/rulings.bin: decision {decision} is not in its place")
                    last_decision = decision
                    moves[decision][candidates[leaf], states[leaf]] -= 1
                    moves[decision][candidates[leaf], state] += 1
                elif state != _HELD or ruled[leaf]:
                    # A verdict is spoken once, before anybody decides.
                    raise Failed("log/rulings.bin: a vote changes its state by no decision")
                states[leaf], ruled[leaf] = state, 1
    return states, moves


def _candidates_of(folder: Folder, votes: int) -> "array[int]":
    """Whom each leaf is for."""
    candidates = array("H")
    with folder.open("log/openings.bin") as file:
        while packed := file.read(_OPENING_BYTES * CHUNK_LEAVES):
            candidates += _candidates_in(packed)
    if len(candidates) != votes:
        raise Failed("log/openings.bin does not hold as many leaves as the log")
    return candidates


def _candidates_in(packed: bytes) -> "array[int]":
    candidates = array("H", [0]) * (len(packed) // _OPENING_BYTES)
    halves = memoryview(candidates).cast("B")
    high, low = (1, 0) if sys.byteorder == "little" else (0, 1)
    halves[high::2] = packed[8::_OPENING_BYTES]
    halves[low::2] = packed[9::_OPENING_BYTES]
    return candidates


def _checkpoint_roots(known: Known, log: str) -> dict[int, bytes]:
    """Size -> root, of every checkpoint in the folder."""
    names = [f"{log}.checkpoint"] + [
        name
        for name in known.manifest["files"]
        if (match := _CHECKPOINT_FILE.fullmatch(name)) and match[1] == log
    ]
    found = (read_checkpoint(name, known.folder.read(name), known.signed_by) for name in names)
    return {one.size: one.root for one in found}


@contextlib.contextmanager
def _pool(leaves: int) -> Iterator[Callable[..., Iterable[Piece]]]:
    """How to do many pieces of work: here one by one, or in several processes."""
    if leaves < _ALONE_BELOW_LEAVES:
        yield map
        return
    # Started anew rather than forked: whoever calls us may have threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        yield pool.map


_Task = tuple[str, int, int, bytes, bytes, list[int]]


def _hash_votes(task: _Task) -> Piece:
    """One chunk of openings: leaf = SHA-256(0 || version, campaign, hour, C) with
    C = SHA-256(salt || candidate || position || click)."""
    path, at, leaves, head, states, sizes = task
    packed = _read_piece(path, at * _OPENING_BYTES, leaves * _OPENING_BYTES)
    # Opening: position 8, candidate 2, click 6, salt 16, hour 4. Whole columns are moved at a
    # time: a tenth of what putting each leaf together takes.
    opened = bytearray(leaves * 32)
    for to, source in enumerate((*range(16, 32), 8, 9, *range(8), *range(10, 16))):
        opened[to::32] = packed[source::_OPENING_BYTES]
    inside = bytes(opened)
    commitments = b"".join([sha256(inside[n : n + 32]).digest() for n in range(0, len(inside), 32)])
    records = bytearray(leaves * 40)
    for to, byte in enumerate(head):
        records[to::40] = bytes((byte,)) * leaves
    for to in range(4):
        records[4 + to :: 40] = packed[32 + to :: _OPENING_BYTES]
    for to in range(32):
        records[8 + to :: 40] = commitments[to::32]
    inside = bytes(records)
    hashes = [sha256(inside[n : n + 40]).digest() for n in range(0, len(inside), 40)]
    votes = Counter(zip(_candidates_in(packed), states, strict=True))
    root, nodes = _hash_tree(hashes, at, sizes)
    return Piece(root, nodes, dict(votes), _ends_of(packed))


def _ends_of(packed: bytes) -> dict[int, tuple[int, int]]:
    """First and last position of each shard. Failed where they do not ascend: no vote comes
    twice."""
    positions = [position for (position,) in struct.iter_unpack(">Q28x", packed)]
    ends = {}
    shards = set(packed[::_OPENING_BYTES])
    for shard in shards:
        of_shard = positions
        if len(shards) > 1:
            of_shard = [position for position in positions if position >> 56 == shard]
        if not all(map(operator.lt, of_shard, of_shard[1:])):
            raise Failed("log/openings.bin holds a vote twice, or votes out of order")
        ends[shard] = of_shard[0], of_shard[-1]
    return ends


def _hash_rulings(task: _Task) -> Piece:
    path, at, leaves, _, _, sizes = task
    packed = _read_piece(path, at * _RULING.size, leaves * _RULING.size)
    hashes = [
        sha256(b"\0" + packed[n : n + _RULING.size]).digest()
        for n in range(0, len(packed), _RULING.size)
    ]
    return Piece(*_hash_tree(hashes, at, sizes), {}, {})


def _read_piece(path: str, at: int, size: int) -> bytes:
    with Path(path).open("rb") as file:
        file.seek(at)
        packed = file.read(size)
    if len(packed) != size:
        raise Failed(f"{Path(path).name} became shorter while it was read")
    return packed


def _hash_tree(
    level: list[bytes], at: int, sizes: list[int]
) -> tuple[bytes, dict[int, list[bytes]]]:
    """The root over neighbouring leaves from leaf `at` on, and what roots up to within them are
    made of."""
    levels = [level]
    while len(level) > 1:
        pairs = [
            sha256(b"\1" + left + right).digest()
            for left, right in zip(level[::2], level[1::2], strict=False)
        ]
        # One that is left over is a subtree of its own further up.
        level = pairs if len(level) % 2 == 0 else [*pairs, level[-1]]
        levels.append(level)
    nodes = {}
    for size in sizes:
        rest, begins, complete = size - at, 0, []
        for height in reversed(range(rest.bit_length())):
            if rest >> height & 1:
                complete.append(levels[height][begins >> height])
                begins += 1 << height
        nodes[size] = complete
    return level[0], nodes


def _check_roots(log: str, pieces: list[Piece], wanted: dict[int, bytes]) -> None:
    # Whole chunks are complete subtrees: the tree above them is made like any other.
    roots = [piece.root for piece in pieces]
    for size, root in sorted(wanted.items()):
        if size == 0:
            found = _EMPTY_ROOT
        else:
            chunk = (size - 1) // CHUNK_LEAVES
            *left, last = pieces[chunk].nodes[size]
            for node in reversed(left):
                last = sha256(b"\1" + node + last).digest()
            found, _ = _hash_tree([*roots[:chunk], last], 0, [])
        if found != root:
            raise Failed(f"the root of the {log}' log at {size} leaves is another than was signed")


def _check_positions(pieces: list[Piece]) -> None:
    last: dict[int, int] = {}
    for piece in pieces:
        for shard, (begins, ends) in piece.ends.items():
            if begins <= last.get(shard, -1):
                raise Failed("log/openings.bin holds a vote twice, or votes out of order")
            last[shard] = ends


def _check_moves(known: Known, moves: _Moves) -> None:
    """That each decision moved what is published of it, of each candidate."""
    numbers = {each["id"]: each["number"] for each in known.tally["candidates"]}
    for each in known.read("decisions.json")["decisions"]:
        published: Counter[tuple[int, int]] = Counter()
        for candidate in each["candidates"]:
            for kind, state in (("counted", _COUNTED), ("held", _HELD), ("struck", _STRUCK)):
                published[numbers[candidate["id"]], state] += candidate[kind]
        if published != moves.get(each["number"], Counter()):
            raise Failed(f"log/rulings.bin: decision {each['number']} moved other votes")


def _check_recount(tally: dict[str, Any], pieces: list[Piece]) -> None:
    votes: Counter[tuple[int, int]] = Counter()
    for piece in pieces:
        votes.update(piece.votes)
    for each in tally["candidates"]:
        for kind, state in (("counted", _COUNTED), ("held", _HELD), ("struck", _STRUCK)):
            found = votes.pop((each["number"], state), 0)
            if found != each[kind]:
                raise Failed(
                    f"{each['id']}: {found} votes are {kind} by the log, {each[kind]} by the tally"
                )
    if any(votes.values()):
        raise Failed("the log holds votes for somebody who is not in the tally")


# The whole.


@dataclass
class Report:
    """What came of it."""

    folder: str
    key: Key | None
    key_given: bool
    campaign: str | None = None
    number: int | None = None
    kind: str | None = None
    as_of: str | None = None
    log: bool = False
    held: list[str] = field(default_factory=list)
    """Checks that hold."""
    failed: dict[str, str] = field(default_factory=dict)
    """Check -> why not, a line of text."""
    left_out: list[str] = field(default_factory=list)
    """Checks that were not made because of that."""

    @property
    def ok(self) -> bool:
        return not self.failed

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "folder": self.folder,
            "campaign": self.campaign,
            "number": self.number,
            "kind": self.kind,
            "as_of": self.as_of,
            "log": self.log,
            "key": str(self.key) if self.key else None,
            "key_fingerprint": self.key.fingerprint if self.key else None,
            "key_from": "given" if self.key_given else "folder",
            "held": self.held,
            "failed": [{"check": check, "why": why} for check, why in self.failed.items()],
            "left_out": self.left_out,
        }

    def as_text(self) -> str:
        lines = [f"{check:<12} holds" for check in self.held]
        lines += [f"{check:<12} FAILED: {why}" for check, why in self.failed.items()]
        lines += [f"{check:<12} not looked at" for check in self.left_out]
        if self.key is not None:
            lines += [
                "",
                f"key          {self.key}",
                f"             SHA-256 {self.key.fingerprint}",
            ]
            lines.append(
                "             as you gave it"
                if self.key_given
                else "             taken from the folder: compare it with the one you know, or say"
                " --key"
            )
        lines.append("")
        which = f"{self.campaign}, publication {self.number} ({self.kind}), as of {self.as_of}"
        if self.ok:
            recounted = "recounted from every leaf" if self.log else "without the log"
            lines.append(f"{which}: everything holds, {recounted}.")
        else:
            lines.append(f"{self.folder}: DOES NOT HOLD.")
        # What a folder says of itself may be meant for the terminal.
        return "\n".join(map(_printable, lines))


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def verify(folder: Path, key: Key | None = None) -> Report:
    """Check a folder, by this key or by its own. Raises NoPublication."""
    report = Report(str(folder), key, key is not None)
    try:
        known = Known(Folder(folder), key, key is not None)
    except Failed as why:
        report.failed["files"] = _printable(str(why))
        return report
    checks = list(CHECKS)
    if "log" in known.folder.folders:
        checks.append(("log", check_log))
        report.log = True
    for done, (name, check) in enumerate(checks):
        # The log is worth its minute only where all the rest holds.
        if report.failed and (name == "log" or done >= _FIRST):
            report.left_out.append(name)
            continue
        try:
            check(known)
        except Failed as why:
            report.failed[name] = _printable(str(why))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as why:
            # Signed, and not what it should be.
            report.failed[name] = f"something is missing or of another form: {why!r}"
        else:
            report.held.append(name)
    report.key = known.key
    report.campaign, report.number, report.kind, report.as_of = (
        known.manifest.get(word) for word in ("campaign", "number", "kind", "as_of")
    )
    return report


def key_from(given: str) -> Key:
    """A verifier key, or the file that holds it. NoPublication where it is neither."""
    text = given
    try:
        if Path(given).is_file():
            with Path(given).open("rb") as file:
                text = file.read(4096).decode()
        return read_key(text.strip())
    except OSError as why:
        raise NoPublication(f"{given} cannot be read: {why.strerror}") from None
    except ValueError as why:
        raise NoPublication(f"--key: {why}") from None


def run(folder: Path, given_key: str | None, as_json: bool) -> int:
    """What the command does; its exit code."""
    try:
        report = verify(folder, key_from(given_key) if given_key else None)
    except NoPublication as why:
        print(f"verify: {why}", file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        print(report.as_text())
    return 0 if report.ok else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Check a published folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--key", help="verifier key that must have signed, or the file of it")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    given = parser.parse_args()
    return run(given.folder, given.key, given.json)


if __name__ == "__main__":
    sys.exit(main())
