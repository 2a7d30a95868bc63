"""A real scheduler: three relays of compose/swarm.yaml on Docker Swarm while it kills, drains, updates and scales them.

Minutes: `make kubernetes` runs it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.support.engine import Container, Engine, run_docker
from tests.support.load import Kill, account, was_in_flight
from tests.support.relay import IMAGE
from tests.support.retrying import RetryingClient, find_rate
from tests.support.second_engine import SecondEngine
from tests.support.swarm import InnerUpstream, Swarm
from tests.support.upstream import HOSTNAME, MOCK_IMAGE, Upstream
from tests.support.wait import WaitError, wait_until

MESSAGES = int(os.environ.get("AUTHRELAY_MESSAGES", "3000"))
LOGIN, PASSWORD = "relay@example.test", "secret"
CONCURRENCY = 10
# The longest that the upstream takes to say 250 in the first test.
SLOW_SECONDS = 3
# What a delivery takes at the upstream: with 10 connections 20 messages a second for each relay.
DELIVERY_SECONDS = 0.5


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with SecondEngine([IMAGE, MOCK_IMAGE]), Engine() as made:
        yield made


@pytest.fixture(scope="module")
def swarm(engine: Engine) -> Iterator[Swarm]:
    made = Swarm(engine)
    yield made
    made.leave()


@pytest.fixture(scope="module")
def upstream(engine: Engine, swarm: Swarm) -> Upstream:
    """An upstream beside the relays, and the stack that relays to it."""
    made = InnerUpstream(engine, swarm.network)
    service: dict[str, Any] = {
        "image": IMAGE,
        "environment": {
            "RELAYHOST": f"{HOSTNAME}:587",
            "RELAYHOST_USERNAME": LOGIN,
            "RELAYHOST_CONCURRENCY": str(CONCURRENCY),
            "RELAYHOST_CA": made.authority.pem,
            "DRAIN_TIMEOUT": "5s",
        },
        "stop_grace_period": "20s",
        "deploy": {"update_config": {"monitor": "3s"}},
    }
    swarm.deploy(PASSWORD, {"services": {"relay": service}})
    swarm.wait_replicas(3)
    return made


def wait_delivered(upstream: Upstream, names: Sequence[str], timeout_seconds: float = 120) -> None:
    wait_until(
        lambda: not account(names, upstream.messages())[0], timeout_seconds, "everything should reach the upstream"
    )


def count_waiting(client: RetryingClient, upstream: Upstream) -> int:
    """How many messages were accepted whose 250 the upstream has not given."""
    return sum(one.is_accepted for one in client.read()) - upstream.count()


def tell(text: str) -> None:
    print(f"\n{time.strftime('%H:%M:%S')} {text}", flush=True)


def kill(task: Container) -> Kill:
    began = time.time()
    task.kill()
    return Kill(victim=task.name, began_at=began, ended_at=time.time())


def test_nothing_is_lost_while_relays_are_killed_drained_scaled_and_updated(
    engine: Engine, swarm: Swarm, upstream: Upstream
) -> None:
    """A fleet loses nothing by what clusters do all day; a client that tries again notices nothing but time."""
    upstream.reset()
    # Slower than mail comes in: whatever happens to a relay, there is mail in its queue.
    upstream.behave(final_reply_delay_seconds=SLOW_SECONDS - 1, final_reply_jitter_seconds=1)
    sessions = 20
    # Long enough for all that follows.
    pause = 160 * sessions / MESSAGES
    client = RetryingClient(
        engine, swarm.network, "relay", prefix="fleet", count=MESSAGES, sessions=sessions, pause_seconds=pause
    )
    client.wait(MESSAGES // 50, 60)
    kills = []
    for number in (0, 1):
        kills.append(kill(swarm.list_tasks()[number]))
        tell(f"killed {kills[-1].victim}; {count_waiting(client, upstream)} messages waited in all queues")
        swarm.wait_replicas(3)
    waiting = count_waiting(client, upstream)
    tell(f"scaling to 1; {waiting} messages wait")
    assert waiting > MESSAGES / 50
    swarm.scale(1)
    tell("scaling to 3")
    swarm.scale(3)
    tell("updating to another image")
    text = f"FROM {IMAGE}\nLABEL another=image\n".encode()
    run_docker(["build", "--quiet", "--tag", "authrelay:another", "-"], stdin=text)
    swarm.update(["--image", "authrelay:another"])
    swarm.wait_replicas(3)
    assert {task.inspect()["Config"]["Image"] for task in swarm.list_tasks()} == {"authrelay:another"}
    tell(f"draining the node; {count_waiting(client, upstream)} messages wait")
    swarm.drain()
    swarm.wait_replicas(3)
    told = client.wait(MESSAGES, 600)
    accepted = [one.name for one in told if one.is_accepted]
    tell(f"all was handed in; {count_waiting(client, upstream)} messages wait")
    upstream.mend()
    # What does not come in that time is lost, and is told below.
    with contextlib.suppress(WaitError):
        wait_delivered(upstream, accepted)
    messages = upstream.messages()
    lost, repeated = account(accepted, messages)
    # One whose 250 was never sent was under way for as long as that takes.
    lasted = (
        one if one.final_reply_at else dataclasses.replace(one, final_reply_at=one.received_at + SLOW_SECONDS)
        for one in messages
    )
    explained = {one.mail_from for one in lasted if was_in_flight(one, kills)}
    again = sum(one.tries > 1 for one in told)
    tell(
        f"{len(told)} messages, {len(accepted)} accepted, {len(told) - len(accepted)} given up, {len(lost)} lost, "
        f"{len(repeated)} twice ({len(set(repeated) - explained)} not by a kill); "
        f"{again} had to be tried again, the longest for {max(one.seconds for one in told):.1f} s"
    )
    assert len(accepted) == len(told) == MESSAGES
    assert lost == []
    # A delivery that a KILL cuts off must be repeated, and so must what a client was not told 250 about.
    tried_again = {one.name for one in told if one.tries > 1}
    assert set(repeated) <= explained | tried_again


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_throughput_grows_with_the_relays(engine: Engine, swarm: Swarm, upstream: Upstream, replicas: int) -> None:
    """Where the upstream, and not the processor, is what mail waits for: each relay has its own connections."""
    swarm.scale(replicas)
    upstream.reset()
    upstream.behave(final_reply_delay_seconds=DELIVERY_SECONDS)
    count = 400 * replicas
    client = RetryingClient(engine, swarm.network, "relay", prefix=f"rate-{replicas}", count=count, sessions=30)
    told = client.wait(count, 120)
    assert all(one.is_accepted for one in told)
    wait_delivered(upstream, [one.name for one in told])
    measured = find_rate([message.received_at for message in upstream.messages()])
    model = replicas * CONCURRENCY / DELIVERY_SECONDS
    tell(json.dumps({"replicas": replicas, "model": model, "measured": round(measured, 1)}))
    assert 0.6 * model < measured <= 1.1 * model
