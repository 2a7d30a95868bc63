"""How long a start takes, from `docker start` to the first 220 on port 25. Runs docker; network.

The poller connects to the container's own address, only after `docker start` has returned (an address that nobody has
yet costs seconds of ARP), and counts a run only when a connection was refused before one was accepted, so that what is
measured began after the polling. A refused connection costs about 0.1 ms and is tried every 2 ms.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.engine import Network, Subject, inspect, make_container, run_docker
from bench.summary import summarize

_PORT: Final = 25
_INTERVAL_SECONDS: Final = 0.002
_GIVE_UP_SECONDS: Final = 60.0
_LINE_SECONDS: Final = 10.0
_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d+)Z$")


class NoGreetingError(Exception):
    """A container did not greet, or greeted before the poller looked."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start; milliseconds. Steps are counted from when the engine started the first process."""

    from_command_ms: float
    from_started_ms: float
    configured_ms: float | None
    """Until authrelay's first line: settings are read, the plan is made."""
    master_ms: float
    """Until master(8) logs that it has started."""
    healthy_ms: float | None
    """From the first 220 to the end of the first health check that found it well; none without a HEALTHCHECK."""
    refused: int
    """How many connections were refused before."""


def measure_starts(subjects: Sequence[Subject], network: Network, rounds: int) -> dict[str, Any]:
    """Return first starts and restarts of each subject, interleaved, with their summaries."""
    found: dict[str, dict[str, list[Start]]] = {one.name: {"first": [], "restart": []} for one in subjects}
    for number in range(rounds):
        # Who goes first changes, so that neither always finds the other's traces in the caches.
        for subject in subjects if number % 2 == 0 else reversed(subjects):
            with make_container(subject, network) as name:
                found[subject.name]["first"].append(_start(name, network.address))
                run_docker("stop", "--time", "20", name)
                found[subject.name]["restart"].append(_start(name, network.address))
    return {
        name: {
            kind: {
                **{
                    field: summarize([value for one in starts if (value := getattr(one, field)) is not None])
                    for field in ("from_command_ms", "from_started_ms", "configured_ms", "master_ms", "healthy_ms")
                },
                "samples": [asdict(one) for one in starts],
            }
            for kind, starts in kinds.items()
        }
        for name, kinds in found.items()
    }


def _start(name: str, address: str) -> Start:
    began = time.time()
    run_docker("start", name)
    refused, greeted = wait_for_greeting(address)
    started = _parse_stamp(inspect(name)["State"]["StartedAt"])
    lines, master = _wait_for_line(name, "daemon started", since=began)
    configured = [at for at, text in lines if "authrelay: version" in text]
    return Start(
        from_command_ms=_span(began, greeted),
        from_started_ms=_span(started, greeted),
        configured_ms=_span(started, configured[0]) if configured else None,
        master_ms=_span(started, master),
        healthy_ms=_span(greeted, healthy) if (healthy := _wait_for_health(name)) else None,
        refused=refused,
    )


def wait_for_greeting(address: str, *, must_be_refused: bool = True) -> tuple[int, float]:
    """Poll until the first byte of a 220; return how many connections were refused before, and when it was read."""
    refused = 0
    give_up = time.monotonic() + _GIVE_UP_SECONDS
    while time.monotonic() < give_up:
        with contextlib.closing(socket.socket()) as connection:
            connection.settimeout(_GIVE_UP_SECONDS)
            try:
                connection.connect((address, _PORT))
                if connection.recv(1) == b"2":
                    at = time.time()
                    connection.sendall(b"QUIT\r\n")
                    if must_be_refused and not refused:
                        raise NoGreetingError("the relay greeted before the poller looked: the time is unknown")
                    return refused, at
            except (ConnectionRefusedError, ConnectionResetError):
                refused += 1
        time.sleep(_INTERVAL_SECONDS)
    raise NoGreetingError(f"no 220 within {_GIVE_UP_SECONDS:.0f} s")


def _wait_for_health(name: str) -> float | None:
    """Return when the engine knew that a container was well; the checks before a restart are on record, too."""
    give_up = time.monotonic() + _LINE_SECONDS
    while time.monotonic() < give_up:
        state = inspect(name)["State"]
        health = state.get("Health")
        if health is None:
            return None
        started = _parse_stamp(state["StartedAt"])
        ends = (_parse_stamp(check["End"]) for check in health["Log"] or () if check["ExitCode"] == 0)
        if end := next((end for end in ends if end > started), None):
            return end
        time.sleep(0.05)
    raise NoGreetingError(f"{name} did not become healthy")


def _wait_for_line(name: str, words: str, *, since: float) -> tuple[list[tuple[float, str]], float]:
    """Return the lines of this start, and when the line with these words was written: it may come after the 220."""
    give_up = time.monotonic() + _LINE_SECONDS
    while time.monotonic() < give_up:
        lines = _read_lines(name, since=since)
        for at, text in lines:
            if words in text:
                return lines, at
        time.sleep(0.05)
    raise NoGreetingError(f"{name} never logged '{words}'")


def _read_lines(name: str, *, since: float) -> list[tuple[float, str]]:
    """Return the container's lines of this start with the engine's times."""
    pairs = (line.partition(" ") for line in run_docker("logs", "--timestamps", name).splitlines())
    timed = [(_parse_stamp(stamp), text) for stamp, _, text in pairs]
    return [(at, text) for at, text in timed if at >= since]


def _parse_stamp(stamp: str) -> float:
    match = _STAMP.match(stamp)
    assert match, stamp
    return datetime.datetime.fromisoformat(match[1] + "+00:00").timestamp() + float(f"0.{match[2]}")


def _span(begin: float, end: float) -> float:
    return round((end - begin) * 1000, 1)
