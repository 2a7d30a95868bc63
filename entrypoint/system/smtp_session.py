"""One conversation with an SMTP server, line by line, in the clear and inside TLS. Network.

Judges nothing but the chain against a CA file: that is OpenSSL's, the library that Postfix asks. Uses `connection` and
`handshake` for the way there.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Final

from entrypoint.system import connection
from entrypoint.system.connection import ConnectError, Deadline, EndlessReplyError, LineReader, read_greeting
from entrypoint.system.handshake import Handshake, OrderError, TlsOrder, begin_tls, say

_LINE: Final = re.compile(rb"\d{3}([ -].*)?")
_LINE_THAT_GOES_ON: Final = re.compile(rb"\d{3}-")
"""Lines of a reply (RFC 5321 section 4.2)."""


class SessionError(Exception):
    """A conversation that ended.

    `kind`: unreachable, silent, closed, odd (not SMTP), alert (TLS was ended by the server), handshake or untrusted;
    `code` is OpenSSL's X509_V_ERR_* for the last, `handshake` what was known of the server by then.
    """

    def __init__(self, kind: str, text: str, code: int = 0, handshake: Handshake | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.code = code
        self.handshake = handshake


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply of the server."""

    code: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.code} {' '.join(self.lines)}".strip()


class SmtpSession:
    """A connection to one address."""

    def __init__(self, connection: socket.socket, timeout_seconds: float) -> None:
        self._connection = connection
        self._lines = LineReader(connection)
        self._timeout_seconds = timeout_seconds
        self.is_inside_tls = False

    def ask(self, line: bytes) -> Reply:
        """Send a line and return the reply."""
        try:
            self._connection.settimeout(self._timeout_seconds)
            self._connection.sendall(line + b"\r\n")
        except OSError as error:
            raise self._explain(error) from error
        return self.read_reply()

    def read_reply(self) -> Reply:
        """Return the next reply."""
        try:
            said = self._lines.read_reply(Deadline(self._timeout_seconds), _LINE_THAT_GOES_ON.match)
        except EndlessReplyError as error:
            raise SessionError("odd", str(error)) from error
        except OSError as error:
            if isinstance(error, TimeoutError) and self._lines.rest:
                raise SessionError("odd", self._lines.rest.decode("utf-8", "replace")) from error
            raise self._explain(error) from error
        if not _LINE.fullmatch(said[-1]):
            raise SessionError("odd", said[-1].decode("utf-8", "replace"))
        return Reply(code=int(said[-1][:3]), lines=tuple(line[4:].decode("utf-8", "replace") for line in said))

    def start_tls(self, order: TlsOrder) -> Handshake:
        """Begin TLS; the chain is verified if there is a CA file. A SessionError is the end of the session."""
        found = Handshake()
        if self._lines.rest:
            raise SessionError("odd", "more than the reply followed STARTTLS, in the clear")
        try:
            self._connection.settimeout(self._timeout_seconds)
            self._connection = begin_tls(self._connection, order, found)
        except OrderError as error:
            raise SessionError("handshake", f"OpenSSL does not take our own files or policy ({error})") from error
        except ssl.SSLCertVerificationError as error:
            raise SessionError("untrusted", error.verify_message, error.verify_code, found) from error
        except ssl.SSLError as error:
            raise SessionError("handshake", error.reason or str(error), 0, found) from error
        except OSError as error:
            raise self._explain(error) from error
        self._lines = LineReader(self._connection)
        self.is_inside_tls = True
        return found

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._connection.close()

    def _explain(self, error: OSError) -> SessionError:
        if isinstance(error, TimeoutError):
            return SessionError("silent", f"it said nothing within {self._timeout_seconds:g} s")
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return SessionError("alert", say(error))
        return SessionError("closed", "it closed the connection")


def connect(address: str, port: int, timeout_seconds: float) -> SmtpSession:
    """Return a session with an address, before its greeting; raise SessionError with the kernel's words."""
    try:
        return SmtpSession(connection.connect(address, port, Deadline(timeout_seconds)), timeout_seconds)
    except OSError as error:
        reason = next(iter(error.reasons.values())) if isinstance(error, ConnectError) else error
        text = "Connection timed out" if isinstance(reason, TimeoutError) else reason.strerror or str(reason)
        raise SessionError("unreachable", text) from error


def greets_in_the_clear(address: str, port: int, deadline: Deadline) -> bool:
    """Return whether a port on which TLS failed is one that begins in the clear."""
    return _LINE.fullmatch(read_greeting(address, port, deadline)) is not None
