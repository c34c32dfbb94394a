"""Published folders for tests, made from drawn votes and decisions, without a database."""

import base64
from collections import Counter
from datetime import datetime
from random import Random

from tally.log.leaves import LoggedVote, Role, Ruling, VoteLeaves
from tally.log.merkle import GrowingTree
from tally.log.signed_note import SignerKey
from tally.publishing.publication_files import (
    CandidateTally,
    Content,
    HashingFile,
    make_files,
    make_log_manifest,
    tally_candidates,
    write_files,
)
from voting.checkpoint import Checkpoint
from voting.merkle import hash_leaf

SIGNER = SignerKey("dianzan-test", bytes(range(32)))
HOUR_US = 1_783_000_000_000_000
STATES = {"release": 0, "hold": 2, "strike": 4}
NAMES = ("王小明", "=1+1", "@SUM(A1)", "-2", "+3", "<b>&\"'", "_x0041_", "张\t三", "平常", "＝1＋1")


class DrawnCampaign:
    """Votes, held ones and decisions of one campaign, in a log of each kind."""

    def __init__(self, votes=300, candidates=9, decisions=4, seed=0, shards=1):
        self.random = random = Random(seed)
        self.candidates = candidates
        self.votes = [
            (random.randrange(shards), random.randint(1, candidates), random.random() < 0.1)
            for _ in range(votes)
        ]
        leaves = VoteLeaves(1, bytes(32))
        self.records, self.openings = [], []
        for seq, (shard, candidate, _) in enumerate(self.votes, 1):
            vote = LoggedVote(
                seq,
                HOUR_US + seq * 1_000_000,
                candidate.to_bytes(2, "big"),
                random.randbytes(6),
            )
            self.records += leaves.records(shard, 1, [vote])
            self.openings += leaves.openings(shard, 1, [vote])
        self.states = [2 if held else 0 for _, _, held in self.votes]
        self.rulings = [
            Ruling(leaf, 2, 0, 3, 1_783_000_000_000, Role.VERDICT)
            for leaf, state in enumerate(self.states)
            if state
        ]
        self.struck_ever = Counter()
        self.decisions = [self._decide(number) for number in range(1, decisions + 1)]

    def _decide(self, number):
        action = self.random.choice(list(STATES))
        chosen = sorted(self.random.sample(range(len(self.votes)), len(self.votes) // 5))
        reason = self.random.choice(["=HYPERLINK(1)", "机型太集中", 'a, "b"\nc'])
        role = self.random.choice(["watch", "person"])
        at = f"2026-07-0{number}T12:00:00.000+08:00"
        at_ms = int(datetime.fromisoformat(at).timestamp()) * 1000
        deltas = {}
        moved = 0
        for leaf in chosen:
            before, after = self.states[leaf], STATES[action]
            if before == after:
                continue
            delta = deltas.setdefault(self.votes[leaf][1], Counter())
            delta[before] -= 1
            delta[after] += 1
            self.states[leaf] = after
            moved += 1
            self.rulings.append(Ruling(leaf, after, number, 3, at_ms, Role[role.upper()]))
        return {
            "number": number,
            "at": at,
            "action": action,
            "reason": reason,
            "role": role,
            "rules": 3,
            "votes": len(chosen),
            "moved": moved,
            "candidates": [
                {
                    "id": f"c{candidate:03}",
                    "counted": delta[0],
                    "held": delta[2],
                    "struck": delta[4],
                }
                for candidate, delta in sorted(deltas.items())
            ],
        }

    def tree(self, log, size):
        records = self.records if log == "votes" else [one.pack() for one in self.rulings]
        tree = GrowingTree()
        tree.append(b"".join(map(hash_leaf, records[:size])))
        return tree

    def note(self, log, size):
        root = self.tree(log, size).root()
        return SIGNER.sign(Checkpoint(f"{SIGNER.name}/spring/{log}", size, root).text())

    def content(self, number=3, kind="provisional", **changes):
        by_state = Counter(
            (vote[1], state) for vote, state in zip(self.votes, self.states, strict=True)
        )
        listed = tally_candidates(
            [
                CandidateTally(
                    number=n,
                    id=f"c{n:03}",
                    name=NAMES[n % len(NAMES)],
                    organisation="某研究所",
                    unit="某省",
                    channel="省级",
                    withdrawn=n == 2,
                    counted=by_state[n, 0],
                    held=by_state[n, 2],
                    struck=by_state[n, 4],
                    refused=n,
                )
                for n in range(1, self.candidates + 1)
            ]
        )
        sums = {
            kind: sum(each[kind] for each in listed)
            for kind in ("received", "counted", "held", "struck", "refused")
        }
        sizes = {"votes": len(self.records), "rulings": len(self.rulings)}
        tally = {
            "format": "dianzan-tally-1",
            "campaign": "spring",
            "campaign_number": 1,
            "title": "春天的活动",
            "number": number,
            "kind": kind,
            "as_of": "2026-07-05T20:00:00.123+08:00",
            **sums,
            "refused_by_reason": {"quota-spent": sums["refused"]},
            "logs": {
                log: {
                    "origin": f"{SIGNER.name}/spring/{log}",
                    "size": size,
                    "root": base64.b64encode(self.tree(log, size).root()).decode(),
                }
                for log, size in sizes.items()
            },
            "candidates": listed,
            **changes,
        }
        return Content(
            tally=tally,
            decisions=self.decisions,
            rules={"rules": {"candidates_per_day": 3}, "changes": []},
            previous={"number": number - 1, "manifest": "ab" * 32},
            notes={log: self.note(log, size) for log, size in sizes.items()},
        )

    def checkpoints(self):
        """Kept ones, of sizes on both sides of powers of two."""
        kept = {}
        for log, leaves in (("votes", self.records), ("rulings", self.rulings)):
            sizes = {n for n in (0, 1, 2, 3, 64, 65, 100, 255, len(leaves)) if n <= len(leaves)}
            kept[log] = {size: self.note(log, size) for size in sizes}
        return kept

    def publish(self, folder, *, log=True, signer=SIGNER, content=None):
        """Write it all; the files."""
        content = content or self.content()
        made = make_files(content, self.checkpoints(), signer)
        write_files(folder, made.files)
        if log:
            written = {}
            for name, records in (
                ("openings.bin", self.openings),
                ("rulings.bin", [one.pack() for one in self.rulings]),
            ):
                file = HashingFile(folder / "log" / name)
                file.write(b"".join(records))
                written[name] = file.close()
            write_files(folder, make_log_manifest(content, made, written, signer))
        return made
