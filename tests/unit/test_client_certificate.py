"""Our own certificate: an upstream may pin it, so that it changes only when it must, and never silently."""

from __future__ import annotations

import pathlib
import stat
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from entrypoint import paths
from entrypoint.errors import BadCertificateError
from entrypoint.system import client_certificate
from entrypoint.system.client_certificate import ClientCertificate, make_client_certificate
from tests.unit.material import KEY, LEAF

DAY = 86400


@pytest.fixture(autouse=True)
def state(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A state volume of the test's own."""
    monkeypatch.setattr(paths, "CLIENT_CHAIN", str(tmp_path / "client.pem"))
    monkeypatch.setattr(paths, "CLIENT_CERTIFICATE", str(tmp_path / "client-certificate.pem"))
    return tmp_path


def _load(*, days: int = 10000, wanted_subject: str | None = None, key_type: str = "ecdsa") -> ClientCertificate:
    return client_certificate.load_or_make_client_certificate(
        subject=wanted_subject or "CN=relay", wanted_subject=wanted_subject, days=days, key_type=key_type
    )


def _pass_time(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    later = time.time() + days * DAY
    monkeypatch.setattr(time, "time", lambda: later)


def _mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_certificate_is_made_and_kept(state: pathlib.Path) -> None:
    """The second start must show the upstream the same one."""
    made = _load()
    assert made.warnings == ()
    assert (state / "client.pem").read_text() == made.chain
    assert _load() == made


def test_key_is_for_root_alone_and_the_certificate_for_everyone(state: pathlib.Path) -> None:
    """The certificate is given to the upstream's people; the key must not go with it."""
    made = _load()
    assert _mode(state / "client.pem") == 0o600
    assert _mode(state / "client-certificate.pem") == 0o644
    public = (state / "client-certificate.pem").read_text()
    assert "PRIVATE" not in public
    assert made.chain.endswith(public)


@pytest.mark.parametrize("key_type", ["ecdsa", "rsa"])
def test_made_certificate_is_what_was_asked_for(key_type: str) -> None:
    """Subject, days, key and purpose, as another program reads them; valid from an hour ago for clocks behind ours."""
    made = make_client_certificate(subject="CN=relay,O=Example", days=40, key_type=key_type, now=1_700_000_000)
    certificate = x509.load_pem_x509_certificates(made.chain.encode())[0]
    assert certificate.subject.rfc4514_string() == "CN=relay,O=Example"
    assert certificate.issuer == certificate.subject
    assert certificate.not_valid_before_utc.timestamp() == 1_700_000_000 - 3600
    assert certificate.not_valid_after_utc.timestamp() == 1_700_000_000 - 3600 + 40 * DAY
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert made.sha256 == certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    key = serialization.load_pem_private_key(made.chain.encode(), password=None)
    if key_type == "rsa":
        assert isinstance(key, rsa.RSAPrivateKey)
        assert key.key_size == 3072
    else:
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp256r1"
    assert key.public_key() == certificate.public_key()
    certificate.verify_directly_issued_by(certificate)


def test_key_comes_before_the_certificate_as_postfix_wants_it() -> None:
    """postconf(5) smtp_tls_chain_files: key first."""
    chain = _load().chain
    assert chain.index("PRIVATE KEY") < chain.index("BEGIN CERTIFICATE")


def test_certificate_is_kept_until_a_month_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewing earlier would break a pin for nothing."""
    made = _load(days=100)
    _pass_time(monkeypatch, 69)
    assert _load(days=100) == made


def test_certificate_near_its_end_is_renewed_with_both_fingerprints_in_one_warning(
    state: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever pins it must find the old and the new one in the log."""
    old = _load(days=100)
    _pass_time(monkeypatch, 71)
    new = _load(days=100)
    assert new.sha256 != old.sha256
    (warning,) = new.warnings
    assert f"SHA-256 was {old.sha256}, is {new.sha256}." in warning
    assert (state / "client.pem").read_text() == new.chain
    assert new.chain.endswith((state / "client-certificate.pem").read_text())
    assert _load(days=100).warnings == ()


def test_shortest_lifetime_is_not_renewed_on_every_start() -> None:
    """CLIENT_CERT_DAYS allows 31: one day of peace, at least."""
    assert _load(days=31) == _load(days=31)


@pytest.mark.parametrize("mark", ["", "# Made by authrelay: not JSON\n", "# Made by authrelay: {}\n", "# mine\n"])
def test_foreign_certificate_is_used_and_never_replaced(
    mark: str, state: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody put it there with care; an image update must not throw it away."""
    (state / "client.pem").write_text(mark + KEY + LEAF)
    _pass_time(monkeypatch, 365 * 200)
    found = _load(wanted_subject="CN=other")
    assert found.chain == mark + KEY + LEAF
    assert found.sha256 == x509.load_pem_x509_certificate(LEAF.encode()).fingerprint(hashes.SHA256()).hex(":").upper()
    assert (state / "client.pem").read_text() == mark + KEY + LEAF
    assert not (state / "client-certificate.pem").exists()


@pytest.mark.parametrize("content", [b"nothing", KEY.encode(), b"\x30\x82\xff\xff"])
def test_file_without_a_certificate_is_an_error_with_a_remedy(content: bytes, state: pathlib.Path) -> None:
    """A traceback would leave the volume a riddle; replacing the file could destroy the only copy of a key."""
    (state / "client.pem").write_bytes(content)
    with pytest.raises(
        BadCertificateError, match=r"client\.pem .*Remove it to have one made, or set CLIENT_CERT_FILE\."
    ):
        _load()
    assert (state / "client.pem").read_bytes() == content


def test_changed_settings_warn_and_the_certificate_stays() -> None:
    """The upstream may pin it; but whoever changed the subject must learn that nothing happened."""
    made = _load(wanted_subject="CN=old")
    found = _load(wanted_subject="CN=new", key_type="rsa")
    assert found.chain == made.chain
    (warning,) = found.warnings
    assert "CLIENT_CERT_SUBJECT=CN=new (it has CN=old), CLIENT_KEY_TYPE=rsa (it has ecdsa)" in warning
    assert "remove " in warning


def test_host_name_that_changes_does_not_warn() -> None:
    """A container has another host name on every start; only what the user asks for counts."""
    client_certificate.load_or_make_client_certificate(subject="CN=a", wanted_subject=None, days=99, key_type="ecdsa")
    again = client_certificate.load_or_make_client_certificate(
        subject="CN=b", wanted_subject=None, days=99, key_type="ecdsa"
    )
    assert again.warnings == ()
