"""Who may send: the applications beside the relay, and nobody who only looks like one."""

from __future__ import annotations

import contextlib
import smtplib

import pytest

from tests.image.conftest import Relays
from tests.support.client import Client, SmtpRefusedError
from tests.support.engine import Network
from tests.support.relay import Relay
from tests.support.upstream import Upstream

TEXT = b"Subject: x\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def default_relay(module_relays: Relays) -> Relay:
    """One whose user has said nothing of clients."""
    return module_relays.start()


@pytest.fixture(scope="module")
def closed_relay(module_relays: Relays) -> Relay:
    """One that nobody outside its container may use."""
    return module_relays.start({"MYNETWORKS": "127.0.0.0/8"})


def try_rcpt(host: str, port: int) -> tuple[int, str]:
    """What the relay says to RCPT from this machine, outside the container's network."""
    with smtplib.SMTP(host, port, timeout=10) as connection:
        connection.ehlo("outside.example.org")
        connection.mail("a@example.test")
        code, text = connection.rcpt("b@example.com")
        with contextlib.suppress(smtplib.SMTPException):
            connection.rset()
        return code, text.decode()


def test_container_on_the_same_network_may_send_by_default(
    default_relay: Relay, upstream: Upstream, client: Client
) -> None:
    """Nobody should have to know subnets to use a relay beside an application."""
    client.send(default_relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)


def test_container_itself_may_send(default_relay: Relay, upstream: Upstream) -> None:
    """A sidecar's application talks to localhost, by IPv4 or IPv6; sendmail(1) works for `docker exec`."""
    default_relay.exec(["sendmail", "-f", "a@example.test", "b@example.com"], stdin=b"Subject: x\n\nhello\n")
    upstream.wait_messages(1)
    assert upstream.messages()[0].rcpt_tos == ("b@example.com",)


def test_gateway_may_not_send_and_is_told_what_to_do(relays: Relays) -> None:
    """Behind a userland proxy everyone outside comes from the gateway: this is how relays become open relays."""
    relay = relays.start(arguments=["--publish", "127.0.0.1::25"])
    code, text = try_rcpt("127.0.0.1", relay.container.published_port(25))
    assert code == 554
    assert "is this container's gateway: anyone outside may look like it" in text
    assert "to MYNETWORKS" in text


def test_gateway_may_send_when_it_is_named(relays: Relays, network: Network) -> None:
    """Programs on the host itself are a fair use: the message of the refusal must be enough to allow them."""
    config = network.inspect()["IPAM"]["Config"]
    gateway = next(entry["Gateway"] for entry in config if ":" not in entry.get("Gateway", ":"))
    relay = relays.start({"MYNETWORKS": f"127.0.0.0/8 {gateway}"}, arguments=["--publish", "127.0.0.1::25"])
    assert try_rcpt("127.0.0.1", relay.container.published_port(25))[0] == 250


def test_gateway_inside_a_named_network_stays_outside(relays: Relays) -> None:
    """MYNETWORKS=172.16.0.0/12 is what people write, and it contains every gateway."""
    relay = relays.start(
        {"MYNETWORKS": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16"}, arguments=["--publish", "127.0.0.1::25"]
    )
    assert try_rcpt("127.0.0.1", relay.container.published_port(25))[0] == 554


def test_stranger_on_another_network_may_not_send(closed_relay: Relay, client: Client) -> None:
    """Who is not in mynetworks is refused at RCPT, whatever it says."""
    with pytest.raises(SmtpRefusedError) as refused:
        client.send(closed_relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT, helo="localhost")
    assert (refused.value.replies[-2].command, refused.value.replies[-2].code) == ("RCPT", 554)


@pytest.mark.parametrize(
    "recipient",
    ["b%example.com@relay.example.test", "@relay.example.test:b@example.com", '"b@example.com"', "example.com!b",
     "b@example.com@relay.example.test", "b@[127.0.0.1]"],
)  # fmt: skip
def test_stranger_is_refused_whatever_the_address_looks_like(
    recipient: str, closed_relay: Relay, client: Client
) -> None:
    """Source routes, percent and bang paths were how relays of the past were opened."""
    replies, _ = client.converse(closed_relay.container.name, 25, "a@relay.example.test", [recipient], TEXT)
    assert next(reply.code for reply in replies if reply.command == "RCPT") >= 500


def test_relay_listens_where_it_was_told_to(relays: Relays, client: Client) -> None:
    """A sidecar must not be reachable from outside its pod."""
    relay = relays.start({"INET_INTERFACES": "loopback-only", "LISTEN_PORTS": "25"})
    with pytest.raises(SmtpRefusedError, match="Refused"):
        client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)


def test_oversized_message_is_refused_at_once(relays: Relays, client: Client) -> None:
    """The application learns of it in its own session, not by a bounce to nobody."""
    relay = relays.start({"MESSAGE_SIZE_LIMIT": "100k"}, allowed=["queue file size limit exceeded", "close error"])
    with pytest.raises(SmtpRefusedError) as refused:
        client.send(
            relay.container.name, 25, "a@example.test", ["b@example.com"], b"x" * 70 + b"\r\n" + b"y\r\n" * 60_000
        )
    assert any(reply.code == 552 for reply in refused.value.replies)


def test_client_is_greeted_without_the_name_of_the_software(default_relay: Relay) -> None:
    """The greeting is the relay's name and ESMTP, so that a probe and a person can tell it works."""
    assert default_relay.banner() == "220 relay.example.test ESMTP"
