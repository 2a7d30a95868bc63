"""RELAYHOST_CA_URL in the image: Postfix trusts what was fetched, and a web server that is down stops no mail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.image.conftest import Relays
from tests.support.authorities import Authority
from tests.support.client import Client
from tests.support.engine import Engine, Network
from tests.support.relay import Relay
from tests.support.upstream import Upstream
from tests.support.wait import wait_until
from tests.support.web import WEB_HOST, Web, start_web

URL = f"https://{WEB_HOST}/ca.pem"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
TEXT = b"Subject: x\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def web(engine: Engine, network: Network, the_upstream: Upstream) -> Iterator[Web]:
    """One web server for all tests of this file."""
    started = start_web(engine, network, the_upstream.authority.pem)
    yield started
    started.container.remove()


def measure_sha256(pem: str) -> str:
    """The fingerprint as `openssl x509 -fingerprint -sha256` prints it."""
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex(":").upper()


def create(relays: Relays, web: Web, env: dict[str, str], *, volume: str = "", allowed: tuple[str, ...] = ()) -> Relay:
    """A relay that has no CA file, and trusts the web server's CA as its system's."""
    volumes = {str(web.bundle): f"{BUNDLE}:ro"} | ({volume: "/var/lib/authrelay"} if volume else {})
    return relays.create({"RELAYHOST_CA_FILE": "", **env}, volumes=volumes, allowed=allowed)


def deliver(relay: Relay, upstream: Upstream, client: Client) -> None:
    """A message reaches the upstream over TLS that was verified with the CA at hand, and with nothing else."""
    upstream.reset()
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    assert "Verified TLS connection established" in relay.logs()
    assert upstream.messages()[0].login == "relay@example.test"


def test_fetched_authority_is_the_one_that_mail_is_sent_with(
    relays: Relays, web: Web, upstream: Upstream, client: Client
) -> None:
    """Over https, whose server the system's bundle vouches for, and which has nothing to do with the upstream."""
    relay = create(relays, web, {"RELAYHOST_CA_URL": URL})
    relay.start()
    relay.wait_ready()
    deliver(relay, upstream, client)
    assert relay.postconf("smtp_tls_CAfile") == "/etc/postfix/upstream-ca.pem"
    assert relay.exec(["cat", "/etc/postfix/upstream-ca.pem"]).text == upstream.authority.pem
    checked = relay.exec(["authrelay", "check"])
    assert f"SHA-256 {measure_sha256(upstream.authority.pem)}\n" in checked.text
    assert checked.stderr == b""


def test_http_is_enough_with_a_fingerprint(relays: Relays, web: Web, upstream: Upstream, client: Client) -> None:
    """A CA that was slipped in beside the true one is not trusted: what Postfix reads has the true one alone."""
    web.put(Authority().pem + upstream.authority.pem)
    pin = measure_sha256(upstream.authority.pem)
    relay = create(relays, web, {"RELAYHOST_CA_URL": f"http://{WEB_HOST}/ca.pem", "RELAYHOST_CA_SHA256": pin})
    relay.start()
    relay.wait_ready()
    assert relay.exec(["cat", "/etc/postfix/upstream-ca.pem"]).text == upstream.authority.pem
    deliver(relay, upstream, client)
    web.put(upstream.authority.pem)


def test_wrong_fingerprint_ends_the_start_and_shows_both(relays: Relays, web: Web, upstream: Upstream) -> None:
    """Nobody can compare with what is not shown."""
    wanted = "AB:" * 31 + "AB"
    relay = create(relays, web, {"RELAYHOST_CA_URL": URL, "RELAYHOST_CA_SHA256": wanted}, allowed=(".",))
    relay.start()
    assert relay.wait_exit() == 65
    assert f"RELAYHOST_CA_SHA256 is {wanted}, and none of what is there has it: " in relay.logs()
    assert f" with {measure_sha256(upstream.authority.pem)}; " in relay.logs()


def test_web_server_of_an_unknown_authority_is_refused(relays: Relays) -> None:
    """https means something only when it is verified; here the bundle is Debian's own."""
    relay = relays.create({"RELAYHOST_CA_FILE": "", "RELAYHOST_CA_URL": URL}, allowed=(".",))
    relay.start()
    assert relay.wait_exit() == 69
    assert f"RELAYHOST_CA_URL={URL}: the certificate of {WEB_HOST} is not accepted (" in relay.logs()


def test_kept_copy_serves_while_the_web_server_is_down(
    engine: Engine, relays: Relays, web: Web, upstream: Upstream, client: Client
) -> None:
    """The next start, in a new container on the same state volume, does not wait, says so once and delivers."""
    volume = engine.volume()
    first = create(relays, web, {"RELAYHOST_CA_URL": URL}, volume=volume)
    first.start()
    first.wait_ready()
    first.remove()
    relays.made.remove(first)
    web.container.stop(0)
    second = create(relays, web, {"RELAYHOST_CA_URL": URL}, volume=volume, allowed=("RELAYHOST_CA_URL=.* the copy",))
    without = create(relays, web, {"RELAYHOST_CA_URL": URL}, allowed=(".",))
    second.start()
    without.start()
    second.wait_ready()
    deliver(second, upstream, client)
    said = wait_until(
        lambda: [line for line in second.logs().splitlines() if "RELAYHOST_CA_URL" in line], 20, "it should be told"
    )
    assert len(said) == 1
    assert " WARNING authrelay: " in said[0]
    assert f"RELAYHOST_CA_URL={URL}: the name {WEB_HOST} does not resolve (" in said[0]
    assert " ago, on " in said[0]
    assert without.wait_exit() == 69
    assert f"authrelay: RELAYHOST_CA_URL={URL}: the name {WEB_HOST} does not resolve (" in without.logs()
    assert "; and there is no copy of an earlier fetch. " in without.logs()
    assert "Traceback" not in without.logs()
    web.container.start()
