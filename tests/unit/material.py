"""Certificates and keys for the unit tests: made anew for each run, but for their subjects. Pure but for randomness."""

from __future__ import annotations

import datetime
import io
import zipfile
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from entrypoint.config.dkim_key import make_dkim_key

_PEM: Final = serialization.Encoding.PEM
_PKCS8: Final = serialization.PrivateFormat.PKCS8


def render_key(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> str:
    """Return a key as PEM, encrypted if there is a passphrase."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(_PEM, _PKCS8, encryption).decode()


def make_certificate(subject: str, key: ec.EllipticCurvePrivateKey, *, is_ca: bool) -> x509.Certificate:
    """Return a self-signed certificate of some years."""
    name = x509.Name.from_rfc4514_string(subject)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def make_zip(members: dict[str, bytes]) -> bytes:
    """Return a ZIP archive of the given files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


_key = ec.generate_private_key(ec.SECP256R1())
_ca = make_certificate("CN=Example CA", ec.generate_private_key(ec.SECP256R1()), is_ca=True)
_second_ca = make_certificate("CN=Second CA", ec.generate_private_key(ec.SECP256R1()), is_ca=True)

LEAF: Final = make_certificate("CN=smtp.example.com", _key, is_ca=False).public_bytes(_PEM).decode()
KEY: Final = render_key(_key)
"""The key of LEAF."""
OTHER_KEY: Final = render_key(ec.generate_private_key(ec.SECP256R1()))
ENCRYPTED_KEY: Final = render_key(_key, b"passphrase")
CA: Final = _ca.public_bytes(_PEM).decode()
CA_DER: Final = _ca.public_bytes(serialization.Encoding.DER)
SECOND_CA: Final = _second_ca.public_bytes(_PEM).decode()
CA_PKCS7: Final = pkcs7.serialize_certificates([_ca, _second_ca], serialization.Encoding.DER)
DKIM_KEY: Final = make_dkim_key("ed25519").pem.reveal()
RSA_KEY: Final = make_dkim_key("rsa").pem.reveal()
"""Of 2048 bits."""
SMALL_RSA_KEY: Final = (
    rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
    .private_bytes(_PEM, _PKCS8, serialization.NoEncryption())
    .decode()
)
