"""What a server's end of a session says of the client certificate that it did not get."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from entrypoint.system.connection import Deadline
from entrypoint.system.handshake import Handshake, find_refusal, is_refusal, say

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
