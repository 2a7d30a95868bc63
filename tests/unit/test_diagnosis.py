"""What doctor makes of names, fingerprints, mechanisms and Postfix's own opinion."""

from __future__ import annotations

import base64
import pathlib
import threading
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from entrypoint.config.chain import Link, load_sent
from entrypoint.config.tls import TlsLevel, TlsRule
from entrypoint.diagnosis.judgement import (
    Trust,
    filter_mechanisms,
    find_offers,
    hide_secrets,
    judge_fingerprint,
    judge_name,
    measure_key,
)
from entrypoint.diagnosis.protection import Protection
from entrypoint.diagnosis.report import Result, find_status, make_json, render_end, render_step
from entrypoint.diagnosis.steps import STATUSES, STEPS, Broken, Step, break_as_postfix, name_for_fallback
from entrypoint.diagnosis.ways import describe_resolver
from entrypoint.reasons import STEPS as REASON_STEPS
from entrypoint.system.finger import Opinion, parse_opinion
from entrypoint.system.smtp_session import Handshake, SessionError, TlsOrder, find_addresses
from tests.support.authorities import Authority

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
        ask_postfix=lambda: opinion,
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
    assert name_for_fallback(text) == (
        "Check FALLBACK_RELAYHOST_USERNAME and FALLBACK_RELAYHOST_PASSWORD, FALLBACK_RELAYHOST=[x]:587, "
        "RELAYHOST_TLS, RELAYHOST_CA_FILE"
    )


def test_resolver_is_told_in_a_few_words() -> None:
    """What resolv.conf says is the first thing that anybody asks."""
    text = "# x\nnameserver 10.0.0.1\nsearch a.test b.test\nnameserver 10.0.0.2\n"
    assert describe_resolver(text) == "resolv.conf has nameserver 10.0.0.1, 10.0.0.2, search a.test b.test"
    assert describe_resolver("") == "resolv.conf has no nameserver"


def test_every_step_has_a_status_of_its_own_that_the_documentation_has() -> None:
    """Scripts branch on it: it may neither change nor be that of another error."""
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert len(set(STATUSES.values())) == len(STEPS)
    assert not set(STATUSES.values()) & {0, 1, 2, 64, 65, 69, 70, 73, 78}
    for name in STEPS[1:-1]:
        assert f"| {STATUSES[name]} | `{name}` |" in page
    own = {"settings", "name", "client-certificate", "ehlo-again", "quit"}
    assert set(STEPS) - own == set(REASON_STEPS) - {"message", "other"}


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
    }


def test_dane_is_not_verified_by_a_ca() -> None:
    """Without TLSA records posttls-finger resorts to CAs and says Verified; smtp(8) at dane-only would not send."""
    opinion = Opinion(trust="Verified", host=HOST, words='no TLSA records found, resorting to "secure"')
    handshake = Handshake(protocol="TLSv1.3", chain=(make_der(HOST),))
    with pytest.raises(Broken, match="does not verify this"):
        list(make_protection(opinion, replace(TRUST, level=TlsLevel.DANE_ONLY)).judge(handshake))
    (step,) = make_protection(opinion, replace(TRUST, level=TlsLevel.DANE)).judge(handshake)
    assert "no TLSA records, so that the certificate is NOT CHECKED" in step.detail
    (step,) = make_protection(AGREED, replace(TRUST, level=TlsLevel.DANE_ONLY)).judge(handshake)
    assert "it says Verified" in step.detail


def test_name_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library waits as long as resolv.conf says, and who is at a terminal must not."""
    is_over = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: [is_over.wait(30)][:0])
    with pytest.raises(SessionError, match=r"no name server answered within 0\.05 s") as caught:
        find_addresses(HOST, "all", 0.05)
    is_over.set()
    assert caught.value.kind == "silent"
