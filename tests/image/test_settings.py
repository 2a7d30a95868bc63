"""Settings that no other test needs do what their line in the README says."""

from __future__ import annotations

import io
import itertools
import json
import time
import zipfile

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from tests.image.conftest import PASSWORD, Relays
from tests.support.client import Client
from tests.support.engine import Engine, Network
from tests.support.mailing import Order, send_mailing
from tests.support.upstream import HOSTNAME, RealPostfix, Upstream
from tests.support.wait import wait_until

TEXT = b"Subject: x\r\n\r\nhello\r\n"


def make_zip(pem: bytes) -> bytes:
    """The CA as download pages offer it: in a folder, beside a text."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ca/readme.txt", "install this")
        archive.writestr("ca/root.crt", pem)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["der", "pkcs7-der", "pkcs7-pem", "zip", "bundle"])
def test_authority_is_understood_in_every_form(form: str, relays: Relays, upstream: Upstream, client: Client) -> None:
    """People have the file that their provider offers, not the one that Postfix wants."""
    pem = upstream.authority.pem.encode()
    certificate = x509.load_pem_x509_certificate(pem)
    content = {
        "der": certificate.public_bytes(Encoding.DER),
        "pkcs7-der": pkcs7.serialize_certificates([certificate], Encoding.DER),
        "pkcs7-pem": pkcs7.serialize_certificates([certificate], Encoding.PEM),
        "zip": make_zip(pem),
        "bundle": b"# first\n" + pem + b"\n# again\n" + pem,
    }[form]
    relay = relays.start(secrets={"/run/secrets/ca.pem": content})
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    wait_until(lambda: "Verified TLS connection established" in relay.logs(), 5, "Postfix should say so")


def test_authority_is_the_systems_bundle_when_none_is_named(relays: Relays, upstream: Upstream, client: Client) -> None:
    """Most providers' certificates are signed by a CA that Debian ships."""
    secrets = {"/bundle/ca.pem": upstream.authority.pem.encode()}
    relay = relays.start({"RELAYHOST_CA_FILE": ""}, secrets=secrets, is_hardened=False)
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    wait_until(lambda: "Server certificate not verified" in relay.logs(), 20, "a private CA is not in Debian's bundle")
    relay.exec(["bash", "-c", "cat /bundle/ca.pem >>/etc/ssl/certs/ca-certificates.crt && postfix reload"])
    relay.flush()
    upstream.wait_messages(1)


def test_no_tls_delivers_without_a_login(relays: Relays, upstream: Upstream, client: Client) -> None:
    """The old word NONE: a smarthost in the same rack that has no TLS and asks for no login."""
    upstream.behave(starttls_offered=False, require_auth=False, auth_offered="absent")
    relay = relays.start(
        {"RELAYHOST_TLS": "NONE", "RELAYHOST_USERNAME": "", "RELAYHOST_PASSWORD_FILE": "", "RELAYHOST_CA_FILE": ""}
    )
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    assert upstream.sessions()[0].tls_version is None


def test_cleartext_login_needs_to_be_said_twice_and_is_warned_about(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """Some appliances know no TLS; whoever has one must have read what it costs."""
    upstream.behave(starttls_offered=False, auth_offered="always")
    relay = relays.start(
        {"RELAYHOST_TLS": "none", "RELAYHOST_CLEARTEXT_AUTH": "yes", "RELAYHOST_CA_FILE": ""},
        allowed=["RELAYHOST_CLEARTEXT_AUTH=yes: the password .* may cross the network unprotected"],
    )
    assert "RELAYHOST_CLEARTEXT_AUTH=yes" in relay.logs()
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    (login,) = upstream.sessions()[0].logins
    assert (login.password, login.is_inside_tls) == (PASSWORD.encode(), False)


@pytest.mark.parametrize(("mechanisms", "used"), [("!plain", "LOGIN"), ("login", "LOGIN"), ("!login", "PLAIN")])
def test_mechanism_filter_leaves_what_it_says(
    mechanisms: str, used: str, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """Refusing one mechanism must not refuse all of them, which is what Postfix makes of `!plain` alone."""
    relay = relays.start({"SMTP_SASL_MECHANISM_FILTER": mechanisms})
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    assert [login.mechanism for login in upstream.sessions()[0].logins] == [used]


def test_mx_is_followed_when_it_is_asked_for(relays: Relays, upstream: Upstream, client: Client) -> None:
    """A domain that has no MX record is its own mail host (RFC 5321 section 5.1); the certificate is the domain's."""
    relay = relays.start({"RELAYHOST": f"{HOSTNAME}:587", "RELAYHOST_MX": "yes"})
    assert relay.postconf("relayhost") == f"{HOSTNAME}:587"
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    assert upstream.messages()[0].login == "relay@example.test"


def test_rate_delay_spaces_messages_out(relays: Relays, upstream: Upstream, client: Client) -> None:
    """Strict providers count messages a minute. Postfix's timers tick in whole seconds: two are at least one."""
    relay = relays.start({"RELAYHOST_RATE_DELAY": "2s"})
    for _ in range(3):
        client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    times = sorted(message.received_at for message in upstream.wait_messages(3))
    assert all(later - earlier > 0.9 for earlier, later in itertools.pairwise(times)), times


def test_concurrency_bounds_the_connections(relays: Relays, upstream: Upstream, client: Client) -> None:
    """Strict providers count connections, and lock accounts that have too many."""
    upstream.behave(final_reply_delay_seconds=0.5)
    relay = relays.start({"RELAYHOST_CONCURRENCY": "2"})
    recipients = [f"member{number}@example.com" for number in range(6)]
    for recipient in recipients:
        client.send(relay.container.name, 25, "a@example.test", [recipient], TEXT)
    upstream.wait_messages(6)
    assert count_most_at_once(upstream) == 2


def count_most_at_once(upstream: Upstream) -> int:
    """How many messages were with the upstream at one time.

    Not the connections themselves: a machine under load notices their end late.
    """
    spans = [(message.received_at, message.final_reply_at or float("inf")) for message in upstream.messages()]
    return max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)


def test_concurrency_may_be_more_than_postfix_has_processes(relays: Relays, upstream: Upstream, client: Client) -> None:
    """Far away and with a generous upstream it is what the throughput follows from (docs/performance.md)."""
    upstream.behave(final_reply_delay_seconds=1.5)
    relay = relays.start({"RELAYHOST_CONCURRENCY": "150"}, arguments=["--memory=1g", "--memory-swap=1g"])
    orders = [
        Order(sender="a@example.test", recipients=(f"b{number}@example.com",), message_id=f"{number}@x", subject="x")
        for number in range(400)
    ]
    send_mailing(client, relay.container.name, orders)
    upstream.wait_messages(len(orders), 60)
    assert 100 < count_most_at_once(upstream) <= 150


def test_proxy_interfaces_may_be_names(relays: Relays) -> None:
    """Behind a NAT with a dynamic address only the name is known."""
    relay = relays.start(
        {"PROXY_INTERFACES": "192.0.2.1 proxy.example.test nowhere.example.test"},
        arguments=["--add-host", "proxy.example.test:203.0.113.9"],
        allowed=["PROXY_INTERFACES: 'nowhere.example.test' does not resolve now and is left out"],
        is_hardened=False,
    )
    assert relay.postconf("proxy_interfaces") == "192.0.2.1, 203.0.113.9"
    assert "nowhere.example.test" in relay.logs()
    agenda = json.loads(relay.exec(["cat", "/run/authrelay/upkeep-agenda.json"]).text)
    assert agenda["due_at"] - time.clock_gettime(time.CLOCK_BOOTTIME) < 300
    # A new address, as the next look finds it.
    relay.exec(["sh", "-c", "echo 203.0.113.10 proxy.example.test >/etc/hosts"])
    relay.kill("HUP")
    wait_until(lambda: relay.postconf("proxy_interfaces") == "192.0.2.1, 203.0.113.10", 10, "it should be looked up")


def test_host_name_is_what_the_upstream_is_greeted_with(relays: Relays, upstream: Upstream, client: Client) -> None:
    """Upstreams log and check it."""
    relay = relays.start({"MYHOSTNAME": "shop.example.org"})
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    assert upstream.sessions()[0].helo == "shop.example.org"
    assert relay.banner() == "220 shop.example.org ESMTP"


def test_postfix_parameter_takes_the_place_of_ours(relays: Relays, upstream: Upstream, client: Client) -> None:
    """Whatever we did not think of is one variable away, and `postconf` still has nothing to say."""
    relay = relays.start(
        {"POSTFIX_smtpd_banner": "$myhostname hello $mail_name", "POSTFIX_always_bcc": "copy@example.org"}
    )
    assert relay.banner() == "220 relay.example.test hello Postfix"
    assert relay.postconf_complaints() == ""
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    wait_until(
        lambda: (
            {name for message in upstream.messages() for name in message.rcpt_tos}
            == {"b@example.com", "copy@example.org"}
        ),
        20,
        "the copy should arrive as well",
    )


def test_tls_sessions_are_resumed(engine: Engine, network: Network, relays: Relays, client: Client) -> None:
    """The second connection saves the upstream, and us, a full handshake."""
    postfix = RealPostfix(engine, network, aliases=("resume.example.test",))
    relay = relays.start(
        {
            "RELAYHOST": "resume.example.test:587",
            "TLS_LOG_LEVEL": "2",
            # Sessions are kept by address, and the network has two families.
            "POSTFIX_smtp_address_preference": "ipv4",
        },
        secrets={"/run/secrets/ca.pem": postfix.authority.pem.encode()},
    )
    for count in (1, 2):
        client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
        postfix.wait_messages(count)
    wait_until(lambda: "Reusing old session" in relay.logs(), 10, "the second handshake should resume the first")
    postfix.container.remove()
