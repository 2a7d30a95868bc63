"""Stopping: what was accepted is delivered once, whenever the relay is told to stop."""

from __future__ import annotations

import os
import re
import time

import pytest

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.engine import Container, Engine, Network
from tests.support.load import Load, account, wait_until_delivered
from tests.support.relay import Relay
from tests.support.upstream import MOCK_IMAGE, Upstream, hang, reply
from tests.support.wait import wait_until

ROUNDS = int(os.environ.get("AUTHRELAY_ROUNDS", "2"))
"""How many stops under load; `make stops` does 100."""
TEXT = b"Subject: x\r\n\r\nhello\r\n"
AT_THE_END = (
    "problem talking to serv",
    "connect to private/",
    "no entropy for TLS key generation",
    "queue file write",
    "disabling connection caching",
)
"""What processes say that were about to begin something when master ended: a delivery that then waits, a session."""


def submit(relay: Relay, client: Client, name: str = "a@example.test") -> None:
    client.send(relay.container.name, 25, name, ["b@example.com"], TEXT)


def submit_all(relay: Relay, client: Client, count: int) -> list[str]:
    """Submit so many, each with a sender of its own; the senders."""
    names = [f"{number}@example.test" for number in range(count)]
    for name in names:
        submit(relay, client, name)
    return names


def find_last_line(relay: Relay) -> str:
    return relay.logs().splitlines()[-1]


def start_with_queue(relays: Relays, volume: str, env: dict[str, str] | None = None) -> Relay:
    return relays.start(env, volumes={volume: "/var/spool/postfix"}, allowed=AT_THE_END, is_checked=True)


def deliver_rest(relay: Relay) -> None:
    """Start it again and wait until its queue is empty."""
    relay.start()
    relay.wait_ready()
    relay.flush()
    wait_until(lambda: relay.queue() == [], 60, "everything should be delivered")


def test_stop_under_load_loses_nothing_and_repeats_nothing(
    engine: Engine, network: Network, relays: Relays, upstream: Upstream
) -> None:
    """With Docker's own patience of 10 s, and an upstream that confirms after 0 to 5 s."""
    upstream.behave(final_reply_jitter_seconds=5)
    relay = start_with_queue(relays, engine.volume())
    accepted: list[str] = []
    for number in range(ROUNDS):
        name = relay.container.name
        with Load(engine, network, name, prefix=f"round-{number}", pause_seconds=0.4) as load:
            load.wait_accepted(25)
            # Not ended by the engine, whose KILL would make it 137.
            assert relay.stop(10) == 0
            accepted += load.end()
        relay.start()
        relay.wait_ready()
    upstream.mend()
    wait_until_delivered(relay)
    lost, repeated = account(accepted, upstream.messages())
    print(f"{ROUNDS} stops, {len(accepted)} accepted, {len(lost)} lost, {len(repeated)} repeated")
    assert len(accepted) >= 25 * ROUNDS
    assert (lost, repeated) == ([], [])


def test_this_test_can_see_duplicates(engine: Engine, network: Network, relays: Relays, upstream: Upstream) -> None:
    """TERM to master, which every other image sends, repeats what is in flight: 0 above means something.

    As other images run: without CAP_KILL, as in compose/relay.yaml, master may not end its daemons.
    """
    upstream.behave(final_reply_delay_seconds=2)
    relay = relays.start(volumes={engine.volume(): "/var/spool/postfix"}, allowed=AT_THE_END, is_hardened=False)
    with Load(engine, network, relay.container.name, prefix="term", sessions=3) as load:
        load.wait_accepted(10)
        wait_until(upstream.messages, 20, "the upstream should have a message whole, and its 250 be on the way")
        relay.exec(["sh", "-c", "kill -TERM $(cat /var/spool/postfix/pid/master.pid)"])
        accepted = load.end()
    upstream.mend()
    wait_until(lambda: relay.banner().startswith("220"), 30, "the supervisor should start it again")
    wait_until_delivered(relay)
    lost, repeated = account(accepted, upstream.messages())
    print(f"plain TERM to master once: {len(accepted)} accepted, {len(lost)} lost, {len(repeated)} repeated")
    assert lost == []
    assert repeated
    relays.made.remove(relay)


def test_stop_lets_the_queue_run_empty(engine: Engine, relays: Relays, upstream: Upstream, client: Client) -> None:
    """A sidecar whose pod goes away must not take the last message with it."""
    relay = start_with_queue(relays, engine.volume(), {"RELAYHOST_CONCURRENCY": "2"})
    upstream.behave(final_reply_delay_seconds=0.4)
    names = submit_all(relay, client, 8)
    assert relay.stop(10) == 0
    assert find_last_line(relay).endswith(" INFO authrelay: stopped; the queue is empty")
    assert account(names, upstream.messages()) == ([], [])


def test_stop_hands_nothing_out_after_its_window_and_says_what_is_left(
    engine: Engine, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """One connection, each message 1.5 s: after DRAIN_TIMEOUT the rest waits for the next start, each only once."""
    relay = start_with_queue(relays, engine.volume(), {"RELAYHOST_CONCURRENCY": "1", "DRAIN_TIMEOUT": "2s"})
    upstream.behave(final_reply_delay_seconds=1.5)
    handed_in_at = time.monotonic()
    names = submit_all(relay, client, 12)
    began = time.monotonic()
    assert relay.stop(30) == 0
    assert 2 <= time.monotonic() - began < 10
    left = int(re.findall(r"stopped; (\d+) messages are left in the queue on the volume", find_last_line(relay))[0])
    assert left == len(names) - upstream.count()
    # At most one more can have begun than fit into the time since the first was handed in.
    assert left >= len(names) - (time.monotonic() - handed_in_at) / 1.5 - 1
    assert left > 1
    upstream.mend()
    deliver_rest(relay)
    assert account(names, upstream.messages()) == ([], [])


def test_stop_is_quick_with_nothing_to_do(relays: Relays) -> None:
    """Most stops are."""
    relay = relays.start()
    began = time.monotonic()
    assert relay.stop() == 0
    assert time.monotonic() - began < 5
    assert find_last_line(relay).endswith("INFO authrelay: stopped; the queue is empty")


def test_second_signal_hands_nothing_more_out_and_still_waits_for_what_is_under_way(
    engine: Engine, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """An impatient person must not cause duplicates."""
    relay = start_with_queue(relays, engine.volume(), {"RELAYHOST_CONCURRENCY": "1", "DRAIN_TIMEOUT": "30s"})
    upstream.behave(final_reply_delay_seconds=2)
    names = submit_all(relay, client, 6)
    relay.kill("TERM")
    wait_until(lambda: not relay.banner().startswith("220"), 5, "no session should begin any more")
    relay.kill("TERM")
    assert relay.wait_exit(8) == 0
    assert upstream.count() < len(names)
    upstream.mend()
    deliver_rest(relay)
    assert account(names, upstream.messages()) == ([], [])


# Arguments: host, lines to say before the file /tmp/go appears. Then the content, if DATA was said.
_CLIENT = r"""
import os, socket, sys, time
connection = socket.create_connection((sys.argv[1], 25), 10)
replies = connection.makefile("rb")
def say(line):
    connection.sendall(line + b"\r\n")
    while True:
        reply = replies.readline()
        if reply[3:4] != b"-":
            print(reply.decode().strip(), flush=True)
            return
replies.readline()
for word in sys.argv[2:]:
    say(word.encode())
print("waiting", flush=True)
while not os.path.exists("/tmp/go"):
    time.sleep(0.02)
if "DATA" in sys.argv:
    say(b"Subject: slow\r\n\r\nhello\r\n.")
say(b"QUIT")
"""


def start_client(engine: Engine, network: Network, relay: Relay, *words: str) -> Container:
    """A client in the middle of its session."""
    container = engine.run(
        MOCK_IMAGE, ["python", "-c", _CLIENT, relay.container.name, *words], kind="slow", network=network
    )
    wait_until(lambda: "waiting" in container.logs(), 15, "the client should be in mid-session")
    return container


def test_client_in_mid_transaction_may_finish_while_others_are_refused(
    engine: Engine, network: Network, relays: Relays, upstream: Upstream
) -> None:
    """Who was promised nothing yet gets its answer, and what it was promised is kept."""
    relay = start_with_queue(relays, engine.volume())
    words = ("EHLO x", "MAIL FROM:<slow@example.test>", "RCPT TO:<b@example.com>", "DATA")
    slow = start_client(engine, network, relay, *words)
    relay.kill("TERM")
    wait_until(
        lambda: relay.banner().endswith("this relay is being stopped, try again soon"), 3, "others should be refused"
    )
    slow.exec(["touch", "/tmp/go"])
    assert relay.wait_exit(15) == 0
    assert "250 2.0.0 Ok: queued as" in slow.logs()
    if upstream.count() == 0:
        deliver_rest(relay)
    assert account(["slow@example.test"], upstream.messages()) == ([], [])


@pytest.mark.parametrize("words", [("EHLO x",), ("EHLO x", "MAIL FROM:<a@example.test>")], ids=["idle", "envelope"])
def test_client_that_only_sits_there_does_not_hold_the_stop(
    words: tuple[str, ...], engine: Engine, network: Network, relays: Relays
) -> None:
    """Connection pools keep sessions open for minutes."""
    relay = start_with_queue(relays, engine.volume())
    start_client(engine, network, relay, *words)
    began = time.monotonic()
    assert relay.stop(20) == 0
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("stage", ["connect", "end-of-data"])
def test_upstream_that_never_answers_is_ended_by_the_engine_alone_and_told_of_before(
    stage: str, engine: Engine, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """Nothing is lost by that; whether it is repeated only the upstream knows."""
    upstream.behave(faults={stage: hang()})
    relay = start_with_queue(relays, engine.volume())
    submit(relay, client)
    wait_until(lambda: upstream.sessions() != [], 10, "it should be under way")
    assert relay.stop(8) == 137
    assert "stopping; waiting for 1 delivery that is under way; 1 message is left in the queue" in find_last_line(relay)
    upstream.mend()
    deliver_rest(relay)
    lost, _ = account(["a@example.test"], upstream.messages())
    assert lost == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "on a volume without a name"),
        (["--tmpfs", "/var/spool/postfix:mode=755"], "in memory"),
        (["--volume", "VOLUME:/var/spool/postfix"], ""),
    ],
    ids=["anonymous", "memory", "named"],
)
def test_queue_that_goes_with_its_container_is_told_at_the_start_and_at_the_end(
    arguments: list[str], words: str, engine: Engine, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """People find out when they re-create the container, and then it is too late."""
    volume = engine.volume()
    relay = relays.start(
        arguments=[argument.replace("VOLUME", volume) for argument in arguments], allowed=["which lies", "queue lies"]
    )
    said = [line for line in relay.logs().splitlines() if "the queue lies" in line]
    assert len(said) == bool(words)
    assert all(f"WARNING authrelay: the queue lies {words}" in line for line in said)
    upstream.behave(faults={"mail": reply(451, "4.3.0 later")})
    submit(relay, client)
    wait_until(lambda: "status=deferred" in relay.logs(), 10, "it should wait")
    relay.stop()
    last = find_last_line(relay)
    assert "stopped; 1 message is left in the queue" in last
    assert (f"which lies {words}" if words else "on the volume at /var/spool/postfix, for the next start") in last
