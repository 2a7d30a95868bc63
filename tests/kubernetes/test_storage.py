"""What the fsync(2) of a storage class does to a relay, and whether the model in docs/capacity.md says so.

A minute: `make kubernetes` runs it.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import pytest

from tests.support.engine import Container, Engine, Network, run_docker
from tests.support.load import account
from tests.support.relay import Relay
from tests.support.retrying import RetryingClient, find_rate
from tests.support.upstream import HOSTNAME, Upstream
from tests.support.wait import wait_until

DISK_IMAGE = "authrelay-peer-disk:dev"
MESSAGES = 600


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made


@pytest.fixture(scope="module")
def network(engine: Engine) -> Network:
    return engine.network()


@pytest.fixture(scope="module")
def upstream(engine: Engine, network: Network) -> Upstream:
    return Upstream(engine, network)


@pytest.fixture(scope="module")
def library(engine: Engine) -> pathlib.Path:
    """The slow disk, on this machine."""
    carrier: Container = engine.create(DISK_IMAGE, ["true"])
    path = engine.directory() / "slow.so"
    run_docker(["cp", f"{carrier.name}:/slow.so", str(path)])
    return path


def start_relay(
    engine: Engine, network: Network, upstream: Upstream, library: pathlib.Path, milliseconds: float
) -> Relay:
    directory = engine.directory()
    (directory / "preload").write_text("/slow.so\n", encoding="utf-8")
    (directory / "slow-disk").write_text(f"{milliseconds}\n", encoding="utf-8")
    mounts = {
        library: "/slow.so",
        directory / "preload": "/etc/ld.so.preload",
        directory / "slow-disk": "/etc/slow-disk",
    }
    env = {
        "RELAYHOST": f"{HOSTNAME}:587",
        "RELAYHOST_USERNAME": "relay@example.test",
        "RELAYHOST_PASSWORD": "secret",
        "RELAYHOST_CA": upstream.authority.pem,
    }
    volumes = {engine.volume(): "/var/spool/postfix"}
    arguments = [f"--volume={source}:{target}:ro" for source, target in mounts.items()]
    return Relay(engine, network, env=env, volumes=volumes, arguments=arguments, aliases=()).wait_ready(port=25)


def measure(
    engine: Engine, network: Network, upstream: Upstream, relay: Relay, *, sessions: int, count: int
) -> tuple[float, float]:
    """Messages accepted and delivered a second."""
    upstream.reset()
    name = f"s{sessions}"
    client = RetryingClient(engine, network, relay.container.name, prefix=name, count=count, sessions=sessions)
    told = client.wait(count, 180)
    names = [one.name for one in told if one.is_accepted]
    assert len(names) == count
    wait_until(lambda: not account(names, upstream.messages())[0], 60, "everything should be delivered")
    return find_rate([one.at for one in told]), find_rate([one.received_at for one in upstream.messages()])


def test_slow_fsync_slows_each_session_and_not_the_relay(
    engine: Engine, network: Network, upstream: Upstream, library: pathlib.Path
) -> None:
    """A message waits for one fsync before its 250: sessions side by side make up for it, as far as there are some."""
    base: dict[int, float] = {}
    for milliseconds in (0, 2, 10, 50):
        relay = start_relay(engine, network, upstream, library, milliseconds)
        for sessions, count in ((1, 100), (10, MESSAGES)):
            accepted, delivered = measure(engine, network, upstream, relay, sessions=sessions, count=count)
            base.setdefault(sessions, sessions / accepted)
            # What a message takes with a fast disk, and one fsync more.
            model = sessions / (base[sessions] + milliseconds / 1000)
            row = {"fsync_ms": milliseconds, "sessions": sessions, "model": model}
            print(json.dumps({**row, "accepted": round(accepted, 1), "delivered": round(delivered, 1)}), flush=True)
            if sessions == 1 and milliseconds >= 10:
                assert 0.5 * model < accepted < 1.5 * model
        relay.remove()
