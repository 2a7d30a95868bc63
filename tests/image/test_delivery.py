"""Mail goes out over verified TLS, unchanged, with the right login and certificate."""

from __future__ import annotations

import re

import pytest

from tests.image.conftest import LOGIN, Relays
from tests.support.client import Client
from tests.support.engine import Container, Engine, Network
from tests.support.upstream import HOSTNAME, Message, Upstream
from tests.support.wait import wait_until

TEXT = b"From: a@example.test\r\nTo: b@example.com\r\nSubject: hello\r\n\r\nHello\r\n"


def split_received(message: Message) -> tuple[bytes, bytes]:
    """The header that the relay put in front, and the rest."""
    match = re.match(rb"Received: .*\r\n(?:[ \t].*\r\n)*", message.data)
    assert match, message.data[:200]
    return match[0], message.data[match.end() :]


@pytest.mark.parametrize("port", ["587", "25", "465", "submission", "submissions", ""])
@pytest.mark.parametrize("host", [HOSTNAME, f"[{HOSTNAME}]"], ids=["plain", "bracketed"])
def test_delivery_is_verified_and_logged_in_on_every_port(
    host: str, port: str, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """What the image exists for: STARTTLS on 587 and 25, implicit TLS on 465, the table's key always fits."""
    relay = relays.start({"RELAYHOST": f"{host}:{port}" if port else host})
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    (message,) = upstream.wait_messages(1)
    (session,) = upstream.sessions()
    number = {"": 25, "submission": 587, "submissions": 465}.get(port) or int(port)
    assert session.port == number
    assert session.tls_version == "TLSv1.3"
    assert session.sni == HOSTNAME
    assert message.login == LOGIN
    assert split_received(message)[1] == TEXT
    verdict = f"Verified TLS connection established to {HOSTNAME}["
    wait_until(lambda: verdict in relay.logs(), 10, "the verdict should be logged")
    if number == 465:
        assert session.plain == b"", "implicit TLS: not a byte before the handshake"
    else:
        assert b"STARTTLS" in session.plain
        assert b"AUTH" not in session.plain


def test_delivery_works_over_ipv6(relays: Relays, upstream: Upstream, client: Client, network: Network) -> None:
    """A name with only an IPv6 address must be reached and verified all the same."""
    address = upstream.container.address6(network)
    relay = relays.start(
        {"RELAYHOST": "six.example.test:587"},
        arguments=["--add-host", f"six.example.test:{address}"],
    )
    upstream.serve(upstream.authority.make_chain("six.example.test"))
    client.send(relay.container.name, 587, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    assert ":" in upstream.sessions()[0].peer.removeprefix("::ffff:")
    verdict = f"Verified TLS connection established to six.example.test[{address}]:587"
    wait_until(lambda: verdict in relay.logs(), 10, "the verdict should be logged")


def test_client_may_submit_over_ipv6(relays: Relays, upstream: Upstream, client: Client, network: Network) -> None:
    """The container's own IPv6 subnet is among the networks that may send."""
    relay = relays.start()
    client.send(relay.container.address6(network), 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)


@pytest.mark.parametrize(
    ("data", "parameters"),
    [
        (b"Subject: x\r\n\r\n" + bytes(range(128, 256)) + "\r\nÄÖÜ €\r\n".encode(), ("BODY=8BITMIME",)),
        (b"Subject: x\r\n\r\n" + b"x" * 998 + b"\r\n" + b"y" * 5000 + b"\r\n", ()),
        (b"Subject: x\r\n\r\n.\r\n..\r\n.x\r\n...\r\n\r\n.\r\n", ()),
        (b"Subject: x\r\n\r\n\r\n\r\n  \r\n\t\r\nFrom here\r\n>From\r\n", ()),
        (b"no header at all\r\n", ()),
        (b"X-Long: " + b"z" * 2500 + b"\r\n\r\nbody\r\n", ()),
        (b"Subject: x\r\n\r\n" + (b"0123456789abcdef" * 5 + b"\r\n") * 128_000, ()),
    ],
    ids=["8-bit", "long-lines", "dots", "blank-lines", "no-header", "long-header", "10-MB"],
)
def test_delivery_leaves_the_message_byte_exact(
    data: bytes, parameters: tuple[str, ...], shared_relay: Container, upstream: Upstream, client: Client
) -> None:
    """Signatures and attachments must survive: nothing is added but one Received header."""
    client.send(shared_relay.name, 25, "a@example.test", ["b@example.com"], data, parameters=parameters)
    (message,) = upstream.wait_messages(1, timeout_seconds=60)
    rest = split_received(message)[1]
    # RFC 5322: a header ends with an empty line, which Postfix supplies where a message has no header at all.
    assert rest == data or rest == b"\r\n" + data


def test_delivery_keeps_the_null_sender(shared_relay: Container, upstream: Upstream, client: Client) -> None:
    """A bounce with a sender would be bounced again (RFC 5321 section 4.5.5)."""
    client.send(shared_relay.name, 25, "", ["b@example.com"], TEXT)
    assert upstream.wait_messages(1)[0].mail_from == ""


def test_delivery_keeps_blind_recipients_out_of_the_header(
    shared_relay: Container, upstream: Upstream, client: Client
) -> None:
    """BCC is an envelope recipient that no header names."""
    client.send(shared_relay.name, 25, "a@example.test", ["b@example.com", "blind@example.org"], TEXT)
    (message,) = upstream.wait_messages(1)
    assert message.rcpt_tos == ("b@example.com", "blind@example.org")
    assert b"blind@" not in message.data


def test_delivery_keeps_100_recipients_in_order(shared_relay: Container, upstream: Upstream, client: Client) -> None:
    """A mailing list's recipients arrive once each; Postfix may share them out over several transactions."""
    recipients = [f"member{number}+tag@example.com" for number in range(100)]
    client.send(shared_relay.name, 25, "list-bounces+x=y@example.test", recipients, TEXT)
    wait_until(
        lambda: sum(len(message.rcpt_tos) for message in upstream.messages()) >= 100, 30, "100 recipients should arrive"
    )
    messages = upstream.messages()
    assert sorted(name for message in messages for name in message.rcpt_tos) == sorted(recipients)
    assert {message.mail_from for message in messages} == {"list-bounces+x=y@example.test"}


def test_delivery_keeps_internationalized_addresses(
    shared_relay: Container, upstream: Upstream, client: Client
) -> None:
    """SMTPUTF8 (RFC 6531) passes from the application to an upstream that has it."""
    data = "Subject: Grüße\r\n\r\nGrüße\r\n".encode()
    client.send(shared_relay.name, 25, "jörg@example.test", ["zoë@example.com"], data, parameters=["SMTPUTF8"])
    (message,) = upstream.wait_messages(1)
    assert (message.mail_from, message.rcpt_tos) == ("jörg@example.test", ("zoë@example.com",))
    assert "SMTPUTF8" in message.mail_parameters


def test_upstream_is_shown_the_kept_client_certificate(relays: Relays, upstream: Upstream, client: Client) -> None:
    """Some providers tell their customers apart by certificate, and pin it."""
    relay = relays.start()
    certificate = relay.exec(["cat", "/var/lib/authrelay/client-certificate.pem"]).text
    upstream.accept_client_certificate(certificate)
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    (session,) = upstream.sessions()
    assert session.client_certificate_subject == "CN=relay.example.test"
    shown = client.openssl(["x509", "-noout", "-fingerprint", "-sha256"], stdin=certificate.encode()).text
    assert session.client_certificate_sha256 == shown.strip().partition("=")[2]


def test_upstream_is_shown_the_users_own_certificate(relays: Relays, upstream: Upstream, client: Client) -> None:
    """A certificate that somebody's CA issued takes the place of the self-made one."""
    chain = upstream.authority.make_client_chain("client.example.org")
    relay = relays.start(
        {"CLIENT_CERT_FILE": "/run/secrets/client.pem", "CLIENT_KEY_FILE": "/run/secrets/client-key.pem"},
        secrets={
            "/run/secrets/client.pem": chain.chain_pem.encode(),
            "/run/secrets/client-key.pem": chain.key_pem.encode(),
        },
    )
    upstream.accept_client_certificate(upstream.authority.pem)
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    assert upstream.sessions()[0].client_certificate_sha256 == chain.sha256


def test_upstream_is_shown_no_certificate_when_none_is_wanted(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """CLIENT_CERT=none: nothing identifies the machine but its login."""
    relay = relays.start({"CLIENT_CERT": "none"})
    upstream.accept_client_certificate(upstream.authority.pem)
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    assert upstream.sessions()[0].client_certificate_subject is None
    assert relay.exec(["ls", "/var/lib/authrelay"]).text == ""


@pytest.mark.parametrize("level", ["secure", "verify", "MUST", "fingerprint", "encrypt", "MUST_NOPEERMATCH"])
def test_levels_that_protect_the_password_deliver(
    level: str, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """Every level of a table, the old words included, comes to the same place as Postfix's own word."""
    ignores_the_authority = level in ("fingerprint", "encrypt", "MUST_NOPEERMATCH")
    env = {"RELAYHOST_TLS": level}
    if ignores_the_authority:
        env |= {"RELAYHOST_CA_FILE": ""}
    if level == "fingerprint":
        env |= {"RELAYHOST_FINGERPRINT": f"{'00:' * 31}00, {upstream.good_chain.sha256.replace(':', '').lower()}"}
    relay = relays.start(env, allowed=["level encrypt"] if level in ("encrypt", "MUST_NOPEERMATCH") else [])
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    verdict = "Verified" if not ignores_the_authority or level == "fingerprint" else "(Untrusted|Anonymous)"
    assert re.search(f"{verdict} TLS connection established", relay.logs())


def test_policy_table_with_a_bare_host_holds_for_the_nexthop_with_its_port(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """Old tables name hosts, Postfix looks nexthops up: the line must not silently miss."""
    upstream.serve(upstream.authority.make_chain("other.example.org"))
    relay = relays.start({"TLS_POLICY_TABLE": f"# old tls_sites\n{HOSTNAME}  MUST  match=other.example.org\n"})
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    assert "Verified TLS connection established" in relay.logs()


def test_fallback_takes_the_mail_with_its_own_login(
    engine: Engine, network: Network, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """While the upstream is away the fallback is used, and never sees the first account's password."""
    other = Upstream(
        engine, network, authority=upstream.authority, aliases=("second.example.test",), accounts={"other": "its own"}
    )
    relay = relays.start(
        {
            "RELAYHOST": "[absent.example.test]:587",
            "FALLBACK_RELAYHOST": "second.example.test:587",
            "FALLBACK_RELAYHOST_USERNAME": "other",
            "FALLBACK_RELAYHOST_PASSWORD": "its own",
        },
        arguments=["--add-host", "absent.example.test:127.0.0.2"],
    )
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    (message,) = other.wait_messages(1)
    assert message.login == "other"
    assert [login.password for session in other.sessions() for login in session.logins] == [b"its own"]
    other.container.remove()


def test_relay_without_credentials_delivers(relays: Relays, upstream: Upstream, client: Client) -> None:
    """An upstream that knows its clients by address or certificate needs no login."""
    upstream.behave(require_auth=False, auth_offered="absent")
    relay = relays.start({"RELAYHOST_USERNAME": "", "RELAYHOST_PASSWORD_FILE": ""})
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    assert upstream.wait_messages(1)[0].login == ""


@pytest.fixture(scope="module")
def shared_relay(module_relays: Relays) -> Container:
    """A relay with the default settings of these tests."""
    return module_relays.start().container
