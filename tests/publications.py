"""Publications for tests, put straight into the database: not signed, but of the right form."""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime

AS_OF = datetime(2026, 7, 5, 12, tzinfo=UTC)


@dataclass
class AddedPublication:
    number: int
    archive: bytes
    manifest_hash: bytes
    files: dict


async def add_publication(
    connection, number, *, campaign=1, kind="scheduled", approved_by=None, made=True, counted=100
):
    """One publication of a campaign; `made` = its files are."""
    files = {
        "tally.json": json.dumps({"number": number, "counted": counted}).encode(),
        "tally.csv": b"rank,candidate\n1,c001\n",
        "checkpoints/votes-100": "检查点\n".encode(),
        "manifest.json": json.dumps({"number": number}).encode(),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    manifest_hash = hashlib.sha256(files["manifest.json"]).digest()
    previous = {"number": number - 1, "manifest": "ab" * 32} if number > 1 else None
    content = {
        "tally": {
            "received": counted + 10, "counted": counted, "held": 5, "struck": 3, "refused": 2,
            "reopened_after_seal": [],
        },
        "previous": previous,
    }  # fmt: skip
    await connection.execute(
        "INSERT INTO publications VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        campaign, number, AS_OF, kind, AS_OF, json.dumps(content),
        "publish" if approved_by is None else "li", approved_by,
        manifest_hash if made else None, packed.getvalue() if made else None,
    )  # fmt: skip
    return AddedPublication(number, packed.getvalue(), manifest_hash, files)
