"""A certificate that a server is shown: made once, kept in the state volume, renewed near its end. Disk.

Uses `files`, since what is kept must be written atomically.
"""

from __future__ import annotations

import datetime
import json
import time
from dataclasses import dataclass, field, replace
from typing import Any, Final

from entrypoint import paths
from entrypoint.errors import BadCertificateError
from entrypoint.system.files import read_text, write_file

_DAY_SECONDS: Final = 86400
RENEWED_BEFORE_SECONDS: Final = 30 * _DAY_SECONDS
_CLOCK_SKEW: Final = datetime.timedelta(hours=1)
"""A certificate counts from an hour ago: the upstream's clock may be behind ours."""

_MARK: Final = "# Made by authrelay: "


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a certificate is kept: `chain` with its key, `certificate` alone; `setting` gives another."""

    chain: str
    certificate: str
    setting: str


@dataclass(frozen=True, kw_only=True)
class ClientCertificate:
    """A certificate of ours: `chain` is PEM of key and certificates, `sha256` the fingerprint that a peer may pin."""

    chain: str
    sha256: str
    subject: str
    not_after: int
    is_renewed: bool = True
    """Whether it is replaced by itself near its end, which one that somebody put there is not."""
    is_new: bool = field(default=False, compare=False)
    """Whether it was made just now."""
    warnings: tuple[str, ...] = ()

    @property
    def sha1(self) -> str:
        """The fingerprint by which Entra ID lists it, as its thumbprint."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        certificate = x509.load_pem_x509_certificates(self.chain.encode())[0]
        return certificate.fingerprint(hashes.SHA1()).hex(":").upper()  # noqa: S303 - a name, and no proof


def load_or_make_client_certificate(
    *,
    subject: str,
    wanted_subject: str | None,
    days: int,
    key_type: str,
    place: Place | None = None,
    is_renewed: bool = True,
) -> ClientCertificate:
    """Return the kept certificate; make one where there is none, and a new one within 30 days of its end.

    `subject` is for a new certificate; `wanted_subject` is what the user asked for, if anything. One that is not
    renewed is kept beyond its end.
    """
    place = place or _place_client()
    kept = _read_kept(place)
    record = _read_record(kept) if kept else None
    if kept and record is None:
        # Somebody put a pair of their own there: it is used, and never replaced.
        return _describe_foreign(kept, place)
    if kept and record and (not is_renewed or record["not_after"] - time.time() > RENEWED_BEFORE_SECONDS):
        return ClientCertificate(
            chain=kept,
            sha256=record["sha256"],
            subject=record["subject"],
            not_after=record["not_after"],
            is_renewed=is_renewed,
            warnings=_compare(record, wanted_subject=wanted_subject, key_type=key_type),
        )
    made = make_client_certificate(subject=subject, days=days, key_type=key_type, now=time.time())
    _keep(made.chain, place)
    if record is None:
        return replace(made, is_renewed=is_renewed, is_new=True)
    warning = (
        f"the client certificate was near its end and is replaced: SHA-256 was {record['sha256']}, is {made.sha256}. "
        "If the upstream pins it, give it the new one"
    )
    return replace(made, is_new=True, warnings=(warning,))


def make_client_certificate(*, subject: str, days: int, key_type: str, now: float) -> ClientCertificate:
    """Return a new self-signed certificate for TLS clients (RFC 5280), its key ECDSA P-256 or RSA of 3072 bits."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if key_type == "rsa":
        key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string(subject)
    begin = datetime.datetime.fromtimestamp(now, datetime.UTC) - _CLOCK_SKEW
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    sha256 = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    record = {
        "sha256": sha256,
        "not_after": int(certificate.not_valid_after_utc.timestamp()),
        "subject": subject,
        "key_type": key_type,
    }
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return ClientCertificate(
        chain=f"{_MARK}{json.dumps(record)}\n{private}{public}",
        sha256=sha256,
        subject=subject,
        not_after=int(certificate.not_valid_after_utc.timestamp()),
    )


def _place_client() -> Place:
    return Place(chain=paths.CLIENT_CHAIN, certificate=paths.CLIENT_CERTIFICATE, setting="CLIENT_CERT_FILE")


def _read_kept(place: Place) -> str | None:
    try:
        return read_text(place.chain)
    except UnicodeDecodeError as error:
        raise BadCertificateError(
            f"{place.chain} is not PEM text. Remove it to have one made, or set {place.setting}."
        ) from error


def _read_record(chain: str) -> dict[str, Any] | None:
    """Return how a kept certificate was made, or `None` for one that was not made here."""
    first, _, _ = chain.partition("\n")
    if not first.startswith(_MARK):
        return None
    try:
        record = json.loads(first.removeprefix(_MARK))
    except ValueError:
        return None
    kinds = {"sha256": str, "not_after": int, "subject": str, "key_type": str}
    is_whole = isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in kinds.items())
    return record if is_whole else None


def _keep(chain: str, place: Place) -> None:
    """Put the pair into the state volume, and the certificate alone beside it."""
    write_file(place.chain, chain, 0o600, is_durable=True)
    write_file(place.certificate, chain[chain.index("-----BEGIN CERTIFICATE") :], 0o644)


def _describe_foreign(chain: str, place: Place) -> ClientCertificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    try:
        certificate = x509.load_pem_x509_certificates(chain.encode())[0]
    except ValueError as error:
        raise BadCertificateError(
            f"{place.chain} holds no certificate. Remove it to have one made, or set {place.setting}."
        ) from error
    return ClientCertificate(
        chain=chain,
        sha256=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
        subject=certificate.subject.rfc4514_string(),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
        is_renewed=False,
    )


def _compare(record: dict[str, Any], *, wanted_subject: str | None, key_type: str) -> tuple[str, ...]:
    """Return a warning when the settings ask for another certificate than the kept one."""
    differences = []
    if wanted_subject is not None and wanted_subject != record["subject"]:
        differences.append(f"CLIENT_CERT_SUBJECT={wanted_subject} (it has {record['subject']})")
    if key_type != record["key_type"]:
        differences.append(f"CLIENT_KEY_TYPE={key_type} (it has {record['key_type']})")
    if not differences:
        return ()
    return (
        f"the kept client certificate stays although the settings changed: {', '.join(differences)}. The upstream may "
        f"pin it. To have a new one made, remove {paths.CLIENT_CHAIN} and restart",
    )
