"""Makes and verifies password hashes, and the table of them that the login service reads. Chance, memory, processor.

Takes apart what `config.password_scheme`, which is pure, has read. `hashlib` and `hmac` are imported inside the
functions: a relay without logins must not pay for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final, Protocol

from entrypoint.config.password_scheme import PBKDF2, SCRYPT, parse_secret
from entrypoint.config.password_scheme import Hash as Hash

_COST: Final = 1 << 14
_BLOCKS: Final = 8
"""16 MiB and about 60 ms (RFC 7914); OWASP has this with five times the work for hashes that are kept."""
QUICK: Final = 1
"""For what is hashed at each start, and lies beside its password anyway."""
THOROUGH: Final = 5
"""For what a person puts into a file."""
_MOST_MEMORY_BYTES: Final = 96 * 2**20
_SALT_BYTES: Final = 16
_DIGEST_BYTES: Final = 32


class Entry(Protocol):
    """A user, as far as this module needs one; a password or a hash."""

    @property
    def name(self) -> str: ...
    @property
    def password(self) -> Text | None: ...
    @property
    def hash(self) -> Hash | None: ...


class Text(Protocol):
    """A text that does not show itself."""

    def reveal(self) -> str: ...


def normalize(text: str) -> str:
    """Return one form of what looks the same: programs differ in how they write an umlaut (RFC 8265 section 4.2.1)."""
    if text.isascii():
        return text
    import unicodedata  # 1 MB, for those who need it

    spaced = "".join(" " if unicodedata.category(character) == "Zs" else character for character in text)
    return unicodedata.normalize("NFC", spaced)


def make_hash(password: str, *, parallel: int, salt: bytes = b"") -> Hash:
    """Return a new scrypt hash."""
    costs = (_COST, _BLOCKS, parallel)
    salt = salt or os.urandom(_SALT_BYTES)
    return Hash(scheme=SCRYPT, costs=costs, salt=salt, digest=_derive(SCRYPT, costs, salt, password, _DIGEST_BYTES))


def make_nobodys_hash() -> Hash:
    """Return what no password leads to, and takes as long as others."""
    salt, digest = os.urandom(_SALT_BYTES), os.urandom(_DIGEST_BYTES)
    return Hash(scheme=SCRYPT, costs=(_COST, _BLOCKS, QUICK), salt=salt, digest=digest)


def verify(password: str, known: Hash) -> bool:
    """Return whether it is the password of a hash."""
    import hmac

    digest = _derive(known.scheme, known.costs, known.salt, password, len(known.digest))
    return hmac.compare_digest(digest, known.digest)


def _derive(scheme: str, costs: tuple[int, ...], salt: bytes, password: str, size: int) -> bytes:
    import hashlib

    data = normalize(password).encode()
    if scheme == PBKDF2:
        return hashlib.pbkdf2_hmac("sha256", data, salt, costs[0], size)
    cost, blocks, parallel = costs
    return hashlib.scrypt(data, salt=salt, n=cost, r=blocks, p=parallel, maxmem=_MOST_MEMORY_BYTES, dklen=size)


def render_table(users: Iterable[Entry], key: bytes, before: str) -> str:
    """Return the table of hashes, `user:{SCHEME}hash` a line; what is unchanged since the one before is not made again.

    The salt of what is hashed here follows from `key`, the user and the password, so that it tells whether the password
    is the same. The key is in memory alone, and without it the salt tells nothing.
    """
    import hmac

    known = parse_table(before)
    lines = []
    for user in users:
        if user.hash is not None:
            lines.append(f"{user.name}:{user.hash}\n")
        elif user.password is not None:
            salt = _make_salt(key, user.name, user.password.reveal())
            kept = known.get(user.name)
            is_same = kept is not None and kept.scheme == SCRYPT and hmac.compare_digest(kept.salt, salt)
            found = kept if is_same else make_hash(user.password.reveal(), parallel=QUICK, salt=salt)
            lines.append(f"{user.name}:{found}\n")
    return "".join(lines)


def parse_table(text: str) -> dict[str, Hash]:
    """Return the hash of each user."""
    return dict(_split(line) for line in text.splitlines() if ":" in line)


def _split(line: str) -> tuple[str, Hash]:
    name, _, rest = line.partition(":")
    found = parse_secret(rest)
    if isinstance(found, Hash):
        return name, found
    raise ValueError("a password that is no hash is in the table of hashes")


def _make_salt(key: bytes, name: str, password: str) -> bytes:
    import hashlib

    return hashlib.blake2b(f"{name}\0{password}".encode(), key=key, digest_size=_SALT_BYTES).digest()
