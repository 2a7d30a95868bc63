"""What one line of the log says. Pure."""

from __future__ import annotations

from typing import Any, Final

Fields = dict[str, Any]
Found = tuple[str, Fields] | None
"""A line's kind and its fields; `None` where a rule does not know it."""

UNKNOWN: Final = "unknown"


class Entry:
    """What one line says. `kind` is a word of docs/logs.md; a field that the line does not have is not there."""

    __slots__ = ("fields", "kind", "pid", "program", "queue_id", "rest", "service")

    def __init__(self, program: str, pid: int, queue_id: str, kind: str, fields: Fields, rest: str = "") -> None:
        self.program = program
        self.service = program.rpartition("/")[2]
        self.pid = pid
        self.queue_id = queue_id
        self.kind = kind
        self.fields = fields
        self.rest = rest
        """What stands behind the queue id."""
