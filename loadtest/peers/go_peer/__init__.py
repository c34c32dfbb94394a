"""The peers in Go: their source lies beside this file, and this builds and becomes them.

Nothing is fetched: Go and the one package that is used, redigo, are Debian's (`apt-get install
golang-go golang-github-gomodule-redigo-dev`).
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from loadtest.crowds import ORIGIN
from loadtest.peers.checks import ABSENT, CAMPAIGN, CANDIDATES, Setup

_SOURCE = Path(__file__).parent
_GO_FOLDERS = ("/usr/lib/go/bin", "/usr/local/go/bin")
_DEBIAN_GOPATH = Path("/usr/share/gocode")
_REDIGO = _DEBIAN_GOPATH / "src/github.com/gomodule/redigo/redis"

# Kindnesses, as our own edge has some; who sets another value in the environment gets that.
# Measured on one core, closed loop of 128 connections, rounds interleaved.
_RUNTIME = {
    # It is pinned to one core only after it started. With two threads that take turns there a like
    # costs the same, and the slowest percent waits a third longer.
    "GOMAXPROCS": "1",
    # A garbage collection at five times what lives, not at twice: a tenth less per like, for 10 MB.
    "GOGC": "400",
}


def become(setup: Setup, mode: str, library: Path) -> NoReturn:
    """Build the program and execute it in this process's place. `mode`: "call", the function of
    this library is called per like, or "group", per batch. Ends with ABSENT where Go or redigo is
    not installed, and with the compiler's words where it does not build."""
    program = _build(Path(setup.folder))
    told = {
        "mode": mode,
        "library": library,
        "campaign": CAMPAIGN,
        "candidates": len(CANDIDATES),
        "origin": ORIGIN,
    }
    options = [f"-{name}={value}" for name, value in told.items()]
    os.execve(program, [program.name, *options], {**_RUNTIME, **os.environ})  # noqa: S606


def _build(folder: Path) -> Path:
    go = shutil.which("go") or shutil.which("go", path=os.pathsep.join(_GO_FOLDERS))
    if go is None:
        _absent("Go is not installed: apt-get install golang-go")
    if not _REDIGO.is_dir():
        _absent("redigo is not installed: apt-get install golang-github-gomodule-redigo-dev")
    program = folder / "go-peer"
    done = subprocess.run(
        [go, "build", "-o", program, "."],
        cwd=_SOURCE,
        env={
            **os.environ,
            "GO111MODULE": "off",
            "GOPATH": f"{folder / 'gopath'}{os.pathsep}{_DEBIAN_GOPATH}",
            "GOFLAGS": "",
            "GOPROXY": "off",
            "GOCACHE": str(_cache(folder)),
            # No C compiler is needed then.
            "CGO_ENABLED": "0",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"go build: {done.stderr.strip()}")
    return program


def _cache(folder: Path) -> Path:
    """Where Go keeps what it has built: a first build takes seconds, another one."""
    if given := os.environ.get("GOCACHE"):
        return Path(given)
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "go-build"
    try:
        own.mkdir(parents=True, exist_ok=True)
    except OSError:
        return folder / "go-build"
    return own if os.access(own, os.W_OK) else folder / "go-build"


def _absent(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    sys.exit(ABSENT)
