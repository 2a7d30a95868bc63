"""Lists what is queued, by postqueue(1), which any user of the group postdrop may run. Processes.

Uses `processes` to run it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from entrypoint.system.processes import start_command


@dataclass(frozen=True, kw_only=True)
class QueueList:
    """Messages as `postqueue -j` tells them, in no order; not all of them where there are very many."""

    entries: tuple[dict[str, Any], ...]
    is_complete: bool


def list_queue(most: int) -> QueueList:
    """Return the first so many messages; none while Postfix does not run."""
    process = start_command(("postqueue", "-j"))
    entries: list[dict[str, Any]] = []
    is_complete = True
    if process.stdout is not None:
        for line in process.stdout:
            if len(entries) >= most:
                is_complete = False
                process.kill()
                break
            if line.startswith("{"):  # anything else is a remark, such as that the mail system is down
                entries.append(json.loads(line))
        process.stdout.close()
    process.wait()
    return QueueList(entries=tuple(entries), is_complete=is_complete)
