"""`authrelay health [--ready] [--json]`: does the relay in this container work? For HEALTHCHECK, probes and people.

Asks every listener for its greeting and the supervisor's record for its services; with --ready also what the last probe
found of the upstream. Leaves no line in the log: the forwarder knows the address that it asks from.
"""

from __future__ import annotations

import json
import os
import socket
import sys

from entrypoint import paths
from entrypoint.errors import UsageError
from entrypoint.upkeep.record import load_record
from entrypoint.upkeep.verdict import find_readiness, load_verdict

_TIMEOUT_SECONDS = 3.0  # two listeners one after the other must fit into the HEALTHCHECK timeout
_UP = ("STARTING", "RUNNING")


def main(arguments: list[str]) -> int:
    """Print one line for each thing that was asked; return 0 when all is well, otherwise 69 (EX_UNAVAILABLE).

    What should be known but stops no mail, such as a CA that could not be fetched again, is printed as a warning.
    """
    if unknown := set(arguments) - {"--json", "--ready"}:
        raise UsageError(f"there is no option {sorted(unknown)[0]}. usage: authrelay health [--ready] [--json]")
    findings = [*check_services(), *check_listeners()]
    warnings = list(load_record().troubles.values())
    if "--ready" in arguments:
        findings += find_readiness(load_verdict())
    is_healthy = all(is_well for _, is_well, _ in findings)
    if "--json" in arguments:
        rows = [{"name": name, "is_well": is_well, "detail": detail} for name, is_well, detail in findings]
        answer = {"is_healthy": is_healthy, "findings": rows, "warnings": warnings}
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stdout.write("".join(f"{'ok' if well else 'FAILED':<7}{name}: {text}\n" for name, well, text in findings))
        sys.stdout.write("".join(f"{'WARN':<7}{text}\n" for text in warnings))
    return 0 if is_healthy else 69


def check_services() -> list[tuple[str, bool, str]]:
    """Return (name, is it well, detail) for every supervised process."""
    try:
        with open(paths.SERVICES, encoding="utf-8") as file:
            services = json.load(file)
    except FileNotFoundError:
        return [("supervisor", False, "nothing has been started")]
    return [(name, _is_up(service), service["state"].lower()) for name, service in services.items()]


def _is_up(service: dict[str, str | int]) -> bool:
    pid = service["pid"]
    return service["state"] in _UP and (pid == 0 or os.path.exists(f"/proc/{pid}"))


def check_listeners() -> list[tuple[str, bool, str]]:
    """Return (address:port, is it well, its greeting or what is wrong) for every listener."""
    try:
        with open(paths.LISTENERS, encoding="utf-8") as file:
            listeners = json.load(file)
    except FileNotFoundError:
        return []
    return [_ask_greeting(*listener) for listener in listeners]


def _ask_greeting(address: str, port: int, source: str) -> tuple[str, bool, str]:
    """Connect from `source`, the address by which the log forwarder knows a health check."""
    is_ipv6 = ":" in address
    name = f"[{address}]:{port}" if is_ipv6 else f"{address}:{port}"
    try:
        with socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET) as connection:
            connection.settimeout(_TIMEOUT_SECONDS)
            connection.bind((source, 0))
            connection.connect((address, port))
            with connection.makefile("rb") as reader:
                greeting = reader.readline(512)
                if greeting.startswith(b"220 "):
                    connection.sendall(b"QUIT\r\n")
                    reader.readline(512)
    except OSError as error:
        return name, False, error.strerror or str(error)
    return name, greeting.startswith(b"220 "), greeting.decode("ascii", "replace").strip() or "no greeting"
