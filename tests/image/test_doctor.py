"""`authrelay doctor` names the step at which mail to a broken upstream stops, and Postfix stops at the same."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from entrypoint.diagnosis.steps import STATUSES
from entrypoint.reasons import explain
from tests.image.conftest import LOGIN, Relays
from tests.image.test_bad_upstreams import TIMEOUTS, find_reason
from tests.support.authorities import Authority, make_self_signed_chain
from tests.support.client import Client
from tests.support.engine import Container, Engine, Network, Result
from tests.support.hierarchies import make_signed
from tests.support.relay import Relay
from tests.support.upstream import HOSTNAME, MOCK_IMAGE, Fault, RealExim, RealPostfix, Upstream, drop, hang, reply
from tests.support.wait import wait_until

TEXT = b"Subject: a walk\r\n\r\nIt waits.\r\n"
# No word of any sentence: whatever is found of it is a leak.
PASSWORD = "k1-Wm:$9z#Qx"
CROOKED = "crooked.example.test"
WRONG_PIN = ":".join(["AB"] * 32)

# Ports that are not what they seem: 465 speaks STARTTLS, 587 TLS at once, 2525 is SSH, 2527 and 53 are silent.
_CROOKED_SERVER = f"""
import socket, threading
def pump(one, other):
    try:
        while data := one.recv(65536):
            other.sendall(data)
    except OSError:
        pass
    finally:
        other.close()
def serve(port, target):
    listener = socket.create_server(("", port))
    while True:
        connection, _ = listener.accept()
        if target is None:
            connection.sendall(b"SSH-2.0-OpenSSH_10.0\\r\\n")
            continue
        try:
            onward = socket.create_connection(("{HOSTNAME}", target))
        except OSError:
            connection.close()
            continue
        threading.Thread(target=pump, args=(connection, onward), daemon=True).start()
        threading.Thread(target=pump, args=(onward, connection), daemon=True).start()
for port, target in ((465, 587), (587, 465)):
    threading.Thread(target=serve, args=(port, target)).start()
# Name servers that say nothing, and a port whose queue is full, so that the kernel lets every SYN pass unanswered.
silent = socket.socket(type=socket.SOCK_DGRAM)
silent.bind(("", 53))
full = socket.create_server(("", 2527), backlog=0)
kept = [socket.create_connection(("127.0.0.1", 2527)) for _ in range(1)]
listener = socket.create_server(("", 2525))
print("ready", flush=True)
while True:
    kept.append(listener.accept()[0])
    kept[-1].sendall(b"SSH-2.0-OpenSSH_10.0\\r\\n")
"""

SETTINGS: dict[str, dict[str, str]] = {
    "": {},
    "no-such-name": {"RELAYHOST": "[nowhere.example.test]:587"},
    "silent-name-server": {"RELAYHOST": "[silent.example.test]:587"},
    "no-such-port": {"RELAYHOST": f"[{HOSTNAME}]:2526"},
    "filtered": {"RELAYHOST": f"[{CROOKED}]:2527"},
    "no-such-machine": {"RELAYHOST": "[machine.example.test]:587"},
    "ssh": {"RELAYHOST": f"[{CROOKED}]:2525"},
    "implicit-to-starttls": {"RELAYHOST": f"[{CROOKED}]:465"},
    "starttls-to-implicit": {"RELAYHOST": f"[{CROOKED}]:587"},
    "pin": {"RELAYHOST_CA": "system", "RELAYHOST_TLS": "fingerprint", "RELAYHOST_FINGERPRINT": WRONG_PIN},
    "filter": {"SMTP_SASL_MECHANISM_FILTER": "cram-md5"},
}
"""The relays: the good settings, and the bad ones by name."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of bad upstream or setting, and what is to be said of it."""

    name: str
    step: str
    says: str
    """A regular expression that is found in the detail or the remedy: what it means, or which setting."""
    reason_step: str = ""
    """What entrypoint.reasons makes of the queue's reason, where Postfix's words do not tell the steps apart."""
    break_it: Callable[[Upstream], None] = lambda _: None
    settings: str = ""
    seconds: int = 2
    """doctor's --timeout; Postfix's is in `fleet`."""
    is_final: bool = False
    """Whether it is an answer about the message, which Postfix returns to the sender."""


def _behave(**behaviour: object) -> Callable[[Upstream], None]:
    return lambda upstream: upstream.behave(**behaviour)  # type: ignore[arg-type]


def _fault(stage: str, fault: Fault) -> Callable[[Upstream], None]:
    return _behave(faults={stage: fault})


def _serve(make: Callable[[Authority], Any]) -> Callable[[Upstream], None]:
    return lambda upstream: upstream.serve(make(upstream.authority))


ROOT = make_signed("CN=Root of a chain", is_ca=True)
OLD_INTERMEDIATE = make_signed("CN=Old intermediate", ROOT, is_ca=True, last_day=-2)


def _serve_expired_authority(upstream: Upstream) -> None:
    leaf = make_signed(f"CN={HOSTNAME}", OLD_INTERMEDIATE, names=(HOSTNAME,))
    upstream.serve(leaf.make_chain(OLD_INTERMEDIATE))


CASES = [
    Case(name="no-such-name", settings="no-such-name", step="resolve", says="spelling of RELAYHOST"),
    Case(name="silent-name-server", settings="silent-name-server", step="resolve",
         says=r"name server does not answer .*resolv.conf has nameserver \d.*Check the container's DNS"),
    Case(name="refused", settings="no-such-port", step="connect", says="port in RELAYHOST"),
    Case(name="filtered", settings="filtered", step="connect", seconds=1,
         says="nothing comes back.*blocks outgoing port 25"),
    Case(name="no-such-machine", settings="no-such-machine", step="connect", seconds=6,
         says="no way to that address .*No route to host"),
    Case(name="not-smtp", settings="ssh", step="greeting", says="no SMTP server: it says 'SSH-2.0-OpenSSH_10.0'"),
    Case(name="implicit-to-starttls", settings="implicit-to-starttls", step="handshake", says=r"RELAYHOST=.*:587"),
    Case(name="starttls-to-implicit", settings="starttls-to-implicit", step="greeting", seconds=1,
         says=r"RELAYHOST=.*:465"),
    Case(name="greeting-421", step="greeting", says="does not want to talk just now .421 4.3.2 busy",
         break_it=_fault("connect", reply(421, "4.3.2 busy"))),
    Case(name="greeting-421-rate", step="greeting", says="RELAYHOST_CONCURRENCY or RELAYHOST_RATE_DELAY",
         break_it=_fault("connect", reply(421, "4.7.0 Too many connections"))),
    Case(name="greeting-554", step="greeting", says="another port, a login, or another MYHOSTNAME",
         break_it=_fault("connect", reply(554, "5.7.1 go away"))),
    Case(name="greeting-hang", step="greeting", seconds=1, says="does not greet .it said nothing within 1 s",
         break_it=_fault("connect", hang())),
    Case(name="greeting-drop", step="greeting", says="closed the connection", break_it=_fault("connect", drop())),
    Case(name="ehlo-550", step="ehlo", reason_step="greeting", says="MYHOSTNAME",
         break_it=_fault("ehlo", reply(550, "5.7.1 no"))),
    Case(name="ehlo-hang", step="ehlo", reason_step="greeting", seconds=1, says="our EHLO .it said nothing.*MYHOSTNAME",
         break_it=_fault("ehlo", hang())),
    Case(name="no-starttls", step="starttls", says="Use port 587 or 465 in RELAYHOST",
         break_it=_behave(starttls_offered=False)),
    Case(name="starttls-refused", step="starttls", says="454 4.7.0 not now",
         break_it=_fault("starttls", reply(454, "4.7.0 not now"))),
    Case(name="weak-tls", step="handshake", says="Only TLS 1.2 and newer",
         break_it=lambda upstream: upstream.behave_weak()),
    Case(name="handshake-hang", step="handshake", seconds=1, says="breaks off in the TLS handshake .it said nothing",
         break_it=_fault("handshake", hang())),
    Case(name="unknown-ca", step="certificate", says="RELAYHOST_CA_FILE: 'authrelay discover-ca mail.example.test:587'",
         break_it=lambda upstream: upstream.serve(Authority().make_chain(HOSTNAME))),
    Case(name="missing-intermediate", step="certificate", says="leaves an intermediate certificate out",
         break_it=_serve(lambda authority: authority.make_intermediate_chain(HOSTNAME, is_complete=False))),
    Case(name="expired", step="certificate", says=r"expired on \d{4}-\d\d-\d\d",
         break_it=_serve(lambda authority: authority.make_expired_chain(HOSTNAME))),
    Case(name="expired-ca", step="certificate", says=r"'CN=Old intermediate', expired on \d{4}-\d\d-\d\d",
         break_it=_serve_expired_authority),
    Case(name="not-yet-valid", step="certificate", says="Check this machine's clock",
         break_it=_serve(lambda authority: authority.make_future_chain(HOSTNAME))),
    Case(name="self-signed", step="certificate", says="RELAYHOST_TLS=fingerprint and RELAYHOST_FINGERPRINT=..:..",
         break_it=lambda upstream: upstream.serve(make_self_signed_chain(HOSTNAME))),
    Case(name="wrong-name", step="name", reason_step="certificate", says=r"RELAYHOST=\[other.example.test\]:587",
         break_it=_serve(lambda authority: authority.make_chain("other.example.test"))),
    Case(name="wrong-pin", settings="pin", step="certificate", says="set RELAYHOST_FINGERPRINT to the new one"),
    Case(name="client-certificate-refused", step="client-certificate", reason_step="greeting",
         says="set CLIENT_CERT_FILE and CLIENT_KEY_FILE",
         break_it=lambda upstream: upstream.accept_client_certificate(Authority().pem)),
    Case(name="auth-not-offered", step="mechanisms", reason_step="auth", says="RELAYHOST_AUTH=none",
         break_it=_behave(auth_offered="absent")),
    Case(name="only-unknown-mechanisms", step="mechanisms", says="offered: XOAUTH2, NTLMV9; installed: .*PLAIN",
         break_it=_behave(mechanisms=("XOAUTH2", "NTLMV9"))),
    Case(name="filtered-mechanisms", settings="filter", step="mechanisms",
         says="SMTP_SASL_MECHANISM_FILTER=plain,login"),
    Case(name="auth-535", step="auth", says="Check RELAYHOST_USERNAME and RELAYHOST_PASSWORD",
         break_it=lambda upstream: upstream.set_accounts({LOGIN: "another"})),
    Case(name="auth-535-that-echoes", step="auth", says=r"no: \(hidden\) \(hidden\)",
         break_it=_fault("auth", reply(535, f"5.7.8 no: {PASSWORD} {base64.b64encode(PASSWORD.encode()).decode()}"))),
    Case(name="auth-534", step="auth", says="password for applications",
         break_it=_fault("auth", reply(534, "5.7.9 too weak"))),
    Case(name="auth-454", step="auth", says="cannot check the login just now",
         break_it=_fault("auth", reply(454, "4.7.0 later"))),
    Case(name="auth-454-rate", step="auth", says="454 4.7.0 Too many login attempts.*locked the account for a while",
         break_it=_fault("auth", reply(454, "4.7.0 Too many login attempts"))),
    Case(name="auth-530", step="auth", says="530 5.7.0 not here",
         break_it=_fault("auth", reply(530, "5.7.0 not here"))),
    Case(name="auth-hang", step="auth", reason_step="greeting", seconds=1, says="stops answering at the login",
         break_it=_fault("auth", hang())),
    Case(name="sender-530", step="sender", reason_step="auth", says="wants a login",
         break_it=_fault("mail", reply(530, "5.7.57 Client not authenticated"))),
    Case(name="sender-refused", step="sender", says="an address that the account may use",
         break_it=_fault("mail", reply(451, "4.7.1 not yours"))),
    Case(name="sender-refused-for-good", step="sender", says="an address that the account may use", is_final=True,
         break_it=_fault("mail", reply(550, "5.7.1 not yours", containing="a@example.test"))),
    Case(name="sender-421-rate", step="sender", says="RELAYHOST_CONCURRENCY or RELAYHOST_RATE_DELAY",
         break_it=_fault("mail", reply(421, "4.7.0 Too many messages"))),
    Case(name="recipient-refused", step="recipient", says="450 4.2.1 greylisted",
         break_it=_fault("rcpt", reply(450, "4.2.1 greylisted"))),
    Case(name="recipient-refused-for-good", step="recipient", says="550 5.1.1 nobody.*Check the address", is_final=True,
         break_it=_fault("rcpt", reply(550, "5.1.1 nobody", containing="b@example.com"))),
]  # fmt: skip


@pytest.fixture(scope="module")
def crooked(engine: Engine, network: Network) -> Iterator[Container]:
    """A host whose ports are not what their numbers say."""
    container = engine.run(
        MOCK_IMAGE, ["python", "-c", _CROOKED_SERVER], kind="crooked", network=network, aliases=(CROOKED,)
    )
    wait_until(lambda: "ready" in container.logs(), 20, "the crooked host should listen")
    yield container
    container.remove()


@pytest.fixture(scope="module")
def fleet(
    module_relays: Relays, crooked: Container, the_upstream: Upstream, engine: Engine, network: Network
) -> dict[str, Relay]:
    """A relay for each of SETTINGS."""
    resolver = engine.directory() / "resolv.conf"
    resolver.write_text(f"nameserver {crooked.address(network)}\noptions timeout:1 attempts:1\n")
    options: dict[str, dict[str, Any]] = {
        "silent-name-server": {"volumes": {str(resolver): "/etc/resolv.conf"}},
        # Three seconds until the kernel says that nobody has the address.
        "no-such-machine": {"seconds": 5, "arguments": ["--add-host", f"machine.example.test:{find_unused(network)}"]},
    }
    made = {
        name: create_patient(module_relays, env, the_upstream.authority.pem + ROOT.pem, **options.get(name, {}))
        for name, env in SETTINGS.items()
    }
    for relay in made.values():
        relay.start()
    for relay in made.values():
        relay.wait_ready()
    return made


def create_patient(
    relays: Relays,
    env: Mapping[str, str],
    authorities: str,
    *,
    seconds: int = 2,
    secrets: Mapping[str, bytes] | None = None,
    **options: Any,
) -> Relay:
    """Make a relay whose Postfix gives up soon."""
    patience = {f"POSTFIX_{name}": f"{seconds}s" for name in TIMEOUTS}
    # One address is enough to wait for.
    patience["INET_PROTOCOLS"] = "ipv4"
    # Else what is found for one case would be told of the next.
    patience["POSTFIX_smtp_destination_concurrency_failed_cohort_limit"] = "0"
    unset = {"RELAYHOST_CA_FILE": ""} if "RELAYHOST_CA" in env else {}
    return relays.create(
        {**patience, **unset, **env},
        secrets={
            "/run/secrets/password": PASSWORD.encode(),
            "/run/secrets/ca.pem": authorities.encode(),
            **(secrets or {}),
        },
        allowed=[
            "ciphertext read/write timeout",
            "No worthy mechs found",
            "TLS library problem",
            "configuration problem",
            "offered no supported AUTH",
            "RELAYHOST_CLEARTEXT_AUTH=yes",
            "its certificate is not checked",
            "weakens a safe default",
            "DNSSEC|dnssec|TLSA|TLS policy",
            "no MX host for lost.example.test",
            # Policies that Postfix, and then doctor, cannot read.
            "trust anchor file|127.0.0.1:9|policy table lookup error",
        ],
        **options,
    )


def find_unused(network: Network) -> str:
    """Return an address of the network that nobody has."""
    (subnet,) = (
        ipaddress.ip_network(one["Subnet"]) for one in network.inspect()["IPAM"]["Config"] if "." in one["Subnet"]
    )
    return str(subnet[-3])


def ask_doctor(relay: Relay, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Run doctor as JSON: its status, and the steps of the first upstream."""
    result = relay.exec(["authrelay", "doctor", "--json", *arguments], check=False)
    assert_no_secret(result)
    answer = json.loads(result.stdout)
    assert answer["version"] == 1
    assert answer["ok"] == (result.status == 0)
    return result.status, answer["upstreams"][0]["steps"]


def assert_no_secret(result: Result) -> None:
    """Fail if an output holds the password in the clear, in base64 at any alignment, or in hexadecimal."""
    output = result.stdout + result.stderr
    assert b"Traceback" not in output
    forms = {PASSWORD.encode(), PASSWORD.encode().hex().encode(), json.dumps(PASSWORD).encode().strip(b'"')}
    forms |= {base64.b64encode(b"x" * offset + PASSWORD.encode())[4:-4] for offset in range(3)}
    assert [form for form in forms if form.lower() in output.lower()] == []


def send(relay: Relay, client: Client) -> str:
    """Hand in a message; its queue id."""
    replies = client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    return str(re.findall(r"queued as (\w+)", replies[-2].text)[0])


def find_returned_reason(upstream: Upstream) -> str:
    """Return what a returned message says about its recipient."""
    text = " ".join(message.data.decode() for message in upstream.messages() if message.mail_from == "")
    found = re.search(r"<b@example.com>: (.*? command\))", " ".join(text.split()))
    return found[1] if found else ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_doctor_names_the_step_at_which_postfix_stops(
    case: Case, fleet: dict[str, Relay], upstream: Upstream, client: Client
) -> None:
    """A wrong step sends people to the wrong setting, and a false "all is well" sends them home."""
    upstream.set_accounts({LOGIN: PASSWORD})
    case.break_it(upstream)
    relay = fleet[case.settings]
    # Both wait at the same time where there is something to wait for.
    queue_id = send(relay, client)
    arguments = ("--to", "b@example.com", "--from", "a@example.test", "--timeout", str(case.seconds))
    status, steps = ask_doctor(relay, *arguments)
    broken = steps[-1]
    assert [step["name"] for step in steps if not step["ok"]] == [case.step], steps
    assert status == STATUSES[case.step]
    assert re.search(case.says, f"{broken['detail']} {broken['remedy']}"), broken
    if case.is_final:
        reason = wait_until(lambda: find_returned_reason(upstream), 20, "Postfix should return the message")
    else:
        reason = wait_until(lambda: find_reason(relay, queue_id), 20, "Postfix itself should stop")
        relay.exec(["postsuper", "-d", queue_id])
    assert explain(reason).step == (case.reason_step or case.step), reason
    if case.step not in ("auth", "sender", "recipient", "mechanisms"):
        assert all(session.logins == () for session in upstream.sessions())
    assert [message.mail_from for message in upstream.messages()] == ([""] if case.is_final else [])


def test_doctor_does_not_wait_for_a_name_server_longer_than_it_was_told(fleet: dict[str, Relay]) -> None:
    """resolv.conf may say a minute, and no name server that is silent may keep a person waiting for it."""
    relay = fleet["silent-name-server"]
    text = relay.exec(["cat", "/etc/resolv.conf"]).text
    relay.exec(["tee", "/etc/resolv.conf"], stdin=text.replace("timeout:1", "timeout:20").encode())
    try:
        started = time.monotonic()
        status, steps = ask_doctor(relay, "--timeout", "1")
        taken = time.monotonic() - started
    finally:
        relay.exec(["tee", "/etc/resolv.conf"], stdin=text.encode())
    assert (status, steps[-1]["name"]) == (STATUSES["resolve"], "resolve")
    assert re.search(r"no name server answered within 1 s; resolv.conf has nameserver \d", steps[-1]["detail"])
    assert taken < 8


TWINS = "twins.example.test"


@dataclass(frozen=True, kw_only=True)
class Twins:
    """An upstream with two addresses, in the order in which they are walked, and its relay."""

    relay: Relay
    first: Upstream
    second: Upstream
    address_of_second: str


@pytest.fixture(scope="module")
def made_twins(module_relays: Relays, the_upstream: Upstream, engine: Engine, network: Network) -> Iterator[Twins]:
    """The mock upstream and another one of the same authority."""
    other = Upstream(engine, network, authority=the_upstream.authority, aliases=("twin.example.test",))
    both = {one.container.address(network): one for one in (the_upstream, other)}
    hosts = [word for address in both for word in ("--add-host", f"{TWINS}:{address}")]
    env = {"RELAYHOST": f"[{TWINS}]:587"}
    relay = create_patient(module_relays, env, the_upstream.authority.pem, arguments=hosts)
    relay.start()
    relay.wait_ready()
    # The C library sorts addresses (RFC 6724).
    lines = relay.exec(["getent", "ahostsv4", TWINS]).text.splitlines()
    first, second = (line.split()[0] for line in lines if "STREAM" in line)
    yield Twins(relay=relay, first=both[first], second=both[second], address_of_second=second)
    other.container.remove()


@pytest.fixture
def twins(made_twins: Twins, upstream: Upstream) -> Twins:
    """The two, good and without records."""
    del upstream
    for one in (made_twins.first, made_twins.second):
        one.reset()
        one.set_accounts({LOGIN: PASSWORD})
        one.serve(one.authority.make_chain(TWINS))
    return made_twins


def count_logins(upstream: Upstream) -> int:
    """Return how often somebody tried to log in."""
    return sum(len(session.logins) for session in upstream.sessions())


@pytest.mark.parametrize(
    ("step", "says", "break_it"),
    [
        ("certificate", "expired on", _serve(lambda authority: authority.make_expired_chain(TWINS))),
        (
            "name",
            r"RELAYHOST=\[other.example.test\]:587",
            _serve(lambda authority: authority.make_chain("other.example.test")),
        ),
        ("auth", "Check RELAYHOST_USERNAME", lambda upstream: upstream.set_accounts({LOGIN: "another"})),
        ("starttls", "Use port 587 or 465", _behave(starttls_offered=False)),
    ],
)
def test_doctor_finds_what_is_broken_at_the_second_address(
    step: str, says: str, break_it: Callable[[Upstream], None], twins: Twins
) -> None:
    """Postfix takes the addresses in any order: one that is broken delays mail, and nobody knows why."""
    break_it(twins.second)
    status, steps = ask_doctor(twins.relay)
    broken = steps[-1]
    assert (status, broken["name"], broken["ok"]) == (STATUSES[step], step, False), steps
    assert broken["address"] == twins.address_of_second
    assert broken["detail"].startswith(f"at {twins.address_of_second}, another address of it: ")
    assert re.search(says, f"{broken['detail']} {broken['remedy']}"), broken
    assert [one["name"] for one in steps if not one["ok"]] == [step]
    assert (count_logins(twins.first), count_logins(twins.second)) == (1, int(step == "auth"))


def test_doctor_tells_a_second_good_address_in_one_line(twins: Twins) -> None:
    """Two addresses are two logins, and not twice the text."""
    status, steps = ask_doctor(twins.relay)
    assert status == 0, steps
    assert steps[-1]["name"] == "address"
    assert steps[-1]["detail"] == f"{twins.address_of_second}: every step is well here, too"
    assert (count_logins(twins.first), count_logins(twins.second)) == (1, 1)


def test_doctor_logs_in_nowhere_else_when_the_login_is_refused(twins: Twins) -> None:
    """A provider that counts wrong passwords locks the account."""
    twins.first.set_accounts({LOGIN: "another"})
    status, _ = ask_doctor(twins.relay)
    assert status == STATUSES["auth"]
    assert count_logins(twins.first) == 1
    assert twins.second.sessions() == []


def test_doctor_says_all_is_well_of_a_good_upstream(fleet: dict[str, Relay], upstream: Upstream) -> None:
    """The whole way, as a person sees it; nothing is sent, and the password is not shown."""
    upstream.set_accounts({LOGIN: PASSWORD})
    result = fleet[""].exec(["authrelay", "doctor", "--to", "b@example.com"])
    assert_no_secret(result)
    assert "\nAll is well; nothing was sent.\n" in result.text
    assert "\033" not in result.text
    assert f"logged in as <{LOGIN}> by PLAIN" in result.text
    assert "Postfix says Verified, too" in result.text
    verbs = [verb for session in upstream.sessions() for verb in session.verbs]
    assert "RCPT" in verbs
    assert "DATA" not in verbs
    assert upstream.messages() == []


def test_doctor_tries_settings_that_the_running_relay_does_not_have(
    fleet: dict[str, Relay], upstream: Upstream
) -> None:
    """Whoever is told to change a setting tries it first: `docker exec --env`, without a restart."""
    upstream.set_accounts({LOGIN: PASSWORD})
    chain = Authority().make_chain(HOSTNAME)
    upstream.serve(chain)
    tried: tuple[tuple[dict[str, str], int, str], ...] = (
        ({}, STATUSES["certificate"], "RELAYHOST_CA_FILE"),
        ({"RELAYHOST_TLS": "encrypt", "RELAYHOST_CA_FILE": ""}, 0, "at level encrypt it is NOT CHECKED"),
        (
            {"RELAYHOST_TLS": "fingerprint", "RELAYHOST_CA_FILE": "", "RELAYHOST_FINGERPRINT": chain.sha256},
            0,
            "the fingerprint of its certificate is the pinned one; Postfix says Verified, too",
        ),
    )
    for env, status, says in tried:
        result = fleet[""].container.exec(["authrelay", "doctor"], env=env, check=False)
        assert_no_secret(result)
        assert (result.status, says in result.text) == (status, True), result.text


def test_doctor_says_what_client_certificate_was_shown(fleet: dict[str, Relay], upstream: Upstream) -> None:
    """An upstream that knows clients by their certificate must see the one that Postfix shows."""
    upstream.set_accounts({LOGIN: PASSWORD})
    certificate = fleet[""].exec(["cat", "/var/lib/authrelay/client-certificate.pem"]).text
    upstream.accept_client_certificate(certificate)
    status, steps = ask_doctor(fleet[""])
    assert status == 0, steps
    assert next(step for step in steps if step["name"] == "client-certificate")["detail"].startswith("asked for; shown")
    assert upstream.sessions()[0].client_certificate_subject is not None


def test_doctor_without_a_running_relay_walks_the_same_way(relays: Relays, upstream: Upstream) -> None:
    """Before the first start is when it is needed most: `docker run ... authrelay doctor`."""
    upstream.set_accounts({LOGIN: PASSWORD})
    secrets = {"/run/secrets/password": PASSWORD.encode()}
    good = relays.create(secrets=secrets, command=["doctor"])
    fallback = {"FALLBACK_RELAYHOST": "[nowhere.example.test]:587", "FALLBACK_RELAYHOST_USERNAME": "x",
                "FALLBACK_RELAYHOST_PASSWORD": PASSWORD}  # fmt: skip
    bad = relays.create(fallback, secrets=secrets, command=["doctor"])
    wrong = relays.create({"RELAYHOST": "[x:587"}, secrets=secrets, command=["doctor", "--json"])
    for relay in (good, bad, wrong):
        relay.start()
    assert good.wait_exit() == 0
    assert "All is well; nothing was sent; sender and recipient were not tried" in good.container.logs()
    assert bad.wait_exit() == STATUSES["resolve"]
    assert "Check the spelling of FALLBACK_RELAYHOST." in bad.container.logs()
    assert wrong.wait_exit() == 78
    answer = json.loads(wrong.container.logs())
    assert [step["name"] for step in answer["upstreams"][0]["steps"]] == ["settings"]
    assert PASSWORD not in good.container.logs() + bad.container.logs() + wrong.container.logs()
    for relay in (good, bad, wrong):
        # Its lines are a report and no log.
        relays.made.remove(relay)
        relay.remove()


@pytest.mark.parametrize("kind", [RealPostfix, RealExim])
def test_doctor_logs_in_at_a_real_server(
    kind: type[RealPostfix] | type[RealExim], engine: Engine, network: Network, relays: Relays
) -> None:
    """Each mechanism of Cyrus SASL against a server with the same library, and against Exim, which has its own."""
    name = f"doctor-{kind.__name__.lower()}.example.test"
    real = kind(engine, network, aliases=(name,), accounts={LOGIN: PASSWORD})
    try:
        env = {"RELAYHOST": f"[{name}]:587", "RELAYHOST_CA_FILE": "/run/secrets/real.pem"}
        secrets = {"/run/secrets/password": PASSWORD.encode(), "/run/secrets/real.pem": real.authority.pem.encode()}
        mechanisms = ["PLAIN", "CRAM-MD5", "LOGIN"]
        if kind is RealPostfix:
            mechanisms += ["DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"]
        walks = {
            mechanism: relays.create(
                {**env, "SMTP_SASL_MECHANISM_FILTER": mechanism},
                secrets=secrets,
                command=["doctor", "--json", "--to", "b@example.com"],
            )
            for mechanism in mechanisms
        }
        # Their lines are a report and no log.
        relays.made.clear()
        for walk in walks.values():
            walk.start()
        for mechanism, walk in walks.items():
            assert walk.wait_exit() == 0, walk.logs()
            assert f"logged in as <{LOGIN}> by {mechanism}" in walk.logs()
            assert PASSWORD not in walk.logs()
            walk.remove()
        assert real.messages() == []
    finally:
        real.container.remove()
