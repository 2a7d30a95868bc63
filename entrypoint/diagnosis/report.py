"""A walk for a terminal and for programs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from entrypoint.diagnosis.steps import STATUSES, STEPS, Step

_WIDTH: Final = max(map(len, STEPS)) + 2
_GREEN, _RED, _PLAIN = "\033[32m", "\033[31;1m", "\033[0m"


@dataclass(kw_only=True)
class Result:
    """What became of one way; `setting` is RELAYHOST or FALLBACK_RELAYHOST."""

    setting: str
    nexthop: str
    level: str = ""
    """The TLS level in force."""
    steps: list[Step] = field(default_factory=list)

    @property
    def broken(self) -> Step | None:
        """The step at which it ends."""
        return next((step for step in self.steps if not step.is_ok), None)


def render_step(step: Step, *, has_colour: bool) -> str:
    """Return a step's line, and below it the remedy of a broken one."""
    word, colour = ("ok", _GREEN) if step.is_ok else ("BROKEN", _RED)
    mark = f"{colour}{word:<8}{_PLAIN}" if has_colour else f"{word:<8}"
    text = f"{mark}{step.name:<{_WIDTH}}{step.detail}\n"
    return text if step.is_ok else f"{text}{'':<{8 + _WIDTH}}-> {step.remedy}.\n"


def render_end(results: list[Result], *, has_recipient: bool) -> str:
    """Return the last line."""
    stopped = [result.nexthop for result in results if result.broken and not result.broken.address]
    partly = [result.nexthop for result in results if result.broken and result.broken.address]
    text = f"\nMail to {' and '.join(stopped)} does not go.\n" if stopped else ""
    if partly:
        # Postfix takes the addresses in any order, and may give up after two (postconf(5) smtp_mx_session_limit).
        text += f"\nMail to {' and '.join(partly)} does not go by every address, and may have to wait.\n"
    if text:
        return text
    rest = "" if has_recipient else "; sender and recipient were not tried: add --to ADDRESS"
    return f"\nAll is well; nothing was sent{rest}.\n"


def make_json(results: list[Result], status: int) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "version": 1,
        "ok": status == 0,
        "status": status,
        "upstreams": [
            {
                "setting": result.setting,
                "nexthop": result.nexthop,
                "ok": result.broken is None,
                "steps": [
                    {
                        "name": step.name,
                        "ok": step.is_ok,
                        "detail": step.detail,
                        "remedy": step.remedy or None,
                        "address": step.address or None,
                    }
                    for step in result.steps
                ],
            }
            for result in results
        ],
    }


def find_status(results: list[Result]) -> int:
    """Return the exit status: that of the first broken step."""
    return next((STATUSES[result.broken.name] for result in results if result.broken), 0)
