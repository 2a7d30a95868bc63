"""The containers of the image tests: one network, one client and one mock upstream for all, a relay for each test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from tests.conftest import REPORTS
from tests.support.client import Client
from tests.support.engine import Engine, Network
from tests.support.relay import Relay, find_complaints
from tests.support.upstream import HOSTNAME, Upstream

PASSWORD = "secret"
LOGIN = "relay@example.test"
AT_A_RELOAD = ("problem talking to service (rewrite|private/scache)",)
"""At a reload a session's first try may meet the end of a service, and it asks again."""
# What Postfix says when a virtual machine's clock steps while it writes a queue file; nothing that we could mend.
_THE_MACHINE = ("file system clock is", "resetting file time stamps")
# The volumes of most tests have no name; test_stop.py has that warning.
_EXPECTED = (*_THE_MACHINE, "the queue lies on a volume without a name")


class Relays:
    """Starts relays whose log must be free of warnings, and removes them."""

    def __init__(self, engine: Engine, network: Network, upstream: Upstream) -> None:
        self._engine = engine
        self._network = network
        self._upstream = upstream
        self._allowed: dict[str, tuple[str, ...]] = {}
        self.made: list[Relay] = []

    def create(
        self,
        env: Mapping[str, str] | None = None,
        *,
        secrets: Mapping[str, bytes] | None = None,
        allowed: Sequence[str] = (),
        has_defaults: bool = True,
        **options: Any,
    ) -> Relay:
        """Make a relay to the mock upstream without starting it.

        `env` is added to the defaults (upstream at port 587, its CA, login, password file); an empty text unsets one.
        `allowed`: regular expressions of the warnings that are expected.
        """
        defaults = {
            "RELAYHOST": f"{HOSTNAME}:587",
            "RELAYHOST_USERNAME": LOGIN,
            "RELAYHOST_PASSWORD_FILE": "/run/secrets/password",
            "RELAYHOST_CA_FILE": "/run/secrets/ca.pem",
            "MYHOSTNAME": "relay.example.test",
        }
        files = {
            "/run/secrets/password": PASSWORD.encode() + b"\n",
            "/run/secrets/ca.pem": self._upstream.authority.pem.encode(),
        }
        relay = Relay(
            self._engine,
            self._network,
            # What the upstream records is what the test's own messages did; test_probe.py has the probe.
            env={"PROBE": "no", **(defaults if has_defaults else {}), **(env or {})},
            secrets={**(files if has_defaults else {}), **(secrets or {})},
            aliases=(),
            is_started=False,
            **options,
        )
        self._allowed[relay.container.name] = tuple(allowed)
        self.made.append(relay)
        return relay

    def start(self, env: Mapping[str, str] | None = None, **options: Any) -> Relay:
        """Make a relay, start it, and wait for its greeting."""
        relay = self.create(env, **options)
        relay.start()
        return relay.wait_ready()

    def find_complaints(self) -> list[str]:
        """The unexpected warnings of all relays."""
        return [
            f"{relay.container.name}: {line.severity} {line.source}: {line.text}"
            for relay in self.made
            for line in find_complaints(relay.logs(), [*_EXPECTED, *self._allowed[relay.container.name]])
        ]

    def remove(self) -> None:
        for relay in self.made:
            relay.remove()


def _finish(relays: Relays, request: pytest.FixtureRequest) -> None:
    reports = request.node.stash.get(REPORTS, {}) if isinstance(request.node, pytest.Item) else {}
    has_failed = any(report.failed for report in reports.values())
    complaints = [] if has_failed else relays.find_complaints()
    if has_failed:
        for relay in relays.made:
            print(f"--- log of {relay.container.name}\n{relay.logs()}")
    relays.remove()
    assert not complaints, "unexpected warnings in a relay's log:\n" + "\n".join(complaints)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The container engine; whatever was made in it is removed at the end."""
    with Engine() as made:
        yield made


@pytest.fixture(scope="session")
def network(engine: Engine) -> Network:
    """A network with IPv4 and IPv6."""
    return engine.network(is_ipv6=True)


@pytest.fixture(scope="session")
def client(engine: Engine, network: Network) -> Client:
    """A container on the network that submits mail."""
    return Client(engine, network)


@pytest.fixture(scope="session")
def the_upstream(engine: Engine, network: Network) -> Upstream:
    """The one mock upstream; tests take `upstream`."""
    return Upstream(engine, network)


@pytest.fixture
def upstream(the_upstream: Upstream) -> Iterator[Upstream]:
    """The mock upstream, good and without records, also of what a test of another module had sent late."""
    the_upstream.reset()
    yield the_upstream
    the_upstream.reset()


@pytest.fixture
def kept_upstream(the_upstream: Upstream) -> Iterator[Upstream]:
    """The mock upstream with its records from test to test, good again after each: mail flows all the time."""
    yield the_upstream
    the_upstream.mend()


@pytest.fixture
def relays(
    engine: Engine, network: Network, the_upstream: Upstream, request: pytest.FixtureRequest
) -> Iterator[Relays]:
    """Makes relays for one test."""
    made = Relays(engine, network, the_upstream)
    yield made
    _finish(made, request)


@pytest.fixture(scope="module")
def module_relays(
    engine: Engine, network: Network, the_upstream: Upstream, request: pytest.FixtureRequest
) -> Iterator[Relays]:
    """Makes relays that all tests of a module share."""
    made = Relays(engine, network, the_upstream)
    yield made
    _finish(made, request)
