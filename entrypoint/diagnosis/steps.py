"""The steps on the way to the upstream, what each found, and the exit status of each. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from entrypoint.reasons import explain
from entrypoint.system.handshake import Handshake

STEPS: Final = (
    "settings", "resolve", "connect", "greeting", "ehlo", "starttls", "handshake", "certificate", "name",
    "client-certificate", "ehlo-again", "mechanisms", "auth", "sender", "recipient", "quit",
    "token",
)  # fmt: skip
"""The way, in its order; the names that entrypoint.reasons has, too, mean the same there.

`token` comes right after the settings; it has the last number, since the others had theirs before."""

STATUSES: Final = {name: 10 + position for position, name in enumerate(STEPS)}
"""What `authrelay doctor` ends with when a step is broken; broken settings end with their error's own status."""

ADDRESS: Final = "address"
"""The line of each further address that is well; where it is broken its line has the step's name."""

_OWN: Final = re.compile(r"(?<![A-Z_])RELAYHOST(?:_(USERNAME|PASSWORD)(?![A-Z_])|(?![A-Z_]))")
_ANY: Final = re.compile(r"(?<![A-Z_])RELAYHOST(?:_([A-Z_]+?)(?:_FILE)?(?![A-Z_])|(?![A-Z_]))")
"""The settings of a nexthop and its account, and those of an upstream of UPSTREAMS, whose keys are called the same."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step found: `detail` in the server's or our words; `remedy` only where it is broken."""

    name: str
    is_ok: bool
    detail: str
    remedy: str = ""
    is_notable: bool = False
    """Whether a step that is well has something to be read: what goes in the clear, or is not checked."""
    address: str = ""
    """Which address it is about, where that is not the one that is told step by step."""
    handshake: Handshake | None = None
    """What the server showed, in the step of that name."""


class Broken(Exception):
    """The step at which the way ends."""

    def __init__(self, name: str, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.step = Step(name=name, is_ok=False, detail=detail, remedy=remedy)


def break_as_postfix(name: str, words: str, said: str = "") -> Broken:
    """Return a broken step that is explained as the queue explains Postfix's words for it."""
    advice = explain(words)
    return Broken(name, f"{advice.meaning}{f' ({said})' if said else ''}", advice.remedy)


def name_for(setting: str, text: str) -> str:
    """Return a remedy for the upstream of a setting, in which RELAYHOST's names stand for its own.

    FALLBACK_RELAYHOST and a table's line have a host, a port and a login; an upstream of UPSTREAMS has all of it.
    """
    if setting in ("RELAYHOST", "FALLBACK_RELAYHOST"):
        return _OWN.sub(lambda match: f"{setting}_{match[1]}" if match[1] else setting, text)
    names = _ANY if setting.startswith("UPSTREAMS") else _OWN
    named, count = names.subn(lambda match: match[1].lower() if match[1] else "nexthop", text)
    return f"{named}, in {setting}" if count else text
