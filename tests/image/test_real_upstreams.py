"""The upstreams that providers run: real Postfix with Cyrus SASL, and real Exim with GnuTLS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.image.conftest import LOGIN, PASSWORD, Relays
from tests.support.authorities import Authority
from tests.support.client import Client
from tests.support.engine import Engine, Network
from tests.support.relay import Relay
from tests.support.upstream import RealExim, RealPostfix

TEXT = "From: a@example.test\r\nSubject: real\r\n\r\nÄ .\r\n.\r\n..x\r\nlast\r\n".encode()
SEEN = "From: a@example.test\nSubject: real\n\nÄ .\n.\n..x\nlast\n".encode()
POSTFIX_NAME = "postfix.example.test"
EXIM_NAME = "exim.example.test"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def postfix(engine: Engine, network: Network, authority: Authority) -> Iterator[RealPostfix]:
    made = RealPostfix(engine, network, authority=authority, aliases=(POSTFIX_NAME,))
    yield made
    made.container.remove()


@pytest.fixture(scope="module")
def exim(engine: Engine, network: Network, authority: Authority) -> Iterator[RealExim]:
    made = RealExim(engine, network, authority=authority, aliases=(EXIM_NAME,))
    yield made
    made.container.remove()


def start(relays: Relays, authority: Authority, relayhost: str, mechanism: str) -> Relay:
    return relays.start(
        {
            "RELAYHOST": relayhost,
            "RELAYHOST_USERNAME": LOGIN,
            "RELAYHOST_PASSWORD": PASSWORD,
            "RELAYHOST_CA_FILE": "/run/secrets/real-ca.pem",
            "MYHOSTNAME": "relay.example.test",
            "SMTP_SASL_MECHANISM_FILTER": mechanism,
        },
        secrets={"/run/secrets/real-ca.pem": authority.pem.encode()},
        has_defaults=False,
    )


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_real_postfix_takes_every_mechanism(
    mechanism: str, relays: Relays, postfix: RealPostfix, authority: Authority, client: Client
) -> None:
    """ "No worthy mechs found" is the classical failure: each mechanism's plugin must be in the image and work."""
    relay = start(relays, authority, f"{POSTFIX_NAME}:587", mechanism)
    before = len(postfix.messages())
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT, parameters=["BODY=8BITMIME"])
    message = postfix.wait_messages(before + 1)[-1]
    assert message.endswith(SEEN)
    assert f"sasl_method={mechanism}, sasl_username={LOGIN}" in postfix.logs()
    assert b"Authenticated sender: " + LOGIN.encode() in message
    # The upstream wrote down our certificate: it asked for one, and it is not signed by anyone that it knows.
    assert b'Client CN "relay.example.test"' in message


@pytest.mark.parametrize("port", ["25", "465"])
def test_real_postfix_is_verified_on_the_other_ports(
    port: str, relays: Relays, postfix: RealPostfix, authority: Authority, client: Client
) -> None:
    """The same against a real server's STARTTLS on 25 and its wrapper mode."""
    relay = start(relays, authority, f"[{POSTFIX_NAME}]:{port}", "")
    before = len(postfix.messages())
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    assert postfix.wait_messages(before + 1)[-1].endswith(SEEN)
    assert f"Verified TLS connection established to {POSTFIX_NAME}" in relay.logs()


@pytest.mark.parametrize(("port", "mechanism"), [("587", "PLAIN"), ("587", "CRAM-MD5"), ("465", "LOGIN"), ("25", "")])
def test_real_exim_takes_the_mail(
    port: str, mechanism: str, relays: Relays, exim: RealExim, authority: Authority, client: Client
) -> None:
    """Another SMTP implementation and another TLS library must see the same message and login."""
    relay = start(relays, authority, f"{EXIM_NAME}:{port}", mechanism)
    before = len(exim.messages())
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT, parameters=["BODY=8BITMIME"])
    message = exim.wait_messages(before + 1)[-1]
    # Exim puts its own headers behind the message's.
    header, body = SEEN.split(b"\n\n", 1)
    assert header in message
    assert message.endswith(b"\n\n" + body)
    assert b"X-Upstream-Login: " + LOGIN.encode() in message
    assert f"Verified TLS connection established to {EXIM_NAME}" in relay.logs()


@pytest.mark.usefixtures("postfix")
def test_real_postfix_with_a_wrong_password_keeps_the_mail(
    relays: Relays, authority: Authority, client: Client
) -> None:
    """A typo in the password must not cost a message."""
    relay = relays.start(
        {
            "RELAYHOST": f"{POSTFIX_NAME}:587",
            "RELAYHOST_USERNAME": LOGIN,
            "RELAYHOST_PASSWORD": "wrong",
            "RELAYHOST_CA_FILE": "/run/secrets/real-ca.pem",
        },
        secrets={"/run/secrets/real-ca.pem": authority.pem.encode()},
        has_defaults=False,
    )
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    (entry,) = relay.wait_queue(1)
    while not (reason := entry["recipients"][0].get("delay_reason")):
        (entry,) = relay.wait_queue(1)
    assert "SASL authentication failed" in reason
    assert "535 5.7.8" in reason
