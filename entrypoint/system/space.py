"""How much room the queue has, and how much Postfix wants before it takes a message. Disk.

Uses `files` to read main.cf, which anybody may.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final

from entrypoint import paths
from entrypoint.system.files import read_text

_ROOM_FACTOR: Final = 1.5
"""smtpd(8) wants so many times message_size_limit (smtpd_check.c, smtpd_space_multf)."""
_DEFAULT_SIZE_LIMIT: Final = 10240000
"""postconf(5) message_size_limit."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """What is left for files of the queue; `free_inodes` is `None` on a file system without a limit of them."""

    free_bytes: int
    free_inodes: int | None
    needed_bytes: int
    """With less than that Postfix answers 452 to MAIL FROM."""


def measure_space() -> Space:
    """Return the room that there is now."""
    found = os.statvfs(paths.QUEUE)
    return Space(
        free_bytes=found.f_bavail * found.f_frsize,
        free_inodes=found.f_favail if found.f_files else None,
        needed_bytes=find_needed_bytes(read_text(f"{paths.POSTFIX_CONFIG}/main.cf") or ""),
    )


def find_needed_bytes(main_cf: str) -> int:
    """Return how much Postfix wants to be free, by message_size_limit and queue_minfree (postconf(5))."""
    size = _find_number(main_cf, "message_size_limit", _DEFAULT_SIZE_LIMIT)
    return max(_find_number(main_cf, "queue_minfree", 0), int(_ROOM_FACTOR * size))


def read_host_name() -> str:
    """Return the name that this relay gives itself."""
    found = re.findall(r"(?m)^myhostname = (\S+)$", read_text(f"{paths.POSTFIX_CONFIG}/main.cf") or "")
    return found[-1] if found else ""


def _find_number(main_cf: str, name: str, default: int) -> int:
    found: list[str] = re.findall(rf"(?m)^{name} *= *([0-9]+) *$", main_cf)
    return int(found[-1]) if found else default
