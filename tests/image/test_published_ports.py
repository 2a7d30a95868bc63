"""A published port without the userland proxy: the kernel rewrites addresses, and an outsider must stay one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from tests.image.test_open_relay import ATTEMPTS, CONTAINER_PYTHON, find_port, hand_in, has_queued
from tests.support.dialogue import Place
from tests.support.engine import Engine
from tests.support.relay import IMAGE, Relay
from tests.support.second_engine import HOST, HOST6, SecondEngine

STRANGERS: Final = ("outsider", "outsider-ipv6", "host", "host-ipv6", "loopback", "gateway", "gateway-ipv6")
"""Nobody listens behind [::1]: without a proxy Docker publishes nothing there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A relay with published ports, and who reaches it from where."""

    relay: Relay
    places: Mapping[str, Place]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A relay whose upstream does not exist: what it takes stays in its queue."""
    with SecondEngine([IMAGE], has_userland_proxy=False) as second, Engine() as engine:
        network = engine.network(is_ipv6=True)
        publish = ["--publish=127.0.0.1::25", "--publish=0.0.0.0::25", "--publish=[::]::25"]
        relay = Relay(
            engine, network, env={"RELAYHOST": "mail.example.test", "PROBE": "no"}, secrets={}, arguments=publish
        ).wait_ready()
        own, own6 = relay.container.address(network), relay.container.address6(network)
        outer, outer6 = find_port(relay, "0.0.0.0", 25), find_port(relay, "::", 25)
        places = {
            "outsider": Place(host=HOST, port=outer, pid=second.outsider_pid),
            "outsider-ipv6": Place(host=HOST6, port=outer6, pid=second.outsider_pid),
            "host": Place(host=HOST, port=outer, pid=second.host_pid),
            "host-ipv6": Place(host=HOST6, port=outer6, pid=second.host_pid),
            "loopback": Place(host="127.0.0.1", port=find_port(relay, "127.0.0.1", 25), pid=second.host_pid),
            "gateway": Place(host=own, pid=second.host_pid),
            "gateway-ipv6": Place(host=own6, pid=second.host_pid),
            "container-itself": Place(host="127.0.0.1", container=relay.container, python=CONTAINER_PYTHON),
        }
        yield Stage(relay=relay, places=places)


@pytest.mark.parametrize("name", STRANGERS)
def test_stranger_is_refused_without_the_userland_proxy(name: str, stage: Stage) -> None:
    """Outsiders come with their own address, this machine's programs with the gateway's; neither may send."""
    for trick, answers in hand_in(stage.places[name]).items():
        assert answers[-1].code >= 500, f"{trick}: DATA must be refused: {answers}"
    assert has_queued(stage.relay) == ""


def test_relay_without_the_userland_proxy_takes_mail_of_its_own(stage: Stage) -> None:
    """What refuses everyone would pass the test above."""
    answers = hand_in(stage.places["container-itself"])
    assert [answers[trick][-1].code for trick, attempt in ATTEMPTS.items() if attempt.arrives] == [250] * 25
