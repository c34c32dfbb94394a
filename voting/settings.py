"""Every setting of the service: unit in its name, one sentence each.

Read from environment variables `DIANZAN_*`, then a `.env` file in the working folder, then files
named like the variables in lower case (`dianzan_postgres_dsn`) in the folder that
`DIANZAN_SECRETS_DIR` names.
"""

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65_535)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _cores_less_one() -> int:
    return max(1, len(os.sched_getaffinity(0)) - 1)


def _origin(text: str | None) -> str | None:
    """An address without a path, or ValueError."""
    if text is not None and not re.fullmatch(r"https?://[a-z0-9.\[\]:-]+", text):
        raise ValueError("scheme and host wanted, lower case, without a path: https://example.cn")
    return text


def _origin_with_path(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", text):
        raise ValueError("an address wanted: https://example.cn/realm")
    return text


def _media_url(text: str | None) -> str | None:
    """An address to put paths behind, or ValueError. It stands in pages and their policies, so
    nothing that means something there may be in it."""
    if text is None:
        return None
    if not re.fullmatch(r"https?://[a-z0-9.\[\]:-]+(/[A-Za-z0-9._~-]+)*/?", text):
        raise ValueError("an address wanted: https://media.example.cn, perhaps with a path")
    return text.rstrip("/")


class Settings(BaseSettings):
    """The settings of one process. Immutable; made once, at the start of a command."""

    model_config = SettingsConfigDict(
        env_prefix="DIANZAN_", env_file=".env", extra="ignore", frozen=True
    )

    data_dir: Annotated[Path, AfterValidator(Path.absolute)] = Field(
        default=Path("data"),
        validate_default=True,
        description="Folder of everything that lasts: embedded servers' files, keys, logs.",
    )
    edge_host: str = Field(
        default="127.0.0.1",
        description="Address that the public edge listens on; 0.0.0.0 or :: opens it to others.",
    )
    edge_port: Port = Field(default=8080, description="Port of the public edge; 0 = any free.")
    edge_workers: int = Field(
        default_factory=_cores_less_one,
        ge=1,
        le=256,
        description="Edge processes; by default one per core less one, at least one.",
    )
    edge_connections_max: int = Field(
        default=10_000, ge=1, description="Connections that one edge worker holds at most."
    )
    edge_waiting_max: int = Field(
        default=2_048,
        ge=1,
        description="Ballots that wait in one edge worker at most; past it the answer is 503.",
    )
    edge_queue_ms: int = Field(
        default=1_000,
        ge=10,
        description="While the store has not answered a batch for so long, further likes are "
        "answered 503 at once.",
    )
    console_host: str = Field(
        default="127.0.0.1",
        description="Address that the console listens on; put a proxy that speaks TLS before it.",
    )
    console_port: Port = Field(default=8090, description="Port of the console; 0 = any free.")
    console_origin: Annotated[str | None, AfterValidator(_origin)] = Field(
        default=None,
        description="What browsers call the console, as https://console.example.cn; unset = what "
        "a request says.",
    )
    admin_host: str = Field(
        default="127.0.0.1",
        description="Address that /metrics listens on, of `dianzan up` or of one process; nobody "
        "but Prometheus may reach it.",
    )
    admin_port: Port = Field(default=9090, description="Port of /metrics; 0 = any free.")
    valkey_url: SecretStr | None = Field(
        default=None,
        description="Valkey or Redis 7+ (redis://, rediss://, unix://, or where it moves "
        "sentinel:// or cluster://); unset = embedded.",
    )
    shards: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Shards that the hot state has; the number may grow, and never falls.",
    )
    ack: Literal["local", "replica"] = Field(
        default="local",
        description="When a like is answered: on the primary's disk (local), or on a replica's too "
        "(replica).",
    )
    postgres_dsn: SecretStr | None = Field(
        default=None, description="Postgres 15 or newer; unset = embedded."
    )
    keys_file: Path | None = Field(
        default=None,
        description="File of the installation's keys; unset = secrets/keys.json in data_dir.",
    )
    log_keys_file: Path | None = Field(
        default=None,
        description="File of the keys that sign logs and publications; unset = secrets/log.json in "
        "data_dir.",
    )
    console_key_file: Path | None = Field(
        default=None,
        description="File of the key that the console seals secrets with; unset = "
        "secrets/console.json in data_dir.",
    )
    oidc_issuer: Annotated[str | None, AfterValidator(_origin_with_path)] = Field(
        default=None,
        description="Identity provider that staff may sign in by, as https://id.example.cn/realm; "
        "unset = by password alone.",
    )
    oidc_client_id: str | None = Field(
        default=None, description="What the console is called at the identity provider."
    )
    oidc_client_secret: SecretStr | None = Field(
        default=None,
        description="The console's secret there; unset = a public client, by PKCE alone.",
    )
    secrets_dir: Path | None = Field(
        default=None, description="Folder of files that each hold one setting."
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        default=(),
        description="Networks (CIDR, commas between) whose X-Forwarded-For is believed.",
    )
    networks_file: Path | None = Field(
        default=None,
        description="Table of networks that `dianzan networks build` made, looked at every 10 s; "
        "unset = the built-in one.",
    )
    public_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins (commas between) of the edge's own pages; unset = whatever a "
        "request's Host says.",
    )
    media_url: Annotated[str | None, AfterValidator(_media_url)] = Field(
        default=None,
        description="Where browsers get photos and videos: a CDN before the edge, or a store that "
        "`dianzan media export` fills; unset = from the edge.",
    )
    challenge: Literal["off", "adaptive", "always"] = Field(
        default="adaptive",
        description="Whether a new device must solve a challenge: off, adaptive (above its "
        "network's capacity, or where a like looks odd) or always.",
    )
    demo: bool = Field(
        default=True,
        description="Import the demo campaign into an empty database and show its page at /.",
    )
    fast_lane: Literal["on", "off"] = Field(
        default="on",
        description="Whether hot requests are answered straight from their bytes; off leaves "
        "aiohttp alone, with the same answers at about twice the cost.",
    )
    store_timeout_ms: int = Field(
        default=2_000,
        ge=50,
        description="How long the edge waits for the store before it answers 503.",
    )
    store_memory_ceiling_percent: int = Field(
        default=90,
        ge=1,
        le=100,
        description="Share of the store's maxmemory at which the edge stops taking likes (503).",
    )
    store_memory_mb: int | None = Field(
        default=None,
        ge=32,
        description="maxmemory of the embedded Valkey in MiB; unset = 45 % of the machine's RAM.",
    )
    flush_every_ms: int = Field(
        default=250, ge=10, description="Pause of the flusher after a batch that was not full."
    )
    watch_every_seconds: int = Field(
        default=300,
        ge=1,
        description="How often the detectors look at the votes of the last two hours.",
    )
    journal_retain_mb: int = Field(
        default=64,
        ge=1,
        description="Flushed journal that is kept in the store for recovery, in MiB.",
    )
    store_rewrite_mb: int = Field(
        default=4_096,
        ge=16,
        description="Growth of the store's append-only file, in MiB, after which the flusher asks "
        "for its rewrite.",
    )
    private_destinations: bool = Field(
        default=False,
        description="Whether news may be sent to addresses in private networks, and by plain http.",
    )
    smtp_url: SecretStr | None = Field(
        default=None,
        description="Mail server for news, smtp://user:password@host:587 (STARTTLS) or "
        "smtps://host:465; unset = no mail.",
    )
    mail_from: str | None = Field(default=None, description="Sender of the news that goes by mail.")
    alert_flag_places: int = Field(
        default=3,
        ge=1,
        description="A flag that moves a candidate by so many places is sent as an alert.",
    )
    alert_flag_votes: int = Field(
        default=1_000, ge=1, description="A flag of so many votes is sent as an alert."
    )
    alert_lag_seconds: int = Field(
        default=60,
        ge=5,
        description="How far Postgres or the log may be behind before an alert is sent.",
    )
    alert_disk_percent: int = Field(
        default=90, ge=1, le=99, description="How full the disk of data_dir may be before an alert."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity that is logged."
    )

    @field_validator("trusted_proxies", "public_origins", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, file_secret_settings

    def admin_address(self, *, supervised: bool) -> tuple[str, int]:
        """Where one process has its /metrics: below a supervisor, which has the address of the
        settings and asks us, on any free port of the loopback."""
        return ("127.0.0.1", 0) if supervised else (self.admin_host, self.admin_port)

    @property
    def keys_path(self) -> Path:
        return self.keys_file or self.data_dir / "secrets" / "keys.json"

    @property
    def log_keys_path(self) -> Path:
        return self.log_keys_file or self.data_dir / "secrets" / "log.json"

    @property
    def last_signed_path(self) -> Path:
        """What those keys signed last."""
        return self.data_dir / "last-signed.json"

    @property
    def media_path(self) -> Path:
        """Folder of the videos."""
        return self.data_dir / "media"

    @property
    def console_key_path(self) -> Path:
        return self.console_key_file or self.data_dir / "secrets" / "console.json"


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process; pydantic.ValidationError names each one that is wrong."""
    folder = overrides.get("secrets_dir") or os.environ.get("DIANZAN_SECRETS_DIR")
    return Settings(_secrets_dir=folder, **overrides)
