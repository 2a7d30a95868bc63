"""A server's certificates: from bytes to a path whose signatures hold. Pure; in `config`, beside `certificates`.

What is said of a chain decides what the user will set, and nothing here looks at the world: not even at the clock.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from entrypoint.config.certificates import may_sign_certificates
from entrypoint.errors import escape_odd

if TYPE_CHECKING:
    from cryptography import x509

_MOST_LINKS: Final = 12
"""More than any chain has; a loop of certificates ends here."""


class Origin(enum.Enum):
    """Where a certificate is from."""

    SENT = "sent"
    FETCHED = "fetched"
    SYSTEM = "system"


@dataclass(frozen=True, kw_only=True)
class Link:
    """One certificate of a chain, described."""

    certificate: x509.Certificate = field(repr=False)
    origin: Origin
    url: str | None = None
    """Where it was fetched from."""
    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime.datetime
    not_after: datetime.datetime
    key: str
    """`ECDSA P-256`, `RSA 2048 bits`."""
    sha256: str
    is_ca: bool
    is_self_signed: bool
    """Whether its own key signed it; an issuer of the same name alone is not enough."""
    is_for_servers: bool
    """Whether its extended key usage, if it has one, allows a TLS server (RFC 5280 section 4.2.1.12)."""
    issuer_urls: tuple[str, ...]
    """The caIssuers addresses (RFC 5280 section 4.2.2.1): those with http:// first, which alone are asked."""

    @property
    def pem(self) -> str:
        """The certificate as PEM."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self.certificate.public_bytes(Encoding.PEM).decode()

    def is_valid_at(self, moment: datetime.datetime) -> bool:
        """Return whether the moment is between its first and its last."""
        return self.not_before <= moment <= self.not_after


def load_sent(chain: Iterable[bytes]) -> list[Link]:
    """Return what a server sent, as DER; what is no certificate is left out, but for the server's own: ValueError."""
    from cryptography import x509

    found: list[Link] = []
    for position, data in enumerate(chain):
        try:
            found.append(describe(x509.load_der_x509_certificate(data), Origin.SENT))
        except ValueError:
            if position == 0:
                raise
    return found


def load_system(pem: str) -> list[x509.Certificate]:
    """Return the certificates of the system's bundle."""
    from cryptography import x509

    if "-----BEGIN CERTIFICATE-----" not in pem:
        return []
    with warnings.catch_warnings():
        # Some old roots have serial numbers that are not as they should be; nobody here can change that.
        warnings.simplefilter("ignore")
        return x509.load_pem_x509_certificates(pem.encode())


def load_fetched(data: bytes, url: str) -> list[Link]:
    """Return the certificates of a caIssuers document: DER or PKCS #7 (RFC 5280), or PEM, as some CAs serve."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import pkcs7

    loaders: tuple[Callable[[], list[x509.Certificate]], ...] = (
        lambda: [x509.load_der_x509_certificate(data)],
        lambda: pkcs7.load_der_pkcs7_certificates(data),
        lambda: x509.load_pem_x509_certificates(data),
        lambda: pkcs7.load_pem_pkcs7_certificates(data),
    )
    for load in loaders:
        # cryptography raises several kinds of error for bytes that are no certificate.
        with contextlib.suppress(Exception):
            return [describe(certificate, Origin.FETCHED, url) for certificate in load()]
    return []


def describe(certificate: x509.Certificate, origin: Origin, url: str | None = None) -> Link:
    """Return a certificate with what a person needs to know of it; ValueError where it cannot be read."""
    from cryptography.hazmat.primitives import hashes

    return Link(
        certificate=certificate,
        origin=origin,
        url=url,
        # A stranger wrote these: nothing in them may move a terminal's cursor or begin a line.
        subject=escape_odd(certificate.subject.rfc4514_string()) or "(empty)",
        issuer=escape_odd(certificate.issuer.rfc4514_string()) or "(empty)",
        names=tuple(escape_odd(name) for name in _read_names(certificate)),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=_describe_key(certificate),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
        is_ca=may_sign_certificates(certificate),
        is_self_signed=is_signed_by(certificate, certificate),
        is_for_servers=_is_for_servers(certificate),
        issuer_urls=_read_issuer_urls(certificate),
    )


def build_path(
    sent: list[Link], fetched: list[Link], system: list[x509.Certificate], moment: datetime.datetime
) -> list[Link]:
    """Return the server's certificate, its issuer, and so on as far as signatures lead.

    Of several issuers a valid one comes first, then one of the system's bundle, then a root.
    """
    path = [sent[0]]
    others = [*sent[1:], *fetched]
    while not path[-1].is_self_signed and len(path) < _MOST_LINKS:
        child = path[-1].certificate
        trusted = [
            describe(one, Origin.SYSTEM) for one in system if one.subject == child.issuer and is_signed_by(child, one)
        ]
        issuers = [*trusted, *(one for one in others if one.is_ca and is_signed_by(child, one.certificate))]
        issuers = [one for one in issuers if one.sha256 not in {link.sha256 for link in path}]
        if not issuers:
            break
        path.append(
            max(issuers, key=lambda one: (one.is_valid_at(moment), one.origin is Origin.SYSTEM, one.is_self_signed))
        )
        if path[-1].origin is Origin.SYSTEM:
            break
    return path


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether the issuer's key signed the certificate, and under the issuer's name."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def find_distrust(
    sent: list[Link], trusted: list[x509.Certificate], host: str, moment: datetime.datetime
) -> str | None:
    """Return why the chain as the server sent it is not verified by the trusted certificates; `None`: it is.

    The profile is that of the Web PKI, which is stricter than Postfix's: a `None` can be relied on.
    """
    import ipaddress

    from cryptography import x509
    from cryptography.x509 import verification

    if not trusted:
        return "there is no bundle"
    subject: x509.DNSName | x509.IPAddress
    try:
        subject = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    try:
        verifier = (
            verification.PolicyBuilder().store(verification.Store(trusted)).time(moment).build_server_verifier(subject)
        )
        verifier.verify(sent[0].certificate, [one.certificate for one in sent[1:]])
    except (verification.VerificationError, ValueError) as error:
        # What follows is the whole certificate, as Python shows it.
        return str(error).partition(" (encountered")[0]
    return None


def matches_name(link: Link, host: str) -> bool:
    """Return whether a certificate is for a host, as Postfix compares (postconf(5) smtp_tls_secure_cert_match)."""
    wanted = host.lower().split(".")
    for name in link.names:
        labels = name.lower().removesuffix(".").split(".")
        # RFC 6125 section 6.4.3: a star stands for the whole first label and for nothing else.
        if labels == wanted or (labels[0] == "*" and len(labels) > 2 and labels[1:] == wanted[1:]):
            return True
    return False


def _read_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names and addresses; the common name only where there is no name (RFC 6125 section 6.4.4)."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    extension = _find_extension(certificate, x509.SubjectAlternativeName)
    names: tuple[str, ...] = ()
    if extension is not None:
        names = tuple(extension.get_values_for_type(x509.DNSName))
        names += tuple(str(one) for one in extension.get_values_for_type(x509.IPAddress))
    if not names and not may_sign_certificates(certificate):
        names = tuple(str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    return names


def _read_issuer_urls(certificate: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509
    from cryptography.x509.oid import AuthorityInformationAccessOID

    urls = [
        one.access_location.value
        for one in _find_extension(certificate, x509.AuthorityInformationAccess) or ()
        if one.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        and isinstance(one.access_location, x509.UniformResourceIdentifier)
    ]
    return tuple(sorted(urls, key=lambda url: not url.lower().startswith("http://")))


def _is_for_servers(certificate: x509.Certificate) -> bool:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    purposes = _find_extension(certificate, x509.ExtendedKeyUsage)
    if purposes is None:
        return True
    return bool({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(purposes))


def _find_extension(certificate: x509.Certificate, kind: Any) -> Any:
    """Return an extension's value, or `None` where there is none that can be read."""
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return None


def _describe_key(certificate: x509.Certificate) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "of a kind that is not known here"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        names = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
        return f"ECDSA {names.get(key.curve.name, key.curve.name)}"
    return type(key).__name__.removesuffix("PublicKey").lstrip("_")
