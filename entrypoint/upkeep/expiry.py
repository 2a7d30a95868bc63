"""Which certificates end soon, what to say of each, and when to look again. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

DAY_SECONDS: Final = 86400
_WARNED_DAYS: Final = (30, 7, 1, 0)
"""A month to act in, a week, the last day, and the end itself."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """A certificate that is in use; `not_after` in seconds since the epoch."""

    role: str
    """`trusted_ca`, `client` or `oauth2`."""
    what: str
    """Whose it is: `RELAYHOST_CA: the CA`, `CLIENT_CERT: the client certificate`."""
    subject: str
    sha256: str
    not_after: int
    remedy: str
    renewed_at: int | None = None
    """When it is replaced by itself, if it is."""


def find_endings(endings: Sequence[Ending], now: float) -> dict[str, str]:
    """Return a sentence for each certificate that ends within 30 days, by a key that is new at 30, 7, 1 and 0 days."""
    found = {}
    for one in endings:
        passed = [days for days in _WARNED_DAYS if one.not_after - now <= days * DAY_SECONDS]
        if passed and one.renewed_at is None:
            found[f"end:{one.sha256}:{min(passed)}"] = _describe(one, now)
    return found


def find_next_look(endings: Sequence[Ending], now: float) -> float | None:
    """Return when there will be something to say or to renew next, in seconds since the epoch."""
    moments = [one.not_after - days * DAY_SECONDS for one in endings if one.renewed_at is None for days in _WARNED_DAYS]
    moments += [one.renewed_at for one in endings if one.renewed_at is not None]
    # A second later, so that it is certainly past.
    return min((moment + 1 for moment in moments if moment + 1 > now), default=None)


def _describe(one: Ending, now: float) -> str:
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(one.not_after))
    left = one.not_after - now
    if left <= 0:
        return f"{one.what} '{one.subject}' expired on {day}. {one.remedy}"
    days, hours = int(left // DAY_SECONDS), int(left // 3600)
    span = f"{days} days" if days > 1 else f"{hours} hours" if hours > 1 else "the next hour"
    return f"{one.what} '{one.subject}' expires in {span}, on {day}. {one.remedy}"
