"""What a stranger's certificate may make us ask for: little, over http, and not on this machine.

The servers are real ones on the loopback; what may not be asked there is decided for the test.
"""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from entrypoint.system import issuers
from entrypoint.system.issuers import IssuerError, fetch_issuer

CONTENT: Final = b"\x30\x82certificate"
SECONDS: Final = 0.4
Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


class One(http.server.BaseHTTPRequestHandler):
    """Answers as the test says."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.requests.append(f"{self.requestline}\n{self.headers}")
        found = self.server.answers.get(self.path)
        if found is None:
            self.send_error(404)
        else:
            found(self)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """A web server on the loopback."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), One)
        self.answers: dict[str, Answer] = {"/x": answer(CONTENT)}
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what many tests want."""


def answer(content: bytes, status: int = 200, **headers: str) -> Answer:
    def send(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return send


def drip(first: bytes, drop: bytes, pause_seconds: float = 0.02) -> Answer:
    def send(handler: Handler) -> None:
        handler.wfile.write(first)
        ends_at = time.monotonic() + 5
        while time.monotonic() < ends_at:
            handler.wfile.write(drop)
            time.sleep(pause_seconds)

    return send


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server at the one address that may be asked."""
    monkeypatch.setattr(issuers, "is_allowed", lambda address: address == "127.0.0.1")
    made = Server()
    yield made
    made.shutdown()
    made.server_close()


def test_document_is_fetched_with_little_said(server: Server) -> None:
    """Who asks is nobody's business, and a login in the address is not for that server."""
    assert fetch_issuer(server.url.replace("//", "//user:word@") + "/x", SECONDS) == CONTENT
    (request,) = server.requests
    assert "word" not in request
    assert f"Host: 127.0.0.1:{server.server_port}\n" in request
    assert "User-Agent: authrelay\n" in request


def test_redirects_are_followed_up_to_three(server: Server) -> None:
    """CAs move their files."""
    server.answers |= {f"/{number}": answer(b"", 301, Location=f"/{number + 1}") for number in range(4)}
    server.answers["/4"] = answer(CONTENT)
    assert fetch_issuer(f"{server.url}/1", SECONDS) == CONTENT
    with pytest.raises(IssuerError, match="there are more than 3 redirects"):
        fetch_issuer(f"{server.url}/0", SECONDS)


def test_redirect_to_what_may_not_be_asked_is_not_followed(server: Server) -> None:
    """What an address may not be, it may not become: a cloud's credentials are one redirect away."""
    server.answers["/x"] = answer(b"", 302, Location=f"http://127.0.0.2:{server.server_port}/x")
    with pytest.raises(IssuerError, match=r"127\.0\.0\.2 is an address of this machine"):
        fetch_issuer(f"{server.url}/x", SECONDS)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "location", ["https://127.0.0.1/x", "ldap://127.0.0.1/x", "file:///etc/passwd", "", "http://[", "http://x:99999/"]
)
def test_redirect_to_what_is_not_http_is_not_followed(location: str, server: Server) -> None:
    """The sentence must not say of the first address, which is good, that it is not."""
    server.answers["/x"] = answer(b"", 302, Location=location)
    with pytest.raises(IssuerError, match=r"it redirects to '.*', which is not a plain http:// address"):
        fetch_issuer(f"{server.url}/x", SECONDS)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (answer(b"", 500), "the server answered 500 Internal Server Error"),
        (answer(b"x" * (256 * 1024 + 1)), "it is larger than 256 KiB"),
        (drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 2**20, 0), "it is larger than 256 KiB"),
        (drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x"), "it was not here whole after 0.4 seconds"),
        (drip(b"HTTP/1.1 200 OK\r\nX: ", b"x"), "it was not here whole after 0.4 seconds"),
        (drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0), "it was not here whole after 0.4 seconds"),
        (
            drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
            "it was not here whole after 0.4 seconds",
        ),
        (answer(CONTENT, Content_Length="999"), "closed the connection before the end"),
        (lambda _: None, "127.0.0.1 cannot be reached ("),
        (drip(b"SSH-2.0-x\r\n", b""), "does not answer in HTTP (BadStatusLine)"),
        (
            drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n", 0),
            "closed the connection before the end",
        ),
    ],
    ids=[
        "status",
        "large",
        "endless",
        "slow",
        "slow-header",
        "endless-continue",
        "slow-chunks",
        "cut",
        "closed",
        "not-http",
        "no-chunks",
    ],
)
def test_answer_that_is_no_good_ends_in_time(damage: Answer, words: str, server: Server) -> None:
    """A web server of a stranger's choice may do anything, but not for long, and not much of it."""
    server.answers["/x"] = damage
    begin = time.monotonic()
    with pytest.raises(IssuerError) as caught:
        fetch_issuer(f"{server.url}/x", SECONDS)
    assert words in str(caught.value)
    assert time.monotonic() - begin < 2 * SECONDS


def test_largest_document_is_taken(server: Server) -> None:
    """The bound is on the document, whatever its headers are."""
    server.answers["/x"] = answer(b"x" * (256 * 1024), X_Long="y" * 5000)
    assert len(fetch_issuer(f"{server.url}/x", SECONDS)) == 256 * 1024
