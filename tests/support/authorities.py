"""Certificate authorities and server certificates, good ones and each kind of bad one, as PEM text.

Pure but for the clock and the randomness of keys.
"""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = datetime.timedelta(days=1)
# Either side may show it: a self-signed one also serves as a client certificate.
_PURPOSES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chain:
    """What a server (or a client) shows, and the key to it."""

    # Leaf first, then intermediates.
    chain_pem: str
    key_pem: str = dataclasses.field(repr=False)

    @property
    def combined_pem(self) -> str:
        """Key, then chain: the form of smtpd_tls_chain_files."""
        return self.key_pem + self.chain_pem

    @property
    def certificate(self) -> x509.Certificate:
        """The leaf."""
        return x509.load_pem_x509_certificate(self.chain_pem.encode())

    @property
    def sha256(self) -> str:
        """The leaf's fingerprint: `AB:CD:...`."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()


class Authority:
    """A private CA."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    @property
    def pem(self) -> str:
        """The certificate that a relay is to trust."""
        return self._ca.cert_pem.bytes().decode()

    def make_chain(self, *names: str) -> Chain:
        """A good certificate for host names and IP addresses."""
        return _take_chain(self._ca.issue_cert(*names))

    def make_expired_chain(self, *names: str) -> Chain:
        """A certificate whose last day was yesterday."""
        now = _now()
        return self._sign(names, not_before=now - 30 * _DAY, not_after=now - _DAY)

    def make_future_chain(self, *names: str) -> Chain:
        """A certificate that is not yet valid until tomorrow."""
        now = _now()
        return self._sign(names, not_before=now + _DAY, not_after=now + 30 * _DAY)

    def make_intermediate_chain(self, *names: str, is_complete: bool = True) -> Chain:
        """A certificate signed by an intermediate, which the chain carries unless it is not complete."""
        chain = _take_chain(self._ca.create_child_ca().issue_cert(*names))
        if is_complete:
            return chain
        leaf = x509.load_pem_x509_certificates(chain.chain_pem.encode())[0]
        return Chain(chain_pem=_render_certificate(leaf), key_pem=chain.key_pem)

    def make_client_chain(self, common_name: str) -> Chain:
        """A client certificate."""
        return _take_chain(self._ca.issue_cert(common_name, common_name=common_name))

    def make_client_chain_until(self, common_name: str, ends_at: float) -> Chain:
        """A client certificate that ends then, in seconds since the epoch."""
        end = datetime.datetime.fromtimestamp(ends_at, datetime.UTC)
        return self._sign((common_name,), not_before=_now() - _DAY, not_after=end)

    def _sign(self, names: tuple[str, ...], *, not_before: datetime.datetime, not_after: datetime.datetime) -> Chain:
        # trustme's own not_before is fixed.
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.load_pem_x509_certificate(self._ca.cert_pem.bytes())
        issuer_key = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
        return _make_chain(names, key, issuer.subject, issuer_key, not_before, not_after)


def make_self_signed_chain(*names: str) -> Chain:
    """A certificate that nobody but itself signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = _now()
    return _make_chain(names, key, subject, key, now - _DAY, now + 30 * _DAY)


def _make_chain(
    names: tuple[str, ...],
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    not_before: datetime.datetime,
    not_after: datetime.datetime,
) -> Chain:
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectAlternativeName([_make_general_name(name) for name in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage(_PURPOSES), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)
        .sign(issuer_key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Chain(chain_pem=_render_certificate(certificate), key_pem=key_pem.decode())


def _make_general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _take_chain(leaf: trustme.LeafCert) -> Chain:
    return Chain(
        chain_pem="".join(blob.bytes().decode() for blob in leaf.cert_chain_pems),
        key_pem=leaf.private_key_pem.bytes().decode(),
    )


def _render_certificate(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
