"""What health checks found, for programs and for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Finding = tuple[str, bool, str]
"""What was looked at, whether it is well, and what was found."""


def make_report(
    health: Sequence[Finding], intake: Sequence[Finding], delivery: Sequence[Finding], warnings: Sequence[str]
) -> dict[str, Any]:
    """Return everything as plain values; what accepts mail is healthy, too, and what is ready accepts it."""
    is_healthy = all(is_well for _, is_well, _ in health)
    is_accepting = is_healthy and all(is_well for _, is_well, _ in intake)
    return {
        "is_healthy": is_healthy,
        "is_accepting": is_accepting,
        "is_ready": is_accepting and all(is_well for _, is_well, _ in delivery),
        "health": list_findings(health),
        "intake": list_findings(intake),
        "readiness": list_findings([*intake, *delivery]),
        "warnings": list(warnings),
    }


def list_findings(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings as plain values."""
    return [{"name": name, "is_well": is_well, "detail": detail} for name, is_well, detail in findings]


def render_health(findings: Sequence[Finding], warnings: Sequence[str]) -> str:
    """Return a line for each finding, and one for each thing that should be known but stops no mail."""
    lines = [f"{'ok' if is_well else 'FAILED':<7}{name}: {detail}\n" for name, is_well, detail in findings]
    return "".join(lines) + "".join(f"{'WARN':<7}{text}\n" for text in warnings)
