"""Asks a mail server for its certificates: connects, begins TLS as its protocol has it, sends no login. Network.

Nothing is verified here: whoever calls shows or judges what the server sent. Uses `connection` and `handshake` for the
way there, `resolver` for who was asked.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Final

from entrypoint.errors import UnavailableError, quote_value
from entrypoint.system.connection import ConnectError, Deadline, EndlessReplyError, LineReader, connect, read_greeting
from entrypoint.system.handshake import (
    Handshake,
    TlsOrder,
    begin_tls,
    find_refusal,
    is_refusal,
    say,
    speaks_tls_at_once,
)
from entrypoint.system.resolver import LookUpTimeoutError, describe_name_servers

IMPLICIT: Final = "none"
"""No STARTTLS: TLS begins before the greeting (RFC 8314)."""
MODES: Final = ("smtp", "pop3", "imap", IMPLICIT)
MODE_BY_PORT: Final = {25: "smtp", 587: "smtp", 465: IMPLICIT, 110: "pop3", 995: IMPLICIT, 143: "imap", 993: IMPLICIT}
"""RFC 8314 section 7 and the registry of IANA."""

_SILENCE_SECONDS: Final = 3.0
"""A server that has not greeted by then may be waiting for TLS: it is asked in a second connection."""
_FAREWELLS: Final = {"smtp": b"QUIT\r\n", "pop3": b"QUIT\r\n", "imap": b"b LOGOUT\r\n", IMPLICIT: b""}
_GREETINGS: Final = ((b"220", "smtp"), (b"+OK", "pop3"), (b"* OK", "imap"), (b"* PREAUTH", "imap"))
_TITLES: Final = {"smtp": "an SMTP", "pop3": "a POP3", "imap": "an IMAP"}
_CHECK_RESOLVER: Final = "Check the container's network and its name server, then try again"
_OLD: Final = frozenset({"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"})
_NOT_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})


class MailServerError(UnavailableError):
    """A server that did not show its certificates; `step` is where it ended.

    `resolve`, `connect`, `greeting`, `starttls`, `mode` (TLS begins otherwise than was asked) or `handshake`.
    """

    def __init__(self, step: str, text: str) -> None:
        super().__init__(text)
        self.step = step


@dataclass(frozen=True, kw_only=True)
class Presented:
    """What a server showed: its certificates as DER, its own first, and how TLS was agreed."""

    address: str
    protocol: str
    cipher: str
    chain: tuple[bytes, ...]
    asks_for_certificate: bool = False
    refusal: str = ""
    """With which words the session ended for the lack of a client certificate; empty: it did not."""


def fetch_chain(host: str, port: int, mode: str, timeout_seconds: float) -> Presented:
    """Return what a server shows; `mode` is one of MODES, the timeout is for everything."""
    deadline = Deadline(timeout_seconds)
    with _connect(host, port, deadline) as connection:
        if mode != IMPLICIT:
            _Conversation(connection, host, port, mode, deadline).start_tls()
        return _shake_hands(connection, host, port, mode, deadline)


def _connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    try:
        return connect(host, port, deadline)
    except LookUpTimeoutError as error:
        text = f"{error}. {_CHECK_RESOLVER}, or a longer --timeout"
        raise MailServerError("resolve", f"{host}: {text}.") from error
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            what = f"no answer from {describe_name_servers()}. {_CHECK_RESOLVER}"
        else:
            what = "the name does not resolve. Check its spelling: it is the server's own name, not the mail domain"
        raise MailServerError("resolve", f"{host}: {what}.") from error
    except ConnectError as error:
        raise MailServerError("connect", f"{_name(host, port)}: {_explain_connect(error)}.") from error


def _explain_connect(error: ConnectError) -> str:
    words: dict[str, str] = {}
    for address, reason in error.reasons.items():
        if isinstance(reason, ConnectionRefusedError):
            words[address] = "refused the connection"
        elif isinstance(reason, TimeoutError):
            words[address] = "did not answer in time"
        else:
            words[address] = f"cannot be reached ({reason.strerror or reason})"
    if all(isinstance(reason, ConnectionRefusedError) for reason in error.reasons.values()):
        remedy = "Nobody listens there: check the port; providers use 587, 465 or 25"
    else:
        remedy = "A firewall may be in between; many networks block port 25: try 587 or 465, or a longer --timeout"
    return f"{', '.join(f'{address} {text}' for address, text in words.items())}. {remedy}"


class _Conversation:
    """The lines before TLS."""

    def __init__(self, connection: socket.socket, host: str, port: int, mode: str, deadline: Deadline) -> None:
        self._connection = connection
        self._host, self._port, self._mode, self._deadline = host, port, mode, deadline
        self._lines = LineReader(connection)

    def start_tls(self) -> None:
        """Take the greeting and ask for TLS; the next byte is the handshake's."""
        self._await_greeting()
        self._check_greeting(self._read_reply("greeting")[0])
        if self._mode == "smtp":
            own = ipaddress.ip_address(self._connection.getsockname()[0])
            # RFC 5321 section 4.1.3: who has no name that others know says its address.
            offers = self._ask(f"EHLO [{'IPv6:' if own.version == 6 else ''}{own}]")
            if not any(re.match(rb"250[ -]STARTTLS\s*$", line, re.IGNORECASE) for line in offers):
                self._fail_unoffered(offers[-1])
            answer, good = self._ask("STARTTLS")[-1], b"220"
        elif self._mode == "pop3":
            answer, good = self._ask("STLS")[-1], b"+OK"
        else:
            answer, good = self._ask("a STARTTLS")[-1], b"a OK"
        if not answer.upper().startswith(good.upper()):
            self._fail_unoffered(answer)
        if self._lines.rest:
            raise MailServerError(
                "starttls",
                f"{self._place}: more than the reply followed STARTTLS, in the clear. Someone on the way may have "
                "put it there: try from another network.",
            )

    @property
    def _place(self) -> str:
        return _name(self._host, self._port)

    def _ask(self, line: str) -> list[bytes]:
        return self._read_reply("starttls", line.encode() + b"\r\n")

    def _await_greeting(self) -> None:
        """Wait for the first words; raise MailServerError when the server speaks TLS at once instead."""
        try:
            self._lines.receive(self._deadline.shorten(_SILENCE_SECONDS))
        except OSError as error:
            # Whoever hung up, or is only slow, is told when the greeting is read.
            if speaks_tls_at_once(self._host, self._port, self._deadline.shorten(_SILENCE_SECONDS)):
                remedy = "Write --starttls none; a relay can use that on port 465 only"
                text = f"{self._place}: TLS begins at once there, without STARTTLS. {remedy}."
                raise MailServerError("mode", text) from error

    def _read_reply(self, step: str, question: bytes = b"") -> list[bytes]:
        """Return the lines of one reply."""

        def goes_on(line: bytes) -> bool:
            is_untagged = self._mode == "imap" and step != "greeting" and line.startswith(b"* ")
            return is_untagged or (self._mode == "smtp" and line[3:4] == b"-")

        try:
            if question:
                self._connection.settimeout(self._deadline.left())
                self._connection.sendall(question)
            return self._lines.read_reply(self._deadline, goes_on)
        except OSError as error:
            if isinstance(error, TimeoutError):
                remedy = "It may be busy, or no mail server: try again with a longer --timeout"
                text = f"it said nothing within {self._deadline.seconds:g} s. {remedy}"
            elif isinstance(error, EndlessReplyError):
                text = "its reply does not end, so it is no mail server. Check the port"
            else:
                text = f"it closed the connection ({error}). It may allow only some networks in"
            raise MailServerError(step, f"{self._place}: {text}.") from error

    def _check_greeting(self, greeting: bytes) -> None:
        kind = find_protocol(greeting)
        if kind == self._mode:
            return
        said = quote_value(greeting.decode("utf-8", "replace"))
        if kind is not None:
            text = f"it is {_TITLES[kind]} server ('{said}'). Write --starttls {kind}"
        elif re.match(rb"[45]\d\d[ -]|-ERR|\* BYE", greeting):
            text = f"it does not want to talk now: '{said}'. Try again later, or from the network that the relay is in"
        else:
            text = f"it is not a mail server: it greets with '{said}'. Check the host and the port"
        raise MailServerError("greeting", f"{self._place}: {text}.")

    def _fail_unoffered(self, answer: bytes) -> None:
        said = quote_value(answer.decode("utf-8", "replace"))
        instead = {"smtp": "465", "pop3": "995", "imap": "993"}[self._mode]
        raise MailServerError(
            "starttls",
            f"{self._place}: STARTTLS is not offered ('{said}'). Try port {instead}, where TLS begins at once; a "
            "firewall that inspects mail may also have removed it.",
        )


def find_protocol(greeting: bytes) -> str | None:
    """Return whose greeting a line is: `smtp`, `pop3`, `imap`, or `None`."""
    return next((kind for start, kind in _GREETINGS if greeting.startswith(start)), None)


def _shake_hands(connection: socket.socket, host: str, port: int, mode: str, deadline: Deadline) -> Presented:
    place, found, address, refusal = _name(host, port), Handshake(), "", ""
    try:
        address = str(connection.getpeername()[0])
        connection.settimeout(deadline.left())
        with begin_tls(connection, TlsOrder(server_name=host), found) as secured:
            if found.asks_for_certificate:
                refusal = find_refusal(secured, _FAREWELLS[mode], deadline)
    except TimeoutError as error:
        raise MailServerError(
            "handshake", f"{place}: the TLS handshake did not end within {deadline.seconds:g} s. {_find_hint(mode)}"
        ) from error
    except OSError as error:
        # The chain came before the server learnt that we have no certificate: it is all that was wanted.
        if not is_refusal(error, found):
            raise MailServerError(*_explain_handshake(error, host, port, mode, deadline)) from error
        refusal = say(error)
    return Presented(
        address=address,
        protocol=found.protocol,
        cipher=found.cipher,
        chain=found.chain,
        asks_for_certificate=found.asks_for_certificate,
        refusal=refusal,
    )


def _find_hint(mode: str) -> str:
    if mode == IMPLICIT:
        return "If it wants STARTTLS there, write --starttls smtp, pop3 or imap."
    return "Try again; if it stays so, ask its operator."


def _explain_handshake(error: OSError, host: str, port: int, mode: str, deadline: Deadline) -> tuple[str, str]:
    place, reason = _name(host, port), getattr(error, "reason", None) or ""
    if not isinstance(error, ssl.SSLError):
        return "handshake", f"{place}: it closed the connection during the TLS handshake. {_find_hint(mode)}"
    if mode == IMPLICIT and reason in _NOT_TLS:
        kind = find_protocol(read_greeting(host, port, deadline.shorten(_SILENCE_SECONDS)))
        if kind:
            text = f"it greets in the clear, as {_TITLES[kind]} server: TLS begins with STARTTLS there"
            return "mode", f"{place}: {text}. Write --starttls {kind}."
        return "mode", f"{place}: it does not speak TLS. {_find_hint(mode)}"
    if reason in _OLD:
        text = "it only speaks TLS versions older than 1.2, which Postfix here refuses as well"
        return "handshake", f"{place}: {text}. Ask its operator to allow TLS 1.2 or newer."
    return "handshake", f"{place}: the TLS handshake failed ({say(error)}). {_find_hint('')}"


def _name(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
