"""Counts what lies in Postfix's queues, and tells how old it is, without asking Postfix. Disk.

Uses `journal.queue_ids` to read when a message arrived. Apart from `queue`: the forwarder, which lives long, needs it.
"""

from __future__ import annotations

import math
import os
from typing import Any, Final

from entrypoint import paths
from entrypoint.journal.queue_ids import parse_arrival

_QUEUES: Final = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt")


def measure_queues() -> dict[str, dict[str, Any]]:
    """Return for each queue how many files it holds, and when the oldest message arrived.

    Not in every queue are all of them whole messages. `oldest_at` is in seconds since the epoch, `None` where there is
    none; a message from before long queue ids counts from when its file was last changed.
    """
    return {name: _measure(f"{paths.QUEUE}/{name}") for name in _QUEUES}


def _measure(directory: str) -> dict[str, Any]:
    count, oldest_at = 0, math.inf
    for above, _, names in os.walk(directory):
        count += len(names)
        for name in names:
            arrived_at = parse_arrival(name)
            if arrived_at is None:
                try:
                    arrived_at = os.stat(f"{above}/{name}").st_ctime
                except OSError:
                    continue  # it has just gone out
            oldest_at = min(oldest_at, arrived_at)
    return {"messages": count, "oldest_at": None if oldest_at == math.inf else round(oldest_at, 3)}
