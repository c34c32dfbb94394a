"""What was signed last, in a file beside the database: by it a database is known that was put back.

    {"logs": {"dianzan-1a2b3c4d/spring/votes": [20852163, "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2..."]},
     "publications": {"dianzan-1a2b3c4d/spring": [31, "9f86d081884c7d659a2feaa0c55ad015..."]}}

An older copy of the database does not know what left the house since, and would sign its sizes and
numbers a second time. So a log's size and root, a publication's number and its manifest's SHA-256
are on the disk here before they leave; and before anything is signed the database has to bear out
what is here: each log begins with the tree that was signed last, and the publication is there.
Where it does not, nothing of that campaign is signed, and LogConflict says what to do. Once a
signing round, which is each 10 s at most.

Here stands only what the database has committed, or what follows from that (a manifest). So a crash
at any point leaves a file that the database bears out. Written under the logs' lock, read anywhere.

Weak where the file is put back together with the database (a snapshot of the whole machine), and
where somebody publishes from another data folder, which knows nothing of this one. Where the file
is lost, the newest folder of each campaign in data_dir/publications stands in, without what was
signed after it; where there is none of these either, it begins anew. A publication that a crash
left unfinished, and that another version of the program then makes otherwise, is refused as well.
"""

import base64
import contextlib
import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import asyncpg

from tally.log.keys import LogKeys
from tally.log.store import LogConflict, root_at
from tally.publishing.publication_files import MANIFEST
from voting.checkpoint import Checkpoint
from voting.log_reader import Log
from voting.whole_files import written_aside

PUBLICATIONS = "publications"
"""The folder beside the file that holds the publications' folders."""


@dataclass(slots=True)
class LastSigned:
    """What the file holds."""

    logs: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Origin -> size and root."""
    publications: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Key's name and campaign -> number and hash of the manifest."""

    @classmethod
    def load(cls, keys: LogKeys) -> "LastSigned":
        """Nothing where these keys remember nothing. LogConflict where the file is damaged."""
        path = keys.last_signed
        if path is None:
            return cls()
        try:
            held = json.loads(path.read_bytes())
            return cls(
                {
                    origin: (int(size), base64.b64decode(root, validate=True))
                    for origin, (size, root) in held["logs"].items()
                },
                {
                    name: (int(number), bytes.fromhex(manifest))
                    for name, (number, manifest) in held["publications"].items()
                },
            )
        except FileNotFoundError:
            return cls._of_folders(path.with_name(PUBLICATIONS), keys.name)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise LogConflict(
                f"{path} is damaged, and nothing is signed without it: put it aside, and the "
                "folders of publications stand in for it"
            ) from None

    def save(self, keys: LogKeys) -> None:
        """On the disk when this returns. Blocks for as long as that takes: nobody may get a note
        meanwhile, and a thread could outlive the lock."""
        path = keys.last_signed
        if path is None or (path.exists() and self == LastSigned.load(keys)):
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = {
            "logs": {
                origin: (size, base64.b64encode(root).decode())
                for origin, (size, root) in sorted(self.logs.items())
            },
            "publications": {
                name: (number, manifest.hex())
                for name, (number, manifest) in sorted(self.publications.items())
            },
        }
        with written_aside(path, json.dumps(content, indent=1).encode(), 0o600) as aside:
            aside.replace(path)

    @classmethod
    def _of_folders(cls, folder: Path, name: str) -> "LastSigned":
        """As far as the newest folder of each campaign says it."""
        found = cls()
        for campaign in folder.iterdir() if folder.is_dir() else ():
            # A folder that is not whole, or another key's, says nothing.
            with contextlib.suppress(OSError, ValueError):
                number = max(int(each.name) for each in campaign.iterdir() if each.name.isdecimal())
                newest = campaign / str(number)
                manifest = sha256((newest / MANIFEST).read_bytes()).digest()
                for log in Log:
                    note = (newest / f"{log.word}.checkpoint").read_text()
                    signed = Checkpoint.of_note(note)
                    if signed.origin.startswith(f"{name}/"):
                        found.logs[signed.origin] = signed.size, signed.root
                        found.publications[f"{name}/{campaign.name}"] = number, manifest
        return found

    async def check_log(
        self,
        connection: asyncpg.Connection,
        origin: str,
        *,
        campaign: int,
        log: Log,
        head: tuple[int, bytes],
    ) -> None:
        """LogConflict where the log, whose head has this size and root, does not begin with the
        tree that was signed last."""
        size, root = head
        signed_size, signed_root = self.logs.get(origin, head)
        if size > signed_size:
            root = await root_at(connection, campaign, log, signed_size)
        if size < signed_size or root != signed_root:
            raise put_back(f"the log {origin} was signed with {signed_size} leaves, not with these")


def put_back(what: str) -> LogConflict:
    """What is said where the database does not bear out what was signed."""
    return LogConflict(
        f"{what}: the database was put back to an older copy, or made anew, and nothing of the "
        "campaign is signed. Put its newest copy back. Where there is none, whoever has a "
        "checkpoint or a publication has to be told that they hold no more; then put "
        "last-signed.json and the campaign's folder in publications, both in the data folder, aside"
    )
