"""`authrelay health [--ready] [--json]`: does the relay in this container work? For HEALTHCHECK, probes and people.

Asks every listener for its greeting and the supervisor's record for its services; with --ready also whether mail can be
accepted and delivered now. Leaves no line in the log: the forwarder knows the address that it asks from. Where the
status service answers, the command of the image asks that instead, and this is not even started.
"""

from __future__ import annotations

import json
import sys

from entrypoint.errors import UsageError
from entrypoint.health.checks import check_health, check_readiness, list_warnings
from entrypoint.health.report import list_findings, render_health


def main(arguments: list[str]) -> int:
    """Print one line for each thing that was asked; return 0 when all is well, otherwise 69 (EX_UNAVAILABLE).

    What should be known but stops no mail, such as a CA that could not be fetched again, is printed as a warning.
    """
    if unknown := set(arguments) - {"--json", "--ready"}:
        raise UsageError(f"there is no option {sorted(unknown)[0]}. usage: authrelay health [--ready] [--json]")
    findings = check_health()
    if "--ready" in arguments:
        findings += check_readiness()
    warnings = list_warnings()
    is_healthy = all(is_well for _, is_well, _ in findings)
    if "--json" in arguments:
        answer = {"is_healthy": is_healthy, "findings": list_findings(findings), "warnings": warnings}
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stdout.write(render_health(findings, warnings))
    return 0 if is_healthy else 69
