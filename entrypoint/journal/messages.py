"""Joins the log's lines by queue id: how often a message was tried, and an event for each recipient that is done. Pure.

A queue id is never used twice (postconf(5) enable_long_queue_ids): what is known of a message cannot be another's.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from entrypoint.journal.deliveries import parse_attempt
from entrypoint.journal.entry import Entry, Fields
from entrypoint.journal.queue_ids import parse_arrival

Event = dict[str, Any]
"""What became of one recipient, with all that is known of its message: docs/log-schema.json, `delivery`."""

_MOST_MESSAGES: Final = 100000
"""At once, each recipient that waits counted as one more: some 50 MB when all are there, and seldom more than a few."""
_MOST_SESSIONS: Final = 2000
"""TLS sessions of smtp(8) processes; far more than there are processes at once."""
_ARRIVAL_SECONDS: Final = 3600.0
"""What has not become a message after so long, from its client's first word on, never will."""
_FINAL: Final = ("sent", "bounced")
_Waiting = tuple[str, str, Event | None]
"""A line about one recipient up to its reply, the reply, and the TLS session: small, for there may be many."""


class _Message:
    """What is known of one message, from its lines."""

    __slots__ = (
        *("attempts", "client", "first_at", "is_expired", "is_requeued", "message_id", "sender", "size", "total"),
        "waiting",
    )

    def __init__(self, at: float) -> None:
        self.first_at = at
        self.client: Event = {}
        self.sender: str | None = None
        self.message_id: str | None = None
        self.size = 0
        self.total = 0
        self.attempts = 0
        self.is_expired = False
        self.is_requeued = False
        """Whether it was in the queue before, under another id (postsuper(1) -r)."""
        self.waiting: list[_Waiting] | None = None
        """Whom the last attempt has deferred."""


class Messages:
    """The messages that are in the queue or on their way into it."""

    def __init__(self, since: float, most_messages: int = _MOST_MESSAGES) -> None:
        self.began_at = since
        self.forgotten = 0
        """How many messages had to make room for others."""
        self._since = since
        self._most = most_messages
        self._waiting = 0
        self._last_reply = ""
        self._last_client: Event = {}
        self._arriving: dict[str, _Message] = {}
        self._queued: dict[str, _Message] = {}
        self._sessions: dict[tuple[int, str], tuple[Event, str]] = {}

    def note(self, entry: Entry, at: float) -> list[Event]:
        """Take a line, and return the events that it completes; `at` is in seconds since the epoch."""
        handle = _HANDLERS.get(entry.kind) if entry.queue_id or entry.kind == "tls" else None
        return handle(self, entry, at) if handle else []

    def report_attempts(self) -> dict[str, Any]:
        """Return how often each message was tried, and since when that is whole: earlier ones may have been tried more.

        May be called by another thread than `note`: a dictionary is copied in one step.
        """
        queued = self._queued.copy()
        return {"since": self._since, "attempts": {queue_id: message.attempts for queue_id, message in queued.items()}}

    def _find(self, entry: Entry, at: float) -> _Message:
        """Return the message of a line, made if it is new."""
        message = self._queued.get(entry.queue_id) or self._arriving.get(entry.queue_id)
        if message is None:
            message = self._arriving[entry.queue_id] = _Message(at)
            while next(iter(self._arriving.values())).first_at < at - _ARRIVAL_SECONDS:
                self._release(self._arriving.pop(next(iter(self._arriving))))
            self._make_room()
        return message

    def _make_room(self) -> None:
        while len(self._queued) + len(self._arriving) + self._waiting > self._most:
            table = self._queued or self._arriving
            queue_id, message = next(iter(table.items()))
            if table is self._queued:
                # Whoever arrived after this one's first attempt has not been forgotten; of older ones less is known.
                self._since = max(self._since, message.first_at)
            self._release(message)
            del table[queue_id]
            self.forgotten += 1

    def _release(self, message: _Message) -> None:
        """Forget who waits."""
        self._waiting -= len(message.waiting or ())
        message.waiting = None

    def _note_client(self, entry: Entry, at: float) -> list[Event]:
        message = self._find(entry, at)
        names = ("client", "client_name", "sasl_username")
        client = {key: entry.fields[key] for key in names if key in entry.fields}
        # Few clients send all the mail: one dictionary for the messages of one after another.
        if client == self._last_client:
            client = self._last_client
        self._last_client = message.client = client
        return []

    def _note_pickup(self, entry: Entry, at: float) -> list[Event]:
        message = self._find(entry, at)
        message.client = {"uid": entry.fields["uid"]}
        if old_id := entry.fields.get("orig_queue_id"):
            message.is_requeued = True
            if old := self._queued.pop(old_id, None):
                message.client = old.client
                self._release(old)
        return []

    def _note_message_id(self, entry: Entry, at: float) -> list[Event]:
        self._find(entry, at).message_id = entry.fields["message_id"]
        return []

    def _note_queued(self, entry: Entry, at: float) -> list[Event]:
        message = self._find(entry, at)
        if self._arriving.pop(entry.queue_id, None):
            message.first_at = at
            self._queued[entry.queue_id] = message
        message.sender = entry.fields["from"]
        message.size, message.total = entry.fields["size"], entry.fields["recipients"]
        message.attempts += 1
        message.is_expired = False
        self._release(message)
        return []

    def is_accepted(self, entry: Entry) -> bool:
        """Return whether the line that was just noted is the first to show a message, of a client's, in the queue.

        A notice that this relay itself writes is none; nor is what arrived before this process began.
        """
        if entry.kind != "queued":
            return False
        message = self._queued.get(entry.queue_id)
        return message is not None and message.attempts == 1 and bool(message.client) and not message.is_requeued

    def _note_tls(self, entry: Entry, at: float) -> list[Event]:
        del at
        fields = entry.fields
        if fields["direction"] == "to":
            session = {key: sys.intern(fields[key]) for key in ("verdict", "protocol", "cipher")}
            self._sessions.pop((entry.pid, fields["peer"]), None)
            self._sessions[entry.pid, fields["peer"]] = ({**session, "bits": fields["bits"]}, "")
            if len(self._sessions) > _MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        return []

    def _find_session(self, entry: Entry) -> Event | None:
        """Return the TLS session of a delivery: of this process, with this server, and not an earlier one's.

        A session that carries more than one message says so by `conn_use`; otherwise it was this message's alone.
        """
        key = (entry.pid, entry.fields["relay"])
        session, owner = self._sessions.get(key, (None, ""))
        if session is None:
            return None
        if owner and owner != entry.queue_id and "connection_use" not in entry.fields:
            del self._sessions[key]
            return None
        self._sessions[key] = (session, entry.queue_id)
        return session

    def _note_attempt(self, entry: Entry, at: float) -> list[Event]:
        fields = entry.fields
        status = fields.get("status")
        if status not in (*_FINAL, "deferred"):
            return []
        session = self._find_session(entry)
        if status in _FINAL:
            return [_make_event(entry.queue_id, self._queued.get(entry.queue_id), fields, session, status, at)]
        message = self._find(entry, at)
        reply = fields["reply"]
        if reply == self._last_reply:
            reply = self._last_reply  # one text for the thousand that wait for the same
        self._last_reply = reply
        line = entry.rest[: entry.rest.rindex("(", 0, len(entry.rest) - len(reply))]
        if message.waiting is None:
            message.waiting = []
        # Each attempt has one line for a recipient, and those of the attempt before are forgotten.
        message.waiting.append((line, reply, session))
        self._waiting += 1
        self._make_room()
        return []

    def _note_expired(self, entry: Entry, at: float) -> list[Event]:
        self._find(entry, at).is_expired = True
        return []

    def _note_removed(self, entry: Entry, at: float) -> list[Event]:
        """The end. Only now is it certain that what expired was returned to its sender."""
        message = self._queued.pop(entry.queue_id, None) or self._arriving.pop(entry.queue_id, None)
        if message is None:
            return []
        waiting = message.waiting or []
        self._release(message)
        if not message.is_expired or entry.service != "qmgr":
            return []
        events = []
        for line, reply, session in waiting:
            _, fields = parse_attempt(f"{line}({reply})") or ("", {})
            events.append(_make_event(entry.queue_id, message, fields, session, "expired", at))
        return events


_OF_ATTEMPT: Final[tuple[str, ...]] = ("to", "orig_to", "relay", "dsn", "delay", "delays", "reply")


def _make_event(
    queue_id: str, message: _Message | None, fields: Fields, session: Event | None, status: str, at: float
) -> Event:
    event: Event = {"queue_id": queue_id}
    arrived_at = parse_arrival(queue_id)
    if message is not None:
        event |= message.client
        if message.sender is not None:
            event |= {"from": message.sender, "size": message.size, "recipients": message.total}
            event["attempts"] = message.attempts
        if message.message_id:
            event["message_id"] = message.message_id
    event |= {key: fields[key] for key in _OF_ATTEMPT if key in fields}
    if session is not None:
        event["tls"] = session
    event["status"] = status
    if arrived_at is not None:
        event["accepted_at"] = round(arrived_at, 3)
    event["finished_at"] = round(at, 3)
    return event


_HANDLERS: Final = {
    "client": Messages._note_client,
    "pickup": Messages._note_pickup,
    "message-id": Messages._note_message_id,
    "queued": Messages._note_queued,
    "tls": Messages._note_tls,
    "attempt": Messages._note_attempt,
    "expired": Messages._note_expired,
    "removed": Messages._note_removed,
}
