"""Floods: whoever opens thousands of sessions, and does nothing or little in them, is alone in feeling it.

A few hundred here; `make floods` does 5000. The relay has the memory of compose/relay.yaml.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Iterator

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.engine import Container, Engine, Network
from tests.support.relay import Relay
from tests.support.upstream import MOCK_IMAGE, Upstream
from tests.support.wait import wait_until

CONNECTIONS = int(os.environ.get("AUTHRELAY_CONNECTIONS", "400"))
"""How many one client wants to have at the same time."""
MESSAGES = 20

# Arguments: host, connections at once. Each third says nothing, or a command, or a message, byte by byte; one that is
# closed is opened again. Every two seconds: how many were opened, refused and are held.
_FLOOD = r"""
import collections, resource, selectors, socket, sys, time
host, wanted = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
address = socket.getaddrinfo(host, 25, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
ready = b"EHLO x\r\nMAIL FROM:<flood@example.test>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
selector, opened, refused, turn, told = selectors.DefaultSelector(), 0, 0, 0, 0.0
class Session:
    def __init__(self, number):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.kind, self.line, self.has_greeted = number % 3, 0, False
        self.socket.connect_ex((address, 25 if number % 2 else 587))
        selector.register(self.socket, selectors.EVENT_READ, self)
    def close(self):
        selector.unregister(self.socket)
        self.socket.close()
    def read(self):
        data = self.socket.recv(4096)
        if not data or data.startswith(b"421"):
            return False
        lines = ready.split(b"\r\n")
        if self.kind == 2 and self.line < len(lines) - 1:
            self.socket.send(lines[self.line] + b"\r\n")
            self.line += 1
        self.has_greeted = True
        return True
    def drip(self):
        if self.has_greeted and (self.kind == 1 or self.kind == 2 and self.line == 4):
            self.socket.send(b"X")
def attempt(session, deed):
    global refused
    try:
        if deed() is not False:
            return
    except OSError:
        pass
    refused += 1
    session.close()
while True:
    for _ in range(min(25, wanted - len(selector.get_map()))):
        opened += 1
        Session(opened)
    for key, _ in selector.select(0.05):
        attempt(key.data, key.data.read)
    if time.monotonic() - told > 2:
        told = time.monotonic()
        for key in list(selector.get_map().values()):
            attempt(key.data, key.data.drip)
        print(opened, refused, len(selector.get_map()), flush=True)
"""


@contextlib.contextmanager
def make_flood(engine: Engine, network: Network, relay: Relay, connections: int) -> Iterator[Container]:
    """A client with slow connections. It must not outlive its relay: another test's gets the address."""
    limit = f"nofile={connections + 100}:{connections + 100}"
    command = ["python", "-c", _FLOOD, relay.container.name, str(connections)]
    flood = engine.run(MOCK_IMAGE, command, kind="flood", network=network, arguments=["--ulimit", limit, "--init"])
    try:
        yield flood
    finally:
        flood.remove()


def read_flood(flood: Container) -> tuple[int, int, int]:
    """How many connections were opened, refused, and are held."""
    opened, refused, held = map(int, (flood.logs().split()[-3:] or ["0"] * 3))
    return opened, refused, held


def send_timed(client: Client, relay: Relay, prefix: str) -> list[float]:
    """Send messages one after the other; the seconds until each 250."""
    seconds = []
    for number in range(MESSAGES):
        began = time.monotonic()
        client.send(
            relay.container.name,
            25,
            f"{prefix}-{number}@example.test",
            ["b@example.com"],
            b"Subject: x\r\n",
            timeout_seconds=15,
        )
        seconds.append(time.monotonic() - began)
    return seconds


def read_peak_mebibytes(relay: Relay) -> int:
    """The most memory that the container has had (cgroups(7), version 2 or 1)."""
    paths = "/sys/fs/cgroup/memory.peak /sys/fs/cgroup/memory/memory.max_usage_in_bytes"
    return int(relay.exec(["sh", "-c", f"cat {paths} 2>/dev/null"], check=False).text) // 2**20


def test_slow_client_takes_neither_the_sessions_of_others_nor_the_memory(
    engine: Engine, network: Network, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """One application that leaks connections, or is somebody's tool by now, must not silence the others."""
    relay = relays.start(
        allowed=[
            "Connection concurrency limit exceeded",
            "process limit|avoid this condition|STRESS_README",
            "Illegal address syntax",
        ],
    )
    quiet = send_timed(client, relay, "quiet")
    with make_flood(engine, network, relay, CONNECTIONS) as flood:
        wait_until(lambda: read_flood(flood)[0] >= CONNECTIONS, 60, "the flood should be in full swing")
        loud = send_timed(client, relay, "loud")
        for _ in range(5):
            replies, reason = client.converse(
                relay.container.name, 25, "half@example.test", ["not an address", "b@example.com"], b"Subject: x\r\n"
            )
            assert [reply.code for reply in replies] == [220, 250, 250, 501, 250, 354, 250, 221], (replies, reason)
        upstream.wait_messages(2 * MESSAGES + 5, 60)
        opened, refused, held = read_flood(flood)
    peak = read_peak_mebibytes(relay)
    print(
        f"{opened} slow connections opened, {refused} refused, {held} held or waiting; "
        f"seconds to 250: {statistics.median(quiet):.2f} before (at most {max(quiet):.2f}), "
        f"{statistics.median(loud):.2f} meanwhile (at most {max(loud):.2f}); {peak} MiB of memory at most"
    )
    assert {message.mail_from for message in upstream.messages()} == {
        "half@example.test",
        *(f"{prefix}-{number}@example.test" for prefix in ("quiet", "loud") for number in range(MESSAGES)),
    }
    assert held > 0
    assert peak < 192, "the limit, which the kernel would have kept by ending something"
    assert relay.container.inspect()["State"]["OOMKilled"] is False
    assert relay.container.inspect()["RestartCount"] == 0
