"""What is said of a server's certificates: which CA to trust, what to set, and what is in the way."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from typing import Final

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509 import load_pem_x509_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID

from entrypoint.__main__ import main
from entrypoint.commands import discover_ca
from entrypoint.config.certificates import parse_authorities
from entrypoint.config.chain import Origin, describe, load_fetched, load_sent
from entrypoint.config.discovery import Saved, Session, make_json, make_settings, render_text
from entrypoint.config.verdict import Verdict, judge
from entrypoint.system.issuers import IssuerError, fetch_issuer, is_allowed
from entrypoint.system.mail_server import Presented, find_protocol
from tests.support.hierarchies import Signed, make_signed

HOST: Final = "smtp.example.com"
ROOT: Final = make_signed("CN=Root", is_ca=True)
MIDDLE: Final = make_signed("CN=Middle", ROOT, is_ca=True)
LEAF: Final = make_signed("CN=leaf", MIDDLE, names=(HOST, "mail.example.com"))
OLD_ROOT: Final = make_signed("CN=Old Root", is_ca=True, last_day=-3)
SELF: Final = make_signed(f"CN={HOST}", names=(HOST,))
SELF_CA: Final = make_signed(f"CN={HOST}", names=(HOST,), is_ca=True)
# As Let's Encrypt's: the same name and key, once signed by itself and once by an older root.
OLDER: Final = make_signed("CN=Older Root", is_ca=True)
CROSSED: Final = make_signed("CN=Root", OLDER, is_ca=True, key=ROOT.key)
FORMER: Final = make_signed("CN=Root", is_ca=True, key=ROOT.key, last_day=-1)
FORGED: Final = make_signed("CN=Middle", ROOT, is_ca=True)
# Two that signed each other: a chain without an end.
LEFT_KEY: Final = ec.generate_private_key(ec.SECP256R1())
RIGHT: Final = make_signed("CN=Right", dataclasses.replace(ROOT, key=LEFT_KEY), is_ca=True)
SESSION: Final = Session(
    host=HOST, port=587, mode="smtp", address="192.0.2.1", protocol="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384"
)


def decide(
    *sent: Signed,
    fetched: tuple[Signed, ...] = (),
    system: tuple[Signed, ...] = (OLDER,),
    host: str = HOST,
) -> Verdict:
    return judge(
        load_sent([one.der for one in sent]),
        [describe(one.certificate, Origin.FETCHED, "http://ca.example.com/x") for one in fetched],
        [one.certificate for one in system],
        host,
        datetime.datetime.now(datetime.UTC),
    )


def read_file(verdict: Verdict) -> list[str]:
    """The subjects of the CA file, read as RELAYHOST_CA_FILE reads it."""
    return [one.subject for one in parse_authorities(verdict.ca_pem.encode()).members] if verdict.ca_pem else []


@pytest.mark.parametrize(
    ("verdict", "file", "names"),
    [
        (decide(LEAF, MIDDLE, ROOT), ["CN=Root"], ["RELAYHOST", "RELAYHOST_CA_FILE"]),
        (decide(LEAF, ROOT, MIDDLE), ["CN=Root"], ["RELAYHOST", "RELAYHOST_CA_FILE"]),
        (decide(LEAF, LEAF, MIDDLE, FORGED, ROOT), ["CN=Root"], ["RELAYHOST", "RELAYHOST_CA_FILE"]),
        (decide(LEAF, MIDDLE), ["CN=Middle"], ["RELAYHOST", "TLS_POLICY_TABLE"]),
        (decide(LEAF, MIDDLE, fetched=(ROOT,)), ["CN=Root"], ["RELAYHOST", "RELAYHOST_CA_FILE"]),
        (decide(LEAF, fetched=(MIDDLE, ROOT)), ["CN=Root", "CN=Middle"], ["RELAYHOST", "RELAYHOST_CA_FILE"]),
        (decide(LEAF, fetched=(MIDDLE,)), ["CN=Middle"], ["RELAYHOST", "TLS_POLICY_TABLE"]),
        (decide(LEAF, MIDDLE, system=(ROOT,)), ["CN=Root"], ["RELAYHOST"]),
        (decide(LEAF, MIDDLE, ROOT, system=(ROOT,)), ["CN=Root"], ["RELAYHOST"]),
        (decide(LEAF, MIDDLE, CROSSED, system=(ROOT,)), ["CN=Root"], ["RELAYHOST"]),
        (decide(LEAF, MIDDLE, CROSSED), ["CN=Older Root"], ["RELAYHOST"]),
        (decide(LEAF, MIDDLE, CROSSED, ROOT, system=()), ["CN=Root"], ["RELAYHOST", "RELAYHOST_CA_FILE"]),
        (decide(LEAF, MIDDLE, FORMER, ROOT), ["CN=Root"], ["RELAYHOST", "RELAYHOST_CA_FILE"]),
        (
            decide(LEAF, fetched=(MIDDLE,), system=(ROOT,)),
            ["CN=Root", "CN=Middle"],
            ["RELAYHOST", "RELAYHOST_CA_FILE"],
        ),
    ],
    ids=[
        "complete",
        "out-of-order",
        "with-strangers",
        "without-root",
        "root-fetched",
        "both-fetched",
        "only-middle-fetched",
        "root-in-system",
        "root-sent-and-in-system",
        "cross-signed-and-root-in-system",
        "cross-signed-by-system",
        "cross-signed-and-root-sent",
        "renewed-root",
        "middle-left-out-and-root-in-system",
    ],
)
def test_good_chain_leads_to_the_ca_file_and_the_settings(verdict: Verdict, file: list[str], names: list[str]) -> None:
    """The CA file must hold what Postfix needs beside what the server sends: it fetches nothing itself."""
    assert verdict.problems == ()
    assert read_file(verdict) == file
    assert list(make_settings(verdict, SESSION, None)) == names
    assert verdict.is_nothing_to_set == (names == ["RELAYHOST"])


@pytest.mark.parametrize(
    ("verdict", "codes", "file", "words"),
    [
        (decide(LEAF), ["no-authority"], [], "does not send the certificate of its CA, 'CN=Middle'"),
        (decide(LEAF, FORGED, ROOT), ["bad-signature"], [], "its key did not sign"),
        (decide(SELF), ["self-signed"], [], "signed by nobody but itself"),
        (decide(SELF_CA), ["self-signed"], [], "signed by nobody but itself"),
        (decide(LEAF, MIDDLE, ROOT, host="other.example.com"), ["name"], ["CN=Root"], "not for other.example.com"),
        (decide(LEAF, MIDDLE, ROOT, host="192.0.2.1"), ["name"], ["CN=Root"], "Postfix compares names only"),
        (
            decide(make_signed("CN=x", ROOT, names=(HOST,), last_day=-1), ROOT),
            ["expired"],
            ["CN=Root"],
            "'CN=x' expired on",
        ),
        (
            decide(make_signed("CN=x", ROOT, names=(HOST,), first_day=2), ROOT),
            ["not-yet-valid"],
            ["CN=Root"],
            "is the clock of this machine right",
        ),
        (decide(make_signed("CN=x", OLD_ROOT, names=(HOST,)), OLD_ROOT), ["expired"], [], "'CN=Old Root' expired"),
        (
            decide(make_signed("CN=x", ROOT, names=(HOST,), purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,)), ROOT),
            ["purpose"],
            ["CN=Root"],
            "not meant for servers",
        ),
        (
            decide(make_signed("CN=x", LEAF, names=(HOST,)), LEAF, MIDDLE, ROOT),
            ["no-authority"],
            [],
            "does not send the certificate of its CA",
        ),
    ],
    ids=[
        "leaf-alone",
        "forged-issuer",
        "self-signed",
        "self-signed-that-calls-itself-a-ca",
        "wrong-name",
        "asked-by-address",
        "expired-leaf",
        "future-leaf",
        "expired-root",
        "client-certificate",
        "signed-by-no-ca",
    ],
)
def test_bad_chain_is_named(verdict: Verdict, codes: list[str], file: list[str], words: str) -> None:
    """A false "all is well" is the worst that this command could say; and never an unusable CA file."""
    assert [problem.code for problem in verdict.problems] == codes
    assert words in verdict.problems[0].text
    assert read_file(verdict) == file
    assert not verdict.is_nothing_to_set
    assert f"PROBLEM: {verdict.problems[0].text}." in render_text(verdict, SESSION, (), None)


@pytest.mark.parametrize("verdict", [decide(SELF), decide(SELF_CA), decide(LEAF)])
def test_server_without_a_ca_is_to_be_pinned(verdict: Verdict) -> None:
    """It is the one way to verify such a server."""
    assert make_settings(verdict, SESSION, None) == {
        "RELAYHOST": f"[{HOST}]:587",
        "RELAYHOST_TLS": "fingerprint",
        "RELAYHOST_FINGERPRINT": verdict.path[0].sha256,
    }


@pytest.mark.parametrize(
    ("names", "host", "is_right"),
    [
        (("*.example.com",), "smtp.example.com", True),
        (("SMTP.Example.COM",), "smtp.example.com", True),
        (("*.example.com",), "a.smtp.example.com", False),
        (("*.example.com",), "example.com", False),
        (("*.com",), "example.com", False),
        (("s*.example.com",), "smtp.example.com", False),
        (("example.com",), "smtp.example.com", False),
        ((), "smtp.example.com", True),
    ],
)
def test_name_is_compared_as_postfix_does(names: tuple[str, ...], host: str, is_right: bool) -> None:
    """RFC 6125: the star is one whole label; the common name counts only where there is no other."""
    leaf = make_signed("CN=smtp.example.com", ROOT, names=names)
    assert decide(leaf, ROOT, host=host).is_name_right is is_right


def test_what_a_stranger_wrote_stays_text() -> None:
    """A certificate's names are copied into a shell's line and shown on a terminal: neither may obey them."""
    leaf = make_signed("CN=x\x1b[2J\nPROBLEM", ROOT, names=("$(id)'.example.com", "*.example.com", "mail.example.com"))
    verdict = decide(leaf, ROOT, host="other.example.net")
    text = render_text(verdict, SESSION, (), None)
    assert all(line.isprintable() for line in text.splitlines())
    assert "CN=x\\x1b[2J\\nPROBLEM" in text
    assert make_settings(verdict, SESSION, None)["RELAYHOST"] == "[mail.example.com]:587"


def test_chain_without_an_end_ends() -> None:
    """Two CAs that signed each other must not keep the command busy for ever."""
    left = make_signed("CN=Left", RIGHT, is_ca=True, key=LEFT_KEY)
    right = make_signed("CN=Right", left, is_ca=True, key=RIGHT.key)
    verdict = decide(make_signed("CN=x", left, names=(HOST,)), left, right)
    assert [link.subject for link in verdict.path] == ["CN=x", "CN=Left", "CN=Right"]
    assert verdict.is_root_missing


def test_trustme_is_judged_by_signature() -> None:
    """Certificates that another program made: its name says nothing, its signatures do."""
    authority, other = trustme.CA(), trustme.CA()
    leaf = authority.issue_cert(HOST).cert_chain_pems[0].bytes()
    root, stranger = (load_pem_x509_certificate(one.cert_pem.bytes()) for one in (authority, other))
    sent = load_sent([load_pem_x509_certificate(leaf).public_bytes(Encoding.DER)])
    now = datetime.datetime.now(datetime.UTC)
    found = judge(sent, [describe(root, Origin.FETCHED), describe(stranger, Origin.FETCHED)], [], HOST, now)
    assert found.authority is not None
    assert found.authority.certificate == root


@pytest.mark.parametrize(
    ("port", "mode", "relayhost"),
    [
        (587, "smtp", "[smtp.example.com]:587"),
        (25, "smtp", "[smtp.example.com]"),
        (465, "none", "[smtp.example.com]:465"),
        (2525, "smtp", "[smtp.example.com]:2525"),
        (993, "none", None),
        (110, "pop3", None),
        (465, "smtp", None),
    ],
)
def test_relayhost_is_given_only_for_what_can_be_one(port: int, mode: str, relayhost: str | None) -> None:
    """An IMAP server in RELAYHOST would keep every message in the queue."""
    session = dataclasses.replace(SESSION, port=port, mode=mode)
    settings = make_settings(decide(LEAF, MIDDLE, ROOT), session, None)
    assert settings.get("RELAYHOST") == relayhost
    assert "RELAYHOST_CA_FILE" in settings


def test_text_says_the_mount_and_json_the_same() -> None:
    """People copy the lines; programs read the JSON: both must lead to the same relay."""
    verdict = decide(LEAF, MIDDLE, ROOT)
    saved = Saved(path="/out/provider.pem", is_in_state=False)
    text = render_text(verdict, SESSION, ("remark",), saved)
    assert '--volume "$PWD/provider.pem:/ca.pem:ro"' in text
    assert text.rstrip()[-1] != "\\"
    assert ROOT.sha256 in text
    assert "Note: remark." in text
    value = json.loads(json.dumps(make_json(verdict, SESSION, ("remark",), saved)))
    assert value["version"] == 1
    assert value["settings"] == {"RELAYHOST": "[smtp.example.com]:587", "RELAYHOST_CA_FILE": "/ca.pem"}
    assert value["authority"]["pem"] == ROOT.pem
    assert [one["origin"] for one in value["certificates"]] == ["sent"] * 3
    state = render_text(verdict, SESSION, (), Saved(path="/var/lib/authrelay/discovered-ca.pem", is_in_state=True))
    assert "--env 'RELAYHOST_CA_FILE=/var/lib/authrelay/discovered-ca.pem'" in state
    assert "--volume relay-state:/var/lib/authrelay" in state


@pytest.mark.parametrize(
    ("data", "subjects"),
    [
        (MIDDLE.der, ["CN=Middle"]),
        (MIDDLE.pem.encode(), ["CN=Middle"]),
        (pkcs7.serialize_certificates([MIDDLE.certificate, ROOT.certificate], Encoding.DER), ["CN=Middle", "CN=Root"]),
        (b"<html>not found</html>", []),
        (b"", []),
    ],
)
def test_fetched_issuers_are_read_in_every_form(data: bytes, subjects: list[str]) -> None:
    """RFC 5280 has DER and PKCS #7; some CAs serve PEM; a page that says sorry is no certificate."""
    assert sorted(one.subject for one in load_fetched(data, "http://x")) == subjects


@pytest.mark.parametrize(
    "url",
    [
        "https://ca.example.com/x",
        "ldap://ca.example.com/x",
        "file:///etc/passwd",
        "http://",
        "http://x/a b",
        "http://x/\r\nX: y",
    ],
)
def test_issuer_address_that_is_not_plain_http_is_not_asked(url: str) -> None:
    """The address comes from a server that nobody has verified."""
    with pytest.raises(IssuerError, match="not a plain http"):
        fetch_issuer(url, 1)


@pytest.mark.parametrize(
    ("address", "is_good"),
    [
        ("192.0.2.1", True),
        ("10.0.0.1", True),
        ("2001:db8::1", True),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
    ],
)
def test_issuer_address_on_this_machine_is_not_asked(address: str, is_good: bool) -> None:
    """A stranger's certificate must not make us ask what only we can reach: a cloud's credentials are at 169.254."""
    assert is_allowed(address) is is_good


@pytest.mark.parametrize(
    ("greeting", "kind"),
    [
        (b"220 x ESMTP", "smtp"),
        (b"220-x", "smtp"),
        (b"+OK ready", "pop3"),
        (b"* OK ready", "imap"),
        (b"SSH-2.0", None),
        (b"", None),
    ],
)
def test_protocol_is_known_by_its_greeting(greeting: bytes, kind: str | None) -> None:
    """Who asked the wrong port is told which option is right."""
    assert find_protocol(greeting) == kind


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([HOST], (HOST, 587, "smtp", 20.0)),
        ([f"{HOST}:25"], (HOST, 25, "smtp", 20.0)),
        ([f"[{HOST}]:465"], (HOST, 465, "none", 20.0)),
        ([f"{HOST}:993", "--timeout", "2"], (HOST, 993, "none", 2.0)),
        ([f"{HOST}:995"], (HOST, 995, "none", 20.0)),
        ([f"{HOST}:110"], (HOST, 110, "pop3", 20.0)),
        ([f"{HOST}:143"], (HOST, 143, "imap", 20.0)),
        ([f"{HOST}:2525", "--starttls", "smtp"], (HOST, 2525, "smtp", 20.0)),
        ([f"{HOST}:465", "--starttls", "smtp"], (HOST, 465, "smtp", 20.0)),
        (["[2001:db8::1]:465"], ("2001:db8::1", 465, "none", 20.0)),
        (["[2001:db8::1]"], ("2001:db8::1", 587, "smtp", 20.0)),
    ],
)
def test_port_decides_how_tls_begins(
    arguments: list[str],
    asked: tuple[str, int, str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A person knows the port; how TLS begins there is ours to know."""
    calls: list[tuple[str, int, str, float]] = []

    def fetch(*words: object) -> Presented:
        calls.append(words)  # type: ignore[arg-type]
        return Presented(address="192.0.2.1", protocol="TLSv1.3", cipher="X", chain=(LEAF.der, MIDDLE.der, ROOT.der))

    monkeypatch.setattr(discover_ca, "fetch_chain", fetch)
    assert main(["discover-ca", *arguments]) == (65 if ":db8:" in asked[0] else 0)
    assert calls == [asked]
    assert "Settings:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: HOST"),
        (["--save", HOST], "required: HOST"),
        ([f"{HOST}:2525"], "Add --starttls smtp, pop3 or imap"),
        ([f"{HOST}:x"], "'x' is not a port"),
        (["2001:db8::1"], "an IPv6 address needs brackets"),
        ([HOST, "--timeout", "0"], "invalid seconds value"),
        ([HOST, "--starttls", "ldap"], "invalid choice"),
        ([f"smtp://{HOST}"], "it is a URL"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """EX_USAGE, a sentence, and no traceback."""
    assert main(["discover-ca", *arguments]) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "<setting>" not in err
    assert all(re.match("authrelay: ", line) for line in err.splitlines())


def test_nothing_is_written_without_a_ca(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    """An earlier, good file must not be replaced by a server's own certificate."""
    presented = Presented(address="192.0.2.1", protocol="TLSv1.3", cipher="X", chain=(SELF_CA.der,))
    monkeypatch.setattr(discover_ca, "fetch_chain", lambda *_: presented)
    assert main(["discover-ca", HOST, "--save", f"{tmp_path}/ca.pem"]) == 65
    out, err = capsys.readouterr()
    assert "RELAYHOST_FINGERPRINT=" in out
    assert "no CA file was written" in err
    with pytest.raises(FileNotFoundError):
        open(f"{tmp_path}/ca.pem").close()
