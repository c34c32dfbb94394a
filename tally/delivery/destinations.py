"""Destinations: where news is sent, and what is known of them.

A destination's address is kept as it may be shown. What gives access (a robot's key in the query of
its URL, the secret that letters are signed with) is sealed with the console's key and bound to form
and address, so that it opens for no other row.

Whoever may add a destination can make this machine speak to an address of their choice. So: https
alone, no address in a private network (looked at again when it is sent, by couriers.py, for names
can move), no redirect followed. DIANZAN_PRIVATE_DESTINATIONS lifts the first two, for an
installation whose receivers are in its own network.
"""

import enum
import ipaddress
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg
from yarl import URL

from tally.accounts.sealing import Seal
from tally.delivery.outbox import SQL, WANTED, Event

DESTINATIONS_MAX = 50
NAME_CHARACTERS_MAX = 64
ADDRESS_CHARACTERS_MAX = 1_000
SECRET_CHARACTERS_MAX = 200

_MAIL_ADDRESS = re.compile(
    r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,8}", re.ASCII
)


class Form(enum.StrEnum):
    """How a destination wants its letters."""

    WEBHOOK = "webhook"
    """A signed POST of JSON, see couriers.py."""
    WECOM = "wecom"
    """A group robot of WeCom (企业微信)."""
    DINGTALK = "dingtalk"
    """A group robot of DingTalk (钉钉)."""
    MAIL = "mail"


class DestinationError(ValueError):
    """A destination that cannot be: the message says why."""


@dataclass(frozen=True, slots=True)
class Access:
    """What gives access to a destination. Never in a log, never on a page."""

    query: str = ""
    """Of its URL, without the question mark."""
    secret: str = ""
    """What is signed with: ours for a webhook, the robot's own for DingTalk."""

    def __repr__(self) -> str:
        return "<Access>"


def seal_access(seal: Seal, form: str, address: str, access: Access) -> bytes:
    text = json.dumps({"query": access.query, "secret": access.secret})
    return seal.close(text.encode(), _use(form, address))


def open_access(seal: Seal, form: str, address: str, sealed: bytes | None) -> Access:
    """Raises sealing.SealError."""
    return Access(**json.loads(seal.open(sealed, _use(form, address)))) if sealed else Access()


def _use(form: str, address: str) -> bytes:
    return f"destination {form} {address}".encode()


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's: no loopback, private, link-local, multicast
    or reserved one, nor one of these inside an IPv6 address that carries an IPv4 one. Of IPv6 only
    what is given out for the internet (2000::/3): what else carries an IPv4 address differs from
    network to network."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if found not in _UNICAST or found in _DOCUMENTS:
            return False
    return found.is_global and not found.is_multicast


_UNICAST = ipaddress.ip_network("2000::/3")
_DOCUMENTS = ipaddress.ip_network("3fff::/20")
"""RFC 9637; younger than our Python's table."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def check_url(text: str, *, private: bool) -> URL:
    """The URL, if letters may be sent to it as far as can be told without a name look-up; raises
    DestinationError."""
    if len(text) > ADDRESS_CHARACTERS_MAX or not text.isprintable() or " " in text:
        raise DestinationError("this is no address, or too long a one")
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        raise DestinationError("this is no address: https://... is needed") from None
    if url.scheme not in ("https", "http") or not url.host or port is None:
        raise DestinationError("this is no address: https://... is needed")
    if url.user is not None or url.password is not None:
        raise DestinationError("a user and a password have no place in the address")
    if url.raw_fragment:
        raise DestinationError("a part after # is never sent: leave it out")
    if not private:
        if url.scheme != "https":
            raise DestinationError("only https:// is allowed here")
        try:
            public = is_public(url.host)
        except ValueError:
            if not url.host.strip("0123456789."):
                # Some take 127.1 or 2130706433 for an address, and look no name up.
                raise DestinationError("this is neither a name nor an IP address") from None
            public = True  # a name: couriers.py looks where it leads
        if not public:
            raise DestinationError("this address is in a private network, which is not allowed")
    return url


@dataclass(frozen=True, slots=True)
class NewDestination:
    """One that is to be added, checked."""

    shown_as: str
    form: Form
    address: str
    """As it may be shown."""
    access: Access
    events: tuple[Event, ...]


def check_destination(
    *,
    shown_as: str,
    form: str,
    address: str,
    secret: str,
    events: Iterable[str],
    private: bool,
) -> NewDestination:
    """What somebody typed, as a destination. A webhook's secret is made here. Raises
    DestinationError."""
    shown_as, address, secret = shown_as.strip(), address.strip(), secret.strip()
    if not 0 < len(shown_as) <= NAME_CHARACTERS_MAX or not shown_as.isprintable():
        raise DestinationError("a name of 1 to 64 characters is needed")
    if form not in {known.value for known in Form}:
        raise DestinationError("this form is not known")
    wanted = set(events)
    if not wanted or not wanted <= {event.value for event in WANTED}:
        raise DestinationError("at least one kind of news is needed")
    if len(secret) > SECRET_CHARACTERS_MAX or not (secret.isascii() and secret.isprintable()):
        raise DestinationError("this is no secret of a robot")
    kept = tuple(event for event in WANTED if event.value in wanted)
    if form == Form.MAIL:
        if not _MAIL_ADDRESS.fullmatch(address):
            raise DestinationError("this is no mail address")
        return NewDestination(shown_as, Form.MAIL, address, Access(), kept)
    url = check_url(address, private=private)
    if form == Form.WECOM:
        secret = ""
    elif form == Form.WEBHOOK:
        secret = secrets.token_urlsafe(32)
    return NewDestination(
        shown_as,
        Form(form),
        str(url.with_query(None)),
        Access(url.raw_query_string, secret),
        kept,
    )


async def add_destination(
    connection: asyncpg.Connection, seal: Seal, new: NewDestination, by: str
) -> int:
    """Its number. Raises DestinationError where there are DESTINATIONS_MAX."""
    if await connection.fetchval(SQL["count_destinations"]) >= DESTINATIONS_MAX:
        raise DestinationError("there are 50 destinations already: switch one off")
    sealed = None
    if new.access != Access():
        sealed = seal_access(seal, new.form, new.address, new.access)
    number: int = await connection.fetchval(
        SQL["add_destination"],
        new.shown_as,
        new.form,
        new.address,
        sealed,
        [event.value for event in new.events],
        by,
    )
    return number


async def set_disabled(
    connection: asyncpg.Connection, destination: int, *, disabled: bool
) -> str | None:
    """Switch it off or on, in the caller's transaction; its name, None where it was so already.
    What waits for one that is switched off becomes dead letters, which can be sent again."""
    name: str | None = await connection.fetchval(SQL["set_disabled"], destination, disabled)
    if name is not None and disabled:
        await connection.execute(SQL["give_up_disabled"], destination)
    return name
