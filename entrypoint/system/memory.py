"""How much memory this container may have, and who gives way when it is used up. Reads cgroups(7); writes /proc.

Uses `files` to read.
"""

from __future__ import annotations

import contextlib
from typing import Final

from entrypoint.system.files import read_text

_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of version 2 and of version 1; an engine shows a container its own group at the root."""
_NO_LIMIT_BYTES: Final = 2**60
"""Version 1 has no word for none, but the largest number of whole pages."""
_MOST_READY: Final = 1000


def read_memory_limit() -> int | None:
    """Return the memory limit in bytes, or nothing where there is none."""
    for path in _LIMITS:
        words = (read_text(path) or "").split()
        if words and words[0].isdecimal() and int(words[0]) < _NO_LIMIT_BYTES:
            return int(words[0])
    return None


def give_way(by: int) -> None:
    """Let the kernel end this process and its children before others when memory is used up.

    `by` is added to what the engine gave us, at most 1000 in all (proc_pid_oom_score_adj(5)); more needs no right.
    """
    path = "/proc/self/oom_score_adj"
    with contextlib.suppress(OSError, ValueError), open(path, "r+", encoding="ascii") as file:
        wanted = min(_MOST_READY, int(file.read()) + by)
        file.seek(0)
        file.write(f"{wanted}")
