"""campaign.toml -> Manifest: what the campaign is, when it is open, and by which rules."""

import base64
import ipaddress
import re
import tomllib
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import ErrorDetails

from antifraud.limits import Rate
from voting.campaign import Identity, Limits, Order, Page, Rules, Visibility, VotingWindow
from voting.identity import KeyFault, read_key
from voting.intake.problems import Problem, error, warning
from voting.intake.text import clean, fault_of, in_paragraphs, private_use

FILE = "campaign.toml"
_BYTES_MAX = 64 * 1024
_NO_PAGE = Page()


@dataclass(frozen=True, slots=True)
class Manifest:
    """One campaign.toml, checked."""

    id: str
    title: str
    window: VotingWindow
    rules: Rules
    limits: Limits
    origins: tuple[str, ...]
    channels: dict[str, int] | None
    """Channel -> most candidates per unit; None where the file does not say."""
    page: Page = _NO_PAGE
    """Its cover is not known here."""
    cover: str | None = None
    """Name of a file."""
    portal_keys: Mapping[str, str] = field(default_factory=dict)
    """Origin of a portal -> its public key, 32 bytes in base64."""


def read_manifest(folder: Path) -> tuple[Manifest | None, list[Problem]]:
    """The manifest, or what is wrong with it, every key at once."""
    try:
        with (folder / FILE).open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
    except FileNotFoundError:
        return None, [error(FILE, "is missing")]
    except OSError as why:
        return None, [error(FILE, f"cannot be read: {why.strerror}")]
    if len(content) > _BYTES_MAX:
        return None, [error(FILE, f"is larger than {_BYTES_MAX // 1024} kB")]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as why:
        line = content.count(b"\n", 0, why.start) + 1
        return None, [error(FILE, "is not UTF-8: save it in that encoding", row=line)]
    try:
        held = tomllib.loads(text)
    except RecursionError:
        return None, [error(FILE, "is nested too deeply")]
    except ValueError as why:  # TOMLDecodeError, or a whole number of thousands of digits
        return None, [error(FILE, f"is no TOML: {why}", row=_line_of(str(why), text))]
    try:
        manifest = _File.model_validate(held).as_manifest()
    except ValidationError as why:
        return None, [_problem(details) for details in why.errors(include_url=False)]
    return manifest, [
        warning(
            FILE,
            f"holds U+{ord(rare):04X}, which most devices cannot show",
            column=f"page.{name}",
        )
        for name in ("lead", "about", "organiser", "contact")
        if (rare := private_use(getattr(manifest.page, name)))
    ]


def _line_of(message: str, text: str) -> int | None:
    # tomllib has the line in its message alone before Python 3.14.
    found = re.search(r"at line (\d+)", message)
    if found:
        return int(found[1])
    return len(text.splitlines()) or 1 if "end of document" in message else None


_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not a known key",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "list_type": "must be a list of texts",
}
"""Pydantic's error types in words of the file; other errors speak for themselves."""


def _problem(details: ErrorDetails) -> Problem:
    column = ".".join(str(key) for key in details["loc"] if isinstance(key, str) and key != "[key]")
    message = _WORDS.get(details["type"], details["msg"]).removeprefix("Value error, ")
    given = details["input"]
    # Somebody may have pasted a private key: it goes into no list of problems.
    is_key = column.startswith("portal.keys.") and details["loc"][-1] != "[key]"
    silent = details["type"] == "missing" or isinstance(given, dict) or is_key
    shown = None if silent else str(given)
    return error(FILE, message, column=column, value=shown)


# What each kind of value must look like.


def _moment(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, datetime):
        raise ValueError("must be a date and time with offset, as in 2026-11-01T08:00:00+08:00")
    if value.utcoffset() is None:
        raise ValueError("has no offset: write one, as in 2026-11-01T08:00:00+08:00")
    if not 2000 <= value.year < 2100:
        raise ValueError("must be between 2000 and 2099")
    return value


def _minute(value: Any) -> time:
    if not isinstance(value, str) or not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", value):
        raise ValueError('must be an hour and minute in quotes, as in "18:00"')
    return time.fromisoformat(value)


def _rate(value: Any) -> Rate:
    if not isinstance(value, str):
        raise ValueError('must be a rate in quotes, as in "30/minute"')
    return Rate.parse(value)


def _zone(value: Any) -> zoneinfo.ZoneInfo:
    # Asked of the list first: ZoneInfo itself opens whatever path it is given.
    if not isinstance(value, str) or value not in zoneinfo.available_timezones():
        raise ValueError('must be a known time zone, as in "Asia/Shanghai"')
    return zoneinfo.ZoneInfo(value)


def _line(value: Any) -> Any:
    """One line of sound text; pydantic looks at type and length."""
    if isinstance(value, str):
        value = clean(value)
        if fault := fault_of(value):
            raise ValueError(fault)
    return value


def _paragraphs(value: Any) -> Any:
    """The same of several paragraphs; more blank lines, and none, make one break."""
    if isinstance(value, str):
        value = in_paragraphs(clean(value))
        if fault := fault_of(value, paragraphs=True):
            raise ValueError(fault)
    return value


def _colour(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch("#[0-9A-Fa-f]{6}", value):
        raise ValueError('must be a colour as in "#b8291a"')
    return value.lower()


_ORIGIN = re.compile(r"(https?)://([^/?#@\s]*?)(?::([0-9]{1,5}))?", re.IGNORECASE)
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(value: Any) -> str:
    """As a browser writes it into Origin: lower case, and no port that goes without saying."""
    found = _ORIGIN.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError(
            'must be scheme://host or scheme://host:port alone, as in "https://www.example.cn" '
            "(no path, not even a slash at the end)"
        )
    scheme, host, port = found[1].lower(), found[2].lower(), int(found[3] or 0)
    if host.startswith("["):
        try:
            host = f"[{ipaddress.IPv6Address(host.removeprefix('[').removesuffix(']'))}]"
        except ValueError:
            raise ValueError("names no host") from None
    elif len(host) > 253 or not _HOST.fullmatch(host):
        raise ValueError("names no host (one with Chinese characters is written as xn--...)")
    if port > 65_535:
        raise ValueError("has a port above 65535")
    shown_port = f":{port}" if port and port != _DEFAULT_PORTS[scheme] else ""
    return f"{scheme}://{host}{shown_port}"


Moment = Annotated[datetime, PlainValidator(_moment)]
OneRate = Annotated[Rate, PlainValidator(_rate)]
Zone = Annotated[zoneinfo.ZoneInfo, PlainValidator(_zone)]
Origin = Annotated[str, PlainValidator(origin_of)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Campaign(_Table):
    id: str = Field(max_length=48)
    title: Annotated[str, BeforeValidator(_line)] = Field(min_length=1, max_length=100)
    time_zone: Zone
    opens_at: Moment
    closes_at: Moment

    @field_validator("id")
    @classmethod
    def _is_an_id(cls, value: str) -> str:
        # It stands in URLs and key names. fullmatch: "$" would let a line break pass.
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", value):
            raise ValueError("must be of a-z, 0-9 and -, and not begin with -")
        return value

    @field_validator("closes_at")
    @classmethod
    def _after_opening(cls, value: datetime, info: ValidationInfo) -> datetime:
        opens_at = info.data.get("opens_at")
        if opens_at is not None and value <= opens_at:
            raise ValueError(f"must come after opens_at ({opens_at})")
        return value


_RULES = Rules()
_LIMITS = Limits()


class _Rules(_Table):
    # A device's record of the day grows with each of these, so each has an upper bound.
    likes_per_candidate_per_day: int = Field(_RULES.likes_per_candidate_per_day, ge=1, le=100)
    candidates_per_day: int = Field(_RULES.candidates_per_day, ge=0, le=65_535)
    likes_per_campaign: int = Field(_RULES.likes_per_campaign, ge=0, le=1_000_000)
    order: Order = Field(_RULES.order, strict=False)
    counts: Visibility = Field(_RULES.counts, strict=False)
    counts_daily_at: Annotated[time, PlainValidator(_minute)] = _RULES.counts_daily_at


class _Limits(_Table):
    per_device: OneRate = _LIMITS.per_device
    per_network: OneRate = _LIMITS.per_network


def _portal_key(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a public key in quotes, as `dianzan portal key` prints it")
    read = read_key(value)
    if isinstance(read, KeyFault):
        raise ValueError(read.value)
    return base64.b64encode(read).decode()


PortalKey = Annotated[str, PlainValidator(_portal_key)]


class _Portal(_Table):
    origins: list[Origin] = Field([], max_length=100)
    keys: dict[Origin, PortalKey] = Field({}, max_length=100)
    identity: Identity = Field(_RULES.identity, strict=False)

    @field_validator("keys", mode="wrap")
    @classmethod
    def _are_portals(
        cls, value: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> dict[str, str]:
        keys: dict[str, str] = read(value)
        if len(keys) < len(value):
            raise ValueError("names a portal twice")
        for origin in keys:
            if origin not in info.data.get("origins", keys):
                raise ValueError(f"names {origin}, which is none of portal.origins")
        return keys

    @field_validator("identity")
    @classmethod
    def _somebody_vouches(cls, value: Identity, info: ValidationInfo) -> Identity:
        if value is Identity.REQUIRED and not info.data.get("keys", True):
            raise ValueError("is required, and no portal has a key: nobody could like")
        return value


_Line = Annotated[str, BeforeValidator(_line)]


class _Page(_Table):
    lead: _Line = Field("", max_length=120)
    about: Annotated[str, BeforeValidator(_paragraphs)] = Field("", max_length=5_000)
    organiser: _Line = Field("", max_length=100)
    contact: _Line = Field("", max_length=200)
    colour: Annotated[str, PlainValidator(_colour)] = ""
    cover: _Line | None = Field(None, min_length=1, max_length=200)


def _distinct(value: Any) -> Any:
    if isinstance(value, dict) and len({clean(name) for name in value}) < len(value):
        raise ValueError("names a channel twice")
    return value


_Channel = Annotated[str, BeforeValidator(_line), Field(min_length=1, max_length=20)]
_Quota = Annotated[int, Field(ge=1, le=65_535)]
_Channels = Annotated[dict[_Channel, _Quota] | None, BeforeValidator(_distinct)]


class _File(_Table):
    campaign: _Campaign
    rules: _Rules = _Rules()
    limits: _Limits = _Limits()
    portal: _Portal = _Portal()
    page: _Page = _Page()
    channels: _Channels = Field(None, min_length=1, max_length=100)

    def as_manifest(self) -> Manifest:
        campaign = self.campaign
        zone = campaign.time_zone
        return Manifest(
            campaign.id,
            campaign.title,
            VotingWindow(campaign.opens_at, campaign.closes_at, zone),
            Rules(**dict(self.rules), identity=self.portal.identity),
            Limits(**dict(self.limits)),
            tuple(dict.fromkeys(self.portal.origins)),
            self.channels,
            Page(**self.page.model_dump(exclude={"cover"})),
            self.page.cover,
            self.portal.keys,
        )
