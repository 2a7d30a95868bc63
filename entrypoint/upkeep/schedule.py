"""When the upkeep runs again: for the CA, for certificates that end, and when a file changes. Clock, chance, disk."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final

from entrypoint import paths
from entrypoint.system.agenda import (
    Agenda,
    Watch,
    double_pause,
    find_now,
    find_wall_offset,
    read_agenda,
    take_signature,
    watch_files,
    write_agenda,
)
from entrypoint.upkeep.expiry import DAY_SECONDS, Ending, find_next_look
from entrypoint.upkeep.record import SETTINGS, Record

NAME: Final = "upkeep"
_JITTER: Final = 0.1
"""A fleet that was started together must not ask together for ever."""
_FIRST_RETRY_SECONDS: Final = 300.0
"""A server of CAs that fails is asked again after this, and then ever more seldom."""
_FIRST_PAUSE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 3600.0
"""While deliveries meet a certificate that is not trusted, the CA is fetched after the first of these, and then ever
more seldom, as long as it stays the same."""
_REFUSED_PAUSE_SECONDS: Final = 3.0
"""A session that was at work at one reload may be the next one's."""
_REPAIR_SECONDS: Final = 300.0
"""What cannot be used is tried again after this, or when a file changes."""
_NAMES_SECONDS: Final = 300.0
"""What a name is resolved to is looked up so often; dynamic addresses have a time to live of about this."""

_FIRST_LOOK_SECONDS: Final = 5.0
_LONGEST_LOOK_SECONDS: Final = 60.0
"""While the list server is away, it is looked for so often; Postfix by itself would find it up to half an hour late."""
_LISTS_SECONDS: Final = 30.0
"""A directory that cannot be looked into tells nothing of its changes."""


def choose_next_fetch(refresh_seconds: float, failures: int) -> float:
    """Return when the CA is fetched again: after the interval, or sooner after a failure, give or take a tenth."""
    seconds = refresh_seconds
    if failures:
        seconds = double_pause(_FIRST_RETRY_SECONDS, failures - 1, refresh_seconds)
    chance = int.from_bytes(os.urandom(4)) / 2**31 - 1  # from -1 to 1
    return find_now() + seconds * (1 + _JITTER * chance)


def is_fetch_due(record: Record) -> bool:
    """Return whether it is time, or a delivery has met an untrusted CA since the last run."""
    if record.fetch_due_at is None:
        return False
    return is_told(paths.UNTRUSTED) or find_now() >= record.fetch_due_at


def is_told(path: str) -> bool:
    """Return whether deliveries have left word there since the last run."""
    hints = [watch for watch in read_agenda(NAME).watches if watch.path == path]
    return any(take_signature(watch.path) != watch.signature for watch in hints)


def plan_next_run(
    record: Record,
    files: tuple[Watch, ...],
    endings: Sequence[Ending],
    *,
    has_names: bool = False,
    lacks_lists: bool = False,
) -> None:
    """Write when the next run is due; `files` as they were before this one read them.

    `has_names`: whether a setting has names whose addresses change. `lacks_lists`: whether the list server's files
    could not be read.
    """
    now = find_now()
    next_look = find_next_look(endings, time.time())
    files += watch_files((paths.REFUSED,), not_before=now + _REFUSED_PAUSE_SECONDS)
    moments = [now + DAY_SECONDS]  # the wall clock may have been put right since
    if has_names:
        moments.append(now + _NAMES_SECONDS)
    if record.list_server_failures:
        pause = double_pause(_FIRST_LOOK_SECONDS, record.list_server_failures - 1, _LONGEST_LOOK_SECONDS)
        moments.append(now + pause)
    if lacks_lists:
        moments.append(now + _LISTS_SECONDS)
    if next_look is not None:
        moments.append(now + next_look - time.time())
    if record.fetch_due_at is not None:
        moments.append(record.fetch_due_at)
        pause = double_pause(_FIRST_PAUSE_SECONDS, record.vain, _LONGEST_PAUSE_SECONDS)
        files += watch_files((paths.UNTRUSTED,), not_before=now + pause)
    # What cannot be used just now may be the machine's fault, which no file tells of when it is over.
    due_at = now + _REPAIR_SECONDS if SETTINGS in record.troubles else min(moments)
    write_agenda(NAME, Agenda(due_at=due_at, watches=files, wall_offset=find_wall_offset()))
