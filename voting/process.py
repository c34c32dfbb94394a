"""What every long-lived process of ours has in common: how it starts, speaks, logs and stops.

`dianzan up` starts its children with two descriptors, both optional, so that each of them also
runs alone (systemd, a container):

    --ready-fd R      the child writes one line of JSON to it when it serves, and closes it
    --lifeline-fd L   the read end of a pipe that nobody writes to: its end means that the
                      supervisor is gone, however it went, and the child stops in order

A body looks like this:

    async def serve(child: Child) -> None:
        ...
        child.announce({"admin": "http://127.0.0.1:9100"})
        await child.stop_event.wait()
        ...

    process.run(serve, log_level=settings.log_level, ready_fd=ready_fd, lifeline_fd=lifeline_fd)
"""

import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, MutableMapping
from types import TracebackType
from typing import Any, Self, TextIO

import structlog
import uvloop

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

# Characters that a terminal or a reader of lines takes for more than text: C0, DEL, C1 and the
# separators of Unicode. A client's bytes in a log must not end a line or move the cursor.
_CONTROL = {code: f"\\u{code:04x}" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}


class Child:
    """One process and whoever started it. Used inside a running event loop:

    with Child(ready_fd, lifeline_fd) as child: ...

    `stop_event` is set by SIGTERM, by SIGINT and by the end of the lifeline, and stays set; a
    second signal changes nothing, so an orderly stop cannot be cut short by impatience (kill -9
    can, and the service is built to bear it).

    Weakness: a loop that is blocked sees none of the three.
    """

    def __init__(self, ready_fd: int | None = None, lifeline_fd: int | None = None) -> None:
        self.stop_event = asyncio.Event()
        self._ready_fd = ready_fd
        self._lifeline_fd = lifeline_fd
        for descriptor in (ready_fd, lifeline_fd):
            if descriptor is not None:
                # Not for our own children: one that kept ready_fd open would keep the
                # supervisor waiting.
                os.set_inheritable(descriptor, False)

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self.stop_event.set)
        if self._lifeline_fd is not None:
            os.set_blocking(self._lifeline_fd, False)
            loop.add_reader(self._lifeline_fd, self._read_lifeline, self._lifeline_fd)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        if self._lifeline_fd is not None:
            loop.remove_reader(self._lifeline_fd)
            os.close(self._lifeline_fd)
            self._lifeline_fd = None
        self._close_ready()
        # The signal handlers stay: a second SIGTERM while the interpreter winds down must not
        # turn an orderly end into a killed one.

    def announce(self, facts: dict[str, Any] | None = None) -> None:
        """Tell the starter, once, that this process serves; `facts` such as {"admin": URL}.

        Does nothing where nobody asked, or where the starter is gone.
        """
        if self._ready_fd is None:
            return
        # One write of less than PIPE_BUF bytes: it comes whole or not at all.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._ready_fd, json.dumps(facts or {}).encode() + b"\n")
        self._close_ready()

    def _close_ready(self) -> None:
        if self._ready_fd is not None:
            os.close(self._ready_fd)
            self._ready_fd = None

    def _read_lifeline(self, descriptor: int) -> None:
        try:
            ended = not os.read(descriptor, 64)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            asyncio.get_running_loop().remove_reader(descriptor)
            self.stop_event.set()


def run(
    body: Callable[[Child], Coroutine[Any, Any, None]],
    *,
    process: str | None = None,
    log_level: str = "info",
    ready_fd: int | None = None,
    lifeline_fd: int | None = None,
) -> None:
    """Run one child's body to its end, on uvloop, with logs and limits set up."""

    async def whole_life() -> None:
        try:
            with Child(ready_fd, lifeline_fd) as child:
                await body(child)
        finally:
            # The loop gives signals their default back when it closes, and a second SIGTERM would
            # end the process there as if it had been killed.
            signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)

    configure_logging(log_level, process=process)
    raise_open_files_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole_life())


def raise_open_files_limit() -> int:
    """Let this process hold as many connections as the system grants; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS names a hard limit that it refuses
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def configure_logging(level: str = "info", *, process: str | None = None) -> None:
    """Logs to stderr, one line an event: JSON, or something for eyes where stderr is a terminal.

    The standard library's loggers (aiohttp, asyncio) go the same way. `process` is put into
    every line. No event can break a line: control characters are escaped, in names of clients'
    making too. A stderr that nobody reads any more (`dianzan up | head`) loses lines and never
    raises into whoever logs.

    Weakness: a terminal that is stopped (Ctrl-S) blocks who writes to it.
    """
    least = _LEVELS[level]
    eyes = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if eyes else "iso", utc=not eyes),
        structlog.stdlib.ExtraAdder(),
        _with_process(process),
    ]
    closing: list[structlog.typing.Processor]
    if eyes:
        # Plain tracebacks: rich's would print local variables, and with them keys and tokens.
        closing = [
            _escape_control_characters,
            structlog.dev.ConsoleRenderer(exception_formatter=_write_traceback),
        ]
    else:
        closing = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_dumps)]
    output = _Stderr()
    structlog.configure(
        processors=[*shared, *closing],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(file=output),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    handler: logging.StreamHandler[Any] = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *closing],
        )
    )
    logging.basicConfig(level=least, handlers=[handler], force=True)


def _with_process(process: str | None) -> structlog.typing.Processor:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if process is not None:
            event.setdefault("process", process)
        return event

    return add


def _escape_control_characters(
    _: Any, __: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if name == "exc_info":
            continue  # becomes a traceback later
        if isinstance(value, str):
            event[name] = value.translate(_CONTROL)
        elif isinstance(value, BaseException | bytes):
            event[name] = repr(value).translate(_CONTROL)
    return event


def _write_traceback(output: TextIO, error: Any) -> None:
    for line in "".join(traceback.format_exception(*error)).splitlines():
        output.write("\n" + line.translate(_CONTROL))


def _dumps(event: Any, default: Callable[[Any], Any] | None = None, **_: Any) -> str:
    # Chinese stays legible. json escapes C0; DEL, C1 and the separators are ours to escape, and
    # \\uXXXX is how JSON writes them too.
    text = json.dumps(event, ensure_ascii=False, default=default)
    return text.translate(_CONTROL)


class _Stderr:
    """sys.stderr that never raises: a lost log line must not become a lost like."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            # Whole lines in one write, so that several processes' lines do not mix.
            return sys.stderr.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
