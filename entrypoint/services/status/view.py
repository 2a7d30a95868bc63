"""Gathers what the status service tells, as plain values, from the forwarder, from files and from Postfix. By `system`.

Runs in a child that ends with its answer; as the user authrelay, who can read no secret.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from entrypoint import __version__, paths
from entrypoint.health.checks import make_checks
from entrypoint.journal.addresses import load_rules
from entrypoint.reasons import explain
from entrypoint.services.status.redaction import (
    hide_in_queue,
    hide_in_settings,
    hide_in_texts,
    hide_login_reply,
)
from entrypoint.system.files import read_text
from entrypoint.system.observations import ask_observations
from entrypoint.system.queue_list import list_queue
from entrypoint.system.service_record import load_services
from entrypoint.system.space import measure_space, read_host_name
from entrypoint.upkeep.in_force import load_in_force, load_settings_in_force
from entrypoint.upkeep.record import SETTINGS, load_record
from entrypoint.upkeep.verdict import load_verdict

_MOST_READ: Final = 5000
"""Messages that are looked at; reading takes a fifth of a second then."""
_MOST_SHOWN: Final = 500
_MOST_RECIPIENTS: Final = 20
_MOST_REASONS: Final = 50


def read_postfix_version() -> str | None:
    """Return the version of Postfix that is in the image."""
    return (read_text(paths.POSTFIX_VERSION) or "").strip() or None


def gather(checks: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return everything that the page shows; `checks`: from `make_checks` and hidden, if there are fresh ones."""
    settings = load_settings_in_force()
    _, addresses = load_rules()
    report = ask_observations()
    known = checks or hide_in_texts(make_checks(), addresses)
    in_force, verdict = load_in_force(), load_verdict()
    problem = load_record().troubles.get(SETTINGS, "")
    queue, is_complete = _list_queue()
    # Explained first, for which the upstream's words are needed.
    reasons = [{**one, "reason": addresses.hide_in(one["reason"])} for one in describe_reasons(queue)]
    record = load_services()
    texts = {
        "verdict": {
            "at": verdict.at,
            "is_well": verdict.is_well,
            "upstreams": [{**asdict(one), "is_well": one.is_well} for one in verdict.upstreams],
        },
        "certificates": [asdict(one) for one in in_force.certificates],
        "configuration": {
            "is_valid": not problem,
            "problem": problem,
            "loaded_at": in_force.loaded_at,
            "reloads": in_force.reloads,
        },
    }
    return {
        "version": __version__,
        "postfix_version": read_postfix_version(),
        "now": time.time(),
        "hostname": read_host_name(),
        "log_addresses": addresses.mode,
        "report": report,
        "is_healthy": known["is_healthy"],
        "is_ready": known["is_ready"],
        "health": known["health"] + known["readiness"],
        "troubles": known["warnings"],
        "settings": hide_in_settings(settings, addresses),
        **hide_in_texts(texts, addresses),
        "queue": hide_in_queue(_choose_shown(queue), addresses),
        "reasons": reasons,
        "secrets": [{"setting": name, "changed_at": at} for name, at in in_force.secrets.items()],
        "services": {name: asdict(one) for name, one in record.services.items()} if record else {},
        "space": asdict(measure_space()),
        "queue_total": len(queue) if is_complete else max(len(queue), count_queued(report)),
        "queue_read": len(queue),
        "queue_oldest_at": find_oldest(queue, None if is_complete else report),
    }


def count_queued(report: Mapping[str, Any] | None) -> int:
    """Return how many messages the forwarder has counted in the queue."""
    return sum(one["messages"] for one in _list_counted(report))


def find_oldest(queue: Sequence[Mapping[str, Any]], report: Mapping[str, Any] | None) -> float | None:
    """Return when the oldest message came, in seconds since the epoch: of what was read, and of what was counted."""
    found = [entry["arrival_time"] for entry in queue[:1]]
    found += [one["oldest_at"] for one in _list_counted(report) if one["oldest_at"] is not None]
    return min(found, default=None)


def _list_counted(report: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return [one for name, one in report["queues"].items() if name != "corrupt"] if report else []


def describe_reasons(queue: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each distinct reason with how many messages wait for it, and the sentence that says what to do."""
    counted = Counter(
        reason
        for entry in queue
        for reason in {one["delay_reason"] for one in entry["recipients"] if one.get("delay_reason")}
    )
    described = []
    for reason, count in counted.most_common(_MOST_REASONS):
        advice = explain(reason)
        described.append(
            {
                "reason": reason,
                "messages": count,
                "step": advice.step,
                "meaning": advice.meaning,
                "remedy": advice.remedy,
            }
        )
    return described


def _list_queue() -> tuple[list[dict[str, Any]], bool]:
    """Return messages, oldest first, and whether these are all."""
    found = list_queue(_MOST_READ)
    entries = sorted(found.entries, key=lambda entry: entry["arrival_time"])
    for entry in entries:
        for recipient in entry["recipients"]:
            if "delay_reason" in recipient:
                recipient["delay_reason"] = hide_login_reply(recipient["delay_reason"])
    return entries, found.is_complete


def _choose_shown(queue: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            **entry,
            "recipients": entry["recipients"][:_MOST_RECIPIENTS],
            "recipients_total": len(entry["recipients"]),
        }
        for entry in queue[:_MOST_SHOWN]
    ]
