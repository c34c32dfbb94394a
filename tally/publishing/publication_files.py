"""The files of a publication: what its content becomes, byte for byte the same each time.

No database and no clock: a crash at any point is answered by making them again. What is in each
file, and how it hangs together, is checked by tally/verify.py, which shares no code with this.

    README.txt            what this is and how to check it, Chinese and English
    tally.json            the tally; every number of every other file follows from it
    tally.csv, tally.xlsx the same for people
    what_if.json          which ranks change if held votes counted
    decisions.json, .csv  what was decided on votes, and what it moved
    rules.json            rules in force, and what was changed during the campaign
    votes.checkpoint      the votes' log as it was: signed note
    rulings.checkpoint    the same of the log of what takes votes out and back in
    checkpoints/          all that were kept before
    verifier.key          the public key; compare it with the one you know
    manifest.json         size and SHA-256 of all of the above, and the manifest before
    manifest.sig          its signature

and where the log is published with it, which changes nothing of the above:

    log/openings.bin      what opens each leaf of the votes' log, 36 bytes each (leaves.py)
    log/rulings.bin       the leaves of the other log, 27 bytes each
    log/manifest.json, log/manifest.sig
"""

import base64
import contextlib
import csv
import io
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from tally.canonical import canonical
from tally.log.signed_note import SignerKey

TALLY_FORMAT = "dianzan-tally-1"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
KINDS = {
    "scheduled": "定时发布",
    "provisional": "临时发布（一人所为，非最终结果）",
    "close": "截止封存",
    "final": "最终结果（两人核准）",
}
_ACTIONS = {"hold": "搁置", "release": "放回", "strike": "剔除"}
_ROLES = {"watch": "规则自动", "person": "工作人员"}
_FORMULA_STARTS = (*"=+-@＝＋－＠", "\t", "\r", "\n", "\0")  # wide ones, too


FILE_BYTES_MAX = 64 << 20
"""What the verifier reads of one file at once (MEMORY_MAX_BYTES there)."""


class TooLarge(Exception):
    """A file would be larger than the verifier takes; the message says which."""


class FolderInUse(Exception):
    """Where the publication was to be written there is something already; nothing was changed."""


class CandidateTally(NamedTuple):
    """One candidate and what became of the ballots."""

    number: int
    id: str
    name: str
    organisation: str
    unit: str
    channel: str
    withdrawn: bool
    counted: int
    held: int
    struck: int
    refused: int


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that the files are made from. Kept as JSON in `publications.content`."""

    tally: Mapping[str, Any]
    """As tally.json has it."""
    decisions: Sequence[Mapping[str, Any]]
    """As decisions.json has them."""
    rules: Mapping[str, Any]
    """As rules.json has them."""
    previous: Mapping[str, Any] | None
    """{"number", "manifest": SHA-256 in hex} of the publication before; None for the first."""
    notes: Mapping[str, str]
    """Log ("votes", "rulings") -> its checkpoint at this moment."""

    def as_json(self) -> dict[str, Any]:
        return {
            "tally": self.tally,
            "decisions": list(self.decisions),
            "rules": self.rules,
            "previous": self.previous,
            "notes": self.notes,
        }

    @property
    def campaign(self) -> str:
        return str(self.tally["campaign"])

    @property
    def number(self) -> int:
        return int(self.tally["number"])

    @property
    def kind(self) -> str:
        return str(self.tally["kind"])


@dataclass(frozen=True, slots=True)
class Made:
    """A publication's files."""

    files: Mapping[str, bytes]
    """Name -> content, all of them; in the order in which they are packed."""

    @property
    def manifest_hash(self) -> bytes:
        return sha256(self.files[MANIFEST]).digest()

    def archive(self, as_of: datetime) -> bytes:
        """The folder as a zip; the same bytes each time, given the same zlib."""
        packed = io.BytesIO()
        moment = max(as_of.astimezone(UTC), datetime(1980, 1, 1, tzinfo=UTC)).timetuple()[:6]
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                entry = zipfile.ZipInfo(name, moment)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content)
        return packed.getvalue()

    @classmethod
    def unpack(cls, archive: bytes) -> "Made":
        """Out of what `archive` made."""
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            return cls({name: packed.read(name) for name in packed.namelist()})


# What follows from the counts.


def share_ppm(counted: int, of: int) -> int:
    """Parts per million, rounded half up; 0 of nothing."""
    return (counted * 1_000_000 + of // 2) // of if of else 0


def ranked(votes: Mapping[int, int]) -> dict[int, int]:
    """Candidate number -> rank: equal counts share one, and the next rank leaves room for them."""
    ranks: dict[int, int] = {}
    rank, last = 0, -1
    for place, (number, n) in enumerate(
        sorted(votes.items(), key=lambda one: (-one[1], one[0])), 1
    ):
        if n != last:
            rank, last = place, n
        ranks[number] = rank
    return ranks


def tally_candidates(candidates: Sequence[CandidateTally]) -> list[dict[str, Any]]:
    """As tally.json lists them: by rank, equal counts by number; last those who were withdrawn,
    who have no rank, though what was counted for them is in the sums."""
    ranks = ranked({each.number: each.counted for each in candidates if not each.withdrawn})
    counted = sum(each.counted for each in candidates)
    in_order = sorted(candidates, key=lambda each: (each.withdrawn, -each.counted, each.number))
    return [
        {
            **each._asdict(),
            "rank": ranks.get(each.number),
            "received": each.counted + each.held + each.struck + each.refused,
            "share_ppm": share_ppm(each.counted, counted),
        }
        for each in in_order
    ]


def what_if_held_counted(tally: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Whose rank would change if all held votes counted; by the rank that they would have."""
    standing = [each for each in tally["candidates"] if not each["withdrawn"]]
    then = ranked({each["number"]: each["counted"] + each["held"] for each in standing})
    changes = [
        {
            **{word: each[word] for word in ("id", "number", "counted", "held", "rank")},
            "rank_if_held_counted": then[each["number"]],
        }
        for each in standing
        if each["rank"] != then[each["number"]]
    ]
    return sorted(changes, key=lambda one: (one["rank_if_held_counted"], one["number"]))


# The files.


def check_sizes(content: Content) -> None:
    """Raises TooLarge. The JSON files alone: they hold more than the tables, which are their
    excerpts. About 55 bytes for each pair of a decision and a candidate whose votes it moved."""
    for name, file in _json_files(content).items():
        if len(file) > FILE_BYTES_MAX:
            raise TooLarge(
                f"{name} would be {len(file) / 2**20:.1f} MiB, and who checks it takes "
                f"{FILE_BYTES_MAX / 2**20:g} at most"
            )


def _json_files(content: Content) -> dict[str, bytes]:
    of_this = {"campaign": content.campaign, "number": content.number}
    changes = what_if_held_counted(content.tally)
    return {
        "tally.json": canonical(content.tally),
        "what_if.json": canonical({"format": "dianzan-what-if-1", **of_this, "changes": changes}),
        "decisions.json": canonical(
            {"format": "dianzan-decisions-1", **of_this, "decisions": content.decisions}
        ),
        "rules.json": canonical({"format": "dianzan-rules-1", **of_this, **content.rules}),
    }


def make_files(
    content: Content, checkpoints: Mapping[str, Mapping[int, str]], signer: SignerKey
) -> Made:
    """All files, signed. `checkpoints`: log -> size -> note, those that were kept until then.

    0.2 s for 750 candidates and a month of hourly checkpoints."""
    tally = content.tally
    json_files = _json_files(content)
    files = {
        "README.txt": _readme(content, str(signer.verifier)).encode(),
        "tally.json": json_files["tally.json"],
        "tally.csv": _tally_csv(tally),
        "tally.xlsx": _tally_xlsx(tally),
        "what_if.json": json_files["what_if.json"],
        "decisions.json": json_files["decisions.json"],
        "decisions.csv": _decisions_csv(content.decisions),
        "rules.json": json_files["rules.json"],
        **{f"{log}.checkpoint": note.encode() for log, note in sorted(content.notes.items())},
        **{
            f"checkpoints/{log}/{size:012}.checkpoint": note.encode()
            for log, notes in sorted(checkpoints.items())
            for size, note in sorted(notes.items())
        },
        "verifier.key": f"{signer.verifier}\n".encode(),
    }
    manifest = canonical(
        {
            "format": "dianzan-publication-1",
            "campaign": content.campaign,
            "number": content.number,
            "kind": content.kind,
            "as_of": tally["as_of"],
            "previous": content.previous,
            "files": {name: _listed(file) for name, file in files.items()},
        }
    )
    subject = f"publications/{content.campaign}/manifest"
    return Made(
        {
            **files,
            MANIFEST: manifest,
            SIGNATURE: sign_manifest(signer, subject, content.number, manifest),
        }
    )


def make_log_manifest(
    content: Content, made: Made, sizes_and_hashes: Mapping[str, tuple[int, str]], signer: SignerKey
) -> dict[str, bytes]:
    """What makes the files of log/ a part of this publication, once they are written;
    `sizes_and_hashes`: their names within log/."""
    manifest = canonical(
        {
            "format": "dianzan-log-1",
            "campaign": content.campaign,
            "number": content.number,
            "publication": made.manifest_hash.hex(),
            "files": {
                name: {"size": size, "sha256": digest}
                for name, (size, digest) in sizes_and_hashes.items()
            },
        }
    )
    subject = f"publications/{content.campaign}/log"
    return {
        f"log/{MANIFEST}": manifest,
        f"log/{SIGNATURE}": sign_manifest(signer, subject, content.number, manifest),
    }


def sign_manifest(signer: SignerKey, subject: str, number: int, manifest: bytes) -> bytes:
    """Like a checkpoint: what it is of, its number, the hash. One number has one manifest. No log
    is called as a manifest is: the subject has a part more than a log's origin."""
    digest = base64.b64encode(sha256(manifest).digest()).decode()
    return signer.sign(f"{signer.name}/{subject}\n{number}\n{digest}\n").encode()


def _listed(file: bytes) -> dict[str, Any]:
    return {"sha256": sha256(file).hexdigest(), "size": len(file)}


class _Share(int):
    """Parts per million, shown as a percentage."""

    def __str__(self) -> str:
        return f"{self // 10_000}.{self % 10_000:04}%"


_Row = Sequence[str | int]

_HEADINGS = (
    *("名次", "编号", "姓名", "工作单位", "推荐单位", "推荐渠道"),
    *("收到", "计入", "搁置", "剔除", "拒绝", "占比", "备注"),
)
_WIDTHS = (6, 12, 14, 34, 24, 14, 12, 12, 10, 10, 10, 11, 10)


def _tally_rows(tally: Mapping[str, Any]) -> Iterator[_Row]:
    for each in tally["candidates"]:
        yield (
            "" if each["rank"] is None else each["rank"],
            each["id"],
            each["name"],
            each["organisation"],
            each["unit"],
            each["channel"],
            each["received"],
            each["counted"],
            each["held"],
            each["struck"],
            each["refused"],
            _Share(each["share_ppm"]),
            "已退出" if each["withdrawn"] else "",
        )


def _summary_rows(tally: Mapping[str, Any]) -> list[_Row]:
    return [
        ("活动", tally["title"]),
        ("活动编号", tally["campaign"]),
        ("发布序号", tally["number"]),
        ("类型", KINDS[tally["kind"]]),
        ("截至", tally["as_of"]),
        ("收到", tally["received"]),
        ("计入", tally["counted"]),
        ("搁置", tally["held"]),
        ("剔除", tally["struck"]),
        ("拒绝", tally["refused"]),
    ]


def _tally_csv(tally: Mapping[str, Any]) -> bytes:
    return _csv([_HEADINGS, *_tally_rows(tally)])


def _decisions_csv(decisions: Sequence[Mapping[str, Any]]) -> bytes:
    headings = ("序号", "时间", "决定", "理由", "决定者", "规则版本", "涉及票数", "变动票数")
    rows: list[_Row] = [headings]
    for each in decisions:
        action, role = _ACTIONS[each["action"]], _ROLES[each["role"]]
        counts = each["rules"], each["votes"], each["moved"]
        rows.append((each["number"], each["at"], action, each["reason"], role, *counts))
    return _csv(rows)


def _csv(rows: Sequence[_Row]) -> bytes:
    """With the mark by which spreadsheets know UTF-8."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_harmless(cell) for cell in row] for row in rows)
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def _harmless(cell: str | int) -> str:
    """Text that no spreadsheet takes for a formula."""
    text = str(cell)
    return f"'{text}" if isinstance(cell, str) and text.startswith(_FORMULA_STARTS) else text


def _tally_xlsx(tally: Mapping[str, Any]) -> bytes:
    # Late: whoever only waits for the next publication need not hold it.
    import xlsxwriter

    packed = io.BytesIO()
    options = {
        "in_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    with xlsxwriter.Workbook(packed, options) as workbook:
        # The only clock in a workbook.
        created = datetime.fromisoformat(tally["as_of"]).astimezone(UTC).replace(tzinfo=None)
        workbook.set_properties({"title": tally["title"], "created": created})
        heading = workbook.add_format({"bold": True, "bg_color": "#E8EDF3", "bottom": 1})
        number = workbook.add_format({"num_format": "#,##0"})
        percent = workbook.add_format({"num_format": "0.0000%"})
        sheet = workbook.add_worksheet("计票结果")
        sheet.freeze_panes(1, 3)
        for column, width in enumerate(_WIDTHS):
            sheet.set_column(column, column, width)
        for column, text in enumerate(_HEADINGS):
            sheet.write_string(0, column, text, heading)
        for at, row in enumerate(_tally_rows(tally), 1):
            for column, cell in enumerate(row):
                if isinstance(cell, str):
                    sheet.write_string(at, column, cell)
                elif isinstance(cell, _Share):
                    sheet.write_number(at, column, cell / 1_000_000, percent)
                else:
                    sheet.write_number(at, column, cell, number)
        sheet.autofilter(0, 0, len(tally["candidates"]), len(_HEADINGS) - 1)
        summary = workbook.add_worksheet("汇总")
        summary.set_column(0, 0, 12, heading)
        summary.set_column(1, 1, 44)
        for at, (label, value) in enumerate(_summary_rows(tally)):
            summary.write_string(at, 0, str(label), heading)
            if isinstance(value, str):
                summary.write_string(at, 1, value)
            else:
                summary.write_number(at, 1, value, number)
    return packed.getvalue()


def _readme(content: Content, key: str) -> str:
    tally = content.tally
    return f"""\
{tally["title"]}
发布第 {content.number} 号，{KINDS[content.kind]}，截至 {tally["as_of"]}

收到 {tally["received"]:,} = 计入 {tally["counted"]:,} + 搁置 {tally["held"]:,} \
+ 剔除 {tally["struck"]:,} + 拒绝 {tally["refused"]:,}

这是什么
  tally.json 是计票结果，tally.csv 与 tally.xlsx 是同样的数字，供人阅读。搁置：被怀疑、尚待
  裁定的票；剔除：经裁定取出的票；拒绝：因次数、频率或规则当场未收的票（只有合计）。
  what_if.json：若搁置的票全部计入，哪些名次会变。decisions：对票的每项决定及其变动。
  rules.json：规则及活动期间的变更。*.checkpoint：两本日志（票，以及取出和放回）的签名状态。

如何核验
  dianzan verify 文件夹 --key 公钥
  或只用一个程序文件（Python 3.11 与 cryptography，无需网络和数据库）：
  python verify.py 文件夹 --key 公钥
  公钥应从另外的途径得到。签署本发布的公钥是：
  {key}

它证明什么，不证明什么
  证明：记录下来的票就是计入的票，数字前后一致，发布之后无人改动；随附日志（log/）时，每位
  候选人的票数都可以从每一张票重新数出。投票者可凭回执核对自己的票在日志之中。
  不证明：投票者是否有资格；服务运营者看不到投票内容；有无买卖选票；以及，若公钥只取自本
  文件夹，签署者是谁。

What this is
  Publication {content.number} of campaign {content.campaign}, kind "{content.kind}", as of
  {tally["as_of"]}. tally.json is the tally; tally.csv and tally.xlsx are the same
  for people. Held: under suspicion, until somebody decides. Struck: taken out by a decision.
  Refused: turned away by quota, limit or verdict (sums only). "scheduled" is made by the clock,
  "provisional" by one person at will, "close" when the campaign has closed; only "final" was
  agreed to by two persons.

How to check it
  dianzan verify FOLDER --key KEY
  or with one file of Python, without network or database: python verify.py FOLDER --key KEY
  Get the key by another way than this folder. The one that signed is above.

What it proves, and what not
  What was recorded is what was counted, and nobody changed it since; with log/ every candidate
  can be recounted from the leaves. It does not prove that those who liked were entitled to, that
  the operator could not see what they liked, or that no likes were sold.
"""


# Folders.


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `target` at the end, whole; where something fails, it
    is gone and `target` is as it was. Raises FolderInUse where `target` is there and not empty."""
    target = target.absolute()
    target = target.resolve() if target.is_symlink() else target
    check_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(target)
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    aside.mkdir(mode=0o755)
    try:
        yield aside
        _sync_all(aside)
        try:
            # Takes the place of an empty folder too.
            aside.rename(target)
        except OSError:
            check_free(target)
            raise
        _sync(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class HashingFile:
    """A new file that is written piece by piece, and its hash."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb")
        self._hash = sha256()
        self.size = 0

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._hash.update(piece)
        self.size += len(piece)

    def close(self) -> tuple[int, str]:
        """(size, SHA-256)."""
        self._file.close()
        return self.size, self._hash.hexdigest()


def check_free(target: Path) -> None:
    """Raises FolderInUse where a folder could not be written there."""
    if target.is_dir():
        with os.scandir(target) as entries:
            if next(entries, None) is None:
                return
        raise FolderInUse(f"the folder {target} is not empty: name a new one")
    if target.exists():
        raise FolderInUse(f"{target} is there already, and no folder: name a new one")


def _remove_left_over(target: Path) -> None:
    """What others left who were killed half-way."""
    prefix = f".{target.name}."
    for path in target.parent.iterdir():
        owner = path.name.removeprefix(prefix).removesuffix(".partial")
        if path.name == f"{prefix}{owner}.partial" and owner.isdecimal() and not _runs(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _runs(pid: int) -> bool:
    if pid == os.getpid():
        return False  # ours, of a process of the same number before us
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _sync_all(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
