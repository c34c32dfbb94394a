"""Those who receive news, for tests: webhooks that take it, hang, dawdle or lead elsewhere; robots;
a mail server."""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field

HEAD = b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"


@dataclass
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Receiver:
    """A web server on loopback. `answer`: (status, body), or an async function of the request and
    its writer that answers itself."""

    answer: object = (200, b"{}")
    headers: bytes = b""
    received: list[Received] = field(default_factory=list)
    url: str = ""
    _serving: set = field(default_factory=set)

    async def _serve(self, reader, writer):
        self._serving.add(asyncio.current_task())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            line, *fields = head.decode().split("\r\n")
            headers = dict(one.split(": ", 1) for one in fields if one)
            body = await reader.readexactly(int(headers["Content-Length"]))
            request = Received(line.split(" ")[1], headers, body)
            self.received.append(request)
            if callable(self.answer):
                await self.answer(request, writer)
            else:
                status, said = self.answer
                writer.write(HEAD % (status, len(said), self.headers) + said)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the sender lost patience, or the test is over
        finally:
            writer.close()

    async def _end(self):
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving)


@contextlib.asynccontextmanager
async def receiver(answer=(200, b"{}"), *, headers=b""):
    """A receiver at `url`."""
    made = Receiver(answer, headers)
    server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        await made._end()


async def hang(request, writer):
    """Never answers."""
    await asyncio.Event().wait()


async def dawdle(request, writer):
    """One byte of the answer every 50 ms, for ever."""
    with contextlib.suppress(ConnectionError):
        writer.write(HEAD % (200, 1_000_000, b""))
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)


async def dawdle_with_the_head(request, writer):
    """The same with the head of the answer."""
    with contextlib.suppress(ConnectionError):
        writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not writer.is_closing():
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def mail_server(*, hangs=False, refuses=False):
    """(url, mails) of an SMTP server without TLS on loopback; mails as (from, to, text)."""
    mails = []

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            await _speak(reader, writer)
        writer.close()

    async def _speak(reader, writer):
        def say(line):
            writer.write(line.encode() + b"\r\n")

        say("220 stand-in")
        sender = to = ""
        while line := (await reader.readline()).decode().strip():
            word = line.upper()
            if word.startswith("MAIL"):
                if hangs:
                    await reader.read()
                    return
                sender = line
                say("250 ok")
            elif word.startswith("RCPT"):
                to = line
                say("550 nobody here" if refuses else "250 ok")
            elif word == "DATA":
                say("354 go on")
                text = await reader.readuntil(b"\r\n.\r\n")
                mails.append((sender, to, text))
                say("250 taken")
            elif word == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}", mails
    finally:
        server.close()
