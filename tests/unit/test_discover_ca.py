"""What is said of a server's certificates: which CA to trust, what to set, and what is in the way."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import re
import subprocess
import sys
from typing import Any, Final

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
from entrypoint.plan.compute import compute_plan
from entrypoint.system.issuers import IssuerError, fetch_issuer, is_allowed
from entrypoint.system.mail_server import MailServerError, Presented, fetch_chain, find_protocol
from tests.support.hierarchies import Signed, make_signed
from tests.unit.reading import FACTS, TEMPLATES, read, read_main_cf

ROOT_DIRECTORY: Final = pathlib.Path(__file__).parents[2]
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


def read_docker(text: str) -> tuple[dict[str, str], list[str]]:
    """The settings and the mounts of the printed command line, as a shell takes it apart."""
    command = "printf '%s\\0' " + text.partition("With docker run")[2].partition(":\n")[2]
    done = subprocess.run(("sh", "-c", command), cwd="/", capture_output=True, text=True, check=True, env={"PWD": "/"})
    words = done.stdout.split("\0")
    pairs = list(zip(words[:-1:2], words[1::2], strict=True))
    assert {option for option, _ in pairs} <= {"--env", "--volume"}
    environ = dict(value.split("=", 1) for option, value in pairs if option == "--env")
    return environ, [value for option, value in pairs if option == "--volume"]


@pytest.mark.parametrize(
    ("verdict", "port", "level"),
    [
        (decide(LEAF, MIDDLE, ROOT), 587, "secure"),
        (decide(LEAF, MIDDLE, ROOT), 25, "secure"),
        (decide(LEAF, fetched=(MIDDLE, ROOT)), 465, "secure"),
        (decide(LEAF, MIDDLE), 587, "secure"),
        (decide(LEAF, MIDDLE), 25, "secure"),
        (decide(LEAF, MIDDLE, ROOT, host="192.0.2.1"), 587, "secure"),
        (decide(make_signed("O=x", ROOT), ROOT, host="2001:db8::1"), 587, "fingerprint"),
        (decide(SELF), 587, "fingerprint"),
        (decide(LEAF, MIDDLE, system=(ROOT,)), 587, "secure"),
    ],
)
def test_printed_settings_are_ones_that_a_relay_takes(
    verdict: Verdict, port: int, level: str, tmp_path: pathlib.Path
) -> None:
    """They are copied as they are: into a shell, into Compose's `environment`, into a file for `--env-file`."""
    session = dataclasses.replace(SESSION, host=verdict.host, port=port, mode="none" if port == 465 else "smtp")
    settings = make_settings(verdict, session, None)
    environ, mounts = read_docker(render_text(verdict, session, (), None))
    assert environ == settings
    # Neither a comment nor a mapping in YAML, nothing that Compose expands, no quotes that --env-file would keep.
    assert all(re.fullmatch(r"[\w.:/\[\]= -]+", value) and ": " not in value for value in settings.values())
    if mounts:
        assert mounts == ["//ca.pem:/ca.pem:ro"]
        (tmp_path / "ca.pem").write_text(verdict.ca_pem)
        environ = {name: value.replace("/ca.pem", f"{tmp_path}/ca.pem") for name, value in environ.items()}
    found, warnings = read({**environ, "RELAYHOST_USERNAME": "x", "RELAYHOST_PASSWORD": "y"})
    assert warnings == ()
    assert str(found.relayhost) == settings["RELAYHOST"]
    assert found.relayhost_tls.value == level
    main_cf = read_main_cf(compute_plan(found, FACTS, TEMPLATES))
    assert main_cf["relayhost"] == settings["RELAYHOST"]
    if level == "fingerprint":
        assert verdict.path[0].sha256 in settings["RELAYHOST_FINGERPRINT"]


def test_example_in_a_setting_is_called_one() -> None:
    """Copied as it is it would be a policy for somebody else's server."""
    session = dataclasses.replace(SESSION, port=993, mode="none")
    text = render_text(decide(LEAF, MIDDLE), session, (), None)
    assert "TLS_POLICY_TABLE=[smtp.example.com]:587 secure tafile=/ca.pem" in text
    assert "set that to your provider's SMTP server, and write it below instead of [smtp.example.com]:587;" in text
    assert "below instead of" not in render_text(decide(LEAF, MIDDLE, ROOT), session, (), None)


@pytest.mark.parametrize(
    ("verdict", "is_later"),
    [
        (decide(LEAF, MIDDLE, ROOT), False),
        (decide(make_signed("CN=x", ROOT, names=(HOST,), last_day=-1), ROOT), True),
        (decide(make_signed("CN=x", ROOT, names=(HOST,), purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,)), ROOT), True),
        (decide(make_signed("CN=x", names=(HOST,), last_day=-1)), False),
        (decide(LEAF, MIDDLE, ROOT, host="other.example.com"), False),
    ],
    ids=["good", "expired", "purpose", "expired-and-pinned", "name"],
)
def test_settings_that_do_not_help_yet_are_said_to(verdict: Verdict, is_later: bool) -> None:
    """Whoever copies them and still sees mail wait would think that they are wrong."""
    text = render_text(verdict, SESSION, (), None)
    assert ("\nSettings, which work when the problems above are mended:\n" in text) == is_later
    assert ("\nSettings:\n" in text) != is_later


@pytest.mark.parametrize("name", ["my ca.pem", "$(id).pem", 'a"b`c\\d.pem'])
def test_mount_of_an_odd_file_is_that_file(name: str) -> None:
    """A shell would run what is in the name."""
    saved = Saved(path=f"/out/{name}", is_in_state=False)
    _, mounts = read_docker(render_text(decide(LEAF, MIDDLE, ROOT), SESSION, (), saved))
    assert mounts == [f"//{name}:/ca.pem:ro"]


def test_mount_of_a_file_that_is_not_there_yet_is_not_promised() -> None:
    """Docker makes a directory of it, and the relay then says that the CA file is one."""
    assert "once ca.pem is in this directory:" in render_text(decide(LEAF, MIDDLE, ROOT), SESSION, (), None)


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
        "http://x:99999/",
        "http://[x/",
        "",
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
        (["2001:db8::1"], "an IPv6 address needs brackets. Write [2001:db8::1]:587."),
        (["2001:db8::"], "an IPv6 address needs brackets. Write [2001:db8::]:587."),
        (["fe80::1%eth0"], "an IPv6 address needs brackets. Write [2001:db8::25]:587."),
        ([f"{HOST}:"], f"no port follows the colon. Write {HOST}:587."),
        (["[2001:db8::1]:"], "no port follows the colon. Write [2001:db8::1]:587."),
        (["bücher.example:465"], "Write it as DNS has it: xn--bcher-kva.example:465."),
        (["[bücher.example]"], "Write it as DNS has it: xn--bcher-kva.example."),
        (["straße.example"], "is not an ASCII host name. Write its A-label, for example "),
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


def show(monkeypatch: pytest.MonkeyPatch, *sent: Signed, **more: Any) -> None:
    """Be a server that shows these."""
    presented = Presented(
        address="192.0.2.1", protocol="TLSv1.3", cipher="X", chain=tuple(one.der for one in sent), **more
    )
    monkeypatch.setattr(discover_ca, "fetch_chain", lambda *_: presented)


def test_report_comes_before_what_is_wrong_with_its_file(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    """The server was asked and has answered: a directory that cannot be written must not take that away."""
    show(monkeypatch, LEAF, MIDDLE, ROOT)
    file = str(tmp_path / "absent" / "ca.pem")
    assert main(["discover-ca", HOST, "--save", file]) == 73
    out, err = capfd.readouterr()
    assert f"   SHA-256   {ROOT.sha256}\n" in out
    assert f"The CA file was NOT written: {file} cannot be written: No such file or directory." in out
    assert "  RELAYHOST_CA_FILE=/ca.pem\n" in out
    assert err.startswith(f"authrelay: {file} cannot be written: No such file or directory.")
    assert main(["discover-ca", HOST, "--save", file, "--json"]) == 73
    value = json.loads(capfd.readouterr().out)
    assert (value["saved"], value["authority"]["pem"]) == (None, ROOT.pem)
    assert value["save_error"].startswith(f"{file} cannot be written: ")


def test_report_and_its_error_are_in_order_in_one_file(tmp_path: pathlib.Path) -> None:
    """`2>&1` into a file is how people keep it; standard output is buffered then, and standard error is not."""
    code = (
        "from entrypoint.commands import discover_ca as d; from tests.unit.test_discover_ca import *;"
        "chain = tuple(one.der for one in (LEAF, MIDDLE, ROOT));"
        "d.fetch_chain = lambda *_: Presented(address='', protocol='', cipher='', chain=chain);"
        f"main(['discover-ca', HOST, '--save', '{tmp_path}/absent/ca.pem'])"
    )
    command = (sys.executable, "-c", code)
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True, cwd=ROOT_DIRECTORY, env={}
    )
    assert done.stdout.index("1. server") < done.stdout.index("authrelay: ")


def test_file_in_the_present_directory_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    """`--save ca.pem` is what people type; the report says where that is."""
    show(monkeypatch, LEAF, MIDDLE, ROOT)
    monkeypatch.chdir(tmp_path)
    assert main(["discover-ca", HOST, "--save", "ca.pem"]) == 0
    assert (tmp_path / "ca.pem").read_text() == ROOT.pem
    assert f"The CA file was written: {tmp_path}/ca.pem\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asks", "refusal", "word", "words"),
    [
        (False, "", "not-asked", ""),
        (True, "", "asked", "Note: the server asks for a client certificate, and goes on without one."),
        (True, "421 no", "required", "and ended the session without one ('421 no'). A relay shows the one that it"),
    ],
)
def test_client_certificate_that_the_server_asks_for_is_told(
    asks: bool,
    refusal: str,
    word: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The right CA is half of the way to such a server; the other half has to be known before the first message."""
    show(monkeypatch, LEAF, MIDDLE, ROOT, asks_for_certificate=asks, refusal=refusal)
    assert main(["discover-ca", HOST]) == 0
    out = capsys.readouterr().out
    assert words in out
    assert ("client certificate" in out) == asks
    main(["discover-ca", HOST, "--json"])
    assert json.loads(capsys.readouterr().out)["client_certificate"] == word


def test_session_that_ended_early_leaves_no_empty_words() -> None:
    """Before the end of a handshake there may be no version."""
    session = dataclasses.replace(SESSION, protocol="")
    first = render_text(decide(LEAF, MIDDLE, ROOT), session, (), None).splitlines()[0]
    assert first == f"{HOST}:587 (192.0.2.1), SMTP with STARTTLS, TLS_AES_256_GCM_SHA384"


def ask_web(monkeypatch: pytest.MonkeyPatch, files: dict[str, Signed], *sent: Signed) -> tuple[list[str], Verdict, str]:
    """Fetch what these say, from a web that has these files; return what was asked for, the verdict, the remarks."""
    asked: list[str] = []

    def fetch(url: str, _: float) -> bytes:
        asked.append(url)
        if not url.startswith("http:"):
            return fetch_issuer(url, 1)
        return files[url].der

    monkeypatch.setattr(discover_ca, "fetch_issuer", fetch)
    now = datetime.datetime.now(datetime.UTC)
    links = load_sent([one.der for one in sent])
    fetched, remarks = discover_ca._fetch_missing(links, [OLDER.certificate], now, 1)
    return asked, judge(links, fetched, [OLDER.certificate], HOST, now), " ".join(remarks)


@pytest.mark.parametrize("url", ["https://ca.example.com/m.crt", "ldap://ca.example.com/cn=Middle?cACertificate"])
def test_issuer_that_is_not_had_over_http_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that the certificate says nothing: a person can fetch it, from where is said."""
    leaf = make_signed("CN=leaf", MIDDLE, names=(HOST,), issuer_url=url)
    _, verdict, remarks = ask_web(monkeypatch, {}, leaf)
    assert f"{url}, where the issuer of 'CN=leaf' should be, was no help: it is not a plain http:// address" in remarks
    assert "could not be had from where the server's certificate says that it is (see the notes)" in str(
        verdict.problems
    )
    assert "nor says where it is" not in str(verdict.problems)


def test_plain_http_is_asked_before_what_is_not() -> None:
    """Many CAs name a directory server first."""
    leaf = make_signed("CN=leaf", MIDDLE, names=(HOST,), issuer_url=("ldap://x/y", "HTTP://m", "https://x/y"))
    links = load_sent([leaf.der])
    assert links[0].issuer_urls == ("HTTP://m", "ldap://x/y", "https://x/y")


def test_addresses_that_lead_to_each_other_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two CAs that signed each other, each of which says that its issuer is where the other one is."""
    right = make_signed("CN=Right", dataclasses.replace(ROOT, key=LEFT_KEY), is_ca=True)
    left = make_signed("CN=Left", right, is_ca=True, key=LEFT_KEY, issuer_url="http://right")
    right = make_signed("CN=Right", left, is_ca=True, key=right.key, issuer_url="http://left")
    leaf = make_signed("CN=x", left, names=(HOST,), issuer_url="http://left")
    asked, verdict, _ = ask_web(monkeypatch, {"http://left": left, "http://right": right}, leaf)
    assert asked == ["http://left", "http://right"]
    assert [link.subject for link in verdict.path] == ["CN=x", "CN=Left", "CN=Right"]


def test_address_that_serves_the_certificate_itself_is_no_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shortest loop, and a mistake that CAs made."""
    leaf = make_signed("CN=leaf", MIDDLE, names=(HOST,), issuer_url="http://leaf")
    asked, verdict, remarks = ask_web(monkeypatch, {"http://leaf": leaf}, leaf)
    assert (asked, len(verdict.path)) == (["http://leaf"], 1)
    assert "http://leaf does not hold the certificate whose key signed 'CN=leaf'" in remarks


def test_chain_of_addresses_without_an_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A web server can sign another CA for each question."""
    above: list[Signed] = []
    for number in range(12):
        issuer = above[-1] if above else None
        above.append(make_signed(f"CN={number}", issuer, is_ca=True, issuer_url=f"http://{number - 1}"))
    leaf = make_signed("CN=leaf", above[-1], names=(HOST,), issuer_url="http://11")
    asked, *_ = ask_web(monkeypatch, {f"http://{number}": one for number, one in enumerate(above)}, leaf)
    assert len(asked) == 8


def test_anchor_of_the_system_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the bundle trusts needs no issuer, whatever it says of one."""
    cross = make_signed("CN=Cross", OLDER, is_ca=True, issuer_url="http://older")
    leaf = make_signed("CN=leaf", cross, names=(HOST,))
    monkeypatch.setitem(globals(), "OLDER", cross)
    assert ask_web(monkeypatch, {}, leaf)[0] == []


def test_repeated_certificates_are_shown_once() -> None:
    """Whoever joined two files sends the same again; that is not more chain, and no stranger's."""
    verdict = decide(LEAF, LEAF, MIDDLE, MIDDLE, ROOT, ROOT)
    assert [link.subject for link in verdict.path] == ["CN=leaf", "CN=Middle", "CN=Root"]
    assert (verdict.unused, verdict.problems) == ((), ())
    assert "Also sent" not in render_text(verdict, SESSION, (), None)


@pytest.mark.parametrize(
    ("names", "words", "relayhost"),
    [
        (("a.example.net",), "It is for a.example.net: set RELAYHOST to that name", "a.example.net"),
        (("a.example.net", "b.example.net"), "set RELAYHOST to one of them", "a.example.net"),
        (("*.example.net",), "It is for *.example.net: set RELAYHOST to such a name", HOST),
    ],
)
def test_wrong_name_says_which_to_set(names: tuple[str, ...], words: str, relayhost: str) -> None:
    """A star in RELAYHOST would be refused."""
    verdict = decide(make_signed("CN=x", ROOT, names=names), ROOT)
    assert words in verdict.problems[0].text
    assert make_settings(verdict, SESSION, None)["RELAYHOST"] == f"[{relayhost}]:587"


def test_certificate_without_a_name_is_pinned_though_it_has_a_ca() -> None:
    """Its CA would not help: Postfix has no name to compare, and only the fingerprint is left."""
    verdict = decide(make_signed("O=Nameless", ROOT), ROOT)
    assert "It has no name at all: pin its fingerprint instead" in verdict.problems[0].text
    assert make_settings(verdict, SESSION, None) == {
        "RELAYHOST": f"[{HOST}]:587",
        "RELAYHOST_TLS": "fingerprint",
        "RELAYHOST_FINGERPRINT": verdict.path[0].sha256,
    }
    text = render_text(verdict, SESSION, (), None)
    assert "A pinned certificate has to be changed here" in text
    assert "ca.pem" not in text


def test_nothing_is_written_without_a_ca(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    """An earlier, good file must not be replaced by a server's own certificate."""
    show(monkeypatch, SELF_CA)
    assert main(["discover-ca", HOST, "--save", f"{tmp_path}/ca.pem"]) == 65
    out, err = capsys.readouterr()
    assert "RELAYHOST_FINGERPRINT=" in out
    assert "no CA file was written" in err
    with pytest.raises(FileNotFoundError):
        open(f"{tmp_path}/ca.pem").close()


class Line:
    """A connection on which a server says these words, and that ends when it is asked something."""

    def __init__(self, said: list[bytes | OSError], end: OSError) -> None:
        self.said, self.end = said, end

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def settimeout(self, _: float) -> None:
        pass

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.2", 1025

    def recv(self, _: int) -> bytes:
        piece = self.said.pop(0)
        if isinstance(piece, OSError):
            raise piece
        return piece

    def sendall(self, _: bytes) -> None:
        raise self.end


@pytest.mark.parametrize(
    ("said", "end", "step", "words"),
    [
        ([b"220 x\r\n"], ConnectionResetError("reset"), "starttls", r"closed the connection \(reset\)"),
        ([b"220 x\r\n"], TimeoutError(), "starttls", "said nothing within 5 s"),
        ([TimeoutError(), b"220 x\r\n"], TimeoutError(), "starttls", "said nothing within 5 s"),
        ([TimeoutError(), TimeoutError()], TimeoutError(), "greeting", "said nothing within 5 s"),
        ([b"", b""], TimeoutError(), "greeting", "closed the connection"),
        ([b"x" * 9000], TimeoutError(), "greeting", "does not end, so it is no mail server"),
    ],
)
def test_connection_that_ends_before_tls_is_explained(
    said: list[bytes | OSError], end: OSError, step: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step, also while the server is asked: a traceback tells nobody what to try next."""
    monkeypatch.setattr("entrypoint.system.mail_server.connect", lambda *_: Line(list(said), end))
    monkeypatch.setattr("entrypoint.system.mail_server.speaks_tls_at_once", lambda *_: False)
    with pytest.raises(MailServerError, match=words) as caught:
        fetch_chain(HOST, 587, "smtp", 5)
    assert caught.value.step == step


@pytest.mark.parametrize("first", [TimeoutError(), b""])
def test_silent_server_that_waits_for_tls_is_recognized(
    first: OSError | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Port 465 with STARTTLS is the commonest mistake."""
    monkeypatch.setattr("entrypoint.system.mail_server.connect", lambda *_: Line([first], TimeoutError()))
    monkeypatch.setattr("entrypoint.system.mail_server.speaks_tls_at_once", lambda *_: True)
    with pytest.raises(MailServerError, match="Write --starttls none") as caught:
        fetch_chain(HOST, 465, "smtp", 5)
    assert caught.value.step == "mode"
