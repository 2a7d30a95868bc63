"""`authrelay queue [--json]`: what is queued, since when, and what to do about it.

Reads the queue by postqueue(1); how often each message was tried is the log forwarder's count, for Postfix keeps none.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from entrypoint import paths
from entrypoint.diagnosis.judgement import hide_secrets, list_forms
from entrypoint.errors import quote_value
from entrypoint.reasons import explain, find_host
from entrypoint.system.files import read_text
from entrypoint.system.log_tap import Attempts, ask_attempts
from entrypoint.system.processes import finish_command, start_command

_DAY_SECONDS = 86400


def main(arguments: list[str]) -> int:
    """Print the queue; return 0, whatever is in it."""
    if arguments not in ([], ["--json"]):
        sys.stderr.write("usage: authrelay queue [--json]\n")
        return 64
    lines = finish_command(start_command(("postqueue", "-j")))
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    logins = _load_logins() if entries else ()
    secrets = [form for login in logins for form in login.secrets]
    for recipient in (recipient for entry in entries for recipient in entry["recipients"]):
        # An upstream may echo a login that it refuses.
        recipient["delay_reason"] = hide_secrets(recipient.get("delay_reason", ""), secrets)
    attempts = ask_attempts() if entries else None
    messages = [describe_message(entry, time.time(), attempts) for entry in entries]
    messages.sort(key=lambda message: -message["age_seconds"])
    # What is no JSON is a remark of postqueue's, such as that the mail system is down.
    sys.stderr.write("".join(f"authrelay: {line}\n" for line in lines if not line.startswith("{")))
    names = {login.host: login.username for login in logins}
    reasons = describe_reasons(messages, names, _find_password_age(time.time()) if messages else None)
    if arguments:
        sys.stdout.write(json.dumps({"version": 1, "messages": messages, "reasons": reasons}) + "\n")
    else:
        sys.stdout.write(render_queue(messages, reasons))
    return 0


def describe_message(entry: dict[str, Any], now: float, attempts: Attempts | None) -> dict[str, Any]:
    """Return what a person asks about one message, from its entry in `postqueue -j` and the forwarder's count."""
    recipients = entry["recipients"]
    count, is_exact = attempts.count(entry["queue_id"], entry["arrival_time"]) if attempts else (None, False)
    domains = Counter(recipient["address"].rpartition("@")[2].lower() for recipient in recipients)
    return {
        "queue_id": entry["queue_id"],
        "queue": entry["queue_name"],
        "age_seconds": max(0, int(now - entry["arrival_time"])),
        "attempts": count,
        "attempts_are_exact": is_exact,
        "size_bytes": entry["message_size"],
        "sender": entry["sender"],
        "recipient_domains": dict(domains),
        "reasons": sorted({recipient["delay_reason"] for recipient in recipients if recipient.get("delay_reason")}),
    }


def describe_reasons(
    messages: list[dict[str, Any]], usernames: Mapping[str, str], password_age_seconds: float | None
) -> list[dict[str, Any]]:
    """Return each distinct reason with how many messages wait for it, and the sentence that says what to do.

    `usernames`: who logs in, by the upstream's host.
    """
    counted = Counter(reason for message in messages for reason in message["reasons"])
    described = []
    for reason, count in counted.most_common():
        advice = explain(reason)
        meaning, remedy = advice.meaning, advice.remedy
        if advice.step == "auth" and (username := usernames.get(find_host(reason) or "")):
            meaning += f" (as '{quote_value(username)}')"
        if advice.step == "auth" and password_age_seconds is not None:
            remedy += f"; the password file last changed {format_age(password_age_seconds)} ago"
        described.append(
            {"reason": reason, "messages": count, "step": advice.step, "meaning": meaning, "remedy": remedy}
        )
    return described


def render_queue(messages: list[dict[str, Any]], reasons: list[dict[str, Any]]) -> str:
    """Return the queue for a terminal: a line for each message, then each reason with its sentence."""
    if not messages:
        return "The queue is empty.\n"
    rows = [("QUEUE ID", "AGE", "ATTEMPTS", "BYTES", "STATE", "FROM", "TO")]
    for message in messages:
        domains = ", ".join(
            f"{domain} ({count} recipients)" if count > 1 else domain
            for domain, count in message["recipient_domains"].items()
        )
        age, size = format_age(message["age_seconds"]), str(message["size_bytes"])
        tried = format_attempts(message["attempts"], is_exact=message["attempts_are_exact"])
        rows.append((message["queue_id"], age, tried, size, message["queue"], message["sender"] or "<>", domains))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    table = "".join(
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]) + "\n"
        for row in rows
    )
    count = f"{len(messages)} messages" if len(messages) > 1 else "1 message"
    oldest = format_age(messages[0]["age_seconds"])
    advice = "".join(
        f"\n{reason['reason']}\n    {reason['messages']} waiting: {reason['meaning']}.\n    {reason['remedy']}.\n"
        for reason in reasons
    )
    return f"{table}\n{count}, the oldest for {oldest}\n{advice}"


def format_attempts(count: int | None, *, is_exact: bool) -> str:
    """Return `3`, `3+` where there may have been more before the forwarder began to count, or `?`."""
    return "?" if count is None else f"{count}{'' if is_exact else '+'}"


def format_age(seconds: float) -> str:
    """Return an age in its two greatest units: `3 d 4 h`, `12 min`, `8 s`."""
    days, rest = divmod(int(seconds), _DAY_SECONDS)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    shown = [f"{number} {unit}" for number, unit in parts if number][:2] or ["0 s"]
    return " ".join(shown)


@dataclass(frozen=True, kw_only=True)
class _Login:
    """A line of Postfix's password table."""

    host: str
    username: str
    password: str = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        return list_forms(self.username, self.password)


def _load_logins() -> tuple[_Login, ...]:
    found = []
    for line in (read_text(f"{paths.POSTFIX_CONFIG}/sasl_passwd") or "").splitlines():
        nexthop, _, login = line.partition(" ")
        username, _, password = login.partition(":")
        host = nexthop[1:].partition("]")[0] if nexthop.startswith("[") else nexthop.partition(":")[0]
        found.append(_Login(host=host, username=username, password=password))
    return tuple(found)


def _find_password_age(now: float) -> float | None:
    """Return how long ago the password's file changed, where there is one."""
    from entrypoint.config.environment import find_file  # needs environs, which an empty queue need not wait for

    path = find_file("RELAYHOST_PASSWORD")
    try:
        return max(0.0, now - os.stat(path).st_mtime) if path else None
    except OSError:
        return None
