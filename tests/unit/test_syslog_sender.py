"""The way to a syslog server against real sockets: framing, bounds, reconnecting, and never a wait for who logs."""

from __future__ import annotations

import contextlib
import itertools
import json
import pathlib
import re
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator

import pytest

from entrypoint import paths
from entrypoint.services import syslog_sender
from entrypoint.services.syslog_sender import SyslogSender
from entrypoint.system import syslog_server, syslog_session
from tests.support.authorities import Authority
from tests.support.wait import wait_until

Said = list[tuple[str, str]]


class Server:
    """A server at a port of this machine that splits what comes by RFC 6587's octet counting, and nothing else."""

    def __init__(self, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.messages: list[bytes] = []
        self.connections: list[socket.socket] = []
        self.accepted_at: list[float] = []
        self.is_reading = True
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End, with all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self.connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.accepted_at.append(time.monotonic())
                self.connections.append(connection)
                threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
                self.connections.append(connection)
            reader = connection.makefile("rb")
            while self.is_reading:
                length = b""
                while not length.endswith(b" "):
                    one = reader.read(1)
                    if not one:
                        return
                    length += one
                message = reader.read(int(length))
                if len(message) == int(length):
                    self.messages.append(message)


@pytest.fixture
def opened() -> Iterator[list[Server]]:
    """Servers to be closed."""
    servers: list[Server] = []
    yield servers
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def quick(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths of our own, and waits that fit a unit test."""
    monkeypatch.setattr(paths, "SYSLOG", str(tmp_path / "syslog.json"))
    monkeypatch.setattr(paths, "SYSLOG_AUTHORITIES", str(tmp_path / "syslog-ca.pem"))
    monkeypatch.setattr(syslog_sender, "_FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(syslog_sender, "_LONGEST_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(syslog_sender, "_SETTLED_SECONDS", 0.1)
    monkeypatch.setattr(syslog_session, "_SEND_SECONDS", 0.3)


@pytest.fixture
def said() -> Said:
    """What the sender says in the log."""
    return []


@pytest.fixture
def start(said: Said) -> Iterator[Callable[..., SyslogSender]]:
    """Starts a sender to a port of this machine."""
    senders: list[SyslogSender] = []

    def begin(port: int, transport: str = "tcp", host: str = "127.0.0.1", **options: int) -> SyslogSender:
        write_server(port, transport, host)
        sender = SyslogSender(lambda severity, text: said.append((severity, text)), **options)
        senders.append(sender)
        sender.start()
        return sender

    yield begin
    for sender in senders:
        sender.finish(0.5)


def write_server(port: int, transport: str = "tcp", host: str = "127.0.0.1") -> None:
    """What the plan would write; the file is another one each time, as the plan's are."""
    server = {
        "url": f"{transport}://{host}:{port}",
        "transport": transport,
        "host": host,
        "port": port,
        "authorities": paths.SYSLOG_AUTHORITIES,
    }
    new = pathlib.Path(f"{paths.SYSLOG}.new")
    new.write_text(json.dumps({**server, "own_name": "relay.example.com"}))
    new.rename(paths.SYSLOG)


def make_context(authority: Authority, name: str, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A server's side of TLS, in one version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if version < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    chain = pathlib.Path(paths.SYSLOG_AUTHORITIES).with_name("server.pem")
    chain.write_text(authority.make_chain(name).combined_pem)
    context.load_cert_chain(chain)
    return context


def put(sender: SyslogSender, *texts: str) -> None:
    for text in texts:
        sender.put("INFO", time.time(), "postfix/smtp[7]", text)


def texts(server: Server, application: str = "postfix/smtp") -> list[str]:
    parts = [message.decode().split(" ", 7) for message in server.messages]
    return [text for _, _, _, name, _, _, _, text in parts if name == application]


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_messages_are_counted_in_octets_and_in_order(
    opened: list[Server], start: Callable[..., SyslogSender], said: Said
) -> None:
    """RFC 6587 section 3.4.1: a length in characters would cut every message that follows a letter like ü."""
    server = Server()
    opened.append(server)
    sender = start(server.port)
    lines = [f"{number} {'ü' * (number % 50)}" for number in range(3000)]
    put(sender, *lines)
    wait_until(lambda: len(server.messages) == 3000, 10, "all should arrive")
    assert [text.replace("\ufeff", "") for text in texts(server)] == lines
    assert said == []
    assert sender.dropped == 0


def test_long_message_is_cut_for_a_stream_and_shorter_for_a_datagram(
    opened: list[Server], start: Callable[..., SyslogSender]
) -> None:
    """Receivers drop what is too long for them, whole."""
    server = Server()
    opened.append(server)
    put(start(server.port), "x" * 60000)
    wait_until(lambda: server.messages, 5, "it should arrive")
    assert len(server.messages[0]) == 8192
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        put(start(receiver.getsockname()[1], "udp"), "€" * 2000, "second")
        message = receiver.recv(65536)
        assert 2045 < len(message) <= 2048
        assert message.decode().endswith("€")
        assert receiver.recv(65536).endswith(b" - - second")


def test_full_buffer_drops_counts_and_says_so_once(start: Callable[..., SyslogSender], said: Said) -> None:
    """The memory of a relay is not a log server's; a log that is not complete must say it."""
    sender = start(find_free_port(), most_characters=20 * 110)
    put(sender, "x" * 10)
    wait_until(lambda: said, 5, "that there is no server should be told")
    before = sender.dropped
    put(sender, *("x" * 10 for _ in range(1000)))
    assert sender.dropped - before > 970
    wait_until(lambda: [text for _, text in said if "log lines were dropped" in text], 5, "it should be told")
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        put(sender, "x" * 10)
        time.sleep(0.01)  # drops that go on
    assert [severity for severity, _ in said] == ["WARNING", "WARNING"]
    assert re.search(r"SYSLOG_URL=tcp://127\.0\.0\.1:\d+: it cannot be reached \(Connection refused\)", said[0][1])


def test_putting_never_waits_for_a_server_that_reads_nothing(
    opened: list[Server], start: Callable[..., SyslogSender], said: Said
) -> None:
    """The thread that reads Postfix's lines puts them here; if it waited, the mail would."""
    server = Server()
    server.is_reading = False
    opened.append(server)
    sender = start(server.port)
    longest = 0.0
    for _ in range(12000):
        began = time.monotonic()
        put(sender, "x" * 2000)
        longest = max(longest, time.monotonic() - began)
    assert longest < 1
    wait_until(lambda: [text for _, text in said if "does not read what comes" in text], 10, "it should be told")
    assert sender.dropped > 1000


def test_lines_wait_for_a_server_that_is_started_later(
    opened: list[Server], start: Callable[..., SyslogSender], said: Said
) -> None:
    """The relay may be the first of a machine's containers."""
    port = find_free_port()
    sender = start(port)
    put(sender, *map(str, range(500)))
    wait_until(lambda: said, 5, "it should be told")
    server = Server(port=port)
    opened.append(server)
    wait_until(lambda: len(said) == 2, 5, "that it works should be told")
    assert [severity for severity, _ in said] == ["WARNING", "INFO"]
    assert said[1][1].endswith(": the server takes the log again")
    wait_until(lambda: len(server.messages) >= 502, 5, "all should arrive")
    # Also what was said of it.
    assert texts(server) == [str(number) for number in range(500)]
    assert texts(server, "authrelay") == [text for _, text in said]


def test_connection_that_breaks_loses_nothing_that_was_read_and_repeats_little(
    opened: list[Server], start: Callable[..., SyslogSender], said: Said
) -> None:
    """A first write after the other end's close succeeds, and is lost: it must not be counted as sent."""
    server = Server()
    opened.append(server)
    sender = start(server.port)
    expected: list[str] = []
    for number in range(30):
        put(sender, str(number))
        expected.append(str(number))
        wait_until(lambda: expected[-1] in texts(server), 5, "it should arrive")
        if number % 3 == 0:
            server.connections[-1].shutdown(socket.SHUT_RDWR)
    assert list(dict.fromkeys(texts(server))) == expected
    assert len(texts(server)) <= 2 * len(expected)
    assert "cannot be reached" not in str(said)


def test_connection_that_is_cut_at_once_is_told_of_when_it_happens_again(
    opened: list[Server], start: Callable[..., SyslogSender], said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once is a server that is being started again; twice is one that does not let this relay in."""
    monkeypatch.setattr(syslog_sender, "_SETTLED_SECONDS", 60.0)
    server = Server()
    opened.append(server)
    sender = start(server.port)
    for number in range(3):
        put(sender, str(number))
        wait_until(lambda number=number: str(number) in texts(server), 5, "it should arrive")  # type: ignore[misc]
        assert len(said) == (number > 1)
        server.connections[-1].shutdown(socket.SHUT_RDWR)
    assert "it ends the connection (it closed the connection). Does it let this relay in" in said[0][1]


def test_changed_server_is_used_from_the_next_line_on(opened: list[Server], start: Callable[..., SyslogSender]) -> None:
    """SYSLOG_CA_FILE and SYSLOG_URL_FILE may change while the relay runs, like every file."""
    opened += [Server(), Server()]
    sender = start(opened[0].port)
    put(sender, "one")
    wait_until(lambda: texts(opened[0]) == ["one"], 5, "it should arrive")
    write_server(opened[1].port)
    put(sender, "two")
    wait_until(lambda: texts(opened[1]) == ["two"], 5, "it should arrive at the other")


def test_end_sends_what_is_there_and_does_not_wait_for_who_is_not(
    opened: list[Server], start: Callable[..., SyslogSender], said: Said
) -> None:
    """The last lines before a stop are the ones that people look for; the stop is not for the log server to hold."""
    server = Server()
    opened.append(server)
    sender = start(server.port)
    put(sender, *map(str, range(2000)))
    sender.finish()
    # Nothing is said: this machine's kernel has it all, for a server to read.
    wait_until(lambda: len(server.messages) == 2000, 5, "all should arrive")
    assert said == []
    sender = start(find_free_port())
    put(sender, *map(str, range(7)))
    began = time.monotonic()
    sender.finish(2)
    assert time.monotonic() - began < 1.8
    assert re.search(r"the last \d lines of the log did not get there", said[-1][1])


@contextlib.contextmanager
def serve_without_reading() -> Iterator[tuple[int, Callable[[], bytes]]]:
    """A server whose kernel takes little and whose program nothing; gives its port, and what that kernel has."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(5)

        def take_all() -> bytes:
            peer = stack.enter_context(listener.accept()[0])
            peer.settimeout(5)
            found = b""
            with contextlib.suppress(OSError):
                while data := peer.recv(65536):
                    found += data
            return found

        yield listener.getsockname()[1], take_all


def test_lines_that_the_other_kernel_does_not_have_at_the_end_are_counted(
    start: Callable[..., SyslogSender], said: Said
) -> None:
    """With the container its sockets end: what is in them is lost, and a lost line must be told of."""
    with serve_without_reading() as (port, _):
        sender = start(port)
        put(sender, *("x" * 900 for _ in range(40)))
        wait_until(lambda: not sender._lines and not sender._sending, 5, "our own kernel should take all")
        began = time.monotonic()
        sender.finish(0.5)
        assert time.monotonic() - began < 3
    match = re.search(r"the last (\d+) lines of the log did not get there", said[-1][1])
    assert match
    assert 25 <= int(match[1]) < 40


def test_lines_that_the_server_did_not_take_go_to_the_one_that_follows(
    opened: list[Server], start: Callable[..., SyslogSender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever moves to another server, as the first hangs, wants its lines there."""
    monkeypatch.setattr(syslog_sender, "END_SECONDS", 0.3)
    second = Server()
    opened.append(second)
    with serve_without_reading() as (port, _):
        sender = start(port)
        put(sender, *(f"{number} {'x' * 900}" for number in range(40)))
        wait_until(lambda: not sender._lines and not sender._sending, 5, "our own kernel should take all")
        write_server(second.port)
        put(sender, "last")
        wait_until(lambda: texts(second)[-1:] == ["last"], 5, "the last line should come")
    numbers = [int(text.split()[0]) for text in texts(second)[:-1]]
    assert numbers == list(range(numbers[0], 40))
    assert 0 < numbers[0] < 15


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_verified_server_gets_everything_over_tls(
    version: ssl.TLSVersion, opened: list[Server], start: Callable[..., SyslogSender], said: Said
) -> None:
    """Also the last line before the end, behind which nothing pushes it."""
    authority = Authority()
    opened.append(Server(make_context(authority, "localhost", version)))
    pathlib.Path(paths.SYSLOG_AUTHORITIES).write_text(authority.pem)
    sender = start(opened[0].port, "tls", "localhost")
    put(sender, *map(str, range(2000)))
    sender.finish()
    wait_until(lambda: len(opened[0].messages) == 2000, 5, "all should arrive")
    assert texts(opened[0]) == [str(number) for number in range(2000)]
    assert said == []


@pytest.mark.parametrize(
    ("host", "version", "is_trusted", "words"),
    [
        ("localhost", ssl.TLSVersion.TLSv1_3, False, "its certificate is not accepted (unable to get local issuer"),
        ("127.0.0.1", ssl.TLSVersion.TLSv1_3, True, "its certificate is not accepted (IP address mismatch"),
        ("localhost", ssl.TLSVersion.TLSv1_1, True, "TLS cannot be begun ("),
    ],
)
def test_server_that_is_not_the_one_gets_no_line(
    host: str,
    version: ssl.TLSVersion,
    is_trusted: bool,
    words: str,
    opened: list[Server],
    start: Callable[..., SyslogSender],
    said: Said,
) -> None:
    """Whoever answers in its place would learn who writes to whom; TLS 1.1 is broken (RFC 8996)."""
    authority = Authority()
    opened.append(Server(make_context(authority, "localhost", version)))
    pathlib.Path(paths.SYSLOG_AUTHORITIES).write_text((authority if is_trusted else Authority()).pem)
    sender = start(opened[0].port, "tls", host)
    put(sender, "secret")
    wait_until(lambda: said and len(opened[0].connections) > 2, 5, "more than one attempt should be made")
    assert len(said) == 1
    assert words in said[0][1]
    assert opened[0].messages == []


def test_attempts_come_ever_more_seldom_and_never_at_the_same_moments(
    opened: list[Server], start: Callable[..., SyslogSender]
) -> None:
    """A thousand relays must not knock a log server down that was just getting up."""
    opened.append(Server(make_context(Authority(), "localhost", ssl.TLSVersion.TLSv1_3)))
    pathlib.Path(paths.SYSLOG_AUTHORITIES).write_text(Authority().pem)
    put(start(opened[0].port, "tls", "localhost"), "x")
    wait_until(lambda: len(opened[0].accepted_at) == 6, 10, "there should be six attempts")
    gaps = [after - before for before, after in itertools.pairwise(opened[0].accepted_at)]
    # A busy machine makes them longer, and nothing shorter than a quarter less.
    assert all(gap >= 0.74 * wait for gap, wait in zip(gaps, (0.05, 0.1, 0.2, 0.2, 0.2), strict=True))
    assert sum(gaps) < 3


def test_refused_datagram_is_told_of_and_kept(start: Callable[..., SyslogSender], said: Said) -> None:
    """UDP has no connection, but the kernel tells that nobody listens there: the first line must not be lost for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        port = receiver.getsockname()[1]
    sender = start(port, "udp")
    put(sender, "first", "second")
    wait_until(lambda: said, 5, "it should be told")
    assert "it cannot be reached (Connection refused). Is it listening on UDP port" in said[0][1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", port))
        receiver.settimeout(5)
        assert [receiver.recv(4096).rpartition(b" ")[2] for _ in range(2)] == [b"first", b"second"]
        wait_until(lambda: len(said) == 2, 5, "that it works should be told")
    assert said[1][0] == "INFO"


def test_datagrams_go_to_another_address_of_the_name_when_one_refuses_them(
    start: Callable[..., SyslogSender], said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with an IPv6 address may be a server that listens on IPv4 alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        places = [("127.0.0.2", receiver.getsockname()[1]), receiver.getsockname()]
        found = tuple((socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places)
        monkeypatch.setattr(syslog_server, "look_up", lambda *_: found)
        put(start(places[1][1], "udp", "two.example.com"), "line")
        assert receiver.recv(4096).endswith(b" - - line")
    assert said == []
