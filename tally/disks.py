"""The disk that a folder is on, or will be."""

import shutil
from pathlib import Path
from typing import NamedTuple


class DiskUsage(NamedTuple):
    used_bytes: int
    free_bytes: int
    """What the system keeps for itself is neither."""

    @property
    def used_share(self) -> float:
        """Of what may be used at all."""
        return self.used_bytes / max(1, self.used_bytes + self.free_bytes)


def disk_of(folder: Path) -> DiskUsage:
    """Of the folder, or of the nearest one above it that is there already."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
    usage = shutil.disk_usage(there)
    return DiskUsage(usage.used, usage.free)
