"""The keys that sign with DKIM: from text to checked values, made anew, and as records to publish. Pure.

Apart from `dkim`, because a start that signs nothing must not pay for it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from entrypoint.config.certificates import parse_private_key
from entrypoint.config.declaration import SETTING, InvalidValue
from entrypoint.config.dkim import ED25519, RSA
from entrypoint.config.secret import Secret

RSA_BITS: Final = 2048
_MOST_RSA_BITS: Final = 4096
"""RFC 8301 section 3.2: signers use 2048 or more, and verifiers must be able to check up to 4096."""
_BLOCK: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)
_STRING_BYTES: Final = 255
"""RFC 1035 section 3.3: the longest string of a TXT record; RFC 6376 section 3.6.2.2 joins them."""


@dataclass(frozen=True, kw_only=True)
class DkimKey:
    """A private key in PKCS #8, and its public half as a record has it."""

    algorithm: str
    bits: int
    pem: Secret
    public: str
    """RFC 6376 section 3.6.1 p=: base64 of SubjectPublicKeyInfo; for Ed25519 of the 32 bytes (RFC 8463 section 4)."""

    @property
    def record(self) -> str:
        """The text of its TXT record (RFC 6376 section 3.6.1)."""
        return f"v=DKIM1; k={self.algorithm}; p={self.public}"

    def __str__(self) -> str:
        return f"RSA of {self.bits} bits" if self.algorithm == RSA else "Ed25519"


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A key, and where its record is published."""

    domain: str
    selector: str
    key: DkimKey

    @property
    def name(self) -> str:
        """The name of the record (RFC 6376 section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


def parse_dkim_keys(text: str) -> tuple[DkimKey, ...]:
    """Return a private key in PEM, or one of each algorithm, RSA first."""
    blocks = _BLOCK.findall(text) or [text]
    keys = sorted((parse_dkim_key(block) for block in blocks), key=lambda key: key.algorithm != RSA)
    if len({key.algorithm for key in keys}) < len(keys):
        raise InvalidValue(
            "it holds two keys of the same kind",
            "Give one RSA key, one Ed25519 key, or one of each; docs/dkim.md shows how to change to a new one",
        )
    return tuple(keys)


def parse_dkim_key(text: str) -> DkimKey:
    """Return one private key in PEM."""
    pem = parse_private_key(text)
    key = serialization.load_pem_private_key(pem.reveal().encode(), password=None)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return _describe(key, pem)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise InvalidValue("DKIM has no keys of this kind, only RSA and Ed25519", _make_remedy())
    if key.key_size < RSA_BITS:
        raise InvalidValue(f"the RSA key has {key.key_size} bits, fewer than {RSA_BITS} (RFC 8301)", _make_remedy())
    if key.key_size > _MOST_RSA_BITS:
        raise InvalidValue(
            f"the RSA key has {key.key_size} bits, and verifiers need not check more than {_MOST_RSA_BITS} (RFC 8301)",
            _make_remedy(),
        )
    return _describe(key, pem)


def make_dkim_key(algorithm: str) -> DkimKey:
    """Return a new key."""
    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
    if algorithm == ED25519:
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return _describe(key, Secret(pem.decode()))


def name_keys(domain: str, selector: str, keys: tuple[DkimKey, ...]) -> tuple[SigningKey, ...]:
    """Return keys with their selectors: a record holds one key, so that the second has a selector of its own."""
    selectors = (selector, name_second(selector))
    return tuple(SigningKey(domain=domain, selector=one, key=key) for one, key in zip(selectors, keys, strict=False))


def name_second(selector: str) -> str:
    """Return the selector of the Ed25519 key beside an RSA key."""
    return f"{selector}-{ED25519}"


def render_record(signing: SigningKey) -> str:
    """Return the TXT record as a line of a zone file (RFC 1035 section 5.1), in strings of at most 255 bytes."""
    strings = (f'"{part}"' for part in split_text(signing.key.record))
    return f"{signing.name}. IN TXT ( {' '.join(strings)} )"


def split_text(text: str) -> Iterator[str]:
    """Yield a text in parts that each fit into a string of a TXT record."""
    for start in range(0, len(text), _STRING_BYTES):
        yield text[start : start + _STRING_BYTES]


def read_record(text: str) -> dict[str, str]:
    """Return the tags of a record, without what only folds them (RFC 6376 section 3.2)."""
    tags = (part.partition("=") for part in text.split(";") if "=" in part)
    return {name.strip(): re.sub(r"\s", "", value) for name, _, value in tags}


def _describe(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, pem: Secret) -> DkimKey:
    if isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return DkimKey(algorithm=RSA, bits=key.key_size, pem=pem, public=base64.b64encode(public).decode())
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return DkimKey(algorithm=ED25519, bits=256, pem=pem, public=base64.b64encode(raw).decode())


def _make_remedy() -> str:
    return f"Make one with 'openssl genrsa -out dkim.pem {RSA_BITS}', or leave {SETTING} out to have one made"
