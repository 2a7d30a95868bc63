"""Roots, intermediates and what they sign, each piece apart, so that a test decides what a server shows.

Pure but for the clock and the randomness of keys.
"""

from __future__ import annotations

import dataclasses
import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from tests.support.authorities import Chain

_PEM = serialization.Encoding.PEM
_DAY = datetime.timedelta(days=1)
_SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signed:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = dataclasses.field(repr=False)

    @property
    def pem(self) -> str:
        """The certificate as PEM."""
        return self.certificate.public_bytes(_PEM).decode()

    @property
    def der(self) -> bytes:
        """The certificate as DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def sha256(self) -> str:
        """Its fingerprint: `AB:CD:...`."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    def make_chain(self, *others: Signed) -> Chain:
        """What a server shows that has this certificate and sends the others along."""
        key = self.key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Chain(chain_pem="".join(one.pem for one in (self, *others)), key_pem=key.decode())


def make_signed(
    subject: str,
    issuer: Signed | None = None,
    *,
    names: tuple[str, ...] = (),
    is_ca: bool = False,
    key: ec.EllipticCurvePrivateKey | None = None,
    issuer_url: str | tuple[str, ...] = (),
    first_day: int = -30,
    last_day: int = 300,
    purposes: tuple[x509.ObjectIdentifier, ...] = _SERVER,
) -> Signed:
    """A certificate signed by the issuer, or by itself; days are counted from today."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer else key
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name.from_rfc4514_string(subject)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + first_day * _DAY)
        .not_valid_after(now + last_day * _DAY)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    if is_ca:
        builder = builder.add_extension(_make_ca_usage(), critical=True)
    else:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    if issuer_url:
        urls = (issuer_url,) if isinstance(issuer_url, str) else issuer_url
        builder = builder.add_extension(x509.AuthorityInformationAccess(map(_make_access, urls)), critical=False)
    return Signed(certificate=builder.sign(signer, hashes.SHA256()), key=key)


def _make_ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _make_access(url: str) -> x509.AccessDescription:
    return x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(url))
