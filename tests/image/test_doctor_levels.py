"""At every TLS level, with MX look-ups and with policies, doctor's verdict is what Postfix does with a message."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from entrypoint.diagnosis.steps import STATUSES
from entrypoint.reasons import explain
from tests.image.conftest import LOGIN, Relays
from tests.image.test_bad_upstreams import find_reason
from tests.image.test_doctor import PASSWORD, TEXT, ask_doctor, create_patient, send
from tests.support.authorities import Authority
from tests.support.client import Client
from tests.support.engine import Engine, Network
from tests.support.name_server import NameServer
from tests.support.relay import Relay
from tests.support.upstream import HOSTNAME, Upstream
from tests.support.wait import wait_until

OTHER = Authority()
"""An authority that no relay trusts but by a policy."""
SIGNED, MISMATCHED, BARE, FAILING = (f"{name}.signed.test" for name in ("good", "other", "bare", "failing"))
"""Hosts of a zone that DNSSEC vouches for: with the right TLSA record, with a wrong one, without, without an answer."""
DOMAIN, LOST, MX_HOST = "domain.example.test", "lost.example.test", "mx1.example.test"

_CLEAR = {"RELAYHOST_CLEARTEXT_AUTH": "yes", "RELAYHOST_CA": "system"}
_MX = {"RELAYHOST": f"{DOMAIN}:587", "RELAYHOST_MX": "yes"}


def _at(level: str, host: str = HOSTNAME, **env: str) -> dict[str, str]:
    clear = _CLEAR if level in ("none", "may", "dane") else {}
    no_authority = {} if level in ("secure", "verify") else {"RELAYHOST_CA": "system"}
    return {"RELAYHOST": f"[{host}]:587", "RELAYHOST_TLS": level, **clear, **no_authority, **env}


def _by_policy(words: str) -> dict[str, str]:
    return {"TLS_POLICY_TABLE": f"{HOSTNAME} {words}"}


SETTINGS: dict[str, dict[str, str]] = {
    "none": _at("none"),
    "may": _at("may"),
    "encrypt": _at("encrypt"),
    "verify": _at("verify"),
    "dane": _at("dane", SIGNED),
    "dane-mismatched": _at("dane", MISMATCHED),
    "dane-bare": _at("dane", BARE),
    "dane-failing": _at("dane", FAILING),
    "dane-blind": _at("dane", SIGNED),
    "dane-hosts": _at("dane", "hosts.example.test"),
    "dane-only": _at("dane-only", SIGNED),
    "dane-only-bare": _at("dane-only", BARE),
    "dane-only-blind": _at("dane-only", SIGNED),
    "mx": _MX,
    "mx-verify": {**_MX, "RELAYHOST_TLS": "verify"},
    "mx-none": {**_MX, "RELAYHOST_TLS": "none", **_CLEAR},
    "mx-lost": {**_MX, "RELAYHOST": f"{LOST}:587"},
    "mx-refused": {**_MX, "RELAYHOST": f"{DOMAIN}:2526"},
    "protocols": _by_policy("secure protocols=TLSv1.2"),
    "exclude": _by_policy("secure exclude=aECDSA"),
    "tafile": _by_policy("secure tafile=/run/secrets/other.pem"),
    "tafile-of-root": _by_policy("secure tafile=/run/secrets/other.pem"),
    "override": {"POSTFIX_smtp_tls_policy_maps": f"inline:{{ {{[{HOSTNAME}]:587=fingerprint match={'AB:' * 31}AB}} }}"},
    "override-encrypt": {"POSTFIX_smtp_tls_policy_maps": "static:encrypt"},
    "override-unreadable": {"POSTFIX_smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:9:policy"},
}
_BLIND = ("dane-blind", "dane-only-blind")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One upstream at one level, and what both doctor and Postfix make of it."""

    settings: str
    upstream: str
    """What is done to it: a key of UPSTREAMS."""
    step: str = ""
    """Where it ends; empty where mail goes."""
    says: str
    """A regular expression that is found in what doctor says of any step."""
    reason_step: str = ""


def _serve(make: Callable[[Upstream], Any]) -> Callable[[Upstream], None]:
    return lambda upstream: upstream.serve(make(upstream))


UPSTREAMS: dict[str, Callable[[Upstream], None]] = {
    "good": lambda _: None,
    "clear": lambda upstream: upstream.behave(starttls_offered=False, auth_offered="always"),
    "no-starttls": lambda upstream: upstream.behave(starttls_offered=False),
    "weak": lambda upstream: upstream.behave_weak(),
    "only-tls-1.3": lambda upstream: upstream.behave(tls_minimum="TLSv1.3"),
    "only-tls-1.2": lambda upstream: upstream.behave(tls_maximum="TLSv1.2"),
    "unknown-ca": _serve(lambda _: OTHER.make_chain(HOSTNAME)),
    "other-name": _serve(lambda upstream: upstream.authority.make_chain("other.example.test")),
    "domain": _serve(lambda upstream: upstream.authority.make_chain(DOMAIN)),
    "mx-host": _serve(lambda upstream: upstream.authority.make_chain(MX_HOST)),
    "expired": _serve(lambda upstream: upstream.authority.make_expired_chain(HOSTNAME)),
}

CASES = [
    Case(settings="none", upstream="clear", says="at level none: everything is sent IN THE CLEAR"),
    Case(settings="none", upstream="good", step="mechanisms", reason_step="auth", says="no login in the clear"),
    Case(settings="may", upstream="expired", says="at level may it is NOT CHECKED"),
    Case(settings="may", upstream="clear", says="not offered; at level may mail goes on IN THE CLEAR"),
    Case(settings="may", upstream="weak", step="handshake", says="Only TLS 1.2 and newer"),
    Case(settings="encrypt", upstream="unknown-ca", says="at level encrypt it is NOT CHECKED"),
    Case(settings="encrypt", upstream="clear", step="starttls", says="offers no STARTTLS"),
    Case(settings="verify", upstream="good", says="Postfix says Verified, too"),
    Case(settings="verify", upstream="unknown-ca", step="certificate", says="RELAYHOST_CA_FILE"),
    Case(settings="verify", upstream="other-name", step="name", reason_step="certificate",
         says=r"RELAYHOST=\[other.example.test\]:587"),
    Case(settings="dane", upstream="good", says="it is the one of the TLSA records"),
    Case(settings="dane", upstream="clear", step="starttls", says="offers no STARTTLS"),
    Case(settings="dane-mismatched", upstream="good", step="certificate", says="not the one that they name"),
    Case(settings="dane-bare", upstream="good", says="no TLSA records .* it is NOT CHECKED"),
    Case(settings="dane-bare", upstream="clear", says="at level dane mail goes on IN THE CLEAR"),
    Case(settings="dane-failing", upstream="good", step="certificate", says="no answer about TLSA records"),
    Case(settings="dane-blind", upstream="good", says="no resolver here that validates DNSSEC.* it is NOT CHECKED"),
    Case(settings="dane-hosts", upstream="good", step="resolve", says="asks name servers only, not /etc/hosts"),
    Case(settings="dane-only", upstream="good", says="it is the one of the TLSA records"),
    Case(settings="dane-only", upstream="unknown-ca", step="certificate", says="not the one that they name"),
    Case(settings="dane-only-bare", upstream="good", step="certificate",
         says="has no TLSA records.*RELAYHOST_TLS=secure"),
    Case(settings="dane-only-blind", upstream="good", step="certificate",
         says=r"no resolver here that validates DNSSEC.*nameserver \d.*docker run --dns"),
    Case(settings="mx", upstream="domain", says=f"{MX_HOST} is .*; Postfix says Verified, too"),
    Case(settings="mx", upstream="mx-host", step="name", reason_step="certificate", says=f"not for {DOMAIN}"),
    Case(settings="mx-verify", upstream="mx-host", says="Postfix says Verified, too"),
    Case(settings="mx-none", upstream="clear", says="IN THE CLEAR"),
    Case(settings="mx-lost", upstream="good", step="resolve", says="remove RELAYHOST_MX"),
    Case(settings="mx-refused", upstream="good", step="connect", says="Check the port in RELAYHOST"),
    Case(settings="protocols", upstream="only-tls-1.2", says="TLSv1.2, .*Verified, too"),
    Case(settings="protocols", upstream="only-tls-1.3", step="handshake", says="no TLS version or cipher"),
    Case(settings="exclude", upstream="only-tls-1.2", step="handshake", says="no TLS version or cipher"),
    Case(settings="tafile", upstream="unknown-ca", says="trust anchors in /run/secrets/other.pem"),
    Case(settings="tafile", upstream="good", step="certificate", says="remove tafile= from TLS_POLICY_TABLE"),
    Case(settings="tafile-of-root", upstream="unknown-ca", step="settings", reason_step="handshake",
         says="chmod 644 /run/secrets/other.pem"),
    Case(settings="override", upstream="good", step="certificate", says="match= in POSTFIX_smtp_tls_policy_maps"),
    Case(settings="override-encrypt", upstream="unknown-ca", says="at level encrypt it is NOT CHECKED"),
    Case(settings="override-unreadable", upstream="good", step="settings", reason_step="handshake",
         says="remove POSTFIX_smtp_tls_policy_maps"),
]  # fmt: skip


def _make_zone(upstream: Upstream, address: str) -> dict[str, Any]:
    key = upstream.good_chain.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    # DANE-EE(3) SPKI(1) SHA2-256(1), RFC 7672 section 3.1.1.
    right, wrong = (b"\x03\x01\x01" + digest for digest in (hashlib.sha256(key).digest(), b"\xab" * 32))
    hosts = [SIGNED, MISMATCHED, BARE, FAILING, HOSTNAME, MX_HOST]
    records = [
        *((name, "A", socket.inet_aton(address)) for name in hosts),
        (f"_587._tcp.{SIGNED}", "TLSA", right),
        (f"_587._tcp.{MISMATCHED}", "TLSA", wrong),
        (DOMAIN, "MX", _write_exchanger(MX_HOST)),
        (LOST, "MX", _write_exchanger("gone.example.test")),
    ]
    return {
        "records": [(name, kind, base64.b64encode(data).decode()) for name, kind, data in records],
        "failing": [f"_587._tcp.{FAILING}"],
    }


def _write_exchanger(host: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in host.split("."))
    return b"\x00\x0a" + labels + b"\x00"


@pytest.fixture(scope="module")
def fleet(
    module_relays: Relays, the_upstream: Upstream, engine: Engine, network: Network
) -> Iterator[dict[str, Relay]]:
    """A relay for each of SETTINGS, with a resolver that validates DNSSEC, and without."""
    address = the_upstream.container.address(network)
    zone = _make_zone(the_upstream, address)
    servers = [NameServer(engine, network, {**zone, "signed": signed}) for signed in (["signed.test"], [])]
    sighted, blind = (str(server.write_resolv_conf()) for server in servers)
    made = {
        name: create_patient(
            module_relays,
            env,
            the_upstream.authority.pem,
            secrets={"/run/secrets/other.pem": OTHER.pem.encode()},
            volumes={blind if name in _BLIND else sighted: "/etc/resolv.conf"},
            arguments=["--add-host", f"hosts.example.test:{address}"],
        )
        for name, env in SETTINGS.items()
    }
    made["tafile"].set_secret("/run/secrets/other.pem", OTHER.pem.encode(), 0o644)
    for relay in made.values():
        relay.start()
    for relay in made.values():
        relay.wait_ready()
    yield made
    for server in servers:
        server.container.remove()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.settings}-{case.upstream}")
def test_doctor_says_of_every_level_what_postfix_does(
    case: Case, fleet: dict[str, Relay], upstream: Upstream, client: Client
) -> None:
    """A level that checks less must not be told as if it checked, and one that checks more not as if mail went."""
    upstream.set_accounts({LOGIN: PASSWORD})
    UPSTREAMS[case.upstream](upstream)
    relay = fleet[case.settings]
    queue_id = send(relay, client)
    status, steps = ask_doctor(relay, "--to", "b@example.com", "--timeout", "2")
    assert [step["name"] for step in steps if not step["ok"]] == ([case.step] if case.step else []), steps
    assert status == (STATUSES[case.step] if case.step else 0)
    said = "\n".join(f"{step['detail']} {step['remedy']}" for step in steps)
    assert re.search(case.says, said, re.DOTALL), said

    if not case.step:
        (message,) = upstream.wait_messages(1)
        assert message.data.endswith(TEXT)
        return
    reason = wait_until(lambda: find_reason(relay, queue_id), 20, "Postfix itself should stop")
    relay.exec(["postsuper", "-d", queue_id])
    assert explain(reason).step == (case.reason_step or case.step), reason
    assert upstream.messages() == []
    assert all(session.logins == () for session in upstream.sessions())
