"""How a password hash is written in SMTPD_USERS_TABLE: `{SCRYPT}...` and `{PBKDF2-SHA256}...`. Pure.

Both are what Python's standard library can verify, in the form that passlib and others write:
`{SCRYPT}$scrypt$ln=14,r=8,p=5$SALT$HASH` and `{PBKDF2-SHA256}$pbkdf2-sha256$600000$SALT$HASH`, salt and hash in base64
without padding. sha512-crypt is not among them: Python has no crypt(3) any more, and it is cheap to try.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Final

from entrypoint.config.declaration import InvalidValue

PLAIN: Final = "PLAIN"
SCRYPT: Final = "SCRYPT"
PBKDF2: Final = "PBKDF2-SHA256"
_MARK: Final = re.compile(r"\{([A-Za-z0-9.-]{1,24})\}")
"""Dovecot's way to say what follows. A password that begins like that is written behind {PLAIN}."""
_SCRYPT: Final = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([^$]+)\$([^$]+)")
_PBKDF2: Final = re.compile(r"\$pbkdf2-sha256\$(\d{1,8})\$([^$]+)\$([^$]+)")
_COST_BITS: Final = range(13, 17)
"""RFC 7914's N is two to the power of it, 8 to 64 MiB: less is found by trying, more is a flood."""
_BLOCKS: Final = 8
_MOST_PARALLEL: Final = 10
_ROUNDS: Final = range(100_000, 2_000_001)
_SALT_BYTES: Final = range(8, 65)
_HASH_BYTES: Final = range(16, 65)
_REMEDY: Final = "Make one: docker run --rm -i authrelay hash-password"


@dataclass(frozen=True, kw_only=True)
class Hash:
    """A hash, its salt, and how it was made: scrypt's (N, r, p), or how many rounds of PBKDF2."""

    scheme: str
    costs: tuple[int, ...]
    salt: bytes
    digest: bytes

    def __str__(self) -> str:
        """Return it as it is written in the table."""
        salt, digest = (
            binascii.b2a_base64(part, newline=False).decode().rstrip("=") for part in (self.salt, self.digest)
        )
        if self.scheme == SCRYPT:
            cost, blocks, parallel = self.costs
            return f"{{{SCRYPT}}}$scrypt$ln={cost.bit_length() - 1},r={blocks},p={parallel}${salt}${digest}"
        return f"{{{PBKDF2}}}$pbkdf2-sha256${self.costs[0]}${salt}${digest}"


def parse_secret(text: str) -> str | Hash:
    """Return what stands for a user's password: itself, or its hash; nothing of it is in what is raised."""
    match = _MARK.match(text)
    if match is None:
        return text
    scheme, rest = match[1].upper(), text[match.end() :]
    if scheme == PLAIN:
        return rest
    if scheme == SCRYPT:
        return _parse_scrypt(rest)
    if scheme == PBKDF2:
        return _parse_pbkdf2(rest)
    raise InvalidValue(
        f"'{match[0]}' is a kind of hash that cannot be verified here",
        f"{_REMEDY}. A password that begins like that is written behind {{PLAIN}}",
    )


def _parse_scrypt(text: str) -> Hash:
    if not (match := _SCRYPT.fullmatch(text)):
        raise InvalidValue("the scrypt hash is damaged: perhaps a shell or Compose took its $ signs", _REMEDY)
    bits, blocks, parallel = (int(match[number]) for number in (1, 2, 3))
    if bits not in _COST_BITS or blocks != _BLOCKS or not 1 <= parallel <= _MOST_PARALLEL:
        raise InvalidValue(
            f"the scrypt hash was made with ln={bits}, r={blocks}, p={parallel}, and here ln is "
            f"{_COST_BITS[0]} to {_COST_BITS[-1]}, r {_BLOCKS} and p 1 to {_MOST_PARALLEL}",
            _REMEDY,
        )
    salt, digest = _decode(match[4], match[5])
    return Hash(scheme=SCRYPT, costs=(1 << bits, blocks, parallel), salt=salt, digest=digest)


def _parse_pbkdf2(text: str) -> Hash:
    if not (match := _PBKDF2.fullmatch(text)):
        raise InvalidValue("the pbkdf2-sha256 hash is damaged: perhaps a shell or Compose took its $ signs", _REMEDY)
    if int(match[1]) not in _ROUNDS:
        raise InvalidValue(
            f"the pbkdf2-sha256 hash has {match[1]} rounds, and here they are {_ROUNDS[0]} to {_ROUNDS[-1]}", _REMEDY
        )
    salt, digest = _decode(match[2], match[3])
    return Hash(scheme=PBKDF2, costs=(int(match[1]),), salt=salt, digest=digest)


def _decode(salt: str, digest: str) -> tuple[bytes, bytes]:
    try:
        # passlib writes a dot for the plus sign of base64.
        parts = [
            binascii.a2b_base64(part.replace(".", "+") + "=" * (-len(part) % 4), strict_mode=True)
            for part in (salt, digest)
        ]
    except (binascii.Error, ValueError):
        raise InvalidValue("its salt or hash is not base64", _REMEDY) from None
    if len(parts[0]) not in _SALT_BYTES or len(parts[1]) not in _HASH_BYTES:
        raise InvalidValue("its salt or hash is too short or too long", _REMEDY)
    return parts[0], parts[1]
