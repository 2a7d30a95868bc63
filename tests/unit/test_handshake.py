"""What a server's end of a session says of the client certificate that it did not get."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any

import pytest

from entrypoint.system import handshake
from entrypoint.system.connection import Deadline, EndlessReplyError, LineReader
from entrypoint.system.handshake import (
    TLS_VERSIONS,
    Handshake,
    OrderError,
    TlsOrder,
    begin_tls,
    find_refusal,
    is_refusal,
    say,
)
from entrypoint.system.smtp_session import SessionError, SmtpSession

SHOWN = Handshake(chain=(b"x",), asks_for_certificate=True)


def make_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (make_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "alert certificate required"),
        (make_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), "alert handshake failure"),
        (make_error("TLSV1_ALERT_UNKNOWN_CA"), "alert unknown ca"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "it closed the connection"),
        (ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed (EOF)"), "it closed the connection"),
        (ConnectionResetError(104, "Connection reset by peer"), "it closed the connection"),
        (BrokenPipeError(32, "Broken pipe"), "it closed the connection"),
    ],
)
def test_end_after_the_question_for_a_certificate_is_a_refusal(error: OSError, words: str) -> None:
    """Libraries differ: an alert, a close, a reset. Without the question, or without a chain, it is a failure."""
    assert is_refusal(error, SHOWN)
    assert say(error) == words
    assert not is_refusal(error, Handshake(chain=(b"x",)))
    assert not is_refusal(error, Handshake(asks_for_certificate=True))


@pytest.mark.parametrize("reason", ["DH_KEY_TOO_SMALL", "BAD_SIGNATURE", "UNSUPPORTED_PROTOCOL"])
def test_end_that_is_ours_is_no_refusal(reason: str) -> None:
    """A client certificate would not help such a server."""
    assert not is_refusal(make_error(reason), SHOWN)


class Server:
    """A server inside TLS that says some words at once, and others when it is asked."""

    def __init__(self, unasked: bytes | OSError | None, answer: bytes | OSError | None = None) -> None:
        self.said: list[bytes | OSError | None] = [unasked]
        self.answer = answer
        self.heard = b""

    def settimeout(self, seconds: float) -> None:
        assert 0 < seconds <= 3

    def sendall(self, data: bytes) -> None:
        self.heard += data
        if data:
            # What has not been read by now is lost: the answer to a write after a close is a reset.
            self.said = [self.answer]

    def recv(self, _: int) -> bytes:
        found = self.said.pop(0)
        if isinstance(found, bytes):
            return found
        raise found or TimeoutError


@pytest.mark.parametrize(
    ("unasked", "answer", "refusal", "heard"),
    [
        (b"421 4.7.1 no certificate\r\n221 x\r\n", ConnectionResetError(), "421 4.7.1 no certificate", b""),
        (b"554-no\r\n", None, "554-no", b""),
        (b"", None, "it closed the connection", b""),
        (make_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), None, "alert certificate required", b""),
        (b"220 welcome\r\n", None, "", b""),
        (b"* OK ready\r\n", None, "", b""),
        (None, b"221 bye\r\n", "", b"QUIT\r\n"),
        (None, b"421 no\x1b[2J\r\n", "421 no\\x1b[2J", b"QUIT\r\n"),
        (None, b"+OK bye\r\n", "", b"QUIT\r\n"),
        (None, ConnectionResetError(), "it closed the connection", b"QUIT\r\n"),
        (None, None, "", b"QUIT\r\n"),
    ],
)
def test_refusal_after_the_handshake_is_heard_before_anything_is_said(
    unasked: bytes | OSError | None, answer: bytes | OSError | None, refusal: str, heard: bytes
) -> None:
    """Postfix gives its reason and closes; whoever writes first loses the reason. Patience is no refusal."""
    server: Any = Server(unasked, answer)
    assert find_refusal(server, b"QUIT\r\n", Deadline(5)) == refusal
    assert server.heard == heard


def test_refusal_is_not_waited_for_beyond_the_time() -> None:
    """The chain is here: what is not known by then is not known."""
    server: Any = Server(None)
    assert find_refusal(server, b"QUIT\r\n", Deadline(-1)) == ""
    assert server.heard == b""


@pytest.mark.parametrize(
    ("cipher", "versions", "protocol"),
    [
        (("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256), TLS_VERSIONS, "TLSv1.3"),
        (("ECDHE-RSA-AES128-SHA", "TLSv1.0", 128), TLS_VERSIONS[2:], "TLSv1.2"),
        (("ECDHE-RSA-AES128-SHA", "TLSv1.0", 128), TLS_VERSIONS, ""),
        (("ECDHE-RSA-AES128-SHA", "TLSv1.0", 128), ("TLSv1.1",), "TLSv1.1"),
        (None, TLS_VERSIONS[2:], ""),
    ],
)
def test_version_of_a_handshake_that_failed_is_told_only_where_it_is_sure(
    cipher: tuple[str, str, int] | None, versions: tuple[str, ...], protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cipher of 1999 is good for TLS 1.2, too; where older versions are allowed it may have been one of them."""

    def fail() -> None:
        raise make_error("SSLV3_ALERT_HANDSHAKE_FAILURE")

    secured: Any = SimpleNamespace(
        do_handshake=fail,
        cipher=lambda: cipher,
        version=lambda: None,
        get_unverified_chain=lambda: [b"x"],
        close=lambda: None,
    )
    context = SimpleNamespace(wrap_socket=lambda *_, **__: secured)
    monkeypatch.setattr(handshake, "_make_context", lambda *_: context)
    found, connection = Handshake(), SimpleNamespace()
    with pytest.raises(ssl.SSLError):
        begin_tls(connection, TlsOrder(server_name=None, versions=versions), found)  # type: ignore[arg-type]
    assert (found.protocol, found.cipher, found.chain) == (protocol, cipher[0] if cipher else "", (b"x",))


@pytest.mark.parametrize(
    "order",
    [
        TlsOrder(server_name=None, versions=()),
        TlsOrder(server_name=None, ciphers="NONSENSE"),
        TlsOrder(server_name=None, authorities="/nowhere/ca.pem"),
        TlsOrder(server_name=None, client_chain="/nowhere/chain.pem"),
    ],
)
def test_order_that_openssl_does_not_take_is_not_the_servers_fault(order: TlsOrder) -> None:
    """Its operator could look for a long time."""
    connection: Any = SimpleNamespace(settimeout=lambda _: None)
    with pytest.raises(OrderError):
        begin_tls(connection, order, Handshake())
    with pytest.raises(SessionError, match="OpenSSL does not take our own files or policy") as caught:
        SmtpSession(connection, 1).start_tls(order)
    assert caught.value.kind == "handshake"


def test_order_without_ciphers_leaves_those_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """discover-ca must see the certificates of servers that are weaker than what the relay would take."""
    made: list[ssl.SSLContext] = []

    def wrap(context: ssl.SSLContext, *_: Any, **__: Any) -> Any:
        made.append(context)
        raise ConnectionResetError

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap)
    connection: Any = SimpleNamespace()
    with pytest.raises(ConnectionResetError):
        begin_tls(connection, TlsOrder(server_name="smtp.example.com"), Handshake())
    assert made[0].get_ciphers() == ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).get_ciphers()
    assert (made[0].verify_mode, made[0].minimum_version) == (ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2)


def speak(*said: bytes | OSError) -> Any:
    """A connection that gives this, piece by piece."""
    pieces = list(said)

    def give(_: int) -> bytes:
        piece = pieces.pop(0)
        if isinstance(piece, OSError):
            raise piece
        return piece

    return SimpleNamespace(recv=give, settimeout=lambda _: None, sendall=lambda _: None)


def test_lines_are_read_as_they_come_and_the_rest_is_kept() -> None:
    """Servers split lines where the network does; what follows the reply to STARTTLS may be somebody else's."""
    reader = LineReader(speak(b"220-a\r", b"\n22", b"0 b\n250 ", b"more"))
    assert reader.read_reply(Deadline(5), lambda line: line[3:4] == b"-") == [b"220-a", b"220 b"]
    assert reader.rest == b"250 "


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ((b"",), ConnectionError, "without a word"),
        ((b"220", b""), ConnectionError, "in the middle of a line"),
        ((b"x" * 9000,), EndlessReplyError, "a line without an end"),
        ((b"220-x\r\n" * 300,), EndlessReplyError, "a reply without an end"),
        ((TimeoutError("timed out"),), TimeoutError, "timed out"),
    ],
)
def test_reply_that_does_not_come_says_how_it_ended(
    said: tuple[bytes | OSError, ...], error: type[OSError], words: str
) -> None:
    """Whoever floods must not fill the memory, and whoever hangs up is no SMTP server that is busy."""
    with pytest.raises(error, match=words):
        LineReader(speak(*said)).read_reply(Deadline(5), lambda line: line[3:4] == b"-")


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ((b"+OK ready\r\n",), "odd", "+OK ready"),
        ((b"220-x\r\nwhat\r\n",), "odd", "what"),
        ((b"220x\r\n",), "odd", "220x"),
        ((b"login: ", TimeoutError()), "odd", "login: "),
        ((TimeoutError(),), "silent", "within 5 s"),
        ((b"x" * 9000,), "odd", "a line without an end"),
        ((b"",), "closed", "it closed the connection"),
        ((make_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"),), "alert", "^alert certificate"),
    ],
)
def test_session_tells_what_is_not_smtp_from_what_is_not_there(
    said: tuple[bytes | OSError, ...], kind: str, words: str
) -> None:
    """Each has a remedy of its own."""
    with pytest.raises(SessionError, match=words.replace("+", r"\+")) as caught:
        SmtpSession(speak(*said), 5).read_reply()
    assert caught.value.kind == kind


def test_session_reads_a_reply_of_several_lines() -> None:
    """RFC 5321 section 4.2; a line may have no text."""
    session = SmtpSession(speak(b"250-a b\r\n250-\r\n250\r\n221 bye\r\n"), 5)
    assert str(session.read_reply()) == "250 a b"
    assert str(session.ask(b"QUIT")) == "221 bye"
    session = SmtpSession(speak(b"220 go\r\n* injected"), 5)
    session.read_reply()
    with pytest.raises(SessionError, match="more than the reply followed STARTTLS"):
        session.start_tls(TlsOrder(server_name=None))
