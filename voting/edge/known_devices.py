"""Devices whose tokens were verified lately: who likes once likes again."""

import msgspec

from voting.campaign import Campaign
from voting.device import DeviceToken, Mint
from voting.pseudonyms import Pseudonyms
from voting.remembered import remember

_HELD_MAX = 32_768
"""Some 500 bytes each."""


class Device(msgspec.Struct, frozen=True, gc=False):
    """A device whose token's MAC was right."""

    token: DeviceToken
    pseudonym: bytes
    """Of the device in the token's campaign."""
    valid_until: float
    """DeviceToken.valid_until, for whom is known longer than that."""


class KnownDevices:
    """Finds devices by their tokens: 3 us the first time, then 0.2."""

    def __init__(self, mint: Mint, pseudonyms: Pseudonyms) -> None:
        self._mint = mint
        self._pseudonyms = pseudonyms
        self._held: dict[str, Device] = {}

    def forget(self) -> None:
        """Verify all anew: the keys are others."""
        self._held.clear()

    def find(self, token: str, campaign: Campaign, now: float) -> Device | None:
        """The device, or None where `Mint.verify` refuses its token; those are not remembered, as
        anybody can make as many as they like."""
        held = self._held.get(token)
        if held is not None:
            good = held.token.campaign == campaign.number and now < held.valid_until
            return held if good else None
        read = self._mint.verify(token, campaign, now)
        if read is None:
            return None
        pseudonym = self._pseudonyms.device(read.device_id, campaign.id)
        device = Device(read, pseudonym, float(read.valid_until))
        return remember(self._held, token, device, _HELD_MAX)
