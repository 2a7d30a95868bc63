"""Certificates and keys that the user gives: from text or bytes to checked PEM. Pure: no clock, no files.

`cryptography` is imported inside the functions: a start that is given no certificate must not pay for it.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from entrypoint.config.declaration import SETTING, InvalidValue
from entrypoint.config.secret import Secret

if TYPE_CHECKING:
    from cryptography import x509

_MAX_BYTES: Final = 4 * 2**20
"""More than ten times Debian's whole bundle: anything larger is not a CA file (and a ZIP of it would be a bomb)."""
_PEM_EXAMPLE: Final = "Give the PEM file that begins with -----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What a person and a clock need to know of one certificate; times are seconds since the epoch."""

    subject: str
    sha256: str
    not_before: int
    not_after: int


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Certificates in the order given, and their PEM text."""

    pem: str
    members: tuple[Certificate, ...]


def parse_authorities(data: bytes) -> Certificates:
    """Return the CA certificates of a PEM bundle, DER, PKCS #7 or a ZIP of those (by content, not by name)."""
    if len(data) > _MAX_BYTES:
        raise InvalidValue("it is larger than 4 MiB, so it is not a CA file", _PEM_EXAMPLE)
    found = _unpack_zip(data) if data.startswith(b"PK\x03\x04") else _load_any(data)
    for certificate in found:
        if not may_sign_certificates(certificate):
            raise InvalidValue(
                f"'{certificate.subject.rfc4514_string()}' is not a CA but a server's or client's certificate",
                "Give the certificate of the CA that issued it, or pin an upstream's with RELAYHOST_TLS=fingerprint",
            )
    return _describe(found)


def keep_members(certificates: Certificates, keeps: Callable[[Certificate], bool]) -> Certificates:
    """Return the certificates that are to be kept, in their order; none is no error here."""
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", certificates.pem, flags=re.S)
    kept = [pair for pair in zip(blocks, certificates.members, strict=True) if keeps(pair[1])]
    return Certificates(pem="".join(block for block, _ in kept), members=tuple(member for _, member in kept))


def parse_authorities_text(text: str) -> Certificates | None:
    """Return the CA certificates of a PEM text, or `None` for the word `system`."""
    if text.strip().lower() == "system":
        return None
    if "-----BEGIN" not in text:
        raise InvalidValue(
            "it is neither the word system nor PEM text",
            f"Write system, or give the path of a CA file in {SETTING}_FILE",
        )
    return parse_authorities(text.encode())


def parse_certificate_chain(text: str) -> Certificates:
    """Return a client's own certificate, followed by intermediates if there are any, from PEM."""
    if "PRIVATE KEY-----" in text:
        text = re.sub(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", "", text, flags=re.S)
    return _describe(_load_pem(text.encode()))


def parse_private_key(text: str) -> Secret:
    """Return an unencrypted private key in PEM (PKCS #8, PKCS #1 or SEC 1) as PKCS #8."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    match = re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", text, flags=re.S)
    if not match:
        raise InvalidValue(
            "it is not a private key in PEM", "Give the file that begins with -----BEGIN PRIVATE KEY-----"
        )
    try:
        key = serialization.load_pem_private_key(match[0].encode(), password=None)
    except TypeError:
        raise InvalidValue(
            "the private key is encrypted, and nobody is there to type its passphrase",
            "Decrypt it with 'openssl pkey -in key.pem -out plain.pem' and give plain.pem as a secret file",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidValue(
            "the private key cannot be read", "Check it with 'openssl pkey -in key.pem -noout'"
        ) from None
    return Secret(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
    )


def has_same_key(chain: Certificates, key: Secret) -> bool:
    """Return whether the key belongs to the first certificate of the chain."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    public = x509.load_pem_x509_certificates(chain.pem.encode())[0].public_key()
    private = serialization.load_pem_private_key(key.reveal().encode(), password=None)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return public.public_bytes(*form) == private.public_key().public_bytes(*form)


def parse_subject(text: str) -> str:
    """Return a distinguished name after RFC 4514, checked, as `CN=relay.example.com,O=Example`."""
    from cryptography import x509

    try:
        name = x509.Name.from_rfc4514_string(text)
    except ValueError:
        raise InvalidValue(
            "it is not a distinguished name (RFC 4514)", "Write, for example, CN=relay.example.com,O=Example"
        ) from None
    if not list(name) or "\0" in text:
        raise InvalidValue("it names nothing", "Write, for example, CN=relay.example.com")
    return text


def _load_any(data: bytes) -> list[x509.Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import pkcs7

    if b"-----BEGIN" in data:
        return _load_pem(data)
    # cryptography raises several kinds of error for bytes that are no certificate.
    with contextlib.suppress(Exception):
        return [x509.load_der_x509_certificate(data)]
    with contextlib.suppress(Exception):
        return pkcs7.load_der_pkcs7_certificates(data)
    raise InvalidValue("it holds no certificate in PEM, DER, PKCS #7 or ZIP", _PEM_EXAMPLE)


def _load_pem(data: bytes) -> list[x509.Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import pkcs7

    if b"PRIVATE KEY-----" in data:
        raise InvalidValue(
            "it holds a private key, which does not belong here",
            "Remove everything but the certificates, and replace that key: it was shared",
            may_hold_secret=True,
        )
    try:
        if b"-----BEGIN PKCS7-----" in data:
            return pkcs7.load_pem_pkcs7_certificates(data)
        return x509.load_pem_x509_certificates(data)
    except Exception as error:
        raise InvalidValue(
            "its PEM text cannot be read as a certificate", "Check it with 'openssl x509 -in file.pem -noout -text'"
        ) from error


def _unpack_zip(data: bytes) -> list[x509.Certificate]:
    import zipfile  # hardly a start needs it

    found: list[x509.Certificate] = []
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if sum(member.file_size for member in members) > _MAX_BYTES:
                raise InvalidValue("the ZIP unpacks to more than 4 MiB", _PEM_EXAMPLE)
            for member in members:
                try:
                    found += _load_any(archive.read(member))
                except InvalidValue as problem:
                    if "private key" in problem.what:
                        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError):
        raise InvalidValue("the ZIP cannot be read", _PEM_EXAMPLE) from None
    if not found:
        raise InvalidValue("the ZIP holds no certificate", _PEM_EXAMPLE)
    return found


def may_sign_certificates(certificate: x509.Certificate) -> bool:
    """Return whether the certificate is a CA; version 1 roots, which have no extensions, count (RFC 5280 4.2.1.9)."""
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return certificate.version is x509.Version.v1 and certificate.issuer == certificate.subject
    except ValueError:
        return False


def _describe(certificates: list[x509.Certificate]) -> Certificates:
    from cryptography.hazmat.primitives import hashes, serialization

    return Certificates(
        pem="".join(certificate.public_bytes(serialization.Encoding.PEM).decode() for certificate in certificates),
        members=tuple(
            Certificate(
                subject=certificate.subject.rfc4514_string(),
                sha256=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
                not_before=int(certificate.not_valid_before_utc.timestamp()),
                not_after=int(certificate.not_valid_after_utc.timestamp()),
            )
            for certificate in certificates
        ),
    )
