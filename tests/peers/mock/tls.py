"""Server TLS contexts, made anew for each handshake so that every push takes effect at once."""

from __future__ import annotations

import hashlib
import pathlib
import ssl
import tempfile
from collections.abc import Callable

from cryptography import x509

_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


def make_context(
    *,
    chain_pem: str,
    key_pem: str,
    client_certificates_pem: str,
    minimum: str,
    maximum: str,
    note_sni: Callable[[str | None], None],
) -> ssl.SSLContext:
    """Make the context of one handshake. A context of its own also means that no session is ever resumed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if maximum in ("TLSv1", "TLSv1.1"):
        # OpenSSL 3 has no cipher for these versions above level 0.
        context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = _VERSIONS[minimum]
    context.maximum_version = _VERSIONS[maximum]
    # The ssl module reads a server's key from files only.
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(key_pem + "\n" + chain_pem)
        file.flush()
        context.load_cert_chain(file.name)
    if client_certificates_pem:
        # The ssl module cannot accept *any* certificate: the accepted ones are their own trust anchors.
        context.load_verify_locations(cadata=client_certificates_pem)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = ssl.CERT_OPTIONAL
    context.sni_callback = lambda _socket, name, _context: note_sni(name)
    return context


def parse_certificate(der: bytes) -> tuple[str, str]:
    """The subject (RFC 4514) and the SHA-256 fingerprint ("AB:CD:...", as `openssl x509` prints it)."""
    subject = x509.load_der_x509_certificate(der).subject.rfc4514_string()
    return subject, hashlib.sha256(der).digest().hex(":").upper()


def check_chain(chain_pem: str, key_pem: str) -> None:
    """Raise ValueError (or ssl.SSLError, OSError) for a chain that could not be served."""
    make_context(
        chain_pem=chain_pem,
        key_pem=key_pem,
        client_certificates_pem="",
        minimum="TLSv1.2",
        maximum="TLSv1.3",
        note_sni=lambda _name: None,
    )


def save_atomically(path: pathlib.Path, data: bytes, mode: int) -> None:
    """Write a file so that a reader sees all of it or none."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    new.chmod(mode)
    new.rename(path)
