"""The peers and the harness themselves: good is good, bad is really bad, records are exact. Runs docker."""

from __future__ import annotations

import base64
import contextlib
import smtplib
import socket
import ssl
import time
import warnings
from collections.abc import Iterator

import pytest

from tests.support.authorities import Authority, Chain, make_self_signed_chain
from tests.support.client import Client, SmtpRefusedError
from tests.support.engine import Engine, Network, run_docker
from tests.support.relay import Relay, find_complaints
from tests.support.upstream import (
    HOSTNAME,
    POSTFIX_IMAGE,
    Fault,
    RealExim,
    RealPostfix,
    Upstream,
    drop,
    hang,
    reply,
)
from tests.support.wait import WaitError, wait_until

ODD_PASSWORD = "p#a$s:s\"w'o\\r d é"
LOGIN, PASSWORD = "relay@example.test", "secret"
TEXT = b"Subject: hello\r\n\r\nHello\r\n"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made


@pytest.fixture(scope="module")
def network(engine: Engine) -> Network:
    return engine.network()


@pytest.fixture(scope="module")
def the_upstream(engine: Engine, network: Network) -> Upstream:
    publish = [word for port in (25, 465, 587) for word in ("--publish", f"127.0.0.1::{port}")]
    return Upstream(engine, network, arguments=publish)


@pytest.fixture
def upstream(the_upstream: Upstream) -> Iterator[Upstream]:
    yield the_upstream
    the_upstream.reset()


class _Smtp(smtplib.SMTP):
    """smtplib connects to a published port, yet verifies and names the upstream's own name."""

    def __init__(self, upstream: Upstream, port: int = 587, timeout: float = 1.0) -> None:
        super().__init__(timeout=timeout)
        code, text = self.connect("127.0.0.1", upstream.container.published_port(port))
        if code != 220:
            self.close()
            raise smtplib.SMTPConnectError(code, text)
        self._host = HOSTNAME

    def login_inside_tls(self, upstream: Upstream) -> None:
        self.starttls(context=make_context(upstream))
        self.login(LOGIN, PASSWORD)


def make_context(upstream: Upstream) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=upstream.authority.pem)


def submit(upstream: Upstream, data: bytes = TEXT, timeout: float = 1.0) -> None:
    """One good client's session; raises where the upstream is bad."""
    smtp = _Smtp(upstream, timeout=timeout)
    with contextlib.closing(smtp):
        smtp.login_inside_tls(upstream)
        smtp.sendmail("a@example.test", ["b@example.test", "c@example.test"], data)
        smtp.quit()


def test_mock_records_what_it_saw(upstream: Upstream) -> None:
    """Every claim about passwords and TLS in other tests rests on these records."""
    submit(upstream)
    (session,) = upstream.sessions()
    assert session.plain.upper().endswith(b"STARTTLS\r\n")
    assert b"AUTH" not in session.plain.upper()
    assert b"MAIL FROM:<a@example.test>" in session.inside_tls.replace(b"mail FROM", b"MAIL FROM")
    assert (session.tls_version, session.sni, session.port) == ("TLSv1.3", HOSTNAME, 587)
    assert session.client_certificate_sha256 is None
    (login,) = session.logins
    assert (login.identity, login.password, login.is_accepted) == (LOGIN, PASSWORD.encode(), True)
    assert login.is_inside_tls
    (message,) = upstream.messages()
    assert message.rcpt_tos == ("b@example.test", "c@example.test")
    assert (message.login, message.data, message.final_code) == (LOGIN, TEXT, 250)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b".\r\n..\r\n.x\r\n\r\n", id="dots"),
        pytest.param(b"x" * 100_000 + b"\r\n", id="long line"),
        pytest.param(b"\x80\xff caf\xc3\xa9\ttab  \r\n", id="8 bit"),
        pytest.param((b"0123456789" * 7 + b"\r\n") * 150_000, id="10 MB"),
    ],
)
def test_mock_keeps_messages_byte_for_byte(upstream: Upstream, data: bytes) -> None:
    """A relay that changes a byte breaks signatures; the mock must not be the one that does."""
    submit(upstream, data, timeout=20)
    assert upstream.messages()[0].data == data


def test_mock_speaks_tls_first_on_465(upstream: Upstream) -> None:
    """RFC 8314: submissions."""
    port = upstream.container.published_port(465)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
        make_context(upstream).wrap_socket(connection, server_hostname=HOSTNAME) as inside,
    ):
        assert inside.recv(100).startswith(b"220 ")
        inside.sendall(b"EHLO x\r\n")
        assert b"AUTH PLAIN LOGIN" in inside.recv(1000)
    (session,) = upstream.sessions()
    assert session.plain == b""
    assert session.tls_version == "TLSv1.3"


@pytest.mark.parametrize("stage", ["connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "end-of-data"])
@pytest.mark.parametrize(
    "fault", [reply(451, "4.3.0 later"), reply(554, "5.7.1 never"), hang(), drop()], ids=["451", "554", "hang", "drop"]
)
def test_mock_misbehaves_at_each_stage(upstream: Upstream, stage: str, fault: Fault) -> None:
    """A misbehaviour that does not happen makes every test of it pass in vain."""
    upstream.behave(faults={stage: fault})
    says = {"reply": str(fault.code), "hang": "timed out", "drop": "closed|reset"}[fault.kind]
    with pytest.raises((smtplib.SMTPException, OSError), match=says):
        submit(upstream, timeout=0.5)
    assert not any(message.is_accepted for message in upstream.messages())
    assert len(upstream.messages()) == (stage == "end-of-data")
    upstream.mend()
    submit(upstream)
    assert upstream.count() == 1


@pytest.mark.parametrize("fault", [hang(), drop()], ids=["hang", "drop"])
def test_mock_misbehaves_in_the_handshake(upstream: Upstream, fault: Fault) -> None:
    """A handshake that never ends is no refusal."""
    upstream.behave(faults={"handshake": fault})
    with pytest.raises(TimeoutError if fault.kind == "hang" else (ssl.SSLError, ConnectionError)):
        submit(upstream, timeout=0.5)
    assert upstream.sessions()[0].tls_version is None


def test_mock_misbehaves_as_often_as_wanted(upstream: Upstream) -> None:
    """Greylisting: refused once, then taken."""
    upstream.behave(faults={"rcpt": reply(450, "4.2.0 greylisted", times=1, containing="c@")})
    submit(upstream)
    assert upstream.messages()[0].rcpt_tos == ("b@example.test",)
    submit(upstream)
    assert len(upstream.messages()[1].rcpt_tos) == 2


def make_bad_chains() -> dict[str, tuple[str, object]]:
    """What is wrong, as OpenSSL says it, and how it is made."""
    return {
        "wrong name": ("Hostname mismatch", lambda ca: ca.make_chain("other.example.test")),
        "unknown authority": ("unable to get local issuer", lambda _: Authority().make_chain(HOSTNAME)),
        "expired": ("certificate has expired", lambda ca: ca.make_expired_chain(HOSTNAME)),
        "not yet valid": ("not yet valid", lambda ca: ca.make_future_chain(HOSTNAME)),
        "self-signed": ("self.signed", lambda _: make_self_signed_chain(HOSTNAME)),
        "intermediate missing": (
            "unable to get local issuer",
            lambda ca: ca.make_intermediate_chain(HOSTNAME, is_complete=False),
        ),
    }


@pytest.mark.parametrize("wrong", list(make_bad_chains()))
def test_mock_shows_bad_certificates(upstream: Upstream, wrong: str) -> None:
    """Each is bad for its own reason, else a relay that overlooks that reason would pass."""
    says, make = make_bad_chains()[wrong]
    assert callable(make)
    chain = make(upstream.authority)
    assert isinstance(chain, Chain)
    upstream.serve(chain)
    with pytest.raises(ssl.SSLCertVerificationError, match=says):
        submit(upstream)
    session = wait_until(lambda: [one for one in upstream.sessions() if one.ended_at], 5, "it should end")[0]
    assert session.logins == ()


def test_mock_shows_good_intermediates(upstream: Upstream) -> None:
    """The missing intermediate is bad only because it is missing."""
    upstream.serve(upstream.authority.make_intermediate_chain(HOSTNAME))
    submit(upstream)


def test_mock_speaks_only_weak_protocols(upstream: Upstream) -> None:
    """TLS 1.2 must fail, and TLS 1.1 must work: else it is merely broken."""
    upstream.behave_weak()
    with pytest.raises(ssl.SSLError):
        submit(upstream)
    wait_until(lambda: upstream.sessions()[0].tls_error, 5, "the handshake should fail")
    context = make_context(upstream)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        # These versions are deprecated, which is why they are here.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with contextlib.closing(_Smtp(upstream)) as smtp:
        smtp.starttls(context=context)
    wait_until(lambda: upstream.sessions()[1].tls_version == "TLSv1.1", 5, "the weak handshake should succeed")


def test_mock_offers_no_starttls(upstream: Upstream) -> None:
    """A stripped STARTTLS is the classic downgrade."""
    upstream.behave(starttls_offered=False)
    with contextlib.closing(_Smtp(upstream)) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("starttls")
        assert smtp.docmd("STARTTLS")[0] == 502


@pytest.mark.parametrize(
    ("offer", "before", "inside"),
    [("inside-tls", False, True), ("absent", False, False), ("before-tls", True, False), ("always", True, True)],
)
def test_mock_offers_auth_where_wanted(upstream: Upstream, offer: str, before: bool, inside: bool) -> None:
    """An offer in the clear is bait for the password."""
    upstream.behave(auth_offered=offer)
    with contextlib.closing(_Smtp(upstream)) as smtp:
        smtp.ehlo()
        assert smtp.has_extn("auth") is before
        smtp.starttls(context=make_context(upstream))
        smtp.ehlo()
        assert smtp.has_extn("auth") is inside
        assert smtp.mail("a@example.test")[0] == 530
        if inside:
            with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
                smtp.login(LOGIN, "wrong")
    assert all(not login.is_accepted for login in upstream.sessions()[0].logins)


@pytest.mark.parametrize(
    ("mechanism", "message", "end"),
    [
        ("XOAUTH2", b"user=relay@example.test\1auth=Bearer %s\1\1", ""),
        ("OAUTHBEARER", b"n,a=relay@example.test,\1auth=Bearer %s\1\1", "AQ=="),
    ],
)
def test_mock_takes_tokens_as_tokens_only(upstream: Upstream, mechanism: str, message: bytes, end: str) -> None:
    """A mock that took a password for a token, or any answer to a refusal, would hide just what is looked for."""
    upstream.behave(mechanisms=("PLAIN", mechanism))
    upstream.set_tokens({LOGIN: "ya29.good-token=="})

    def attempt(token: bytes, answer: str) -> list[int]:
        with contextlib.closing(_Smtp(upstream)) as smtp:
            smtp.starttls(context=make_context(upstream))
            smtp.ehlo()
            codes = [smtp.docmd("AUTH", f"{mechanism} {base64.b64encode(message % token).decode()}")[0]]
            if codes == [334]:
                codes.append(smtp.docmd(answer)[0])
            return codes

    assert attempt(b"ya29.good-token==", end) == [235]
    assert attempt(b"ended", end) == [334, 535]
    assert attempt(PASSWORD.encode(), end) == [334, 535]
    assert attempt(b"ended", "AA==") == [334, 501]
    assert attempt(b"ended\1more", end) == [501]
    assert upstream.sessions()[0].logins[0].password == b"ya29.good-token=="
    with contextlib.closing(_Smtp(upstream)) as smtp:
        smtp.starttls(context=make_context(upstream))
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            smtp.login(LOGIN, "ya29.good-token==")


def test_mock_knows_whether_the_final_reply_was_sent(upstream: Upstream) -> None:
    """What a client that left before the final 250 knows decides whether a duplicate is its fault."""
    upstream.behave(final_reply_delay_seconds=1)
    started = time.monotonic()
    submit(upstream, timeout=5)
    assert time.monotonic() - started >= 1
    with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
        submit(upstream, timeout=0.5)
    wait_until(lambda: upstream.sessions()[-1].ended_at, 5, "the mock should notice that the client left")
    assert [message.final_code for message in upstream.messages()] == [250, None]


def test_mock_records_the_client_certificate(upstream: Upstream, tmp_path: object) -> None:
    """An upstream that pins the client's certificate compares this fingerprint."""
    chain = make_self_signed_chain("relay.example.test")
    pem = f"{tmp_path}/client.pem"
    with open(pem, "w") as file:
        file.write(chain.combined_pem)
    upstream.accept_client_certificate(chain.chain_pem)
    context = make_context(upstream)
    for shown in (False, True):
        if shown:
            context.load_cert_chain(pem)
        with contextlib.closing(_Smtp(upstream)) as smtp:
            smtp.starttls(context=context)
            smtp.ehlo()
    first, second = upstream.sessions()
    assert first.client_certificate_subject is None
    assert second.client_certificate_subject == "CN=relay.example.test"
    assert second.client_certificate_sha256 == chain.sha256


def test_mock_refuses_orders_that_it_does_not_know(upstream: Upstream) -> None:
    """A misspelled stage would be a test that tests nothing."""
    with pytest.raises(ValueError, match="not a stage"):
        upstream.behave(faults={"ehol": hang()})


def make_relay(engine: Engine, network: Network, *, ca: str, password: str, mechanism: str = "") -> Relay:
    """A bare Postfix in the role of the relay."""
    main = f"""compatibility_level = 3.10
maillog_file = /dev/stdout
mynetworks = 0.0.0.0/0
mydestination =
relayhost = [{HOSTNAME}]:587
smtp_tls_security_level = secure
smtp_tls_CAfile = /etc/relay/ca.pem
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:/etc/relay/passwords
smtp_sasl_security_options = noanonymous
smtp_sasl_mechanism_filter = {mechanism or "plain, login"}
smtp_host_lookup = native
"""
    return Relay(
        engine,
        network,
        image=POSTFIX_IMAGE,
        is_hardened=False,
        secrets={
            "/etc/relay/main.cf": main.encode(),
            "/etc/relay/ca.pem": ca.encode(),
            "/etc/relay/passwords": f"[{HOSTNAME}]:587 {LOGIN}:{password}\n".encode(),
        },
        command=[
            "sh",
            "-c",
            "cp /etc/relay/main.cf /etc/postfix/ && touch -d '1 min ago' /etc/postfix/main.cf /etc/relay/*"
            " && sed -i '/^587/,/^pickup/{/^pickup/!d}; s/^25 /smtp /' /etc/postfix/master.cf"
            " && exec postfix start-fg",
        ],
    )


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_real_postfix_takes_each_mechanism(engine: Engine, mechanism: str) -> None:
    """With any password; only then does a failure in other tests point at the relay."""
    network = engine.network()
    real = RealPostfix(engine, network, accounts={LOGIN: ODD_PASSWORD}, mechanisms=[mechanism])
    relay = make_relay(engine, network, ca=real.authority.pem, password=ODD_PASSWORD, mechanism=mechanism)
    relay.wait_ready()
    Client(engine, network).send("relay", 25, "a@example.test", ["b@anywhere.test"], TEXT)
    (message,) = real.wait_messages(1)
    assert b"using TLSv1.3" in message
    assert f"(Authenticated sender: {LOGIN})".encode() in message
    assert f"sasl_method={mechanism}, sasl_username={LOGIN}" in real.logs()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_real_exim_takes_each_mechanism(engine: Engine, mechanism: str) -> None:
    """The same of the other server."""
    network = engine.network()
    real = RealExim(engine, network, accounts={LOGIN: ODD_PASSWORD})
    relay = make_relay(engine, network, ca=real.authority.pem, password=ODD_PASSWORD, mechanism=mechanism)
    relay.wait_ready()
    Client(engine, network).send("relay", 25, "a@example.test", ["b@anywhere.test"], TEXT)
    (message,) = real.wait_messages(1)
    assert f"X-Upstream-Login: {LOGIN} ({mechanism.lower().replace('-', '_')})".encode() in message


@pytest.mark.parametrize("kind", [RealPostfix, RealExim])
def test_real_upstreams_refuse_whom_they_do_not_know(engine: Engine, kind: type[RealPostfix] | type[RealExim]) -> None:
    """No mail without a login, no login without TLS, no login with another password."""
    network = engine.network()
    kind(engine, network)
    client = Client(engine, network)
    for port in ("25", "587", "465"):
        tls = ["--tls-on-connect"] if port == "465" else ["--tls"]
        common = ["--server", HOSTNAME, "--port", port, "--to", "b@x.test", "--from", "a@x.test"]
        login = ["--auth", "PLAIN", "--auth-user", LOGIN, "--auth-password"]
        assert client.swaks([*common, *tls]).status != 0
        assert client.swaks([*common, *tls, *login, "wrong"]).status != 0
        assert client.swaks([*common, *tls, *login, PASSWORD]).status == 0
        if port != "465":
            assert client.swaks([*common, *login, PASSWORD]).status != 0


def test_relay_is_seen_from_outside(engine: Engine, network: Network, upstream: Upstream) -> None:
    """Queue, flush, restart and exit status are what the image tests assert with."""
    relay = make_relay(engine, network, ca=upstream.authority.pem, password=PASSWORD).wait_ready()
    client = Client(engine, network)
    upstream.behave(faults={"auth": reply(454, "4.7.0 later")})
    data = b"Subject: x\r\n\r\n.dot\r\ncaf\xc3\xa9\r\n"
    client.send("relay", 25, "", ["b@example.test"], data, parameters=["BODY=8BITMIME"])
    (entry,) = relay.wait_queue(1)
    wait_until(lambda: relay.queue()[0]["queue_name"] == "deferred", 10, "it should be deferred")
    assert entry["recipients"][0]["address"] == "b@example.test"
    upstream.mend()
    relay.flush()
    (message,) = upstream.wait_messages(1)
    relay.wait_queue(0)
    assert message.mail_from == ""
    assert message.data.endswith(data)
    assert relay.postconf("relayhost") == f"[{HOSTNAME}]:587"
    with pytest.raises(SmtpRefusedError):
        client.send("relay", 25, "a@example.test", ["not an address"], data)
    relay.set_secret("/etc/relay/passwords", b"changed")
    assert relay.exec(["cat", "/etc/relay/passwords"]).text == "changed"
    relay.restart()
    relay.wait_ready()
    assert relay.stop() == relay.exit_status()


def test_networks_have_ipv6(engine: Engine) -> None:
    """A relay that forgets IPv6 must not pass for want of it."""
    network = engine.network(is_ipv6=True)
    upstream = Upstream(engine, network)
    client = Client(engine, network)
    address = upstream.container.address6(network)
    assert address
    assert client.container.exec(
        ["python", "-c", f"import socket; print(socket.create_connection(('{address}', 25)).recv(3))"]
    ).text.startswith("b'220'")
    assert upstream.sessions()[0].peer == client.container.address6(network)


def test_engine_removes_everything() -> None:
    """Also after a failure."""
    with pytest.raises(ZeroDivisionError), Engine() as engine:  # noqa: PT012 a failure amid the making
        engine.volume()
        Client(engine, engine.network())
        _ = 1 / 0
    label = f"label=authrelay.test={engine.run_id}"
    for listing in (["ps", "--all"], ["network", "ls"], ["volume", "ls"]):
        assert run_docker([*listing, "--quiet", "--filter", label]).text == ""


def test_complaints_are_the_lines_at_warning_and_above() -> None:
    """One of them fails an image test."""
    log = (
        "2026-11-22T23:31:03.123+00:00 INFO postfix/smtp[77]: WARNING is only a word here\n"
        "2026-11-22T23:31:03.124+00:00 WARNING authrelay: the queue is not on a volume\n"
        "Traceback (most recent call last):\n"
    )
    assert [line.severity for line in find_complaints(log)] == ["WARNING", "ERROR"]
    assert [line.text for line in find_complaints(log, ["not on a volume"])] == ["Traceback (most recent call last):"]


def test_wait_says_what_it_waited_for() -> None:
    """The last value is what explains a failure in a log."""
    with pytest.raises(WaitError, match=r"mail should come: not within 0.1 s; last value \[\]"):
        wait_until(list, 0.1, "mail should come")
