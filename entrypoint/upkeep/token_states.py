"""How each access token stands, left for health checks: how old it is, and why there is none. Disk, clock.

Light: `authrelay health` reads it every few seconds. Nothing in it is secret.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from entrypoint import paths
from entrypoint.system.files import read_text, write_file


@dataclass(frozen=True, kw_only=True)
class TokenState:
    """One account's access token; times in seconds since the epoch but `next_try_at`, which is the agenda's clock's."""

    setting: str
    endpoint: str
    configuration: str = ""
    """A digest of all that asking depends on: where it changes, asking is worth while at once."""
    fetched_at: float = 0.0
    expires_at: float = 0.0
    what: str = ""
    """What went wrong the last time; empty where nothing did."""
    remedy: str = ""
    told: str = ""
    """What was said in the log of it, so that it is said once."""
    is_for_person: bool = False
    failures: int = 0
    """How often in a row."""
    next_try_at: float = 0.0
    refusals: int = 0
    """How often in a row an upstream refused a token that had not ended."""

    @property
    def is_well(self) -> bool:
        """Whether there is a token that has not ended."""
        return time.time() < self.expires_at

    def describe(self) -> str:
        """Return what is wrong, in a line."""
        if not self.what:
            return f"the access token from {self.endpoint} is being fetched"
        what = f"the access token cannot be fetched from {self.endpoint}: {self.what} -> {self.remedy}"
        return f"{what}. The present one is good until {show_time(self.expires_at)}" if self.is_well else what


def show_time(at: float) -> str:
    """Return a moment for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def load_token_states() -> dict[str, TokenState]:
    """Return the states by smtp(8) service; none without OAuth 2.0."""
    text = read_text(paths.TOKEN_STATES)
    return {service: TokenState(**values) for service, values in json.loads(text).items()} if text else {}


def save_token_states(states: Mapping[str, TokenState]) -> None:
    """Let `authrelay health` know."""
    write_file(
        paths.TOKEN_STATES, json.dumps({service: asdict(state) for service, state in states.items()}) + "\n", 0o644
    )
