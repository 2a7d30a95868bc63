"""A disk that is full, a clock that is set, a volume that cannot be written, while mail flows."""

from __future__ import annotations

import time

import pytest

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.clock import Clock
from tests.support.engine import Engine, Network
from tests.support.flow import KILLED, QUICK, find_lost, send
from tests.support.upstream import Upstream, reply

# What Postfix says of the faults themselves.
_JUMPED = (
    "time jump detected|ciphertext .* timeout",
    # What tlsproxy(8) waited for just then has "timed out"; smtp(8) tries again.
    "receive request attributes: Connection timed out|tlsproxy service role .* is not available",
)


_FULL = (
    *("the queue lies in memory", "No space left on device", "not enough free space", "queue file write error"),
    *("mail_stream_cleanup: close error", "bad command startup -- throttling"),
    # What bounce(8) is to write about a delivery that is put off has no room either; the queue manager keeps it anyway.
    *("private/defer socket", "defer service failure", r"bounce pid \d+ exit status 1"),
)


@pytest.mark.parametrize(
    ("size", "limit", "ballast", "codes"),
    # By default 1.5 times MESSAGE_SIZE_LIMIT must be free; without a limit the disk is filled to its end.
    [("100m", "50M", "bs=1M count=40", {452}), ("16m", "none", "bs=1k", {451, 452})],
    ids=["nearly", "wholly"],
)
def test_disk_that_is_full(
    size: str,
    limit: str,
    ballast: str,
    codes: set[int],
    engine: Engine,
    network: Network,
    client: Client,
    kept_upstream: Upstream,
    relays: Relays,
) -> None:
    """Clients are told to come back, nobody gets a false 250, what was accepted goes out, and it mends itself."""
    env = {**QUICK, "MESSAGE_SIZE_LIMIT": limit}
    relay = relays.start(env, arguments=[f"--tmpfs=/var/spool/postfix:size={size}"], allowed=_FULL)
    with send(engine, network, relay, kept_upstream, f"disk-{limit}") as mail:
        kept_upstream.behave(faults={"connect": reply(421, "4.3.2 too busy")})
        mail.wait()
        relay.exec(["dd", "if=/dev/zero", "of=/var/spool/postfix/ballast", *ballast.split()], check=False)
        large = b"Subject: x\r\n\r\n" + b"y" * 70 * 20000
        replies, _ = client.converse(relay.container.name, 25, "large@example.test", ["b@example.com"], large)
        assert {one.code for one in replies if one.command in ("MAIL", ".")} & codes
        assert all(one.code != 250 for one in replies if one.command == ".")
        relay.exec(["rm", "/var/spool/postfix/ballast"])
        kept_upstream.mend()
        mail.wait()
        mail.account(f"disk full, MESSAGE_SIZE_LIMIT={limit}")
    assert find_lost(["large@example.test"], kept_upstream)


def test_inodes_that_are_used_up(
    engine: Engine, network: Network, client: Client, kept_upstream: Upstream, relays: Relays
) -> None:
    """Postfix has a client wait then, and looks again every 10 s (mail_queue_enter): no false 250, nothing is lost."""
    said = [*_FULL, "Connection concurrency limit exceeded", r"qmgr pid \d+ exit status 1"]
    relay = relays.start(QUICK, arguments=["--tmpfs=/var/spool/postfix:size=150m,nr_inodes=300"], allowed=said)
    with send(engine, network, relay, kept_upstream, "inodes") as mail:
        kept_upstream.behave(faults={"connect": reply(421, "4.3.2 too busy")})
        mail.wait()
        fill = "mkdir /var/spool/postfix/ballast && cd /var/spool/postfix/ballast && for i in {1..300}; do : >$i; done"
        relay.exec(["bash", "-c", fill], check=False)
        replies, _ = client.converse(
            relay.container.name, 25, "late@example.test", ["b@example.com"], b"x\r\n", timeout_seconds=3
        )
        assert all(one.command != "." for one in replies)
        relay.exec(["rm", "-r", "/var/spool/postfix/ballast"])
        kept_upstream.mend()
        mail.wait()
        mail.account("inodes used up")
    assert find_lost(["late@example.test"], kept_upstream)


def test_clock_that_is_set(
    engine: Engine, network: Network, client: Client, kept_upstream: Upstream, relays: Relays
) -> None:
    """An hour forward and back again. The queue manager's own clock and the time of each next try then lie in the
    future, and Postfix alone would leave what waits for an hour."""
    clock = Clock(engine, client)
    relay = relays.start(QUICK, volumes=clock.volumes, allowed=[*_JUMPED, *KILLED])
    with send(engine, network, relay, kept_upstream, "clock") as mail:
        for name, seconds in (("forward", 3600), ("back", 0)):
            kept_upstream.behave(faults={"rcpt": reply(451, "4.3.0 not now")})
            mail.last(1.5)
            clock.set(seconds)
            assert abs(int(relay.exec(["date", "+%s"]).text) - time.time() - seconds) < 10
            kept_upstream.mend()
            mail.last(1)
            mail.account(f"clock set an hour {name}")
    assert "the clock was set back by 3600 s" in relay.logs()


def test_state_volume_that_cannot_be_written(
    engine: Engine, network: Network, kept_upstream: Upstream, relays: Relays
) -> None:
    """With a certificate from an earlier start it is only read; without one the end says what is wrong."""
    state = engine.volume()
    relay = relays.create(volumes={state: "/var/lib/authrelay:ro"})
    relay.start()
    assert relay.wait_exit() == 73
    assert relay.logs().startswith("authrelay: /var/lib/authrelay/client.pem cannot be written: Read-only file system")
    relays.made.remove(relay)
    # A stop right after a start may meet the first health check in its middle.
    relays.start(
        volumes={state: "/var/lib/authrelay"}, allowed=["private/anvil: Connection refused|Broken pipe"]
    ).stop()
    relay = relays.start(QUICK, volumes={state: "/var/lib/authrelay:ro"})
    with send(engine, network, relay, kept_upstream, "state") as mail:
        mail.account("state volume read-only, certificate kept")
