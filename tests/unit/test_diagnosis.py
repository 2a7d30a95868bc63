"""What doctor makes of names, fingerprints, mechanisms and Postfix's own opinion."""

from __future__ import annotations

import base64
import datetime
import pathlib
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from entrypoint.config.chain import Link, load_sent
from entrypoint.config.nexthop import Nexthop
from entrypoint.config.tls import TlsLevel, TlsRule
from entrypoint.diagnosis.configuration import list_unread_parameters
from entrypoint.diagnosis.judgement import (
    Trust,
    filter_mechanisms,
    find_offers,
    hide_secrets,
    judge_chain,
    judge_fingerprint,
    judge_name,
    measure_key,
)
from entrypoint.diagnosis.login import show_login
from entrypoint.diagnosis.policy import (
    choose_ciphers,
    choose_server_name,
    choose_versions,
    list_policy_keys,
    parse_policy,
    split_tables,
)
from entrypoint.diagnosis.protection import Protection
from entrypoint.diagnosis.report import Result, find_status, make_json, render_end, render_step
from entrypoint.diagnosis.steps import STATUSES, STEPS, Broken, Step, break_as_postfix, name_for
from entrypoint.diagnosis.walk import Walk
from entrypoint.diagnosis.ways import find_blind_spot
from entrypoint.journal.addresses import Addresses
from entrypoint.reasons import STEPS as REASON_STEPS
from entrypoint.system.finger import Opinion, parse_opinion
from entrypoint.system.handshake import TLS_VERSIONS, Handshake, TlsOrder
from entrypoint.system.smtp_session import SessionError
from tests.support.authorities import Authority
from tests.support.hierarchies import make_signed

ROOT = pathlib.Path(__file__).parents[2]
HOST = "mail.example.test"
TRUST = Trust(
    level=TlsLevel.SECURE,
    rule=None,
    nexthop=HOST,
    host=HOST,
    port=587,
    secure_match="nexthop, dot-nexthop",
    verify_match="hostname",
    fingerprints=(),
)
VERIFIED = "Verified TLS connection established to m.test[192.0.2.2]:587: TLSv1.3 with cipher X"
UNTRUSTED = VERIFIED.replace("Verified", "Untrusted")
AGREED = Opinion(trust="Verified", host=HOST, words="")
REFUSED = Opinion(trust="Untrusted", host=HOST, words="certificate verification failed")


def make_leaf(*names: str) -> Link:
    return load_sent([make_der(*names)])[0]


def make_der(*names: str) -> bytes:
    return Authority().make_chain(*names).certificate.public_bytes(serialization.Encoding.DER)


def make_protection(opinion: Opinion, trust: Trust = TRUST) -> Protection:
    return Protection(
        trust=trust,
        authorities="/ca.pem",
        authorities_in_words="the CA",
        server_name=HOST,
        client_chain=None,
        client_in_words="none",
        versions=("TLSv1.2", "TLSv1.3"),
        ciphers="HIGH",
        resolver="resolv.conf has nameserver 192.0.2.53",
        ask_postfix=lambda _: opinion,
    )


class Session:
    """A server whose chain OpenSSL does or does not trust."""

    def __init__(self, *, is_trusted: bool) -> None:
        self.orders: list[TlsOrder] = []
        self._is_trusted = is_trusted

    def start_tls(self, order: TlsOrder) -> Handshake:
        self.orders.append(order)
        if order.authorities is not None and not self._is_trusted:
            raise SessionError("untrusted", "unable to get local issuer certificate", 20)
        return Handshake(protocol="TLSv1.3", chain=(make_der(HOST),))


@pytest.mark.parametrize(
    ("trust", "names", "is_right"),
    [
        (TRUST, [HOST], True),
        (TRUST, ["*.example.test"], True),
        (TRUST, ["a.mail.example.test"], True),
        (TRUST, ["example.test"], False),
        (TRUST, ["notmail.example.test", "mail.example.test.evil.test"], False),
        (replace(TRUST, level=TlsLevel.VERIFY), ["a.mail.example.test"], False),
        (replace(TRUST, level=TlsLevel.VERIFY, host="mx1.example.test"), ["mx1.example.test"], True),
        (replace(TRUST, host="mx1.example.test"), ["mx1.example.test"], False),
    ],
)
def test_name_is_compared_as_postfix_compares(trust: Trust, names: list[str], is_right: bool) -> None:
    """TLS_README: secure takes the nexthop and what is below it, verify the host that was connected to."""
    if is_right:
        assert judge_name(make_leaf(*names), trust)
    else:
        with pytest.raises(Broken, match="the upstream's certificate is for"):
            judge_name(make_leaf(*names), trust)


def test_match_of_the_policy_table_replaces_the_names() -> None:
    """A user who wrote `match=` must not be told about another name."""
    rule = TlsRule(destination=HOST, level=TlsLevel.SECURE, attributes=(("match", "a.test:.b.test"),))
    trust = replace(TRUST, rule=rule)
    assert trust.accepted_names == ("a.test", ".b.test")
    assert judge_name(make_leaf("x.b.test"), trust) == "*.b.test"
    with pytest.raises(Broken):
        judge_name(make_leaf(HOST), trust)


def test_fingerprint_is_the_certificates_or_its_keys() -> None:
    """Who pins the key need not change the pin with every renewal."""
    leaf = make_leaf(HOST)
    for pin in (leaf.sha256, measure_key(leaf)):
        trust = replace(TRUST, level=TlsLevel.FINGERPRINT, fingerprints=("AB", pin))
        assert "pinned" in judge_fingerprint(leaf, trust)
    with pytest.raises(Broken) as caught:
        judge_fingerprint(leaf, replace(TRUST, level=TlsLevel.FINGERPRINT, fingerprints=("AB",)))
    assert leaf.sha256 in caught.value.step.detail


def test_postfix_wins_where_it_does_not_verify_what_we_trust() -> None:
    """A false "all is well" is the worst that doctor could say."""
    protection = make_protection(REFUSED)
    handshake = protection.begin(Session(is_trusted=True))  # type: ignore[arg-type]
    assert handshake is not None
    with pytest.raises(Broken, match="Postfix's verdict counts: certificate verification failed"):
        list(protection.judge(handshake))


def test_postfix_wins_where_it_verifies_what_we_do_not_trust() -> None:
    """The walk goes on in a second session, and the line says why."""
    protection = make_protection(AGREED)
    session: Any = Session(is_trusted=False)
    assert protection.begin(session) is None
    handshake = protection.begin(session)
    assert handshake is not None
    assert [order.authorities for order in session.orders] == ["/ca.pem", None]
    details = [step.detail for step in protection.judge(handshake)]
    assert "Postfix trusts it, though OpenSSL says 'unable to get local issuer certificate'" in details[0]


def test_untrusted_stays_untrusted_where_postfix_agrees() -> None:
    """Otherwise the login would be shown to whoever answers."""
    session: Any = Session(is_trusted=False)
    with pytest.raises(SessionError):
        make_protection(REFUSED).begin(session)
    assert len(session.orders) == 1


def test_missing_opinion_is_said_to_be_missing() -> None:
    """An upstream that lets one in once a minute must not look broken; nor agreed upon."""
    protection = make_protection(Opinion(trust="", host="", words="connection refused"))
    handshake = protection.begin(Session(is_trusted=True))  # type: ignore[arg-type]
    assert handshake is not None
    assert "gave no verdict of Postfix's (connection refused)" in list(protection.judge(handshake))[-1].detail


@pytest.mark.parametrize(
    ("level", "is_checked"), [("secure", True), ("verify", True), ("encrypt", False), ("may", False), ("dane", False)]
)
def test_authority_is_looked_at_where_the_level_says_so(level: str, is_checked: bool) -> None:
    """TLS_README: encrypt and may take any certificate, dane has TLSA records."""
    session: Any = Session(is_trusted=True)
    protection = make_protection(AGREED, replace(TRUST, level=TlsLevel(level)))
    protection.begin(session)
    assert (session.orders[0].authorities is not None) == is_checked
    if level != "dane":
        assert protection.is_required == (level in ("secure", "verify", "encrypt"))


def test_opinion_is_read_from_what_posttls_finger_says() -> None:
    """Its words of Postfix 3.10, seen from the program."""
    lines = [
        "posttls-finger: warning: DNSSEC validation may be unavailable",
        "posttls-finger: certificate verification failed for m.test[192.0.2.2]:587: untrusted issuer /O=X",
        "posttls-finger: m.test[192.0.2.2]:587: subject_CN=m.test, issuer=X, cert fingerprint=A0",
        "posttls-finger: Untrusted TLS connection established to m.test[192.0.2.2]:587: TLSv1.3 with cipher X",
    ]
    opinion = parse_opinion(lines)
    assert (opinion.trust, opinion.host) == ("Untrusted", "m.test")
    assert opinion.words.startswith("certificate verification failed for m.test")
    assert parse_opinion(["posttls-finger: Failed to establish session to [m.test]:26"]).trust == ""


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ("", ("PLAIN", "LOGIN", "CRAM-MD5")),
        ("plain, login", ("PLAIN", "LOGIN")),
        ("!plain", ()),
        ("!plain, static:all", ("LOGIN", "CRAM-MD5")),
        ("xoauth2", ()),
    ],
)
def test_mechanisms_are_filtered_as_by_postfix(patterns: str, left: tuple[str, ...]) -> None:
    """postconf(5) smtp_sasl_mechanism_filter: the first pattern that matches counts, and none is no."""
    assert filter_mechanisms(("PLAIN", "LOGIN", "CRAM-MD5"), patterns) == left


def test_offers_are_read_in_any_case_and_in_the_old_form() -> None:
    """Old servers write AUTH=LOGIN beside or instead of AUTH LOGIN."""
    assert find_offers(["Size 1", "auth plain", "AUTH=LOGIN PLAIN"], "AUTH") == ("PLAIN", "LOGIN")
    assert find_offers(["AUTHENTIC"], "AUTH") is None
    assert find_offers(["starttls"], "STARTTLS") == ()
    assert find_offers(["XSTARTTLS"], "STARTTLS") is None


@pytest.mark.parametrize("form", ["pa$$", base64.b64encode(b"pa$$").decode(), b"pa$$".hex()])
def test_secret_that_a_server_echoes_is_hidden(form: str) -> None:
    """Some servers repeat what they refuse."""
    assert hide_secrets(f"535 no {form}.", ("pa$$",)) == "535 no (hidden)."


def test_remedy_for_the_fallback_names_its_settings() -> None:
    """Host, port and login are its own; TLS and CA are RELAYHOST's for both."""
    text = "Check RELAYHOST_USERNAME and RELAYHOST_PASSWORD, RELAYHOST=[x]:587, RELAYHOST_TLS, RELAYHOST_CA_FILE"
    assert name_for("FALLBACK_RELAYHOST", text) == (
        "Check FALLBACK_RELAYHOST_USERNAME and FALLBACK_RELAYHOST_PASSWORD, FALLBACK_RELAYHOST=[x]:587, "
        "RELAYHOST_TLS, RELAYHOST_CA_FILE"
    )


def test_name_of_etc_hosts_is_told_where_postfix_does_not_see_it() -> None:
    """With DANE for one upstream Postfix asks DNS alone for all of them, and what we find in /etc/hosts it does not."""
    hosts = "127.0.0.1 localhost\n192.0.2.9 other.test Mail.Example.Test # x\n192.0.2.8 y.test # z.test\n"
    assert "does NOT LOOK" in find_blind_spot(HOST, "dns", hosts)
    assert find_blind_spot(HOST, "native", hosts) == find_blind_spot(HOST, "dns, native", hosts) == ""
    assert find_blind_spot("z.test", "dns", hosts) == ""


def test_every_step_has_a_status_of_its_own_that_the_documentation_has() -> None:
    """Scripts branch on it: it may neither change nor be that of another error."""
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert len(set(STATUSES.values())) == len(STEPS)
    assert not set(STATUSES.values()) & {0, 1, 2, 64, 65, 69, 70, 73, 78}
    for name in set(STEPS) - {"settings", "quit"}:
        assert f"| {STATUSES[name]} | `{name}` |" in page
    own = {"settings", "name", "client-certificate", "ehlo-again", "quit", "token"}
    assert set(STEPS) - own == set(REASON_STEPS) - {"message", "lists", "other"}


def test_report_names_the_broken_step_and_its_remedy() -> None:
    """For a person the line below the broken one is what counts; for a program the status."""
    broken = break_as_postfix("connect", "connect to x[192.0.2.1]:26: Connection refused").step
    result = Result(setting="RELAYHOST", nexthop="[x]:26", steps=[Step(name="resolve", is_ok=True, detail="d"), broken])
    text = render_step(broken, has_colour=False)
    assert text.splitlines()[1].strip() == f"-> {broken.remedy}."
    assert "\033" not in text
    assert "\033[31" in render_step(broken, has_colour=True)
    assert render_end([result], has_recipient=True) == "\nMail to [x]:26 does not go.\n"
    assert find_status([result]) == STATUSES["connect"]
    assert make_json([result], 12)["upstreams"][0]["steps"][0] == {
        "name": "resolve",
        "ok": True,
        "detail": "d",
        "remedy": None,
        "address": None,
    }


DANE_LINES = {
    "": ["m.test[192.0.2.2]:587: Matched DANE EE certificate at depth 0: 3 1 1 AB", VERIFIED],
    "mismatch": ["server certificate verification failed for m.test[192.0.2.2]:587: num=65:no matching", UNTRUSTED],
    "no-records": ['no TLSA records found, resorting to "secure"', VERIFIED],
    "not-validated": [
        "warning: DNSSEC validation may be unavailable",
        "warning: reason: dnssec_probe 'ns:.' received a response that is not DNSSEC validated",
        'no TLSA records found, resorting to "secure"',
        VERIFIED,
    ],
    "unusable": ["m.test[192.0.2.2]:587: all TLSA records unusable, fallback to unauthenticated TLS", UNTRUSTED],
    "no-address": ["Destination address lookup failed: Host or domain name not found."],
    "lookup-error": ["warning: TLSA lookup error for m.test:587"],
    "no-verdict": ["Failed to establish session to m.test:587"],
}
"""What posttls-finger of Postfix 3.10 says at level dane-only, by what keeps DANE from deciding."""


@pytest.mark.parametrize(
    ("kind", "level", "said"),
    [
        ("", "dane-only", ""),
        ("", "dane", ""),
        ("mismatch", "dane-only", "is not the one that they name"),
        ("mismatch", "dane", "is not the one that they name"),
        ("no-records", "dane-only", "no TLSA records"),
        ("no-records", "dane", ""),
        ("not-validated", "dane-only", "no resolver here that validates DNSSEC.*nameserver 192.0.2.53"),
        ("not-validated", "dane", ""),
        ("unusable", "dane-only", "none of a kind"),
        ("unusable", "dane", ""),
        ("no-address", "dane", "asks name servers only, not /etc/hosts"),
        ("lookup-error", "dane", "gets no answer about TLSA records"),
        ("no-verdict", "dane", "posttls-finger got no verdict"),
    ],
)
def test_dane_is_judged_as_postfix_delivers(kind: str, level: str, said: str) -> None:
    """Without TLSA records posttls-finger resorts to CAs and says Verified, and smtp(8) does not."""
    opinion = parse_opinion([f"posttls-finger: {line}" for line in DANE_LINES[kind]])
    protection = make_protection(opinion, replace(TRUST, level=TlsLevel(level)))
    handshake = Handshake(protocol="TLSv1.3", chain=(make_der(HOST),))
    if said:
        with pytest.raises(Broken, match=said):
            list(protection.judge(handshake))
    else:
        (step,) = protection.judge(handshake)
        assert ("NOT CHECKED" in step.detail) == step.is_notable == (kind != "")
    assert make_protection(opinion, replace(TRUST, level=TlsLevel.DANE)).is_required == (
        kind in ("", "mismatch", "unusable", "lookup-error", "no-verdict")
    )


def test_dane_of_another_address_is_no_verdict() -> None:
    """Postfix is led to an address by name; what it says of one certificate says nothing of another."""
    opinion = replace(AGREED, fingerprint="AB", address="192.0.2.3")
    protection = make_protection(opinion, replace(TRUST, level=TlsLevel.DANE_ONLY))
    with pytest.raises(Broken, match="another address"):
        list(protection.judge(Handshake(protocol="TLSv1.3", chain=(make_der(HOST),))))


def test_trust_anchors_are_left_to_postfix_and_its_silence_is_no_verdict() -> None:
    """Our own handshake does not read tafile=: without Postfix's word nothing was checked, and no login may follow."""
    rule = TlsRule(destination=HOST, level=TlsLevel.SECURE, attributes=(("tafile", "/anchors.pem"),))
    for opinion, is_well in ((AGREED, True), (REFUSED, False), (Opinion(trust="", host="", words=""), False)):
        session: Any = Session(is_trusted=False)
        protection = make_protection(opinion, replace(TRUST, rule=rule))
        handshake = protection.begin(session)
        assert handshake is not None
        assert session.orders[0].authorities is None
        if is_well:
            assert "by the trust anchors in /anchors.pem" in next(protection.judge(handshake)).detail
        else:
            with pytest.raises(Broken, match="only Postfix can judge by the trust anchors"):
                list(protection.judge(handshake))


@pytest.mark.parametrize(
    ("text", "versions"),
    [
        (">=TLSv1.2", ("TLSv1.2", "TLSv1.3")),
        (">=TLSv1.2, <=TLSv1.2", ("TLSv1.2",)),
        ("!SSLv2, !SSLv3, !TLSv1, !TLSv1.1", ("TLSv1.2", "TLSv1.3")),
        ("!TLSv1.2", ("TLSv1", "TLSv1.1", "TLSv1.3")),
        ("TLSv1.3", ("TLSv1.3",)),
        ("TLSv1.2:TLSv1.3", ("TLSv1.2", "TLSv1.3")),
        ("", TLS_VERSIONS),
    ],
)
def test_versions_are_those_that_postfix_allows(text: str, versions: tuple[str, ...]) -> None:
    """postconf(5) smtp_tls_mandatory_protocols: a version that Postfix refuses must not look agreed upon."""
    assert choose_versions(text) == versions


def test_ciphers_are_those_of_the_policy() -> None:
    """postconf(5) smtp_tls_policy_maps: an exclude of the policy goes before the lists of main.cf."""
    values = {
        "smtp_tls_ciphers": "medium", "smtp_tls_mandatory_ciphers": "high", "smtp_tls_exclude_ciphers": "RC4",
        "smtp_tls_mandatory_exclude_ciphers": "DES, MD5",
        "tls_high_cipherlist": "HIGH", "tls_medium_cipherlist": "MEDIUM", "tls_null_cipherlist": "eNULL",
    }  # fmt: skip
    assert choose_ciphers(TlsLevel.SECURE, {}, values) == "HIGH:!RC4:!DES:!MD5:!eNULL:!aNULL:@SECLEVEL=0"
    assert choose_ciphers(TlsLevel.MAY, {}, values) == "MEDIUM:!RC4:!eNULL:!aNULL:@SECLEVEL=0"
    attributes = {"ciphers": "medium", "exclude": "aRSA:kDHE"}
    assert choose_ciphers(TlsLevel.SECURE, attributes, values) == "MEDIUM:!aRSA:!kDHE:!eNULL:!aNULL:@SECLEVEL=0"


def test_policy_maps_are_asked_as_postfix_asks() -> None:
    """postconf(5) smtp_tls_policy_maps: the nexthop first; domains above only for a bare name."""
    assert split_tables("inline:{ {a=b c}, d=e }, static:{encrypt x=y}  lmdb:/x") == (
        "inline:{ {a=b c}, d=e }",
        "static:{encrypt x=y}",
        "lmdb:/x",
    )
    bare = Nexthop(host="mail.example.test", port=25, is_bracketed=False, uses_mx=True)
    assert list_policy_keys(bare) == ("mail.example.test", ".example.test", ".test")
    assert list_policy_keys(replace(bare, port=587)) == ("mail.example.test:587",)
    assert list_policy_keys(replace(bare, uses_mx=False)) == ("[mail.example.test]",)


def test_answer_of_a_policy_map_is_a_rule() -> None:
    """What an MTA-STS resolver answers: several names, and words that are no attribute of ours."""
    rule = parse_policy("secure match=a.test match=.b.test servername=hostname policy_type=sts", HOST)
    trust = replace(TRUST, rule=rule)
    assert trust.accepted_names == ("a.test", ".b.test")
    assert choose_server_name(trust.attributes["servername"], "mx.test", HOST) == "mx.test"
    with pytest.raises(ValueError, match="is not a valid TlsLevel"):
        parse_policy("sucure", HOST)


@pytest.mark.parametrize("is_well", [True, False])
def test_every_address_is_walked_and_each_further_one_is_a_line(is_well: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that Postfix happens to choose may be the one with the old certificate."""
    addresses = tuple(f"192.0.2.{number}" for number in range(1, 5))
    visited = []

    class Visited:
        def __init__(self, _way: Any, address: str, _session: Any, report: Callable[[Step], None]) -> None:
            visited.append(address)
            self._steps = [Step(name="starttls", is_ok=True, detail="IN THE CLEAR", is_notable=True)]
            if not is_well and address == addresses[2]:
                self._steps.append(Step(name="auth", is_ok=False, detail="no", remedy="Mend it"))
            self._report = report

        def go(self) -> Step | None:
            for step in self._steps:
                self._report(step)
            return None if self._steps[-1].is_ok else self._steps[-1]

    def refuse_one(address: str, _port: int, _seconds: float) -> object:
        if address == addresses[1]:
            raise SessionError("unreachable", "Connection refused")
        return object()

    monkeypatch.setattr("entrypoint.diagnosis.walk.find_addresses", lambda *_: addresses)
    monkeypatch.setattr("entrypoint.diagnosis.walk.connect", refuse_one)
    monkeypatch.setattr("entrypoint.diagnosis.walk.Visit", Visited)
    way: Any = SimpleNamespace(
        host=HOST,
        protocols="all",
        timeout_seconds=1,
        remark_on_name="",
        nexthop=Nexthop(host=HOST, port=587, is_bracketed=True),
    )
    steps: list[Step] = []
    # A broken address ends the walk before its limit does.
    Walk(way, steps.append, most_addresses=3 if is_well else 4).go()
    assert visited == [addresses[0], addresses[2]]
    lines = [(step.name, step.is_ok, step.address) for step in steps[:4]]
    assert lines[:3] == [("resolve", True, ""), ("connect", True, ""), ("starttls", True, "")]
    assert lines[3] == ("address", True, addresses[1])
    assert "NOT REACHED: Connection refused" in steps[3].detail
    if is_well:
        assert steps[4].detail == f"{addresses[2]}: every step is well here, too; starttls: IN THE CLEAR"
        assert steps[5].detail == f"NOT WALKED, for each is a login: {addresses[3]}"
    else:
        assert steps[4] == Step(
            name="auth",
            is_ok=False,
            detail=f"at {addresses[2]}, another address of it: no",
            remedy="Mend it",
            address=addresses[2],
        )
    result = Result(setting="RELAYHOST", nexthop="[x]:587", steps=steps)
    assert find_status([result]) == (0 if is_well else STATUSES["auth"])
    if not is_well:
        assert render_end([result], has_recipient=True).strip() == (
            "Mail to [x]:587 does not go by every address, and may have to wait."
        )


def test_name_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library waits as long as resolv.conf says, and who is at a terminal must not."""
    is_over = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: [is_over.wait(30)][:0])
    way: Any = SimpleNamespace(
        host=HOST, protocols="all", timeout_seconds=0.05, protection=SimpleNamespace(resolver="resolv.conf has x")
    )
    steps: list[Step] = []
    Walk(way, steps.append).go()
    is_over.set()
    assert [(step.name, step.is_ok) for step in steps] == [("resolve", False)]
    assert "no name server answered within 0.05 s; resolv.conf has x" in steps[0].detail


def test_expired_authority_is_named() -> None:
    """Who must act is another one if the upstream sends an expired intermediate than if our own CA has ended."""
    root = make_signed("CN=root", is_ca=True)
    middle = make_signed("CN=middle", root, is_ca=True, last_day=-2)
    leaf = make_signed("CN=leaf", middle, names=(HOST,))
    now = datetime.datetime.now(datetime.UTC)
    broken = judge_chain(10, "certificate has expired", TRUST, load_sent([leaf.der, middle.der]), "the CA", now)
    assert "'CN=middle', expired on" in broken.step.detail
    assert broken.step.remedy.startswith("Its operator must send the one that replaced it")
    broken = judge_chain(10, "certificate has expired", TRUST, load_sent([leaf.der]), "the CA", now)
    assert broken.step.remedy.startswith("Put the CA that replaced it into RELAYHOST_CA_FILE")


def test_parameters_that_are_not_looked_at_are_said() -> None:
    """Whoever sets Postfix's own parameters must know how far doctor sees."""
    parameters = {"smtp_bind_address": "192.0.2.1", "smtp_helo_timeout": "2s", "relayhost": "x", "mynetworks": "y",
                  "smtp_tls_CAfile": "z", "smtp_tls_policy_maps": "static:may"}  # fmt: skip
    settings: Any = SimpleNamespace(postfix_parameters=tuple(parameters.items()))
    assert list_unread_parameters(settings) == ("POSTFIX_smtp_bind_address", "POSTFIX_relayhost")


@pytest.mark.parametrize("name", ["apikey", "ann@example.com", "ann b", 'a"n<n>', "ann\\", "a\nn", "n" * 200])
def test_login_can_be_hidden_whatever_it_looks_like(name: str) -> None:
    """A log that LOG_ADDRESSES keeps free of names must not have it in the words of the probe."""
    text = f"logged in as {show_login(name)} by PLAIN"
    hidden = Addresses("domain").hide_in(text)
    assert re.fullmatch(r"logged in as <\*(@example\.com)?> by PLAIN", hidden)
