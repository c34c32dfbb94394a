"""Public data as bytes, encoded once and not per request."""

import time
from typing import Any

from voting.campaign import Campaign, Candidate
from voting.edge.answers import dumps
from voting.edge.board import Published
from voting.view import Views

_VIEW_KEPT_SECONDS = 60.0


class EncodedCandidates:
    """Each shown candidate as JSON, made once per state of a campaign: 744 of them cost 6 ms, in
    which no like is taken."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Campaign, list[bytes], bytes]] = {}

    def of(self, campaign: Campaign) -> list[bytes]:
        """Those who are in the campaign, in listed order."""
        return self._all(campaign)[1]

    def withdrawn(self, campaign: Campaign) -> bytes:
        """Those who were, as one list: cards of theirs are on pages still, and say so."""
        return self._all(campaign)[2]

    def _all(self, campaign: Campaign) -> tuple[Campaign, list[bytes], bytes]:
        made = self._made.get(campaign.id)
        if made is None or made[0] is not campaign:
            gone = [_public_withdrawn(c) for c in campaign.candidates if c.withdrawn]
            made = (campaign, [dumps(_public(c)) for c in shown(campaign)], dumps(gone))
            self._made[campaign.id] = made
        return made


class EncodedCounts:
    """Bodies of GET counts with a view in them, made when the counts are published and once a
    minute: what caches keep for everybody must not grow old."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._made: dict[str, tuple[Published, float, bytes]] = {}

    def of(self, campaign: Campaign, published: Published) -> bytes:
        made = self._made.get(campaign.id)
        now = time.time()
        if made is None or made[0] is not published or not 0 <= now - made[1] < _VIEW_KEPT_SECONDS:
            body = published.body[:-1] + f',"view":"{self._views.shared(now)}"}}'.encode()
            made = self._made[campaign.id] = (published, now, body)
        return made[2]


def shown(campaign: Campaign) -> list[Candidate]:
    return [candidate for candidate in campaign.candidates if not candidate.withdrawn]


def _public(candidate: Candidate) -> dict[str, Any]:
    return {
        "id": candidate.id,
        "name": candidate.name,
        "organisation": candidate.organisation,
        "unit": candidate.unit,
        "channel": candidate.channel,
        "title": candidate.title,
        "summary": candidate.summary,
        "photo": _photo(candidate),
    }


def _public_withdrawn(candidate: Candidate) -> dict[str, Any]:
    """Who they are, and nothing that speaks for them any more."""
    return {
        "id": candidate.id,
        "name": candidate.name,
        "organisation": candidate.organisation,
        "title": candidate.title,
        "summary": "",
        "photo": _photo(candidate),
        "withdrawn": True,
    }


def _photo(candidate: Candidate) -> dict[str, str] | None:
    photo = candidate.photo
    if photo is None:
        return None
    return {"webp": f"/v1/photos/{photo}.webp", "jpeg": f"/v1/photos/{photo}.jpg"}
