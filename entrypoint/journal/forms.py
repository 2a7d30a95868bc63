"""LOG_FORMAT: a line of the log, or an event, as it is written, its addresses as LOG_ADDRESSES says. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from entrypoint.journal.addresses import Addresses
from entrypoint.journal.entry import UNKNOWN, Entry
from entrypoint.journal.messages import Event
from entrypoint.journal.words import LEFT_OUT, leave_out_of_reply

PLAIN: Final = "plain"
JSON: Final = "json"
VERSION: Final = 1
"""Of docs/log-schema.json."""
_ADDRESSES: Final = frozenset({"from", "to", "orig_to", "sasl_username", "sasl_sender", "message_id"})
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Form:
    """How this deployment writes its log."""

    def __init__(self, form: str = PLAIN, addresses: Addresses | None = None) -> None:
        self._addresses = addresses or Addresses()
        self.is_json = form == JSON
        self.shows_all = self._addresses.are_full
        self.is_unchanged = self.shows_all and not self.is_json
        """Whether a line is written as it is passed on."""

    def render(self, time: str, severity: str, text: str, entry: Entry) -> str:
        """Return the line for one of Postfix's, already clean."""
        fields = entry.fields
        if not self.shows_all:
            known = _list_addresses(fields)
            # Nobody knows what stands in a line that no rule knows.
            text = self._addresses.hide_in(text, known) if entry.kind != UNKNOWN else _shorten(text)
            fields = self._hide_fields(fields, known) if self.is_json else {}
        if not self.is_json:
            return f"{time} {severity} {text}\n"
        record: dict[str, Any] = {"version": VERSION, "time": time, "severity": severity, "event": entry.kind}
        if entry.program:
            record["program"] = entry.program
            record["pid"] = entry.pid
        if entry.queue_id:
            record["queue_id"] = entry.queue_id
        record |= fields
        record["text"] = text
        return _encode(record) + "\n"

    def render_own(self, time: str, severity: str, name: str, text: str) -> str:
        """Return a line of ours, already clean."""
        text = self._addresses.hide_in(text)
        if not self.is_json:
            return f"{time} {severity} {name}: {text}\n"
        record = {"version": VERSION, "time": time, "severity": severity, "event": name, "program": name, "text": text}
        return _encode(record) + "\n"

    def render_event(self, event: Event) -> str:
        """Return the line of an event that has been through `hide_event`."""
        return _encode({"version": VERSION, "severity": "INFO", "event": "delivery", **event}) + "\n"

    def hide_event(self, event: Event) -> Event:
        """Return an event as it may be shown."""
        if self.shows_all:
            return event
        return self._hide_fields(event, _list_addresses(event))

    def _hide_fields(self, fields: dict[str, Any], known: list[str]) -> dict[str, Any]:
        shown = dict(fields)
        for key, value in fields.items():
            if key in _ADDRESSES:
                shown[key] = self._addresses.hide(value)
            elif key == "reply":
                shown[key] = self._addresses.hide_in(leave_out_of_reply(value), known)
            elif key == "reason" and "cause" in fields:
                shown[key] = LEFT_OUT
            elif isinstance(value, str):
                shown[key] = self._addresses.hide_in(value, known)
        return shown


def _list_addresses(fields: dict[str, Any]) -> list[str]:
    return [fields[key] for key in _ADDRESSES if fields.get(key)]


def _shorten(text: str) -> str:
    """Return of a line that nobody knows only who wrote it."""
    head, is_found, _ = text.partition("]: ")
    return f"{head}]: {LEFT_OUT}" if is_found and " " not in head and "@" not in head else LEFT_OUT
