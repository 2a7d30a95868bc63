"""Whether a password is a user's: from memory at once, or by its hash, one at a time and in a child. Disk, processes.

scrypt takes 16 MiB and a twentieth of a second on purpose. In a child of its own this memory is given back at once, and
one child at a time bounds what a flood of logins can take.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from dataclasses import dataclass
from typing import Final

from entrypoint.services.logins.protocol import Credentials
from entrypoint.system.agenda import take_signature
from entrypoint.system.files import read_text
from entrypoint.system.password_hashes import Hash, make_nobodys_hash, normalize, parse_table, verify
from entrypoint.system.processes import start_child

_REMEMBERED_SECONDS: Final = 300.0
"""An application that logs in for each message pays for one of them in five minutes."""
_MOST_SECONDS: Final = 8
_RIGHT: Final = b"1"
_WRONG: Final = b"0"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """A child at work."""

    credentials: Credentials
    pid: int
    descriptor: int
    table: dict[str, Hash]
    """The one that it looks into: another may be in force when it has an answer."""


class Verifier:
    """The users, and what was found of late."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._key = os.urandom(32)
        self._signature: tuple[int, ...] = ()
        self._table: dict[str, Hash] = {}
        self._remembered: dict[str, tuple[float, bytes]] = {}
        self.look()

    def look(self) -> None:
        """Read the table if it was replaced, and forget whom the old one let in."""
        signature = take_signature(self._path)
        if signature == self._signature:
            return
        text = read_text(self._path)
        if text is None:
            return
        self._signature = signature
        self._table = {normalize(name): found for name, found in parse_table(text).items()}
        self._remembered.clear()

    def encode_name(self, name: str) -> bytes:
        """Return what stands for a name, of one length: a client may send any."""
        return hashlib.blake2b(normalize(name).encode(), key=self._key, digest_size=16).digest()

    def recall(self, credentials: Credentials) -> bool:
        """Return whether the same was found right a short time ago."""
        self.look()
        ends_at, known = self._remembered.get(normalize(credentials.name), (0.0, b""))
        return time.monotonic() < ends_at and hmac.compare_digest(known, self._mark(credentials))

    def start(self, credentials: Credentials) -> Verification:
        """Begin to verify. Someone unknown is verified against somebody's hash, and takes as long as he."""
        self.look()
        name = normalize(credentials.name)
        found = self._table.get(name)
        others = list(self._table.values()) or [make_nobodys_hash()]
        other = others[int.from_bytes(self.encode_name(name)) % len(others)]
        password = credentials.password

        def work() -> bytes:
            is_right = verify(password, found or other)
            return _RIGHT if is_right and found is not None else _WRONG

        pid, descriptor = start_child(work, _MOST_SECONDS)
        return Verification(credentials=credentials, pid=pid, descriptor=descriptor, table=self._table)

    def finish(self, verification: Verification) -> bool | None:
        """Return what the child has found; `None` where it could not say, or not of the table in force."""
        with open(verification.descriptor, "rb") as file:
            said = file.read()
        os.waitpid(verification.pid, 0)
        self.look()
        if said not in (_RIGHT, _WRONG) or verification.table is not self._table:
            return None
        if said == _RIGHT:
            credentials = verification.credentials
            ends_at = time.monotonic() + _REMEMBERED_SECONDS
            self._remembered[normalize(credentials.name)] = (ends_at, self._mark(credentials))
        return said == _RIGHT

    def _mark(self, credentials: Credentials) -> bytes:
        """Return what is kept of a password: without our key nobody can try passwords against it."""
        data = f"{normalize(credentials.name)}\0{normalize(credentials.password)}".encode()
        return hashlib.blake2b(data, key=self._key).digest()
