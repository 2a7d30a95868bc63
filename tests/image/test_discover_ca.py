"""`authrelay discover-ca` against the servers that providers run: what it says, and that what it saves is enough."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from tests.image.conftest import LOGIN, PASSWORD, Relays
from tests.support.authorities import Chain
from tests.support.client import Client
from tests.support.engine import Container, Engine, File, Network
from tests.support.hierarchies import Signed, make_signed
from tests.support.relay import IMAGE, Relay
from tests.support.upstream import HOSTNAME, MOCK_IMAGE, RealExim, RealPostfix, RealServers, Upstream
from tests.support.wait import wait_until

GOOD = "good.example.test"
PLAIN = "plain.example.test"
EXPIRED = "expired.example.test"
ALONE = "alone.example.test"
WEB = "http://ca.example.test"
STATE = "/var/lib/authrelay"
SAVED = f"{STATE}/discovered-ca.pem"
TEXT = b"From: a@example.test\r\nSubject: at last\r\n\r\nbody\r\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What one run left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.out)
        return value

    @property
    def codes(self) -> list[str]:
        return [problem["code"] for problem in self.json["problems"]]


def discover(container: Container, *arguments: str) -> Found:
    result = container.exec(["authrelay", "discover-ca", *arguments], check=False)
    assert b"Traceback" not in result.stderr
    return Found(status=result.status, out=result.text, err=result.stderr.decode())


@pytest.fixture(scope="module")
def root() -> Signed:
    return make_signed("CN=Test Root", is_ca=True)


@pytest.fixture(scope="module")
def middle(root: Signed) -> Signed:
    return make_signed("CN=Test Middle", root, is_ca=True, issuer_url=f"{WEB}/root.p7c")


@pytest.fixture(scope="module")
def good(engine: Engine, network: Network, root: Signed, middle: Signed) -> Iterator[RealServers]:
    """Everything sent, root included; also the CA's web server."""
    pack = pkcs7.serialize_certificates(
        [make_signed("CN=Other", is_ca=True).certificate, root.certificate], Encoding.DER
    )
    made = RealServers(
        engine,
        network,
        aliases=(GOOD, "ca.example.test", "other.example.test"),
        chain=make_signed("CN=leaf", middle, names=(GOOD,)).make_chain(middle, root),
        files={
            "/var/www/html/middle.crt": File(data=middle.der),
            "/var/www/html/root.p7c": File(data=pack),
            "/var/www/html/large.crt": File(data=middle.der + bytes(300_000)),
            "/var/www/html/wrong.crt": File(data=make_signed("CN=Test Middle", is_ca=True).der),
        },
    )
    yield made
    made.container.remove()


@pytest.fixture(scope="module")
def incomplete(engine: Engine, network: Network, middle: Signed) -> Iterator[RealPostfix]:
    """A Postfix that sends its own certificate only, which says where its issuer's is."""
    leaf = make_signed("CN=leaf", middle, names=(PLAIN,), issuer_url=f"{WEB}/moved/middle.crt")
    made = RealPostfix(engine, network, aliases=(PLAIN,), chain=leaf.make_chain())
    yield made
    made.container.remove()


@pytest.fixture(scope="module")
def alone(engine: Engine, network: Network) -> Iterator[RealPostfix]:
    """A Postfix with the certificate that the command line of everybody's tutorial makes."""
    made = RealPostfix(
        engine,
        network,
        aliases=(ALONE,),
        chain=make_signed(f"CN={ALONE}", names=(ALONE,), is_ca=True).make_chain(),
    )
    yield made
    made.container.remove()


@pytest.fixture(scope="module")
def expired(engine: Engine, network: Network, root: Signed) -> Iterator[RealExim]:
    """An Exim whose certificate ended the day before yesterday."""
    leaf = make_signed("CN=leaf", root, names=(EXPIRED,), last_day=-2)
    made = RealExim(engine, network, aliases=(EXPIRED,), chain=leaf.make_chain(root))
    yield made
    made.container.remove()


@pytest.fixture(scope="module")
def tool(engine: Engine, network: Network) -> Iterator[Container]:
    """The image without settings: nothing in it relays."""
    made = engine.run(IMAGE, ["infinity"], kind="tool", network=network, arguments=["--entrypoint", "sleep"])
    yield made
    made.remove()


@pytest.mark.usefixtures("good")
@pytest.mark.parametrize("port", [25, 465, 587, 110, 143, 993, 995])
def test_every_protocol_leads_to_the_root(port: int, tool: Container, root: Signed) -> None:
    """OpenSMTPD and Dovecot: a provider's services share a CA, and any of them will do."""
    found = discover(tool, f"{GOOD}:{port}", "--json")
    assert (found.status, found.err) == (0, "")
    assert found.json["authority"]["sha256"] == root.sha256
    assert [one["origin"] for one in found.json["certificates"]] == ["sent"] * 3
    assert ("RELAYHOST" in found.json["settings"]) == (port in (25, 465, 587))


@pytest.mark.usefixtures("good")
def test_text_is_for_people(tool: Container, root: Signed) -> None:
    """What a person compares and copies must be there in full."""
    found = discover(tool, GOOD)
    assert (found.status, found.err) == (0, "")
    assert f"   SHA-256   {root.sha256}\n" in found.out
    assert f"name:        {GOOD} is one of the certificate's names\n" in found.out
    assert "certificate 3, CN=Test Root; it is not in the system's bundle" in found.out
    assert "compare its SHA-256 with what the provider publishes" in found.out
    assert f"  RELAYHOST=[{GOOD}]:587\n  RELAYHOST_CA_FILE=/ca.pem\n" in found.out


@pytest.mark.usefixtures("good", "incomplete")
def test_certificates_that_the_server_leaves_out_are_fetched(tool: Container, root: Signed, middle: Signed) -> None:
    """Over a redirect, as DER and from a PKCS #7 that holds another CA as well; Postfix would do none of it."""
    found = discover(tool, PLAIN, "--json", "--save", "/tmp/fetched.pem")
    assert (found.status, found.err) == (0, "")
    assert [one["origin"] for one in found.json["certificates"]] == ["sent", "fetched", "fetched"]
    assert "plain http, which proves nothing" in " ".join(found.json["remarks"])
    assert found.json["authority"]["sha256"] == root.sha256
    assert tool.read("/tmp/fetched.pem").decode() == root.pem + middle.pem


def start_relay(relays: Relays, relayhost: str, state: str, queue: str, env: dict[str, str]) -> Relay:
    return relays.start(
        {
            "RELAYHOST": relayhost,
            "RELAYHOST_USERNAME": LOGIN,
            "RELAYHOST_PASSWORD": PASSWORD,
            "MYHOSTNAME": "relay.example.test",
            **env,
        },
        volumes={state: STATE, queue: "/var/spool/postfix"},
        has_defaults=False,
    )


def defer_then_apply_settings(
    relays: Relays, engine: Engine, client: Client, server: RealPostfix, host: str, status: int
) -> dict[str, str]:
    """Fail with `secure` and the system's bundle, ask in the same container, start again with what it printed."""
    state, queue = engine.volume(), engine.volume()
    before = len(server.messages())
    relay = start_relay(relays, f"{host}:587", state, queue, {})
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)

    def find_reason() -> str:
        return "".join(one.get("delay_reason", "") for entry in relay.queue() for one in entry["recipients"])

    assert "Server certificate not verified" in wait_until(find_reason, 20, "the delivery should fail")
    found = discover(relay.container, f"{host}:587", "--save", "--json")
    assert found.status == status, found.err
    settings: dict[str, str] = found.json["settings"]
    relay.stop()
    mended = start_relay(relays, settings.pop("RELAYHOST"), state, queue, settings)
    mended.flush()
    assert b"Subject: at last" in server.wait_messages(before + 1)[-1]
    assert "Verified TLS connection established" in mended.logs()
    return settings


@pytest.mark.usefixtures("good")
def test_saved_authority_makes_a_failing_delivery_succeed(
    relays: Relays, engine: Engine, client: Client, incomplete: RealPostfix
) -> None:
    """The reason for the command: the queued message goes out, verified, and nothing else was changed."""
    settings = defer_then_apply_settings(relays, engine, client, incomplete, PLAIN, 0)
    assert settings == {"RELAYHOST_CA_FILE": SAVED}


def test_saved_intermediate_makes_a_failing_delivery_succeed(
    relays: Relays, engine: Engine, network: Network, client: Client, root: Signed
) -> None:
    """Most private CAs' servers do not send the root, and a CA file without a root is none for OpenSSL."""
    below = make_signed("CN=Middle without a root", root, is_ca=True)
    leaf = make_signed("CN=leaf", below, names=("rootless.example.test",))
    chain = leaf.make_chain(below)
    server = RealPostfix(engine, network, aliases=("rootless.example.test",), chain=chain)
    settings = defer_then_apply_settings(relays, engine, client, server, "rootless.example.test", 0)
    assert settings == {"TLS_POLICY_TABLE": f"[rootless.example.test]:587 secure tafile={SAVED}"}
    server.container.remove()


def test_self_signed_server_is_pinned_with_what_is_printed(
    relays: Relays, engine: Engine, client: Client, alone: RealPostfix
) -> None:
    """It calls itself a CA, as `openssl req -x509` makes it; that would trust whatever its key signs."""
    settings = defer_then_apply_settings(relays, engine, client, alone, ALONE, 65)
    assert settings == {"RELAYHOST_TLS": "fingerprint", "RELAYHOST_FINGERPRINT": alone.chain.sha256}


@pytest.mark.usefixtures("expired")
def test_expired_certificate_is_told(tool: Container, root: Signed) -> None:
    """The right CA does not help; the operator of the server must act."""
    found = discover(tool, EXPIRED, "--json")
    assert (found.status, found.codes) == (65, ["expired"])
    assert found.json["authority"]["sha256"] == root.sha256
    assert "EXPIRED 2 days ago" in discover(tool, EXPIRED).out


@pytest.mark.usefixtures("good")
def test_wrong_name_is_told_with_the_right_one(tool: Container, root: Signed) -> None:
    """An alias in DNS is the usual reason."""
    found = discover(tool, "other.example.test", "--json", "--save", "/tmp/name.pem")
    assert (found.status, found.codes) == (65, ["name"])
    assert found.json["settings"]["RELAYHOST"] == f"[{GOOD}]:587"
    assert tool.read("/tmp/name.pem").decode() == root.pem


def test_authority_of_the_system_needs_no_setting(
    engine: Engine, network: Network, good: RealServers, root: Signed
) -> None:
    """The common case, and the one in which people set something needlessly and are bitten when the CA changes."""
    bundle = engine.directory() / "bundle.crt"
    bundle.write_text(make_signed("CN=Another", is_ca=True).pem + root.pem)
    mount = f"{bundle}:/etc/ssl/certs/ca-certificates.crt:ro"
    container = engine.run(IMAGE, ["infinity"], network=network, arguments=["--entrypoint", "sleep", "--volume", mount])
    assert good.container.is_running
    found = discover(container, GOOD, "--json")
    assert found.status == 0
    assert found.json["is_trusted_by_system"] is True
    assert found.json["settings"] == {"RELAYHOST": f"[{GOOD}]:587"}
    assert "There is nothing to set" in discover(container, GOOD).out
    container.remove()


@pytest.mark.usefixtures("good")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([f"{GOOD}:465", "--starttls", "smtp"], "TLS begins at once there, without STARTTLS. Write --starttls none"),
        ([f"{GOOD}:993", "--starttls", "imap"], "TLS begins at once there, without STARTTLS. Write --starttls none"),
        (
            [f"{GOOD}:587", "--starttls", "none"],
            "as an SMTP server: TLS begins with STARTTLS there. Write --starttls smtp",
        ),
        (
            [f"{GOOD}:110", "--starttls", "none"],
            "as a POP3 server: TLS begins with STARTTLS there. Write --starttls pop3",
        ),
        (
            [f"{GOOD}:143", "--starttls", "none"],
            "as an IMAP server: TLS begins with STARTTLS there. Write --starttls imap",
        ),
        ([f"{GOOD}:143", "--starttls", "smtp"], "it is an IMAP server"),
        ([f"{GOOD}:80", "--starttls", "none"], "it does not speak TLS"),
        ([f"{GOOD}:26", "--starttls", "smtp"], "refused the connection. Nobody listens there"),
        ([f"{GOOD}:80", "--starttls", "smtp", "--timeout", "1"], "it said nothing within 1 s"),
        (["nobody.example.test"], "nobody.example.test: "),
    ],
)
def test_server_that_cannot_be_asked_is_explained(arguments: list[str], words: str, tool: Container) -> None:
    """Each sentence says what to type next."""
    found = discover(tool, *arguments)
    assert (found.status, found.out) == (69, "")
    assert words in found.err
    assert found.err.startswith(f"authrelay: {arguments[0]}:") or arguments[0].startswith("nobody")
    assert len(found.err.splitlines()) == 1


def test_missing_starttls_is_told(upstream: Upstream, tool: Container) -> None:
    """An inspecting firewall takes the word away; port 465 often still works."""
    upstream.behave(starttls_offered=False)
    found = discover(tool, HOSTNAME)
    assert found.status == 69
    assert "STARTTLS is not offered" in found.err
    assert "Try port 465" in found.err


def test_old_tls_is_told(upstream: Upstream, tool: Container) -> None:
    """The relay refuses it as well; no CA file would help."""
    upstream.behave_weak()
    found = discover(tool, HOSTNAME)
    assert found.status == 69
    assert "only speaks TLS versions older than 1.2" in found.err


@pytest.mark.usefixtures("good")
@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            f"{WEB}/secured/middle.crt",
            "it redirects to 'https://example.test/middle.crt', which is not a plain http:// address",
        ),
        ("https://ca.example.test/middle.crt", "was no help: it is not a plain http:// address"),
        (f"{WEB}/absent.crt", "the server answered 404"),
        (f"{WEB}/large.crt", "it is larger than 256 KiB"),
        (f"{WEB}/wrong.crt", "does not hold the certificate whose key signed"),
        (f"{WEB}:26/middle.crt", "Connection refused"),
        ("http://nobody.example.test/x", "the name nobody.example.test does not resolve"),
        ("http://127.0.0.1/x", "an address of this machine"),
    ],
)
def test_issuer_that_cannot_be_fetched_is_told(
    url: str, words: str, upstream: Upstream, tool: Container, middle: Signed
) -> None:
    """The person can fetch it; what a stranger's certificate names is neither followed everywhere nor believed."""
    upstream.serve(make_signed("CN=leaf", middle, names=(HOSTNAME,), issuer_url=url).make_chain())
    found = discover(tool, HOSTNAME, "--json", "--save", "/tmp/none.pem")
    assert (found.status, found.codes) == (65, ["no-authority"])
    assert words in " ".join(found.json["remarks"])
    assert "no CA file was written" in found.err
    assert tool.exec(["test", "-e", "/tmp/none.pem"], check=False).status == 1


@pytest.fixture(scope="module")
def shown(middle: Signed) -> Chain:
    """What the servers below show: no root, as most."""
    names = tuple(f"{name}.example.test" for name in ("strict", "openssl", "gnutls", "mutual"))
    return make_signed("CN=leaf", middle, names=names).make_chain(middle)


@pytest.fixture(scope="module")
def strict(engine: Engine, network: Network, shown: Chain) -> Iterator[None]:
    """A Postfix that demands a client certificate where TLS is required: in TLS 1.2 on port 587, in 1.3 on 465."""
    made = RealPostfix(engine, network, aliases=("strict.example.test",), chain=shown)
    made.container.exec(["postconf", "-e", "smtpd_tls_req_ccert=yes"])
    made.container.exec(["postconf", "-P", "587/inet/smtpd_tls_mandatory_protocols=<=TLSv1.2"])
    made.container.exec(["postfix", "reload"])
    yield
    made.container.remove()


@pytest.fixture(scope="module")
def mutual(engine: Engine, network: Network, shown: Chain, root: Signed) -> Iterator[None]:
    """Servers that end the handshake itself: `openssl s_server` and Exim with GnuTLS; a Dovecot that only asks."""
    files = {"/root.pem": File(data=root.pem.encode()), "/tls.pem": File(data=shown.combined_pem.encode())}
    openssl = "openssl s_server -quiet -cert /tls.pem -key /tls.pem -cert_chain /tls.pem -Verify 2 -CAfile /root.pem"
    script = f"{openssl} -tls1_2 -accept 465 & exec {openssl} -tls1_3 -accept 993"
    first = engine.run(
        MOCK_IMAGE, ["sh", "-c", script], network=network, aliases=("openssl.example.test",), files=files
    )
    exim = (pathlib.Path(__file__).parents[1] / "peers" / "exim" / "exim.conf").read_text()
    exim = exim.replace("tls_try_verify_hosts = *", "tls_verify_hosts = *\ntls_verify_certificates = /root.pem")
    exim = exim.replace(
        "\nacl_smtp_mail", "\ntls_require_ciphers = ${if ={$received_port}{465}{NORMAL:-VERS-TLS1.3}}\nacl_smtp_mail", 1
    )
    more = {"/root.pem": files["/root.pem"], "/etc/exim4/exim4.conf": File(data=exim.encode())}
    second = RealExim(engine, network, aliases=("gnutls.example.test",), chain=shown, files=more)
    dovecot = (pathlib.Path(__file__).parents[1] / "peers" / "servers" / "dovecot.conf").read_text()
    dovecot += "ssl_server_ca_file = /root.pem\nssl_server_request_client_cert = yes\n"
    more = {"/root.pem": files["/root.pem"], "/etc/dovecot/dovecot.conf": File(data=dovecot.encode())}
    third = RealServers(engine, network, aliases=("mutual.example.test",), chain=shown, files=more)
    yield
    for one in (first, second.container, third.container):
        one.remove()


@pytest.mark.usefixtures("good", "strict", "mutual")
@pytest.mark.parametrize(
    ("server", "protocol", "words"),
    [
        ("strict.example.test:587", "TLSv1.2", "421 4.7.1 strict.example.test Error: No client certificate presented"),
        ("strict.example.test:465", "TLSv1.3", "421 4.7.1 strict.example.test Error: No client certificate presented"),
        ("strict.example.test:25", "TLSv1.3", ""),
        ("openssl.example.test:465", "TLSv1.2", "without one ('alert handshake failure')"),
        ("openssl.example.test:993", "TLSv1.3", "without one ('alert certificate required')"),
        ("gnutls.example.test:465", "TLSv1.2", "without one ('alert "),
        ("gnutls.example.test:587", "TLSv1.3", "without one ('alert "),
        ("mutual.example.test:993", "TLSv1.3", ""),
        ("mutual.example.test:143", "TLSv1.3", ""),
        ("mutual.example.test:110", "TLSv1.3", ""),
        (f"{GOOD}:993", "TLSv1.3", None),
    ],
)
def test_server_that_wants_a_client_certificate_shows_its_own(
    server: str, protocol: str, words: str | None, tool: Container, root: Signed
) -> None:
    """Its chain comes before it learns that there is none of ours: the CA is known, and that more is needed."""

    def ask() -> Found | None:
        found = discover(tool, server, "--json")
        return found if found.status == 0 else None

    # s_server and a Postfix that reads its configuration anew take a moment.
    found = wait_until(ask, 20, f"{server} should be asked with success")
    assert found is not None
    assert (found.err, found.json["protocol"], found.json["cipher"] != "") == ("", protocol, True)
    assert found.json["authority"]["sha256"] == root.sha256
    kind = "not-asked" if words is None else "required" if words else "asked"
    assert found.json["client_certificate"] == kind
    remarks = " ".join(found.json["remarks"])
    if words:
        assert "and ended the session without one ('" in remarks
        assert words in remarks
        assert "/var/lib/authrelay/client-certificate.pem" in remarks
    assert ("goes on without one" in remarks) == (kind == "asked")


def test_old_tls_with_a_client_certificate_is_still_told_as_old(upstream: Upstream, tool: Container) -> None:
    """No client certificate would help: the versions have nothing in common."""
    upstream.behave_weak()
    upstream.accept_client_certificate(upstream.authority.pem)
    found = discover(tool, HOSTNAME)
    assert (found.status, found.out) == (69, "")
    assert "only speaks TLS versions older than 1.2, which Postfix here refuses as well" in found.err


def test_server_that_only_asks_for_a_certificate_is_told_nothing_else(upstream: Upstream, tool: Container) -> None:
    """Whether it goes on without one is learnt from a farewell: no name, no login."""
    upstream.accept_client_certificate(upstream.authority.pem)
    found = discover(tool, HOSTNAME, "--json")
    assert found.json["client_certificate"] == "asked"
    (session,) = upstream.sessions()
    assert (session.verbs, session.logins) == (("EHLO", "STARTTLS", "QUIT"), ())
    assert session.client_certificate_sha256 is None


@pytest.mark.usefixtures("good")
def test_silent_name_server_is_told_within_the_time(engine: Engine, network: Network) -> None:
    """Its packets are lost, as behind a firewall; getaddrinfo(3) would go on for as long as resolv.conf lets it."""
    arguments = ["--entrypoint", "sleep"]
    container = engine.run(IMAGE, ["infinity"], network=network, arguments=arguments)
    lines = "nameserver 192.0.2.53\nnameserver 192.0.2.54\noptions timeout:30 attempts:5\n"
    container.exec(["sh", "-c", f"printf '{lines}' >/etc/resolv.conf"])
    begin = time.monotonic()
    found = discover(container, GOOD, "--timeout", "2")
    assert time.monotonic() - begin < 6
    assert (found.status, found.out) == (69, "")
    assert found.err.startswith(
        f"authrelay: {GOOD}: no answer within 2 s from name server 192.0.2.53 or 192.0.2.54 (/etc/resolv.conf). Check"
    )
    container.remove()


def test_dead_address_before_a_good_one_is_passed(tool: Container, network: Network, good: RealServers) -> None:
    """One machine of two is down; a mail server is still there."""
    lines = f"192.0.2.1 two.example.test\n{good.container.address(network)} two.example.test\n"
    tool.exec(["sh", "-c", f"printf '{lines}' >>/etc/hosts"])
    found = discover(tool, "two.example.test:993", "--json", "--timeout", "6")
    assert found.json["address"] == good.container.address(network)


def test_ipv6_literal_is_asked_and_its_name_is_told(
    tool: Container, network: Network, good: RealServers, root: Signed
) -> None:
    """Who has no DNS yet has an address; RELAYHOST needs a name all the same."""
    address = good.container.address6(network)
    found = discover(tool, f"[{address}]:993", "--json")
    assert (found.status, found.codes, found.json["address"]) == (65, ["name"], address)
    assert found.json["authority"]["sha256"] == root.sha256
    assert f"you asked for an address, {address}, and Postfix compares names only" in found.json["problems"][0]["text"]
    assert discover(tool, f"[{address}]:993").out.startswith(f"[{address}]:993 ({address}), TLS at once, TLSv1.3, ")


@pytest.mark.usefixtures("good")
def test_report_is_printed_though_the_file_cannot_be_written(engine: Engine, network: Network, root: Signed) -> None:
    """The usual mistake: a volume that belongs to somebody else, or a read-only container."""
    arguments = ["--entrypoint", "sleep", "--read-only", "--tmpfs", "/tmp"]
    container = engine.run(IMAGE, ["infinity"], network=network, arguments=arguments)
    found = discover(container, GOOD, "--save", "/out/ca.pem")
    assert found.status == 73
    assert f"   SHA-256   {root.sha256}\n" in found.out
    assert "The CA file was NOT written: /out/ca.pem cannot be written: " in found.out
    assert found.err.startswith("authrelay: /out/ca.pem cannot be written: ")
    found = discover(container, GOOD, "--save", "/ca.pem", "--json")
    assert (found.status, found.json["saved"], found.json["authority"]["pem"]) == (73, None, root.pem)
    assert "/ca.pem cannot be written: Read-only file system" in found.json["save_error"]
    container.remove()


def test_nothing_is_said_before_tls_but_the_question_for_it(upstream: Upstream, tool: Container) -> None:
    """No name, no login: whoever listens on the way learns that someone asked."""
    assert discover(tool, HOSTNAME, "--json").status in (0, 65)
    (session,) = upstream.sessions()
    assert session.plain.split(b"\r\n")[0].startswith(b"EHLO [")
    assert session.plain.split(b"\r\n")[1] == b"STARTTLS"
    assert (session.sni, session.verbs, session.logins) == (HOSTNAME, ("EHLO", "STARTTLS"), ())
