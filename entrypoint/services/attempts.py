"""Counts delivery attempts by queue id from the lines of Postfix's queue manager, which keeps no count itself. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

_MOST_MESSAGES: Final = 100000
"""About 20 MB when they are all in the queue at once."""

# Each begins at the line's start: a client chooses its Message-ID, its HELO and its sender, and could write the same
# words there. qmgr(8) logs the first once for each message that it takes up; postsuper(1) -d logs the second, too.
_ENDINGS: Final = ("(queue active)\n", ": removed\n")
_TAKEN_UP: Final = re.compile(r"\S+ \S+ postfix/qmgr\[\d+\]: ([0-9A-Za-z]+): from=<")
_REMOVED: Final = re.compile(r"\S+ \S+ postfix/(?:qmgr|postsuper)\[\d+\]: ([0-9A-Za-z]+): removed\n")


class AttemptCounter:
    """How often each queued message was taken up for delivery, as far as this process has seen it."""

    def __init__(self, since: float, most_messages: int = _MOST_MESSAGES) -> None:
        self._since = since
        self._most_messages = most_messages
        self._found: dict[str, tuple[int, float]] = {}

    def note(self, line: str, at: float) -> None:
        """Look at a line of the log; all but two of a message's lines cost one comparison of their ends."""
        if not line.endswith(_ENDINGS):
            return
        if match := _TAKEN_UP.match(line):
            count, first_at = self._found.get(match[1], (0, at))
            self._found[match[1]] = (count + 1, first_at)
            if len(self._found) > self._most_messages:
                # Whoever arrived after this one's first attempt has not been forgotten; of older ones less is known.
                _, forgotten_at = self._found.pop(next(iter(self._found)))
                self._since = max(self._since, forgotten_at)
        elif match := _REMOVED.fullmatch(line):
            self._found.pop(match[1], None)

    def report(self) -> dict[str, Any]:
        """Return the counts, and since when they are whole: a message that arrived earlier may have had more.

        May be called by another thread than `note`: a dictionary is copied in one step.
        """
        found = self._found.copy()
        return {"since": self._since, "attempts": {queue_id: count for queue_id, (count, _) in found.items()}}
