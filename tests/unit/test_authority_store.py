"""RELAYHOST_CA_URL: what is fetched decides whom the password goes to, and a server that is down must not stop mail.

The servers are real ones on the loopback, so that sockets, TLS and HTTP are the true ones; what is slow is slow by
tenths of a second.
"""

from __future__ import annotations

import datetime
import http.server
import json
import pathlib
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from entrypoint import paths
from entrypoint.config.certificates import parse_authorities
from entrypoint.errors import BadCertificateError, StartupError, UnavailableError
from entrypoint.system import download as download_module
from entrypoint.system.authority_store import FetchedAuthorities, fetch_authorities
from tests.unit.material import CA, CA_DER, CA_PKCS7, KEY, LEAF, SECOND_CA, make_zip
from tests.unit.reading import FACTS, plan_for, read_main_cf

DAY: Final = 86400
CA_SHA256: Final = parse_authorities(CA.encode()).members[0].sha256
SECOND_SHA256: Final = parse_authorities(SECOND_CA.encode()).members[0].sha256
PEM: Final = serialization.Encoding.PEM


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the test says."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.requests.append(self.path)
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(404)
        else:
            answer(self)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """A server on the loopback, with TLS if there is a context."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Callable[[Handler], None]] = {}
        self.requests: list[str] = []
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.server_port}"
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what many tests want."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


@dataclass(frozen=True, kw_only=True)
class Web:
    """One server for each scheme, and the CA of the one with TLS."""

    plain: Server
    tls: Server
    context: ssl.SSLContext
    bundle: pathlib.Path

    @property
    def url(self) -> str:
        return f"{self.tls.url}/ca.pem"

    def give(self, content: bytes, content_type: str = "application/x-pem-file") -> None:
        """Serve these bytes at the URL, in both ways."""
        for server in (self.plain, self.tls):
            server.answers["/ca.pem"] = _make_answer(200, {"Content-Type": content_type}, content)

    def answer(self, answer: Callable[[Handler], None]) -> None:
        self.tls.answers["/ca.pem"] = answer


@pytest.fixture
def web(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """Servers that the "system's bundle" trusts, and a state volume."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "bundle.crt"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setattr(paths, "SYSTEM_AUTHORITIES", str(bundle))
    monkeypatch.setattr(paths, "FETCHED_AUTHORITIES", str(tmp_path / "fetched-ca.pem"))
    found = Web(plain=Server(), tls=Server(context), context=context, bundle=bundle)
    found.give(CA.encode())
    yield found
    found.plain.stop()
    found.tls.stop()


def _make_answer(status: int, headers: dict[str, str], content: bytes = b"") -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def _redirect(location: str) -> Callable[[Handler], None]:
    return _make_answer(302, {"Location": location})


def _drip(first: bytes, drop: bytes, pause_seconds: float = 0.02) -> Callable[[Handler], None]:
    """Send a beginning, then more and more, for longer than anybody waits."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(first)
        ends_at = time.monotonic() + 5
        while time.monotonic() < ends_at:
            handler.wfile.write(drop)
            time.sleep(pause_seconds)

    return answer


def _make_authority(subject: str, begin_days: float, end_days: float) -> str:
    """Return a CA that is valid from and until so many days from now, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string(subject)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + datetime.timedelta(days=begin_days))
        .not_valid_after(now + datetime.timedelta(days=end_days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(PEM).decode()


def _fetch(url: str, *pins: str, keeps_copy: bool = True) -> FetchedAuthorities:
    return fetch_authorities(url, sha256s=pins or None, keeps_copy=keeps_copy)


def _refuse(url: str, *pins: str) -> StartupError:
    with pytest.raises(StartupError) as caught:
        _fetch(url, *pins)
    return caught.value


def _kept() -> str | None:
    path = pathlib.Path(paths.FETCHED_AUTHORITIES)
    return path.read_text(encoding="utf-8") if path.exists() else None


# --- What is good -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (CA.encode(), 1),
        ((CA + "\n# another\n" + SECOND_CA).encode(), 2),
        (CA_DER, 1),
        (CA_PKCS7, 2),
        (pkcs7.serialize_certificates([x509.load_der_x509_certificate(CA_DER)], PEM), 1),
        (make_zip({"ca/readme.txt": b"install this", "ca/root.crt": CA_DER}), 1),
    ],
    ids=["pem", "bundle", "der", "pkcs7-der", "pkcs7-pem", "zip"],
)
@pytest.mark.parametrize("content_type", ["application/pkix-cert", "text/html; charset=utf-7"])
def test_fetched_authority_is_understood_in_every_form(web: Web, content: bytes, count: int, content_type: str) -> None:
    """Providers offer what they have, under whatever type their web server thinks of."""
    web.give(content, content_type)
    fetched = _fetch(web.url)
    assert (len(fetched.certificates.members), fetched.is_copy, fetched.warnings) == (count, False, ())
    # The certificates of PKCS #7 are a set (RFC 2315 section 9.1).
    assert CA_SHA256 in {one.sha256 for one in fetched.certificates.members}
    assert CA in fetched.certificates.pem


def test_plain_http_is_fetched_with_a_pin(web: Web) -> None:
    """Some devices have a web page without TLS; the fingerprint makes up for it."""
    fetched = _fetch(f"{web.plain.url}/ca.pem", CA_SHA256)
    assert fetched.certificates.pem == CA


def test_only_pinned_authorities_are_kept(web: Web) -> None:
    """Over http:// anybody on the way can add a CA of their own to the true one."""
    web.give((SECOND_CA + CA).encode())
    fetched = _fetch(f"{web.plain.url}/ca.pem", CA_SHA256)
    assert fetched.certificates.pem == CA
    assert [one.sha256 for one in fetched.certificates.members] == [CA_SHA256]
    assert SECOND_CA not in (_kept() or "")


def test_several_pins_let_a_rollover_through(web: Web) -> None:
    """The new CA is named beside the old one before the day comes."""
    for content in (CA, CA + SECOND_CA, SECOND_CA):
        web.give(content.encode())
        assert _fetch(web.url, CA_SHA256, SECOND_SHA256).certificates.pem == content


def test_expired_authority_beside_the_pinned_one_does_no_harm(web: Web) -> None:
    """Nobody asked for it."""
    web.give((_make_authority("CN=old", -9, -1) + CA).encode())
    found = _fetch(web.url, CA_SHA256)
    assert found.certificates.pem == CA
    assert found.warnings == ()


def test_expired_authority_beside_a_good_one_is_left_out(web: Web) -> None:
    """So a rollover ends: the CA that has expired must neither stop the mail nor be trusted on."""
    web.give((_make_authority("CN=old", -9, -1) + CA).encode())
    found = _fetch(web.url)
    assert found.certificates.pem == CA
    assert not found.is_copy
    (warning,) = found.warnings
    assert warning.startswith(f"RELAYHOST_CA_URL={web.url}: 'CN=old' expired on ")
    assert warning.endswith("; left out, the others are trusted")


def test_redirects_are_followed_up_to_three(web: Web) -> None:
    """Download pages move; what a browser would follow, relative or absolute, is followed."""
    web.tls.answers |= {
        "/a": _redirect("/b?token=x"),
        "/b": _redirect(f"{web.tls.url}/c"),
        "/c": _redirect("ca.pem#part"),
    }
    assert _fetch(f"{web.tls.url}/a").certificates.pem == CA
    assert web.tls.requests == ["/a", "/b?token=x", "/c", "/ca.pem"]


def test_http_may_lead_to_https(web: Web) -> None:
    """Most servers send everybody there."""
    web.plain.answers["/ca.pem"] = _redirect(web.url)
    assert _fetch(f"{web.plain.url}/ca.pem", CA_SHA256).certificates.pem == CA


def test_query_is_sent_and_not_shown(web: Web) -> None:
    """It may be a token, and messages are shipped to log servers."""
    _fetch(f"{web.url}?token=hidden-text")
    assert web.tls.requests == ["/ca.pem?token=hidden-text"]
    web.tls.answers.clear()
    (warning,) = _fetch(f"{web.url}?token=hidden-text").warnings
    assert f"RELAYHOST_CA_URL={web.url}?...: " in warning
    assert "hidden-text" not in warning


def test_proxy_variables_are_not_looked_at(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable meant for another program must not send the CA through a stranger."""
    for name in ("http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert _fetch(web.url).certificates.pem == CA


def test_ssl_cert_file_is_not_looked_at(web: Web, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom https trusts is the system's bundle and nothing else."""
    monkeypatch.setenv("SSL_CERT_FILE", str(web.bundle))
    other = tmp_path / "other.crt"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setattr(paths, "SYSTEM_AUTHORITIES", str(other))
    assert "is not accepted" in str(_refuse(web.url))


# --- What is not, and what then -------------------------------------------------------------------------------------


def _trust_another(web: Web) -> None:
    trustme.CA().cert_pem.write_to_path(str(web.bundle))


def _show_another_name(web: Web) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(web.bundle))
    authority.issue_cert("other.example.com").configure_cert(web.context)


def _hang_in_the_handshake(web: Web) -> None:
    web.tls.finish_request = lambda *_: time.sleep(2)  # type: ignore[method-assign]


FAILURES: Final[dict[str, tuple[Callable[[Web], None], int, str]]] = {
    # name: how it is broken, the exit status without a copy, what is said
    "missing": (lambda web: web.tls.answers.clear(), 69, "the server answered 404 Not Found"),
    "server_error": (lambda web: web.answer(_make_answer(503, {})), 69, "the server answered 503 Service Unavailable"),
    "no_content": (lambda web: web.answer(_make_answer(204, {})), 69, "the server answered 204 No Content"),
    "refused": (lambda web: web.tls.stop(), 69, "127.0.0.1 cannot be reached (Connection refused)"),
    "unknown_ca": (_trust_another, 69, "the certificate of 127.0.0.1 is not accepted ("),
    "wrong_name": (_show_another_name, 69, "the certificate of 127.0.0.1 is not accepted (IP address mismatch"),
    "silent": (_hang_in_the_handshake, 69, "it was not here whole after 0.3 seconds"),
    "slow_headers": (
        lambda web: web.answer(_drip(b"HTTP/1.1 200 OK\r\nX: ", b"x")),
        69,
        "it was not here whole after 0.3 seconds",
    ),
    "slow_lines": (
        lambda web: web.answer(_drip(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n")),
        69,
        "it was not here whole after 0.3 seconds",
    ),
    "slow_content": (
        lambda web: web.answer(_drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x")),
        69,
        "it was not here whole after 0.3 seconds",
    ),
    "endless": (
        lambda web: web.answer(_drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 2**20, 0)),
        65,
        "it is larger than 4 MiB, so it is not a CA file",
    ),
    "not_http": (
        lambda web: web.answer(lambda handler: _write(handler, b"SSH-2.0-x\r\n")),
        69,
        "127.0.0.1 does not answer in HTTP (BadStatusLine)",
    ),
    "closed": (lambda web: web.answer(lambda _: None), 69, "127.0.0.1 cannot be reached ("),
    "cut": (
        lambda web: web.answer(_make_answer(200, {"Content-Length": "4000"}, (CA + SECOND_CA).encode())),
        69,
        "the server closed the connection before the end",
    ),
    "loop": (lambda web: web.answer(_redirect("/ca.pem")), 69, "there are more than 3 redirects"),
    "to_http": (
        lambda web: web.answer(_redirect(f"{web.plain.url}/ca.pem?t=hidden-text")),
        69,
        "it redirects from https to http://127.0.0.1:",
    ),
    "to_a_file": (
        lambda web: web.answer(_redirect("file:///etc/passwd")),
        69,
        "it redirects to an address that cannot be used: it does not begin with https:// or http://",
    ),
    "to_a_login": (
        lambda web: web.answer(_redirect("https://user:hidden-text@127.0.0.1/")),
        69,
        "it redirects to an address that cannot be used: it has an @ sign",
    ),
    "to_nowhere": (lambda web: web.answer(_make_answer(302, {})), 69, "it redirects to nowhere"),
    "to_a_bracket": (lambda web: web.answer(_redirect("https://[")), 69, "it redirects to an address that cannot be"),
    "moved_and_missing": (
        lambda web: web.answer(_redirect("/gone?t=hidden-text")),
        69,
        "/gone?... the server answered 404 Not Found",
    ),
    "empty": (lambda web: web.give(b""), 65, "it holds no certificate in PEM, DER, PKCS #7 or ZIP"),
    "garbage": (lambda web: web.give(b"\x30\x82x"), 65, "it holds no certificate in PEM, DER, PKCS #7 or ZIP"),
    "page": (lambda web: web.give(b"<!DOCTYPE html><html>"), 65, "it is a web page and not a CA file"),
    "old_page": (lambda web: web.give(b"\n<HTML><head>"), 65, "it is a web page and not a CA file"),
    "leaf": (lambda web: web.give((CA + LEAF).encode()), 65, "'CN=smtp.example.com' is not a CA but a server's"),
    "key": (lambda web: web.give((CA + KEY).encode()), 65, "it holds a private key, which does not belong here"),
    "bomb": (
        lambda web: web.give(make_zip({"ca.pem": b"0" * (5 * 2**20)})),
        65,
        "the ZIP unpacks to more than 4 MiB",
    ),
    "expired": (lambda web: web.give(_make_authority("CN=old", -9, -1).encode()), 65, "'CN=old' expired on 2"),
    "early": (
        lambda web: web.give(_make_authority("CN=new", 1, 9).encode()),
        65,
        "'CN=new' is valid only from 2",
    ),
}


def _damage(web: Web, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Break it, wait only shortly for what never comes, and return what is expected."""
    damage, status, said = FAILURES[name]
    if "seconds" in said:
        monkeypatch.setattr(download_module, "_TOTAL_SECONDS", 0.3)
    damage(web)
    return status, said


def _write(handler: Handler, content: bytes) -> None:
    handler.wfile.write(content)


def _name(value: object) -> str:
    return str(value)


@pytest.mark.parametrize("name", FAILURES, ids=_name)
def test_failed_fetch_without_a_copy_ends_the_start_and_says_why(
    web: Web, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """69 is for later, 65 for whoever put the file there; a script and a person must see which."""
    status, said = _damage(web, name, monkeypatch)
    begin = time.monotonic()
    error = _refuse(web.url)
    assert time.monotonic() - begin < 2
    assert f"RELAYHOST_CA_URL={web.url}: " in str(error)
    assert said in str(error)
    assert "; and there is no copy of an earlier fetch. " in str(error)
    assert str(error).isprintable()
    assert "hidden-text" not in str(error)
    assert (type(error), error.exit_status) == ({69: UnavailableError, 65: BadCertificateError}[status], status)
    assert _kept() is None


@pytest.mark.parametrize("name", FAILURES, ids=_name)
def test_failed_fetch_with_a_copy_goes_on_with_one_warning(
    web: Web, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web server that is down, or that somebody broke, must not stop mail that flowed yesterday."""
    _fetch(web.url)
    kept = _kept()
    _, said = _damage(web, name, monkeypatch)
    later = time.time() + 3600 * 5.5
    monkeypatch.setattr(time, "time", lambda: later)
    fetched = _fetch(web.url)
    assert (fetched.certificates.pem, fetched.is_copy) == (CA, True)
    (warning,) = fetched.warnings
    assert warning.startswith(f"RELAYHOST_CA_URL={web.url}: ")
    assert said in warning
    assert "; the copy that was fetched 5 hours ago, on 20" in warning
    assert "hidden-text" not in warning
    assert not warning.endswith(".")
    assert _kept() == kept


def test_other_authority_than_the_pinned_one_is_refused_with_both_fingerprints(web: Web) -> None:
    """Whoever reads it has to compare the two with what the CA's owner publishes."""
    web.give(SECOND_CA.encode())
    error = _refuse(web.url, CA_SHA256)
    assert str(error) == (
        f"RELAYHOST_CA_URL={web.url}: RELAYHOST_CA_SHA256 is {CA_SHA256}, and none of what is there has it: "
        f"'CN=Second CA' with {SECOND_SHA256}; and there is no copy of an earlier fetch. Compare them with the "
        "fingerprint that the CA's owner publishes, and set RELAYHOST_CA_SHA256 to that."
    )
    assert error.exit_status == 65


def test_long_bundle_without_the_pinned_authority_is_told_in_short(web: Web) -> None:
    """A message with a hundred fingerprints hides its own sentence."""
    web.give((SECOND_CA * 12).encode())
    assert f"{SECOND_SHA256}, 9 others; and there" in str(_refuse(web.url, CA_SHA256))


def test_pinned_copy_serves_when_another_authority_appears(web: Web) -> None:
    """Somebody replaced the file: the one that the pin names goes on being trusted, and no other."""
    _fetch(web.url, CA_SHA256)
    web.give(SECOND_CA.encode())
    fetched = _fetch(web.url, CA_SHA256)
    assert (fetched.certificates.pem, fetched.is_copy) == (CA, True)
    assert SECOND_SHA256 in fetched.warnings[0]


def test_copy_that_the_pin_does_not_name_is_not_used(web: Web) -> None:
    """RELAYHOST_CA_SHA256 is about what is trusted, not about what is fetched."""
    web.give((CA + SECOND_CA).encode())
    _fetch(web.url)
    web.tls.answers.clear()
    assert _fetch(web.url, SECOND_SHA256).certificates.pem == SECOND_CA
    error = _refuse(web.url, "AB:" * 31 + "AB")
    assert "and the kept copy is no good either (RELAYHOST_CA_SHA256 is AB:" in str(error)
    assert error.exit_status == 69


def test_copy_of_another_address_is_not_used(web: Web) -> None:
    """Whoever names another address means another CA; also when only the query differs."""
    _fetch(web.url)
    web.tls.answers.clear()
    for url in (f"{web.url}?v=2", f"{web.tls.url}/other.pem", f"{web.plain.url}/gone.pem"):
        assert "; and the kept copy is from another address. " in str(_refuse(url))


def test_copy_that_has_expired_is_not_used(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """With it every message would wait; the start says so."""
    web.give(_make_authority("CN=short", -1, 2).encode())
    _fetch(web.url)
    web.tls.answers.clear()
    assert _fetch(web.url).is_copy
    later = time.time() + 3 * DAY
    monkeypatch.setattr(time, "time", lambda: later)
    assert "and the kept copy is no good either ('CN=short' expired on 2" in str(_refuse(web.url))


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda text: text[:-40],
        lambda text: text.replace("# Fetched", "# Patched"),
        lambda text: text.removeprefix("# Fetched by authrelay: "),
        lambda text: text.replace('"url"', '"uri"'),
        lambda text: text.replace('"fetched_at": ', '"fetched_at": "x'),
        lambda text: text.partition("\n")[0] + "\n",
        lambda text: text.partition("\n")[2],
        lambda text: text.partition("\n")[0] + "\n" + SECOND_CA,
        lambda text: text + SECOND_CA,
        lambda text: text + LEAF,
        lambda _: "# Fetched by authrelay: []\n" + CA,
        lambda _: "# Fetched by authrelay: {\n" + CA,
    ],
)
def test_damaged_copy_is_not_used(web: Web, damage: Callable[[str], str]) -> None:
    """What does not say whole where it is from is not from there."""
    _fetch(web.url)
    path = pathlib.Path(paths.FETCHED_AUTHORITIES)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    web.tls.answers.clear()
    assert "; and the kept copy is damaged. " in str(_refuse(web.url))


def test_unreadable_copy_is_no_traceback(web: Web) -> None:
    """Disks fail in their own ways."""
    path = pathlib.Path(paths.FETCHED_AUTHORITIES)
    web.tls.answers.clear()
    path.write_bytes(b"\xff\xfe")
    assert "; and the kept copy cannot be read. " in str(_refuse(web.url))
    path.unlink()
    path.mkdir()
    assert "; and the kept copy cannot be read. " in str(_refuse(web.url))


def test_damaged_copy_is_replaced_by_the_next_good_fetch(web: Web) -> None:
    """It mends itself."""
    pathlib.Path(paths.FETCHED_AUTHORITIES).write_bytes(b"\xff")
    assert _fetch(web.url).warnings == ()
    assert (_kept() or "").endswith(CA)


def test_kept_copy_says_where_it_is_from_and_is_for_root_alone(web: Web) -> None:
    """The URL's query may be a token."""
    _fetch(f"{web.url}?token=x")
    first, _, pem = (_kept() or "").partition("\n")
    record = json.loads(first.removeprefix("# Fetched by authrelay: "))
    assert record.pop("fetched_at") == pytest.approx(time.time(), abs=5)
    assert record == {"url": f"{web.url}?token=x", "sha256s": [CA_SHA256]}
    assert pem == CA
    assert stat.S_IMODE(pathlib.Path(paths.FETCHED_AUTHORITIES).stat().st_mode) == 0o600


def test_check_keeps_nothing_and_may_use_the_copy(web: Web) -> None:
    """`check` and `render` say what a start would do, and leave the state volume as it is."""
    assert _fetch(web.url, keeps_copy=False).certificates.pem == CA
    assert _kept() is None
    _fetch(web.url)
    kept = _kept()
    web.give(SECOND_CA.encode())
    assert _fetch(web.url, keeps_copy=False).certificates.pem == SECOND_CA
    assert _kept() == kept
    web.tls.answers.clear()
    assert _fetch(web.url, keeps_copy=False).certificates.pem == CA


def test_fetch_goes_on_when_nothing_can_be_kept(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full volume is for a warning: the CA is here, and mail can flow."""
    monkeypatch.setattr(paths, "FETCHED_AUTHORITIES", "/proc/nowhere/fetched-ca.pem")
    fetched = _fetch(web.url)
    assert fetched.certificates.pem == CA
    (warning,) = fetched.warnings
    assert warning.startswith("the CA from RELAYHOST_CA_URL is not kept for when it cannot be fetched: /proc/nowhere/")


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(-5, "0 seconds"), (1, "1 second"), (119, "1 minute"), (7200, "2 hours"), (86400, "1 day"), (8e6, "92 days")],
)
def test_age_of_a_copy_is_said_in_its_largest_unit(
    web: Web, seconds: float, age: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old is what a person has to judge; a clock that was put back is no reason to stop."""
    _fetch(web.url)
    web.tls.answers.clear()
    record = json.loads((_kept() or "").partition("\n")[0].removeprefix("# Fetched by authrelay: "))
    monkeypatch.setattr(time, "time", lambda: record["fetched_at"] + seconds)
    assert f"fetched {age} ago" in _fetch(web.url).warnings[0]


# --- What the plan makes of it ----------------------------------------------------------------------------------------


def test_plan_never_falls_back_to_the_systems_bundle() -> None:
    """Without what was fetched nobody is trusted, rather than everybody whom Debian trusts."""
    plan = plan_for({"RELAYHOST": "smtp.example.com", "RELAYHOST_CA_URL": "https://ca.example.com/"}, FACTS)
    assert read_main_cf(plan)["smtp_tls_CAfile"] == "/etc/postfix/upstream-ca.pem"
    assert plan.authorities is None
