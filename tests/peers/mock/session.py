"""One SMTP session (RFC 5321), over a plain blocking socket so that what is recorded is what came. Network.

No SMTP library lies between: those that exist normalise addresses, refuse unknown parameters and hide the
bytes around STARTTLS, which is just what tests of a relay look at.
"""

from __future__ import annotations

import base64
import binascii
import random
import select
import socket
import ssl
import struct
import time
import traceback
from typing import NoReturn

from .record import Login, Message, Session
from .state import State
from .tls import make_context, parse_certificate
from .tokens import BEARER_MECHANISMS, PARSERS, render_refusal

MAX_MESSAGE_BYTES = 50 * 1024 * 1024
_RECEIVE_BYTES = 1 << 18


class _Closed(Exception):
    """The connection has ended, or is to be ended."""


class SmtpSession:
    """The server's side of one connection."""

    def __init__(self, state: State, record: Session, connection: socket.socket, *, is_implicit_tls: bool) -> None:
        self._state = state
        self._record = record
        self._socket: socket.socket = connection
        self._is_implicit_tls = is_implicit_tls
        self._buffer = bytearray()
        self._is_authenticated_as = ""
        self._transaction: Message | None = None

    def run(self) -> None:
        """Serve until either side has had enough."""
        try:
            if self._is_implicit_tls:
                self._start_tls()
            if self._follow_fault("connect") is None:
                self._reply(220, f"{self._state.hostname} ESMTP mock")
            else:
                self._await_quit()
            while self._serve_command(self._read_line()):
                pass
        except (_Closed, OSError):
            pass
        except Exception:
            traceback.print_exc()
        finally:
            self._record.ended_at = self._record.ended_at or time.time()
            self._socket.close()

    # Bytes

    @property
    def _is_inside_tls(self) -> bool:
        return isinstance(self._socket, ssl.SSLSocket)

    def _receive(self) -> None:
        data = self._socket.recv(_RECEIVE_BYTES)
        if not data:
            raise _Closed
        if not self._is_inside_tls:
            self._record.plain += data
        self._buffer += data

    def _read_line(self) -> bytes:
        """The next line, without its end."""
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            self._receive()
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if self._is_inside_tls:
            self._record.note_inside_tls(line)
        return line.rstrip(b"\r\n")

    def _read_content(self) -> bytes:
        """A message's content up to the lone dot, dot-unstuffed (RFC 5321 section 4.5.2)."""
        # The content begins at the beginning of a line, which this CR LF stands for.
        self._buffer[:0] = b"\r\n"
        start = 0
        while (end := self._buffer.find(b"\r\n.\r\n", start)) < 0:
            start = max(0, len(self._buffer) - 4)
            self._receive()
        content = bytes(self._buffer[: end + 2])
        del self._buffer[: end + 5]
        return content.replace(b"\r\n.", b"\r\n")[2:]

    def _reply(self, code: int, text: str) -> None:
        if delay := self._state.behaviour.reply_delay_seconds:
            time.sleep(delay)
        *first, last = text.split("\n")
        lines = [f"{code}-{line}\r\n" for line in first] + [f"{code} {last}\r\n"]
        if code >= 400:
            verbs = self._record.verbs
            self._record.refusals.append((verbs[-1] if verbs else "", "".join(lines).replace("\r\n", " ").rstrip()))
        self._socket.sendall("".join(lines).encode())

    # Misbehaviour

    def _follow_fault(self, stage: str, text: str = "") -> int | None:
        """Do what the behaviour wants wrong here: the code of a reply that was sent, None for "be good"."""
        fault = self._state.take_fault(stage, text)
        if fault is None:
            return None
        if fault.kind == "reply":
            self._reply(fault.code, fault.text)
        else:
            self._break_off(fault.kind)
        return fault.code

    def _break_off(self, kind: str) -> NoReturn:
        """Say nothing, close the connection, or have it reset: a close with SO_LINGER of 0 (socket(7))."""
        if kind == "hang":
            self._hang()
        if kind == "reset":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _Closed

    def _hang(self) -> NoReturn:
        """Say nothing until the client leaves or the behaviour changes."""
        generation = self._state.generation
        while self._state.generation == generation:
            self._receive_for(0.2)
        raise _Closed

    def _receive_for(self, seconds: float) -> None:
        """Wait, but notice at once when the client leaves."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                self._receive()

    # TLS

    def _start_tls(self) -> None:
        if (fault := self._state.take_fault("handshake")) is not None:
            self._break_off(fault.kind)
        behaviour, record = self._state.behaviour, self._record

        def note_sni(name: str | None) -> None:
            record.sni = name

        context = make_context(
            chain_pem=self._state.chain_pem,
            key_pem=self._state.key_pem,
            client_certificates_pem=self._state.load_client_certificates(),
            minimum=behaviour.tls_minimum,
            maximum=behaviour.tls_maximum,
            note_sni=note_sni,
        )
        # What came in the clear behind STARTTLS must not count as said inside TLS (RFC 3207 section 4.2).
        self._buffer.clear()
        try:
            inside = context.wrap_socket(self._socket, server_side=True)
        except OSError as error:
            record.tls_error = str(error) or type(error).__name__
            raise _Closed from error
        self._socket = inside
        record.tls_version = inside.version()
        cipher = inside.cipher()
        record.tls_cipher = cipher[0] if cipher else None
        certificate = inside.getpeercert(binary_form=True)
        if certificate:
            subject, fingerprint = parse_certificate(certificate)
            record.client_certificate_subject, record.client_certificate_sha256 = subject, fingerprint

    # Commands

    def _await_quit(self) -> None:
        """After a refusing greeting nothing but QUIT is served (RFC 5321 section 3.1)."""
        while self._read_line().upper() != b"QUIT":
            self._reply(503, "5.5.1 No service here")
        self._reply(221, "2.0.0 Bye")
        raise _Closed

    def _serve_command(self, line: bytes) -> bool:
        """Answer one command; False after the last."""
        text = line.decode("utf-8", "surrogateescape")
        verb, _, argument = text.partition(" ")
        verb = verb.upper()
        self._record.verbs.append(verb)
        if verb in ("EHLO", "HELO"):
            self._serve_ehlo(verb, argument.strip())
        elif verb == "STARTTLS":
            self._serve_starttls()
        elif verb == "AUTH":
            self._serve_auth(argument)
        elif verb == "MAIL":
            self._serve_mail(text)
        elif verb == "RCPT":
            self._serve_rcpt(text)
        elif verb == "DATA":
            self._serve_data()
        elif verb == "RSET":
            self._transaction = None
            self._reply(250, "2.0.0 Ok")
        elif verb == "NOOP":
            self._reply(250, "2.0.0 Ok")
        elif verb == "QUIT":
            # Over when we say so; what happens until this thread closes the socket is the machine's doing.
            self._record.ended_at = time.time()
            self._reply(221, "2.0.0 Bye")
            return False
        else:
            self._reply(502, "5.5.1 Command not implemented")
        return True

    def _is_auth_offered(self) -> bool:
        offer = self._state.behaviour.auth_offered
        return offer == "always" or offer == ("inside-tls" if self._is_inside_tls else "before-tls")

    def _serve_ehlo(self, verb: str, name: str) -> None:
        self._record.helo = name
        self._transaction = None
        if self._follow_fault("ehlo", f"{verb} {name}") is not None:
            return
        if verb == "HELO":
            self._reply(250, self._state.hostname)
            return
        behaviour = self._state.behaviour
        lines = [self._state.hostname, *behaviour.extensions]
        if behaviour.starttls_offered and not self._is_inside_tls:
            lines.append("STARTTLS")
        if self._is_auth_offered():
            lines.append("AUTH " + " ".join(behaviour.mechanisms))
        self._reply(250, "\n".join(lines))

    def _serve_starttls(self) -> None:
        if self._follow_fault("starttls") is not None:
            return
        if self._is_inside_tls or not self._state.behaviour.starttls_offered:
            self._reply(502, "5.5.1 STARTTLS not available")
            return
        self._reply(220, "2.0.0 Ready to start TLS")
        self._start_tls()
        # RFC 3207 section 4.2: what was known before TLS is forgotten.
        self._is_authenticated_as = ""
        self._transaction = None

    def _serve_auth(self, argument: str) -> None:
        """PLAIN (RFC 4616), LOGIN and the two with tokens. A fault comes after the exchange: what was given is on
        record."""
        mechanism, _, initial = argument.partition(" ")
        mechanism = mechanism.upper()
        if not self._is_auth_offered():
            code = 502 if self._state.behaviour.auth_offered == "absent" else 538
            self._reply(code, "5.5.1 AUTH not available here")
            return
        known = ("PLAIN", "LOGIN", *BEARER_MECHANISMS)
        if mechanism not in self._state.behaviour.mechanisms or mechanism not in known:
            self._reply(504, "5.5.4 Unknown mechanism")
            return
        try:
            if mechanism == "PLAIN":
                _, identity, password = self._exchange(initial, "").split(b"\0")
            elif mechanism in BEARER_MECHANISMS:
                identity, password = PARSERS[mechanism](self._exchange(initial, ""))
            else:
                identity = self._exchange(initial, "Username:")
                password = self._exchange("", "Password:")
        except (ValueError, binascii.Error):
            self._reply(501, "5.5.2 Cannot decode this")
            return
        login = Login(
            mechanism=mechanism,
            identity=identity.decode("utf-8", "replace"),
            password=password,
            is_inside_tls=self._is_inside_tls,
        )
        self._record.logins.append(login)
        if self._follow_fault("auth", login.identity) is not None:
            return
        # Several passwords, one a line, while an old one is being replaced.
        has_token = mechanism in BEARER_MECHANISMS
        expected = (self._state.tokens if has_token else self._state.accounts).get(login.identity)
        if expected is None or password not in expected.encode().split(b"\n"):
            if has_token and not self._explain_refusal(mechanism):
                return
            self._reply(535, "5.7.8 Authentication credentials invalid")
            return
        login.is_accepted = True
        self._is_authenticated_as = login.identity
        self._reply(235, "2.7.0 Authentication successful")

    def _explain_refusal(self, mechanism: str) -> bool:
        """Say as JSON why a token is refused (RFC 7628 section 3.2.2); False where the client does not answer so that
        the exchange can end, which it must in just one way."""
        self._reply(334, base64.b64encode(render_refusal(mechanism)).decode())
        answer = self._read_line()
        # RFC 7628 section 3.2.3: one byte, 1; Google's XOAUTH2: an empty line.
        if answer == (b"" if mechanism == "XOAUTH2" else b"AQ=="):
            return True
        self._reply(501, "5.5.2 This is no answer to a refusal")
        return False

    def _exchange(self, initial: str, challenge: str) -> bytes:
        """One client response: the initial one, or the answer to a challenge (RFC 4954)."""
        if not initial:
            self._reply(334, base64.b64encode(challenge.encode()).decode())
            initial = self._read_line().decode("ascii", "replace")
        # "=" is an empty initial response; "*" cancels, and is no base64.
        return b"" if initial == "=" else base64.b64decode(initial, validate=True)

    def _serve_mail(self, text: str) -> None:
        if self._state.behaviour.require_auth and not self._is_authenticated_as:
            self._reply(530, "5.7.0 Authentication required")
            return
        if self._follow_fault("mail", text) is not None:
            return
        path, parameters = _parse_path(text)
        self._transaction = Message(
            id=0,
            session_id=self._record.id,
            login=self._is_authenticated_as,
            mail_from=path,
            mail_parameters=parameters,
            rcpt_tos=[],
            rcpt_parameters=[],
        )
        self._reply(250, "2.1.0 Ok")

    def _serve_rcpt(self, text: str) -> None:
        if self._transaction is None:
            self._reply(503, "5.5.1 MAIL first")
            return
        if self._follow_fault("rcpt", text) is not None:
            return
        path, parameters = _parse_path(text)
        self._transaction.rcpt_tos.append(path)
        self._transaction.rcpt_parameters.append(parameters)
        self._reply(250, "2.1.5 Ok")

    def _serve_data(self) -> None:
        message = self._transaction
        if message is None or not message.rcpt_tos:
            self._reply(503, "5.5.1 RCPT first")
            return
        if self._follow_fault("data") is not None:
            return
        self._reply(354, "End with a lone dot")
        if not self._buffer:
            self._receive()
        self._follow_fault("content", message.mail_from)
        message.data = self._read_content()
        message.received_at = time.time()
        self._transaction = None
        message.id = self._state.next_message_id()
        self._state.add_message(self._record, message)
        code = self._follow_fault("end-of-data", message.data.decode("latin-1"))
        if code is None:
            behaviour = self._state.behaviour
            chance = random.random()  # noqa: S311 - nothing secret
            self._receive_for(behaviour.final_reply_delay_seconds + chance * behaviour.final_reply_jitter_seconds)
            if len(message.data) > MAX_MESSAGE_BYTES:
                code = 552
                self._reply(code, "5.3.4 Message too big")
            else:
                code = 250
                self._reply(code, f"2.0.0 Ok: queued as {message.id}")
        message.final_code = code
        message.final_reply_at = time.time()


def _parse_path(text: str) -> tuple[str, list[str]]:
    """The address between the angle brackets, as written, and the parameters behind them."""
    start = text.find("<")
    end = _find_path_end(text, start)
    if start < 0 or end < 0:
        _, _, rest = text.partition(":")
        path, *parameters = rest.split() or [""]
        return path, parameters
    return text[start + 1 : end], text[end + 1 :].split()


def _find_path_end(text: str, start: int) -> int:
    """The index of the closing bracket; one inside a quoted local part is not it."""
    is_quoted = is_escaped = False
    for index in range(start, len(text)):
        character = text[index]
        if is_escaped:
            is_escaped = False
        elif character == "\\":
            is_escaped = True
        elif character == '"':
            is_quoted = not is_quoted
        elif character == ">" and not is_quoted:
            return index
    return -1
