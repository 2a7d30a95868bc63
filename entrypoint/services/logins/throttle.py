"""Who has to wait before the next try, and who is not heard for a while. Pure: whoever asks says what time it is.

Failures are counted by address (IPv6: by /64), and by user and address. Nobody is locked out by another: a user is
asked from a second address as if nothing had been, only with less patience while many guess at that name. Behind one
address, a gateway's for example, a user who has logged in from there of late is heard while others there are not.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

_FREE_FAILURES: Final = 2
"""A person mistypes, and a phone tries the old password once more."""
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 4.0
"""smtpd(8) waits ten seconds for an answer (AUTH_TIMEOUT of xsasl_dovecot_server.c)."""
MOST_FAILURES: Final = 10
_MOST_FAILURES_AT_A_TARGET: Final = 3
_TARGET_FAILURES: Final = 30
"""At one name, from everywhere: somebody guesses."""
BLOCK_SECONDS: Final = 300.0
"""For which nobody is heard after the last failure; and after which all is forgotten."""
_KNOWN_SECONDS: Final = 86400.0
_MOST_ENTRIES: Final = 8192
"""Of each kind, about 2 MB. Who has more addresses pushes out the oldest, and is held by the verifier's one place."""

Key = TypeVar("Key")


@dataclass(slots=True)
class _Count:
    failures: int = 0
    last_at: float = 0.0


class _Counts(Generic[Key]):
    """Failures by a key, the oldest forgotten."""

    def __init__(self) -> None:
        self._counts: OrderedDict[Key, _Count] = OrderedDict()

    def find(self, key: Key, now: float) -> _Count:
        found = self._counts.get(key)
        return found if found is not None and now - found.last_at < BLOCK_SECONDS else _Count()

    def add(self, key: Key, now: float) -> int:
        count = self.find(key, now)
        count.failures += 1
        count.last_at = now
        self._counts[key] = count
        self._counts.move_to_end(key)
        if len(self._counts) > _MOST_ENTRIES:
            self._counts.popitem(last=False)
        return count.failures

    def forget(self, key: Key) -> None:
        self._counts.pop(key, None)

    def __len__(self) -> int:
        return len(self._counts)


class Throttle:
    """What is known of those who failed, and of those who did not. Names are whatever the caller makes of them."""

    def __init__(self) -> None:
        self._addresses: _Counts[str] = _Counts()
        self._pairs: _Counts[tuple[str, bytes]] = _Counts()
        self._names: _Counts[bytes] = _Counts()
        self._known: OrderedDict[tuple[str, bytes], float] = OrderedDict()

    def is_known(self, address: str, name: bytes, now: float) -> bool:
        """Return whether the user has logged in from there of late."""
        return now - self._known.get((address, name), -_KNOWN_SECONDS) < _KNOWN_SECONDS

    def find_pause(self, address: str, name: bytes, now: float) -> float | None:
        """Return how many seconds from now the try may be heard; `None`: not at all."""
        count = self._pairs.find((address, name), now)
        most = MOST_FAILURES
        if not self.is_known(address, name, now):
            # Everything from there counts, whatever the names.
            count = max(count, self._addresses.find(address, now), key=lambda one: one.failures)
            if self._names.find(name, now).failures >= _TARGET_FAILURES:
                most = _MOST_FAILURES_AT_A_TARGET
        if count.failures >= most:
            return None
        if count.failures < _FREE_FAILURES:
            return 0.0
        doubled: float = _FIRST_PAUSE_SECONDS * (1 << count.failures - _FREE_FAILURES)
        pause = min(_LONGEST_PAUSE_SECONDS, doubled)
        return max(0.0, count.last_at + pause - now)

    def note_failure(self, address: str, name: bytes, now: float) -> bool:
        """Count a wrong password, and return whether the address is not heard any more because of this one."""
        self._pairs.add((address, name), now)
        self._names.add(name, now)
        return self._addresses.add(address, now) == MOST_FAILURES

    def note_success(self, address: str, name: bytes, now: float) -> None:
        """Remember a right one. What others did from there stays counted."""
        self._pairs.forget((address, name))
        self._known[address, name] = now
        self._known.move_to_end((address, name))
        if len(self._known) > _MOST_ENTRIES:
            self._known.popitem(last=False)

    def measure(self) -> int:
        """Return how many entries there are."""
        return len(self._addresses) + len(self._pairs) + len(self._names) + len(self._known)


def find_network(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the first half of an IPv6 address."""
    if ":" not in address:
        return address
    import ipaddress

    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((parsed, 64), strict=False))
