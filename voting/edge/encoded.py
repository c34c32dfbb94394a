"""Public data as bytes, encoded once and not per request."""

import hashlib
import random
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from voting.campaign import Campaign, Candidate
from voting.edge.answers import dumps
from voting.edge.board import Published
from voting.edge.compressed import Body, Stem
from voting.edge.media import photo_members
from voting.view import Views

_VIEW_KEPT_SECONDS = 60.0


class _Listed(NamedTuple):
    """The candidates of one state of a campaign."""

    campaign: Campaign
    each: dict[str, bytes]
    """Those who are in the campaign, as JSON, by id in listed order."""
    withdrawn: dict[str, bytes]
    """Those who were: cards of theirs are on pages still, and say so."""
    stem: Stem
    """The whole answer in listed order, up to the view."""
    digest: str


class EncodedCandidates:
    """Bodies of GET candidates. Each candidate as JSON is made once per state of a campaign, and
    the whole list compressed once: 744 of them cost some 6 and 10 ms, in which no like is taken."""

    def __init__(self, views: Views, media_url: str | None = None) -> None:
        self._views = views
        self._media_url = media_url
        self._made: dict[str, _Listed] = {}
        self._bodies: dict[tuple[str, bool], tuple[_Listed, int, Body]] = {}
        """By campaign, and whether in random order: of which minute."""

    def listed(self, campaign: Campaign, now: float) -> tuple[Body, str]:
        """(body in listed order, its ETag). The view in it is new each minute; the ETag each hour,
        so that no copy has an older one."""
        made = self._all(campaign)
        return self._of_minute(made, False, now, made.stem.body), _etag(made, now)

    def some(self, campaign: Campaign, ids: Collection[str], now: float) -> tuple[Body, str]:
        """The same of those who are called so."""
        made = self._all(campaign)
        stem = _stem(
            [one for id_, one in made.each.items() if id_ in ids],
            [one for id_, one in made.withdrawn.items() if id_ in ids],
        )
        return Body(stem + self._end(now)), _etag(made, now)

    def shuffled(self, campaign: Campaign, now: float) -> Body:
        """The random order of this minute, the same for all who ask."""
        made = self._all(campaign)
        order = str(int(now) // 60)
        return self._of_minute(made, True, now, lambda end: Body(_shuffled(made, order) + end))

    def shuffled_by(self, campaign: Campaign, seed: str, now: float) -> bytes:
        """The random order of a seed. Plain: anybody may ask for another one each time, and each
        would take 10 ms to compress."""
        made = self._all(campaign)
        return _shuffled(made, seed) + self._end(now)

    def _of_minute(
        self, listed: _Listed, is_shuffled: bool, now: float, make: Callable[[bytes], Body]
    ) -> Body:
        key, minute = (listed.campaign.id, is_shuffled), int(now) // 60
        held = self._bodies.get(key)
        if held is None or held[0] is not listed or held[1] != minute:
            held = self._bodies[key] = (listed, minute, make(self._end(now)))
        return held[2]

    def _end(self, now: float) -> bytes:
        return b'"%b"}' % self._views.shared(now).encode()

    def _all(self, campaign: Campaign) -> _Listed:
        made = self._made.get(campaign.id)
        if made is None or made.campaign is not campaign:
            each = {one.id: dumps(self._public(campaign, one)) for one in campaign.standing}
            withdrawn = {
                one.id: dumps(self._withdrawn(campaign, one))
                for one in campaign.candidates
                if one.withdrawn
            }
            stem = _stem(each.values(), withdrawn.values())
            digest = hashlib.blake2b(stem, digest_size=9).hexdigest()
            made = _Listed(campaign, each, withdrawn, Stem(stem), digest)
            self._made[campaign.id] = made
        return made

    def _public(self, campaign: Campaign, candidate: Candidate) -> dict[str, Any]:
        return {
            "id": candidate.id,
            "name": candidate.name,
            "organisation": candidate.organisation,
            "unit": candidate.unit,
            "channel": candidate.channel,
            "title": candidate.title,
            "summary": candidate.summary,
            "photo": photo_members(campaign, candidate.photo, self._media_url),
        }

    def _withdrawn(self, campaign: Campaign, candidate: Candidate) -> dict[str, Any]:
        """Who they are, and nothing that speaks for them any more."""
        return {
            "id": candidate.id,
            "name": candidate.name,
            "organisation": candidate.organisation,
            "title": candidate.title,
            "summary": "",
            "photo": photo_members(campaign, candidate.photo, self._media_url),
            "withdrawn": True,
        }


class EncodedCounts:
    """Bodies of GET counts with a view in them, made when the counts are published and once a
    minute: what caches keep for everybody must not grow old."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._made: dict[str, tuple[Published, float, Body]] = {}

    def of(self, campaign: Campaign, published: Published) -> Body:
        made = self._made.get(campaign.id)
        now = time.time()
        if made is None or made[0] is not published or not 0 <= now - made[1] < _VIEW_KEPT_SECONDS:
            body = published.body[:-1] + f',"view":"{self._views.shared(now)}"}}'.encode()
            made = self._made[campaign.id] = (published, now, Body(body))
        return made[2]


def _etag(listed: _Listed, now: float) -> str:
    return f'W/"{listed.digest}-{int(now) // 3_600:x}"'


def _stem(each: Iterable[bytes], withdrawn: Iterable[bytes]) -> bytes:
    parts = (b",".join(each), b",".join(withdrawn))
    return b'{"candidates":[%b],"withdrawn":[%b],"view":' % parts


def _shuffled(listed: _Listed, seed: str) -> bytes:
    each = [*listed.each.values()]
    order = random.Random(seed).sample(each, len(each))  # noqa: S311
    return _stem(order, listed.withdrawn.values())
