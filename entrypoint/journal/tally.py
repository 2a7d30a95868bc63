"""Counts what the log says: for metrics and for the status page. Pure.

`report` is the answer of the forwarder's socket (docs/logs.md); every number begins at 0 when the forwarder does.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any, Final

from entrypoint.journal.entry import UNKNOWN, Entry
from entrypoint.journal.messages import Event
from entrypoint.reasons import explain

REPORT_VERSION: Final = 1
_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Seconds: a delivery takes tenths of one, greylisting minutes, an outage hours."""
_STAGES: Final = ("before_queue", "queue", "connection", "transmission")
_MINUTES: Final = 60
_REFUSED_LOGIN: Final = re.compile(r"\]: SASL [A-Z0-9_-]{1,20} authentication failed: ")
"""smtpd_sasl_glue.c; also of a login that was not heard."""
_LAST: Final = 20
_MOST_REASONS: Final = 512
NO_REASON: Final = "none"


class _Histogram:
    """How many values are at most each bound."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value in seconds."""
        index = 0
        while index < len(_BOUNDS) and value > _BOUNDS[index]:
            index += 1
        self._counts[index] += 1
        self._sum += value

    def report(self) -> dict[str, Any]:
        """Return the buckets, each with those below it, as Prometheus has them."""
        total, buckets = 0, []
        for bound, count in zip((*_BOUNDS, "+Inf"), tuple(self._counts), strict=True):
            total += count
            buckets.append([bound, total])
        return {"buckets": buckets, "sum": round(self._sum, 3), "count": total}


class Classifier:
    """Finds the class of a reason, and remembers it: a thousand deliveries wait for the same."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def find_step(self, status: str, reply: str) -> str:
        """Return where on the way it went wrong: `step` of `entrypoint.reasons`, or `none`."""
        if status == "sent":
            return NO_REASON
        if (step := self._known.get(reply)) is None:
            step = explain(reply).step
            if len(self._known) >= _MOST_REASONS:
                del self._known[next(iter(self._known))]
            self._known[reply] = step
        return step


class Tally:
    """The counts; written by one thread, reported by any."""

    def __init__(self, since: float) -> None:
        self._since = since
        self._lines: dict[str, int] = {}
        self._unknown = 0
        self._connections = 0
        self._rejections: dict[str, int] = {}
        self._accepted = [0, 0, 0]
        self._deliveries: dict[tuple[str, str], int] = {}
        self._delays = {stage: _Histogram() for stage in ("total", *_STAGES)}
        self._sessions = dict.fromkeys(("verified", "trusted", "untrusted", "anonymous"), 0)
        self._login_failures = 0
        self._client_login_failures = 0
        self._last_failure: tuple[int, str] | None = None
        self._history: deque[list[int]] = deque(maxlen=_MINUTES)
        self._last: deque[Event] = deque(maxlen=_LAST)
        self._classifier = Classifier()

    def find_step(self, status: str, reply: str) -> str:
        """Return the class of a reason."""
        return self._classifier.find_step(status, reply)

    def note_line(self, severity: str) -> None:
        """Count a line that is passed on."""
        self._lines[severity] = self._lines.get(severity, 0) + 1

    def note(self, entry: Entry, at: float) -> None:
        """Count what a line says."""
        kind = entry.kind
        if kind == "attempt":
            self._note_attempt(entry, at)
        elif kind == "connect":
            self._connections += 1
        elif kind == "reject":
            if entry.fields["action"] == "reject" and (code := entry.fields.get("code")):
                self._rejections[code] = self._rejections.get(code, 0) + 1
        elif kind == "tls":
            if entry.fields["direction"] == "to" and entry.fields["usage"] == "established":
                self._sessions[entry.fields["verdict"]] += 1
        elif kind == "trouble":
            is_login = entry.service == "smtpd" and _REFUSED_LOGIN.search(entry.fields["reason"])
            self._client_login_failures += bool(is_login)
        elif kind == "remark":
            self._note_login(entry, entry.fields.get("reason", ""))
        elif kind == UNKNOWN:
            self._unknown += 1

    def note_accepted(self, size: int, recipients: int, at: float) -> None:
        """Count a message that a client handed in."""
        for index, number in enumerate((1, size, recipients)):
            self._accepted[index] += number
        self._find_minute(at)[1] += 1

    def note_event(self, event: Event, at: float) -> None:
        """Keep one of the last events, and count a recipient whose message expired."""
        self._last.appendleft(event)
        if event["status"] == "expired":
            self._count_delivery("expired", event["step"], at)

    def _note_attempt(self, entry: Entry, at: float) -> None:
        fields = entry.fields
        status = fields.get("status")
        if status not in ("sent", "deferred", "bounced"):
            return
        self._count_delivery(status, self.find_step(status, fields["reply"]), at)
        if status == "sent":
            self._delays["total"].add(fields["delay"])
            for stage in _STAGES:
                self._delays[stage].add(fields["delays"][stage])
        elif entry.service == "smtp":
            self._note_login(entry, fields["reply"])

    def _note_login(self, entry: Entry, reason: str) -> None:
        """Count a login that an upstream refused: a remark is about one, the last one is told of at each recipient."""
        if not reason.startswith("SASL authentication failed; server"):
            return
        failure = (entry.pid, entry.queue_id) if entry.kind == "attempt" else None
        if failure is None or failure != self._last_failure:
            self._login_failures += 1
        self._last_failure = failure

    def _count_delivery(self, status: str, step: str, at: float) -> None:
        self._deliveries[status, step] = self._deliveries.get((status, step), 0) + 1
        self._find_minute(at)[{"sent": 2, "deferred": 3}.get(status, 4)] += 1

    def _find_minute(self, at: float) -> list[int]:
        """Return the row of a minute: its time, accepted, sent, deferred, bounced (or expired)."""
        minute = int(at // 60) * 60
        if not self._history or self._history[-1][0] < minute:
            self._history.append([minute, 0, 0, 0, 0])
        # A clock that was set back counts on in the last minute.
        return self._history[-1]

    def report(self, at: float) -> dict[str, Any]:
        """Return everything that is counted here."""
        deliveries: dict[str, dict[str, int]] = {status: {} for status in ("sent", "deferred", "bounced", "expired")}
        for (status, step), count in self._deliveries.copy().items():
            deliveries[status][step] = count
        accepted, size, recipients = self._accepted
        return {
            "version": REPORT_VERSION,
            "since": self._since,
            "at": at,
            "lines": self._lines.copy(),
            "unknown_lines": self._unknown,
            "connections": self._connections,
            "rejections": self._rejections.copy(),
            "accepted": accepted,
            "accepted_bytes": size,
            "accepted_recipients": recipients,
            "deliveries": deliveries,
            "delays": {stage: histogram.report() for stage, histogram in self._delays.items()},
            "tls": self._sessions.copy(),
            "login_failures": self._login_failures,
            "client_login_failures": self._client_login_failures,
            "history": [row.copy() for row in self._history.copy() if row[0] > at - _MINUTES * 60],
            "last": list(self._last.copy()),
        }
