"""RELAYHOST_CA_URL while the relay runs: a CA that is announced, one that is not, and a web server that is broken."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.image.conftest import AT_A_RELOAD, Relays
from tests.image.test_upkeep import Stream, submit, wait_line
from tests.support.authorities import Authority
from tests.support.client import Client
from tests.support.engine import Engine, Network
from tests.support.relay import Relay
from tests.support.upstream import HOSTNAME, Upstream
from tests.support.wait import wait_until
from tests.support.web import WEB_HOST, Web, start_web

URL = f"https://{WEB_HOST}/ca.pem"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture(scope="module")
def web(engine: Engine, network: Network, the_upstream: Upstream) -> Iterator[Web]:
    """A web server that the relays of these tests trust."""
    started = start_web(engine, network, the_upstream.authority.pem)
    yield started
    started.container.remove()


def start_with_url(relays: Relays, web: Web, refresh: str, allowed: tuple[str, ...] = ()) -> Relay:
    env = {"RELAYHOST_CA_FILE": "", "RELAYHOST_CA_URL": URL, "RELAYHOST_CA_REFRESH": refresh}
    return relays.start(env, volumes={str(web.bundle): f"{BUNDLE}:ro"}, allowed=allowed)


def test_announced_rollover_of_the_authority_defers_nothing(
    relays: Relays, web: Web, upstream: Upstream, client: Client
) -> None:
    """The new CA is published, fetched on schedule, and then the upstream changes its certificate, while mail flows."""
    web.put(upstream.authority.pem)
    relay = start_with_url(relays, web, "10s", allowed=AT_A_RELOAD)
    new = Authority()
    with Stream(relay, client) as stream:
        web.put(upstream.authority.pem + new.pem)
        wait_line(relay, "changed: the trusted CA is .* SHA-256 .*, .* with SHA-256 ", 25)
        upstream.serve(new.make_chain(HOSTNAME))
        count = stream.count
        wait_until(lambda: stream.count > count + 5, 20, "mail should flow on")
    upstream.wait_messages(stream.count, timeout_seconds=30)
    assert "status=deferred" not in relay.logs()
    assert len(upstream.messages()) == stream.count


def test_unannounced_rollover_defers_nothing_longer_than_a_retry(
    relays: Relays, web: Web, upstream: Upstream, client: Client
) -> None:
    """The upstream changes first: the delivery that meets the unknown CA has it fetched, hours before the schedule."""
    web.put(upstream.authority.pem)
    relay = start_with_url(relays, web, "6h", allowed=AT_A_RELOAD)
    submit(relay, client)
    upstream.wait_messages(1)
    new = Authority()
    web.put(new.pem)
    upstream.serve(new.make_chain(HOSTNAME))
    with Stream(relay, client) as stream:
        wait_until(lambda: "Server certificate not" in relay.logs(), 10, "the new CA should be unknown")
        began = time.monotonic()
        wait_line(relay, "changed: the trusted CA is")
        assert time.monotonic() - began < 20
    upstream.wait_messages(stream.count + 1, timeout_seconds=30)
    wait_until(lambda: relay.queue() == [], 10, "nothing should wait")
    assert len(upstream.messages()) == stream.count + 1


def test_failed_fetch_is_told_once_and_ends_with_a_word(
    relays: Relays, web: Web, upstream: Upstream, client: Client
) -> None:
    """A WARNING every ten seconds would be noise, none a CA that ends in silence."""
    web.put(upstream.authority.pem)
    relay = start_with_url(relays, web, "10s", allowed=("RELAYHOST_CA_URL", *AT_A_RELOAD))
    web.put("<html>gone</html>")
    line = wait_line(relay, "WARNING authrelay: RELAYHOST_CA_URL", 25)
    assert "it is a web page and not a CA file; the copy that was fetched " in line
    record = json.loads(relay.exec(["cat", "/run/authrelay/upkeep.json"]).text)
    wait_until(
        lambda: json.loads(relay.exec(["cat", "/run/authrelay/upkeep.json"]).text)["failures"] > record["failures"],
        25,
        "it should be tried again",
    )
    assert "RELAYHOST_CA_URL" in relay.exec(["authrelay", "health"]).text
    submit(relay, client)
    upstream.wait_messages(1)
    web.put(upstream.authority.pem)
    wait_line(relay, "INFO authrelay: RELAYHOST_CA_URL: the CA was fetched again", 25)
    assert "RELAYHOST_CA_URL" not in relay.exec(["authrelay", "health"]).text
    assert relay.logs().count("WARNING authrelay: RELAYHOST_CA_URL") == 1


def test_stop_does_not_wait_for_a_fetch(relays: Relays, web: Web, upstream: Upstream) -> None:
    """A web server that hangs must not hold `docker stop` up."""
    web.put(upstream.authority.pem)
    relay = start_with_url(relays, web, "10s", allowed=("RELAYHOST_CA_URL", *AT_A_RELOAD))
    web.container.pause()
    try:
        wait_until(
            lambda: "upkeep" in relay.exec(["bash", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).text,
            20,
            "a fetch should be under way",
        )
        began = time.monotonic()
        assert relay.stop() == 0
        assert time.monotonic() - began < 6
    finally:
        web.container.unpause()
