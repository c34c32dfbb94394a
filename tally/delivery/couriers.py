"""Couriers: one for each form of destination.

**Webhook.** A POST of JSON:

    {"id": "...", "event": "published", "subject": "demo/3", "made_at": "...", "content": {...}}

    Dianzan-Event: published
    Dianzan-Id: 0d5e...            the same however often it comes: know it again by this
    Dianzan-Timestamp: 1785000000  epoch seconds of this try
    Dianzan-Signature: v1=<64 hex digits>

Its receiver checks it before anything else:

    want = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    hmac.compare_digest("v1=" + want, signature) and abs(time.time() - int(timestamp)) < 300

`secret` is the text that was shown when the destination was added, `body` the bytes as they came.
Any 2xx within 10 s takes it; everything else, redirects included, does not, and it comes again.

**WeCom and DingTalk.** A text message by the group robot's own address; taken where `errcode` is 0.
DingTalk's is signed where the robot has a secret: Base64 of HMAC-SHA256(secret, timestamp in
milliseconds, newline, secret) goes into the query (open.dingtalk.com, 自定义机器人安全设置). A
WeCom robot takes 20 messages a minute and 2,048 bytes of text (developer.work.weixin.qq.com,
群机器人配置说明).

**Mail.** By the server of DIANZAN_SMTP_URL, over TLS or not at all, except to this machine.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
import smtplib
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver
from pydantic import SecretStr
from yarl import URL

from tally.accounts.sealing import Seal, SealError
from tally.delivery.destinations import (
    Access,
    DestinationError,
    Form,
    check_url,
    is_public,
    open_access,
)
from tally.delivery.messages import Message, message
from tally.delivery.outbox import DEADLINE_SECONDS, Addressee, Letter, NotTaken
from voting.settings import Settings

ANSWER_BYTES_MAX = 4_096
WECOM_TEXT_BYTES_MAX = 2_000
DINGTALK_TEXT_BYTES_MAX = 15_000
_MAILS_AT_ONCE = 4


class _PrivateAddress(OSError):
    """A name leads into a private network."""


class _PublicOnly(ThreadedResolver):
    """Looks names up, and gives public addresses alone. Those that it gives are those that are
    connected to: a name cannot point elsewhere in between."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        public = [address for address in found if is_public(address["host"])]
        if not public:
            raise _PrivateAddress(None, "leads into a private network")
        return public


class Couriers:
    """Delivers letters; holds the connections and the key. `deliver` raises NotTaken where a letter
    was not taken, and is cut short by its caller's deadline."""

    def __init__(self, settings: Settings) -> None:
        self._private = settings.private_destinations
        self._key_path = settings.console_key_path
        self._seal: Seal | None = None
        self._smtp = settings.smtp_url
        self._mail_from = settings.mail_from
        self._session: aiohttp.ClientSession | None = None
        self._mail_threads = ThreadPoolExecutor(_MAILS_AT_ONCE, "mail")

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=ThreadedResolver() if self._private else _PublicOnly(),
                use_dns_cache=False,
                force_close=True,  # news is rare; a kept connection may be dead by then
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS),
            headers={"User-Agent": "Dianzan", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
        self._mail_threads.shutdown(wait=False, cancel_futures=True)

    async def deliver(self, letter: Letter, to: Addressee) -> None:
        """Raises NotTaken; its text names no secret."""
        try:
            access = open_access(self._console_seal(), to.form, to.address, to.secret)
        except SealError as why:
            raise NotTaken(f"its secret does not open: {why}") from None
        try:
            match Form(to.form):
                case Form.WEBHOOK:
                    await self._post_webhook(letter, to, access)
                case Form.WECOM:
                    await self._post_wecom(letter, to, access)
                case Form.DINGTALK:
                    await self._post_dingtalk(letter, to, access)
                case Form.MAIL:
                    await self._mail(letter, to)
        except NotTaken as why:
            raise NotTaken(_without(str(why), access)) from None
        except DestinationError as why:
            raise NotTaken(str(why)) from None
        except aiohttp.ClientConnectorDNSError as why:
            if isinstance(why.os_error, _PrivateAddress):
                raise NotTaken("its name leads into a private network") from None
            raise NotTaken("its name cannot be looked up") from None
        except aiohttp.ClientConnectorCertificateError:
            raise NotTaken("its certificate is not good") from None
        except aiohttp.ClientConnectorError as why:
            raise NotTaken(f"cannot be reached: {why.strerror}") from None
        except aiohttp.ClientError as why:
            # Only its kind: a text could quote the whole address.
            raise NotTaken(f"the connection failed: {type(why).__name__}") from None

    def _console_seal(self) -> Seal:
        # Late: who sends nothing needs no key file.
        if self._seal is None:
            self._seal = Seal.load_or_make(self._key_path)
        return self._seal

    # Webhook and robots.

    async def _post_webhook(self, letter: Letter, to: Addressee, access: Access) -> None:
        body = webhook_body(letter)
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Dianzan-Event": letter.event.value,
            "Dianzan-Id": str(letter.id),
            "Dianzan-Timestamp": str(timestamp),
            "Dianzan-Signature": webhook_signature(access.secret, timestamp, body),
        }
        # The status is all that counts: what comes after it is not waited for.
        await self._post(to, access.query, body, headers, reads=False)

    async def _post_wecom(self, letter: Letter, to: Addressee, access: Access) -> None:
        said = _said(letter).whole(WECOM_TEXT_BYTES_MAX)
        await self._post_robot(to, access.query, said)

    async def _post_dingtalk(self, letter: Letter, to: Addressee, access: Access) -> None:
        said = _said(letter).whole(DINGTALK_TEXT_BYTES_MAX)
        query = access.query
        if access.secret:
            signed = dingtalk_query(access.secret, int(time.time() * 1000))
            query = f"{query}&{signed}" if query else signed
        await self._post_robot(to, query, said)

    async def _post_robot(self, to: Addressee, query: str, text: str) -> None:
        body = json.dumps({"msgtype": "text", "text": {"content": text}}, ensure_ascii=False)
        headers = {"Content-Type": "application/json; charset=utf-8"}
        answer = await self._post(to, query, body.encode(), headers, reads=True)
        try:
            said = json.loads(answer)
            code, why = said["errcode"], said.get("errmsg", "")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise NotTaken("the robot's answer is none of a robot's") from None
        if code != 0:
            raise NotTaken(f"errcode {str(code)[:20]}: {str(why)[:200]}")

    async def _post(
        self, to: Addressee, query: str, body: bytes, headers: dict[str, str], *, reads: bool
    ) -> bytes:
        """The first ANSWER_BYTES_MAX of a 2xx answer's body, nothing where it is not read."""
        if self._session is None:
            raise RuntimeError("couriers are at work inside `async with` only")
        check_url(to.address, private=self._private)
        # Encoded already: a robot's signature must not be quoted once more.
        url = URL(f"{to.address}?{query}" if query else to.address, encoded=True)
        async with self._session.post(
            url, data=body, headers=headers, allow_redirects=False
        ) as answer:
            if not 200 <= answer.status < 300:
                raise NotTaken(f"answered with status {answer.status}")
            read = b""
            while reads and len(read) < ANSWER_BYTES_MAX:
                chunk = await answer.content.read(ANSWER_BYTES_MAX - len(read))
                if not chunk:
                    break
                read += chunk
            answer.close()  # whatever else it has to say
            return read

    # Mail.

    async def _mail(self, letter: Letter, to: Addressee) -> None:
        if self._smtp is None or not self._mail_from:
            raise NotTaken("no mail server: set DIANZAN_SMTP_URL and DIANZAN_MAIL_FROM")
        server = mail_server(self._smtp)
        envelope = mail_envelope(letter, to.address, self._mail_from)
        sending = _Mailing(server, envelope)
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._mail_threads, sending.send)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            # Out of time. The thread cannot be cancelled, but its connection can.
            sending.cut_short()
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        except smtplib.SMTPResponseException as why:
            raise NotTaken(f"the mail server answered {why.smtp_code}") from None
        except smtplib.SMTPRecipientsRefused:
            raise NotTaken("the mail server refused the recipient") from None
        except ssl.SSLError:
            raise NotTaken("the mail server's TLS is not good") from None
        except (smtplib.SMTPException, OSError) as why:
            raise NotTaken(f"the mail server failed: {type(why).__name__}") from None


def _said(letter: Letter) -> Message:
    return message(letter.event, letter.subject, letter.content)


def _without(text: str, access: Access) -> str:
    """The text without what gives access: a server may quote what it was sent."""
    for secret in (access.query, access.secret, *re.findall(r"=([^&]{6,})", access.query)):
        if secret:
            text = text.replace(secret, "***")
    return text


def webhook_body(letter: Letter) -> bytes:
    """The same bytes for every try."""
    return json.dumps(
        {
            "id": str(letter.id),
            "event": letter.event.value,
            "subject": letter.subject,
            "made_at": letter.made_at.isoformat(timespec="milliseconds"),
            "content": letter.content,
        },
        ensure_ascii=False,
    ).encode()


def webhook_signature(secret: str, timestamp: int, body: bytes) -> str:
    """Of this body at this time; the module's docstring says how it is checked."""
    signed = hmac.digest(secret.encode(), b"%d." % timestamp + body, hashlib.sha256)
    return f"v1={signed.hex()}"


def dingtalk_query(secret: str, now_ms: int) -> str:
    """timestamp and sign, quoted for a URL."""
    signed = hmac.digest(secret.encode(), f"{now_ms}\n{secret}".encode(), hashlib.sha256)
    quoted = base64.b64encode(signed).decode()
    for character, code in (("+", "%2B"), ("/", "%2F"), ("=", "%3D")):
        quoted = quoted.replace(character, code)
    return f"timestamp={now_ms}&sign={quoted}"


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed in."""

    host: str
    port: int
    tls_at_once: bool
    """smtps://: TLS from the first byte; else STARTTLS."""
    user: str
    password: str

    def __repr__(self) -> str:
        return f"<MailServer {self.host}:{self.port}>"


def mail_server(url: SecretStr) -> MailServer:
    """Out of DIANZAN_SMTP_URL; raises NotTaken."""
    try:
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError
        at_once = parts.scheme == "smtps"
        port = parts.port or (465 if at_once else 587)
    except ValueError:
        # No cause: its text could quote the password.
        raise NotTaken("DIANZAN_SMTP_URL is none: smtp://user:password@host:587") from None
    return MailServer(
        parts.hostname,
        port,
        at_once,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )


def mail_envelope(letter: Letter, to: str, sender: str) -> EmailMessage:
    """The mail. Raises NotTaken for an address with a line break or whatever else is no address:
    nothing can add a header."""
    said = _said(letter)
    mail = EmailMessage()
    try:
        mail["From"], mail["To"], mail["Subject"] = sender, to, said.title
        mail["Date"] = format_datetime(letter.made_at)
        domain = re.sub(r"[^A-Za-z0-9.-]", "", sender.rpartition("@")[2]) or "localhost"
        mail["Message-ID"] = f"<{letter.id}@{domain}>"
        mail["Dianzan-Id"] = str(letter.id)
        mail["Auto-Submitted"] = "auto-generated"
    except (ValueError, IndexError):
        raise NotTaken("an address of the mail is none") from None
    mail.set_content(said.text + "\n")
    return mail


class _Mailing:
    """One mail on its way, in a thread."""

    def __init__(self, server: MailServer, mail: EmailMessage) -> None:
        self._server = server
        self._mail = mail
        self._smtp: smtplib.SMTP | None = None
        self._cut = False

    def send(self) -> None:
        if self._cut:
            return
        server, tls = self._server, ssl.create_default_context()
        # Its own name would be looked up, which may take long.
        options: dict[str, Any] = {"timeout": DEADLINE_SECONDS, "local_hostname": "localhost"}
        smtp = (
            smtplib.SMTP_SSL(context=tls, **options)
            if server.tls_at_once
            else smtplib.SMTP(**options)
        )
        self._smtp = smtp
        # What TLS is checked against; smtplib sets it only where it connects at once.
        smtp._host = server.host  # type: ignore[attr-defined]
        try:
            code, said = smtp.connect(server.host, server.port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, said)
            if not server.tls_at_once and not _is_this_machine(smtp):
                smtp.starttls(context=tls)
            if server.user:
                smtp.login(server.user, server.password)
            smtp.send_message(self._mail)
            with contextlib.suppress(smtplib.SMTPException, OSError):
                smtp.quit()  # it has the mail: what it says now changes nothing
        finally:
            smtp.close()

    def cut_short(self) -> None:
        """End a server's patience game: its connection ends, and with it the thread's wait."""
        self._cut = True
        held = self._smtp.sock if self._smtp is not None else None
        if held is not None:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)


def _is_this_machine(smtp: smtplib.SMTP) -> bool:
    assert smtp.sock is not None, "it is connected"
    peer: str = smtp.sock.getpeername()[0]
    return peer.startswith("127.") or peer == "::1"
