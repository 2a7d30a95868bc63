"""What the last probe of the upstreams found, and whether mail can be delivered by that. Disk, clock.

Light: `authrelay health` reads it every few seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from entrypoint import paths
from entrypoint.system.files import read_text, write_file
from entrypoint.upkeep.token_states import TokenState

TOKEN: Final = "token"  # noqa: S105 - the name of a step
"""The step at which the way ends without an access token."""
_STAND_INS: Final = frozenset({"RELAYHOST", "FALLBACK_RELAYHOST"})


@dataclass(frozen=True, kw_only=True)
class ShownCertificate:
    """A certificate that the upstream showed; times in seconds since the epoch."""

    subject: str
    issuer: str
    sha256: str
    not_before: float
    not_after: float


@dataclass(frozen=True, kw_only=True)
class TlsState:
    """How TLS with an upstream was agreed, and what it showed."""

    level: str
    """The TLS level in force, as Postfix names it."""
    protocol: str
    cipher: str
    verdict: str
    """`verified`, `not verified`, or nothing where the level does not check."""
    chain: tuple[ShownCertificate, ...]
    """Its own certificate first."""


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """What was found at one upstream; `step` is empty where all is well, and `words` then says what was agreed."""

    setting: str
    nexthop: str
    step: str
    words: str
    is_tried: bool = True
    """Whether it was walked to: not so with PROBE=no."""
    tls: TlsState | None = None
    """What was seen of its TLS; nothing, where the walk did not come as far as that."""

    @property
    def is_well(self) -> bool:
        """Whether mail can go there."""
        return not self.step

    def __str__(self) -> str:
        name = f"{self.setting} {self.nexthop}"
        if self.is_well:
            return f"{name} works: {self.words}"
        return f"{name} does not work, broken at '{self.step}': {self.words}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One probe of every upstream; `at` is in seconds since the epoch."""

    at: float = 0.0
    upstreams: tuple[Upstream, ...] = ()
    failures: int = 0
    """How many probes in a row have found that mail cannot go everywhere."""
    vain: int = 0
    """How many probes in a row have found that all is well, though deliveries called for them."""

    @property
    def is_well(self) -> bool:
        """Whether mail can go to at least one upstream."""
        return any(upstream.is_well for upstream in self.upstreams)

    @property
    def is_whole(self) -> bool:
        """Whether mail can go everywhere: FALLBACK_RELAYHOST stands in for RELAYHOST, and nothing for the others."""
        main = [upstream for upstream in self.upstreams if upstream.setting in _STAND_INS]
        others = [upstream for upstream in self.upstreams if upstream.setting not in _STAND_INS]
        return any(upstream.is_well for upstream in main) and all(upstream.is_well for upstream in others)


def load_verdict() -> Verdict:
    """Return what the last probe found; one without upstreams where there was none yet."""
    text = read_text(paths.VERDICT)
    if text is None:
        return Verdict()
    values = json.loads(text)
    upstreams = tuple(Upstream(**{**one, "tls": _load_tls(one["tls"])}) for one in values["upstreams"])
    return Verdict(at=values["at"], upstreams=upstreams, failures=values["failures"], vain=values["vain"])


def _load_tls(values: dict[str, Any] | None) -> TlsState | None:
    if values is None:
        return None
    return TlsState(**{**values, "chain": tuple(ShownCertificate(**one) for one in values["chain"])})


def save_verdict(verdict: Verdict) -> None:
    """Let `authrelay health` know."""
    write_file(paths.VERDICT, json.dumps(asdict(verdict)) + "\n", 0o644)


def find_readiness(verdict: Verdict, states: Collection[TokenState] = ()) -> Sequence[tuple[str, bool, str]]:
    """Return (name, is it well, detail) for what decides whether mail can be delivered now.

    A message that an upstream has taken since counts more than a probe that failed. No login is made without an access
    token, whatever the last probe found.
    """
    missing = {one.setting: one.describe() for one in states if not one.is_well}
    verdict = replace(
        verdict,
        upstreams=tuple(
            replace(one, step=TOKEN, words=missing[one.setting]) if one.setting in missing else one
            for one in verdict.upstreams
        ),
    )
    if verdict.at and not verdict.is_well and _find_last_sent() > verdict.at:
        return [("upstream", True, "a message was delivered since the last probe, which failed")]
    if not verdict.at:
        return [("upstream", False, "it has not been tried yet")]
    rows = [(f"{one.setting} {one.nexthop}", one.is_well, one.words) for one in verdict.upstreams]
    # While one of them works, mail goes out: a relay of thirty accounts is not out of service for one of them.
    return [(name, is_well or verdict.is_well, words) for name, is_well, words in rows]


def _find_last_sent() -> float:
    try:
        return os.stat(paths.LAST_SENT).st_mtime
    except FileNotFoundError:
        return 0.0
