"""Pages that are made once and answered many times, in a bounded store.

A page is kept by what it was made from as numbers and texts, never as the thing itself: who kept
each state of a campaign with 750 candidates would keep 8 MB for each correction of one of them.
Where a page says its own absolute address, the kept text has a stand-in for it, because without
DIANZAN_PUBLIC_ORIGINS that is whatever a client says: another Host costs a replacement in the text,
not a page.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import web

from voting.edge.compressed import Body

BASE = "\ue000base\ue001/"
"""Stands where a page's base will. A text in which somebody writes it says the base there, which is
no harm."""
HOSTS_MAX = 3
"""For so many bases a page is kept compressed; for others it is put together for each answer, and
goes plain: compressing costs a hundred times what putting together does."""
_BASE = BASE.encode()
_PAGES_MAX = 1_024
_BYTES_MAX = 32_000_000
_DIGEST_BYTES = 9


class _Plain(Body):
    """A body that is sent once, and not worth compressing for that."""

    __slots__ = ()

    @property
    def worth_it(self) -> bool:
        return False


class KeptPage:
    """A page's text with the stand-in for its base, and the few bodies that were made of it."""

    __slots__ = ("_bodies", "_digest", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._digest = _digest(text)
        self._bodies: dict[str, Body] = {}

    def find(self, base: str) -> Body | None:
        """Its body at this base, where that is kept."""
        return self._bodies.get(base)

    def make(self, base: str) -> Body:
        """Its body at this base, not kept."""
        text = self._text.replace(_BASE, base.encode())
        return Body(text) if self.has_room else _Plain(text)

    def keep(self, base: str, body: Body) -> None:
        """Keep what `make` made, where there is room."""
        if self.has_room:
            self._bodies[base] = body

    def at(self, base: str) -> Body:
        """Its body at this base, kept or made."""
        body = self._bodies.get(base)
        if body is None:
            body = self.make(base)
            self.keep(base, body)
        return body

    @property
    def has_room(self) -> bool:
        return len(self._bodies) < HOSTS_MAX

    def etag(self, base: str) -> str:
        """Weak, for all its encodings; the same on every edge that has the same state."""
        return f'W/"{_digest(self._digest.encode() + base.encode())}"'

    @property
    def cost(self) -> int:
        """Bytes that it may take: the compressed form of a body comes later, and is some third."""
        return len(self._text) + sum(len(one.plain) * 4 // 3 for one in self._bodies.values())


class KeptPages:
    """Pages by key, each with what it was made from. Bounded in number and bytes; who was asked for
    longest ago goes first. Bodies that come to a page later count with the next page that is made:
    until then there may be HOSTS_MAX times too much."""

    def __init__(self, pages_max: int = _PAGES_MAX, bytes_max: int = _BYTES_MAX) -> None:
        self._kept: OrderedDict[tuple[object, ...], tuple[tuple[int | str, ...], KeptPage]] = (
            OrderedDict()
        )
        self._pages_max = pages_max
        self._bytes_max = bytes_max

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes_kept(self) -> int:
        return sum(page.cost for _, page in self._kept.values())

    def find(self, key: tuple[object, ...], made_from: tuple[int | str, ...]) -> KeptPage | None:
        """The page of this key, unless something that it was made from is another by now."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept[0] != made_from:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return kept[1]

    def keep(
        self, key: tuple[object, ...], made_from: tuple[int | str, ...], page: KeptPage
    ) -> KeptPage:
        """Keep what was just made."""
        self._kept.pop(key, None)
        self._kept[key] = (made_from, page)
        too_much = self.bytes_kept - self._bytes_max
        while len(self._kept) > 1 and (len(self._kept) > self._pages_max or too_much > 0):
            too_much -= self._kept.popitem(last=False)[1][1].cost
        return page

    def get(
        self,
        key: tuple[object, ...],
        made_from: tuple[int | str, ...],
        make: Callable[[], bytes],
    ) -> KeptPage:
        """The page of this key, made now where it has to be."""
        found = self.find(key, made_from)
        return self.keep(key, made_from, KeptPage(make())) if found is None else found


class States:
    """Numbers for states of things, by the thing's name: the same while it is the same object, and
    never given twice. Holds the last state of each name alone."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[object, int]] = {}
        self._given = 0

    def number_of(self, name: str, state: object) -> int:
        """Compared by identity: by value it would walk 750 candidates."""
        last = self._last.get(name)
        if last is None or last[0] is not state:
            self._given += 1
            last = self._last[name] = (state, self._given)
        return last[1]


KEPT = web.AppKey("kept_pages", KeptPages)
STATES = web.AppKey("states", States)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()
