"""Votes as numpy arrays: what Postgres' binary COPY gives, and positions as one number each.

Rows have a fixed width, so that an array is a view over bytes: no vote is touched one by one.
Importing this costs 20 MB; whoever can do without imports it late.
"""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tally.rows import COLUMNS

# What a position's id is made of: every epoch and seq fits that a receipt can carry.
_SEQ_BITS, _EPOCH_BITS = 40, 16


def vote_ids(shard: NDArray[Any], epoch: NDArray[Any], seq: NDArray[Any]) -> NDArray[np.int64]:
    """Positions as one number each, ascending as they are: shard 7 bits, epoch 16, seq 40."""
    return (
        (shard.astype(np.int64) << (_EPOCH_BITS + _SEQ_BITS))
        | (epoch.astype(np.int64) << _SEQ_BITS)
        | seq.astype(np.int64)
    )


def positions_of(
    ids: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(shard, epoch, seq) of `vote_ids`."""
    return (
        ids >> (_EPOCH_BITS + _SEQ_BITS),
        (ids >> _SEQ_BITS) & ((1 << _EPOCH_BITS) - 1),
        ids & ((1 << _SEQ_BITS) - 1),
    )


def dates_of(days: Iterable[int]) -> list[date]:
    """Days since 1970 as dates."""
    return [date(1970, 1, 1) + timedelta(days=day) for day in days]


class CopiedRows:
    """Takes what a binary COPY of these columns of `votes` gives, and cuts it into arrays. Columns
    of another query come with their `widths` in bytes, integers all of them."""

    _OPENING = 19
    """Bytes: signature, flags, length of an extension that there never is."""

    def __init__(self, columns: Iterable[str], widths: Mapping[str, int] = COLUMNS) -> None:
        names, formats, offsets, at = [], [], [], 2
        for name in columns:
            names.append(name)
            formats.append(f">i{widths[name]}")
            offsets.append(at + 4)
            at += 4 + widths[name]
        self._row = np.dtype(
            {"names": names, "formats": formats, "offsets": offsets, "itemsize": at}
        )
        self._bytes = bytearray()
        self._to_skip = self._OPENING
        self.rows = 0
        """How many there were in all."""

    def add(self, chunk: bytes) -> None:
        self._bytes += chunk
        if self._to_skip:
            skipped = min(self._to_skip, len(self._bytes))
            del self._bytes[:skipped]
            self._to_skip -= skipped

    @property
    def waiting(self) -> int:
        """Whole rows that are there to be taken."""
        return len(self._bytes) // self._row.itemsize

    def take(self) -> NDArray[Any]:
        """The whole rows that came since the last time, as a structured array."""
        size = self.waiting * self._row.itemsize
        taken = np.frombuffer(bytes(self._bytes[:size]), self._row)
        del self._bytes[:size]
        self.rows += len(taken)
        return taken
