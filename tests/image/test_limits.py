"""What providers allow: connections at one time, messages a minute, recipients a message. Measured at the upstream.

AUTHRELAY_MINUTES=10 for the long run.
"""

from __future__ import annotations

import bisect
import json
import os
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.image.conftest import PASSWORD, Relays
from tests.support.authorities import Authority
from tests.support.client import Client
from tests.support.engine import Engine, Network
from tests.support.upstream import Message, Upstream
from tests.support.wait import wait_until

FEW, SLOW = "few.limits.test", "slow.limits.test"
SECONDS: Final = 60 * float(os.environ.get("AUTHRELAY_MINUTES", "0.25"))
CONNECTIONS: Final = 3
DELAY: Final = 2.0
WINDOW: Final = min(60.0, SECONDS * 0.6)
"""Providers count by the minute."""

# Standard input: JSON, the relay's name, the seconds, and for each kind of mail its sender, recipients, and the pause.
_SEND: Final = r"""
import json, smtplib, sys, time
relay, seconds, kinds = json.load(sys.stdin)
end, due, sent = time.monotonic() + seconds, [0.0] * len(kinds), [0] * len(kinds)
with smtplib.SMTP(relay, 25, "client.example.test", 30) as session:
    while time.monotonic() < end:
        for number, (sender, recipients, pause) in enumerate(kinds):
            if time.monotonic() >= due[number]:
                session.sendmail(sender, recipients, "Subject: x\r\n\r\nx\r\n")
                sent[number] += 1
                due[number] = time.monotonic() + pause
        time.sleep(0.01)
print(json.dumps(sent))
"""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def few(engine: Engine, network: Network, authority: Authority) -> Iterator[Upstream]:
    made = Upstream(engine, network, authority=authority, aliases=(FEW,), accounts={"few": PASSWORD})
    made.behave(final_reply_delay_seconds=0.2)
    yield made
    made.container.remove()


@pytest.fixture(scope="module")
def slow(engine: Engine, network: Network, authority: Authority) -> Iterator[Upstream]:
    made = Upstream(engine, network, authority=authority, aliases=(SLOW,), accounts={"slow": PASSWORD})
    yield made
    made.container.remove()


def count_most_at_once(upstream: Upstream) -> int:
    """The most connections that were open at one moment."""
    now = time.time()
    edges = [edge for one in upstream.sessions() for edge in ((one.started_at, 1), (one.ended_at or now, -1))]
    open_now, most = 0, 0
    for _, step in sorted(edges):
        open_now += step
        most = max(most, open_now)
    return most


def find_overlaps(upstream: Upstream) -> list[float]:
    """For how many milliseconds more connections than allowed were open, each time."""
    sessions = sorted(upstream.sessions(), key=lambda one: one.started_at)
    now = time.time()
    found = []
    for number, one in enumerate(sessions):
        ends = sorted(other.ended_at or now for other in sessions[:number] if (other.ended_at or now) > one.started_at)
        if len(ends) >= CONNECTIONS:
            found.append((ends[-CONNECTIONS] - one.started_at) * 1000)
    return found


def count_most_within(messages: list[Message], seconds: float) -> int:
    """The most messages that came within any so many seconds."""
    times = sorted(message.received_at for message in messages)
    return max(bisect.bisect_left(times, start + seconds) - first for first, start in enumerate(times))


def test_limits_hold_at_the_upstream(
    relays: Relays, few: Upstream, slow: Upstream, upstream: Upstream, authority: Authority, client: Client
) -> None:
    """More mail than they allow, all the time; RELAYHOST's own goes as fast as ever beside it."""
    relay = relays.start(
        {
            "UPSTREAMS": f"""
[few]
nexthop = "{FEW}:587"
username = "few"
password = "{PASSWORD}"
ca = '''{authority.pem}'''
concurrency = {CONNECTIONS}
recipient_limit = 1
senders = ["@few.test"]

[slow]
nexthop = "{SLOW}:587"
username = "slow"
password = "{PASSWORD}"
ca = '''{authority.pem}'''
rate_delay = "{DELAY:.0f}s"
recipient_limit = 2
senders = ["@slow.test"]
"""
        }
    )
    kinds = [
        ("a@few.test", [f"r{number}@example.com" for number in range(4)], 0.1),
        ("a@slow.test", ["r1@example.com", "r2@example.com", "r3@example.com"], 1.0),
        ("a@example.test", ["r@example.com"], 0.05),
    ]
    began = time.monotonic()
    result = client.container.exec(
        ["python", "-c", _SEND],
        stdin=json.dumps([relay.container.name, SECONDS, kinds]).encode(),
        timeout_seconds=SECONDS + 60,
    )
    sent = json.loads(result.stdout)
    wait_until(lambda: upstream.count() == sent[2], 10, "RELAYHOST's own should not wait for the others")
    seconds = time.monotonic() - began
    few_messages, slow_messages = few.messages(), slow.messages()
    most, within = count_most_at_once(few), count_most_within(slow_messages, WINDOW)
    print(
        f"{seconds:.0f} s; concurrency {CONNECTIONS}: {len(few_messages)} messages, {most} connections at most; "
        f"rate_delay {DELAY:.0f} s: {len(slow_messages)} messages, {within} at most within {WINDOW:.0f} s; "
        f"RELAYHOST: {sent[2]} of {sent[2]}"
    )
    assert most == CONNECTIONS, f"for so many milliseconds: {find_overlaps(few)}"
    assert {len(message.rcpt_tos) for message in few_messages} == {1}
    # The queue manager counts in whole seconds.
    assert within <= WINDOW / DELAY + 1
    assert len(slow_messages) >= (seconds - 3) / (DELAY + 1) - 1
    assert max(len(message.rcpt_tos) for message in slow_messages) == 2
    # Both were asked for more than they may give.
    assert len(few_messages) < 4 * sent[0]
    assert len(slow_messages) < 2 * sent[1]
