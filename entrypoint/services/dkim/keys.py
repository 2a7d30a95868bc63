"""The keys in force, and for what, from the file that the start wrote; read again when it is another. Disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence

from entrypoint.services.dkim.signature import Signer, make_signer


class Keys:
    """Who signs, by the domain of a From field."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._state = self._find_state()
        self._signers, self.lists = self._load()

    def refresh(self) -> str | None:
        """Follow the file; return why that is not possible, once, when what was there before stays in force."""
        try:
            state = self._find_state()
            if state == self._state:
                return None
            self._state = state
            self._signers, self.lists = self._load()
        except (OSError, ValueError, KeyError) as error:
            return f"the DKIM keys cannot be read again, and those from before go on signing: {error}"
        return None

    def find(self, domain: str) -> Sequence[Signer]:
        """Return who signs for a domain: by its own line, or by that of the closest domain above it."""
        return next((self._signers[name] for name in _list_patterns(domain) if name in self._signers), ())

    def _find_state(self) -> tuple[int, int]:
        found = os.stat(self._path)
        return found.st_ino, found.st_mtime_ns

    def _load(self) -> tuple[dict[str, tuple[Signer, ...]], frozenset[str]]:
        with open(self._path, encoding="ascii") as file:
            told = json.load(file)
        found = {
            pattern: tuple(make_signer(one["domain"], one["selector"], one["key"]) for one in signers)
            for pattern, signers in told["keys"].items()
        }
        if not all(found.values()):
            raise ValueError("a domain without a key")  # its mail would leave unsigned
        return found, frozenset(told["lists"])


def _list_patterns(domain: str) -> Iterator[str]:
    """Yield `a.example.com`, `.example.com`, `.com`."""
    yield domain
    while domain:
        _, _, domain = domain.partition(".")
        yield f".{domain}"
