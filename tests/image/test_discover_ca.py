"""`authrelay discover-ca` against the servers that providers run: what it says, and that what it saves is enough."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from tests.image.conftest import LOGIN, PASSWORD, Relays
from tests.support.client import Client
from tests.support.engine import Container, Engine, File, Network
from tests.support.hierarchies import Signed, make_signed
from tests.support.relay import IMAGE, Relay
from tests.support.upstream import HOSTNAME, RealExim, RealPostfix, RealServers, Upstream
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
        (f"{WEB}/secured/middle.crt", "it is not a plain http:// address"),
        (f"{WEB}/absent.crt", "the web server answered 404"),
        (f"{WEB}/large.crt", "it is larger than 256 KiB"),
        (f"{WEB}/wrong.crt", "does not hold the certificate whose key signed"),
        (f"{WEB}:26/middle.crt", "Connection refused"),
        ("http://nobody.example.test/x", "its host does not resolve"),
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


def test_nothing_is_said_before_tls_but_the_question_for_it(upstream: Upstream, tool: Container) -> None:
    """No name, no login: whoever listens on the way learns that someone asked."""
    assert discover(tool, HOSTNAME, "--json").status in (0, 65)
    (session,) = upstream.sessions()
    assert session.plain.split(b"\r\n")[0].startswith(b"EHLO [")
    assert session.plain.split(b"\r\n")[1] == b"STARTTLS"
    assert (session.sni, session.verbs, session.logins) == (HOSTNAME, ("EHLO", "STARTTLS"), ())
