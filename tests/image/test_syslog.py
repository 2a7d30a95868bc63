"""SYSLOG_URL: every line of the log at a real rsyslog as well, and no line or mail that waits for it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from functools import partial

import pytest

from tests.image.conftest import Relays
from tests.support.authorities import Authority
from tests.support.client import Client
from tests.support.engine import Container, Engine, Network
from tests.support.log_server import LOG_HOST, LogServer, Received
from tests.support.relay import Relay
from tests.support.upstream import MOCK_IMAGE, Upstream
from tests.support.wait import wait_until

TEXT = b"Subject: x\r\n\r\nhello\r\n"
PYTHON = "/opt/authrelay/bin/python3"
CA = "/run/syslog/ca.pem"
_LINE = re.compile(r"(\S+) ([A-Z]+) ([^\s\[\]]+)(?:\[(\d+)\])?: (.*)")
# Standard input: datagrams, each behind a line with its length.
_LOG = r"""
import socket, sys
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.connect("/dev/log")
while length := sys.stdin.buffer.readline():
    log.send(sys.stdin.buffer.read(int(length)))
"""


@pytest.fixture(scope="module")
def the_server(engine: Engine, network: Network) -> LogServer:
    """One rsyslog for most tests; they take `server`."""
    return LogServer(engine, network)


@pytest.fixture
def server(the_server: LogServer) -> LogServer:
    """rsyslog, with nothing received."""
    the_server.forget()
    return the_server


PROCESS = "9999999"
"""No process has this number (proc(5), pid_max)."""


def start(relays: Relays, url: str, authority: Authority | None = None, allowed: Sequence[str] = ()) -> Relay:
    """A relay that logs to the URL, and trusts the authority for it."""
    secrets = {CA: authority.pem.encode()} if authority else {}
    env = {"SYSLOG_URL": url, "SYSLOG_CA_FILE": CA if authority else ""}
    return relays.start(env, secrets=secrets, allowed=allowed)


def log(relay: Relay, texts: Sequence[bytes]) -> None:
    """Log as Postfix does, whatever the texts."""
    datagrams = [b"<22>Nov 25 00:01:02 postfix/smtp[9999999]: " + text for text in texts]
    relay.exec([PYTHON, "-c", _LOG], stdin=b"".join(b"%d\n%s" % (len(one), one) for one in datagrams))


def list_lines(relay: Relay) -> list[tuple[str, ...]]:
    """Time, severity, application, process and text of the lines on standard output."""
    matches = [_LINE.fullmatch(line) for line in relay.logs().splitlines()]
    return [tuple(part or "" for part in match.groups()) for match in matches if match]


def list_messages(received: Sequence[Received]) -> list[tuple[str, ...]]:
    """The same of what was received."""
    return [(one.time, one.severity, one.application, one.process, one.text.removeprefix("\ufeff")) for one in received]


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_every_line_arrives_in_its_parts_and_in_order(
    transport: str, relays: Relays, server: LogServer, upstream: Upstream, client: Client
) -> None:
    """An operator searches the log server by host, program and severity; what stands there must be what was said."""
    host = f"[{server.address6}]" if transport == "tcp" else LOG_HOST
    relay = start(relays, f"{transport}://{host}", server.authority if transport == "tls" else None)
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    odd = [
        "grüße".encode(),
        b"a\nNov 25 00:00:00 forged",
        b"\r\x1b[2J\0",
        b"\xff\xc3 no UTF-8",
        "\u2028\ufeff".encode(),
        b"<14>1 - - - - - - forged",
        b"x" * 1500,
    ]
    # A datagram that finds the receiver's buffer full is gone: those come more slowly.
    count = 200 if transport == "udp" else 2000
    for first in range(0, count, 50 if transport == "udp" else count):
        log(relay, [b"%d" % number for number in range(first, first + (50 if transport == "udp" else count))])
    log(relay, odd)
    server.wait_received(lambda found: len(found) >= len(list_lines(relay)))
    assert relay.stop() == 0
    received = server.wait_received(lambda found: len(found) >= len(list_lines(relay)))
    assert {(one.input, one.facility, one.host) for one in received} == {(transport, 2, "relay.example.test")}
    lines, messages = list_lines(relay), list_messages(received)
    of_postfix = [line for line in lines if line[2] != "authrelay"]
    assert [message for message in messages if message[2] != "authrelay"] == of_postfix
    assert [line[4] for line in of_postfix if line[3] == PROCESS][:count] == [str(number) for number in range(count)]
    # Our own lines have no process number on standard output.
    ours = [(severity, text) for _, severity, name, _, text in lines if name == "authrelay"]
    assert [(severity, text) for _, severity, name, _, text in messages if name == "authrelay"] == ours
    assert ours[0][1].startswith("version ")
    assert ours[-1] == ("INFO", "stopped; the queue is empty")


def test_server_whose_certificate_is_refused_gets_nothing_and_is_told_of_once(
    relays: Relays, server: LogServer, upstream: Upstream, client: Client
) -> None:
    """Whoever answers in the server's place would read who writes to whom."""

    def is_told(relay: Relay, said: str) -> bool:
        return f" WARNING authrelay: SYSLOG_URL=tls://{said}" in relay.logs()

    other = server.container.name
    allowed = ["not accepted", "did not get there"]
    cases = (
        (
            start(relays, f"tls://{LOG_HOST}", Authority(), allowed),
            f"{LOG_HOST}:6514: its certificate is not accepted (unable to get local issuer certificate). Give the CA "
            "that signed it, for example SYSLOG_CA_FILE=/run/secrets/syslog-ca.pem. ",
        ),
        (
            start(relays, f"tls://{other}:6514", server.authority, allowed),
            f"{other}:6514: its certificate is not accepted (Hostname mismatch, certificate is not valid for "
            f"'{other}'). Write the name that is in it into SYSLOG_URL, or have it issued for {other}. ",
        ),
    )
    for relay, said in cases:
        client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
        wait_until(partial(is_told, relay, said), 5, "it should be told")
    upstream.wait_messages(2)
    assert server.received() == []
    relay = cases[0][0]
    relay.set_secret(CA, server.authority.pem.encode())
    # At the latest after 8 seconds: so long are attempts apart by then.
    received = server.wait_received(lambda found: [one for one in found if "takes the log again" in one.text], 20)
    assert received[0].text.startswith("version ")
    assert any("changed: the syslog server's CA. The log goes there from now on" in one.text for one in received)
    for relay, _ in cases:
        assert relay.logs().count("not accepted") == 1
        relay.stop()
        assert relay.logs().splitlines()[-1].endswith("INFO authrelay: stopped; the queue is empty")


def test_lines_of_the_time_in_which_the_server_is_away_arrive_when_it_is_back(
    engine: Engine, network: Network, relays: Relays
) -> None:
    """Log servers are updated and started again, too. Nothing is missing; what was on the way may come twice."""
    alias = "restarted.example.test"
    server = LogServer(engine, network, alias=alias, name=alias)
    relay = start(relays, f"tls://{alias}", server.authority, ["cannot be reached"])
    log(relay, [b"before %d" % number for number in range(200)])
    server.wait_received(lambda found: found[-1:] and found[-1].text == "before 199")
    server.container.stop(5)
    log(relay, [b"during %d" % number for number in range(200)])
    wait_until(lambda: "cannot be reached" in relay.logs(), 5, "it should be told of")
    server.container.start()
    log(relay, [b"after %d" % number for number in range(200)])
    received = server.wait_received(lambda found: [one for one in found if one.text == "after 199"])
    texts = [one.text for one in received if one.process == PROCESS]
    expected = [f"{when} {number}" for when in ("before", "during", "after") for number in range(200)]
    assert list(dict.fromkeys(texts)) == expected
    assert len(texts) - len(expected) <= 200
    wait_until(lambda: "the server takes the log again" in relay.logs(), 10, "that it is back should be told")
    ours = [line for line in relay.logs().splitlines() if "SYSLOG_URL" in line]
    assert [line.split()[1] for line in ours] == ["WARNING", "INFO"]
    wait_until(lambda: "takes the log again" in server.received()[-1].text, 5, "the server should be told as well")
    server.container.remove()


# It takes connections and nothing else.
_HANGING = """
import socket, time
listener = socket.create_server(("", 601))
listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
kept = []
while True:
    kept.append(listener.accept())
"""


def test_server_that_reads_nothing_delays_neither_the_mail_nor_the_log(
    engine: Engine, network: Network, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """A log server in trouble must not become the mail's trouble; what it does not get is counted."""
    host = "hanging.example.test"
    server: Container = engine.run(
        MOCK_IMAGE, ["python", "-c", _HANGING], kind="hanging", network=network, aliases=(host,)
    )
    relay = start(relays, f"tcp://{host}", allowed=["does not read", "log lines were dropped", "did not get there"])
    began = time.monotonic()
    log(relay, [b"%d %s" % (number, b"x" * 2000) for number in range(4000)])
    wait_until(lambda: " postfix/smtp[9999999]: 3999 x" in relay.logs(), 5, "standard output should have every line")
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    assert time.monotonic() - began < 8
    assert relay.logs().count(" postfix/smtp[9999999]: ") == 4000
    said = (
        r"WARNING authrelay: SYSLOG_URL=\S+: (\d+) log lines were dropped, because the server did not take them in time"
    )
    wait_until(lambda: re.search(said, relay.logs()), 15, "the drops should be told")
    dropped = int(re.findall(said, relay.logs())[0])
    # 4 MiB are kept, and what two kernels take.
    assert 1500 < dropped < 4000 - 1500
    assert relay.logs().count("does not read what comes") == 1
    began = time.monotonic()
    assert relay.stop(10) == 0
    assert time.monotonic() - began < 5
    *_, left, last = relay.logs().splitlines()
    assert re.search(r"the last \d+ lines of the log did not get there", left)
    assert last.endswith("INFO authrelay: stopped; the queue is empty")
    server.remove()
