"""What a relay tells of itself: its log in JSON, and the forwarder's counts."""

from __future__ import annotations

import json
import pathlib
import time
from functools import partial
from typing import Any

from tests.support.load import count_queue, is_empty_or_late
from tests.support.relay import Relay
from tests.support.schema import find_faults
from tests.support.wait import wait_until

SCHEMA = json.loads((pathlib.Path(__file__).parents[2] / "docs" / "log-schema.json").read_text(encoding="utf-8"))
_ASK = "import json; from entrypoint.system.observations import ask_observations; print(json.dumps(ask_observations()))"


def observe(relay: Relay, user: str = "authrelay") -> dict[str, Any]:
    """What the forwarder has counted, as the status service asks it."""
    shown = relay.container.exec(["/opt/authrelay/bin/python3", "-I", "-c", _ASK], user=user)
    report: dict[str, Any] = json.loads(shown.text)
    return report


def read_log_and_counts(relay: Relay) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The log in JSON and the forwarder's counts of one moment: sessions that wait for reuse still come to an end."""
    deadline = time.monotonic() + 60
    report: dict[str, Any] = {}
    while time.monotonic() < deadline:
        report, log, after = observe(relay), read_log(relay), observe(relay)
        if report["lines"] == after["lines"]:
            return log, report
    raise AssertionError("the log should have come to rest")


def read_log(relay: Relay) -> list[dict[str, Any]]:
    """Every line of a log in JSON, each as the schema says."""
    lines = [json.loads(line) for line in relay.logs().splitlines()]
    faults = {fault for line in lines for fault in find_faults(line, SCHEMA)}
    assert faults == set()
    return lines


def flush_until_empty(relay: Relay) -> bool:
    """Have everything tried again, and say whether nothing is left after some seconds."""
    relay.flush()
    wait_until(partial(is_empty_or_late, relay, time.monotonic() + 3), 30, "time should pass")
    return not count_queue(relay)


def count_lines(relay: Relay) -> int:
    """How many lines the forwarder has passed on."""
    return sum(observe(relay)["lines"].values())


def has_lines(relay: Relay, count: int) -> bool:
    """Whether the forwarder has passed on so many."""
    return count_lines(relay) >= count


def has_tried(relay: Relay, before: str) -> bool:
    """Whether there were deliveries since."""
    return json.dumps(observe(relay)["deliveries"]) != before


def is_tried(relay: Relay, before: str) -> bool:
    """Whether there were deliveries since, once all that waits was called for."""
    relay.flush()
    time.sleep(0.3)
    return has_tried(relay, before)
