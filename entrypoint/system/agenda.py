"""When a service that runs now and then is due: at a time, or because what it watches has changed. Disk, clocks.

Uses `files` to write. Times are seconds of CLOCK_BOOTTIME, which no step of the wall clock moves (clock_gettime(2)).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Final

from entrypoint import paths
from entrypoint.system.files import read_text, write_file

_LEAST_STEP_SECONDS: Final = 10.0
_MOST_DOUBLINGS: Final = 32
"""A century from a second on; 1 << 1024 would be no float any more."""
_SETTLED_SECONDS: Final = 0.5
"""A file that is being written in place is left alone until its last write is so long ago."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """A file as it was when it was read; a change counts from `not_before` on."""

    path: str
    signature: tuple[int, ...] = ()
    not_before: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Agenda:
    """When the next run is due."""

    due_at: float | None = None
    watches: tuple[Watch, ...] = field(default=())
    wall_offset: float | None = None
    """How far the wall clock was ahead of ours when this was written, for a service that is due when that is set."""


def find_now() -> float:
    """Return the time on the clock that agendas are kept by."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def find_wall_offset() -> float:
    """Return how many seconds the wall clock is ahead of the clock that agendas are kept by."""
    return time.time() - find_now()


def find_step(agenda: Agenda) -> float:
    """Return by how many seconds the wall clock was set forward or, negative, back; 0 for what a slewing one does."""
    step = 0.0 if agenda.wall_offset is None else find_wall_offset() - agenda.wall_offset
    return step if abs(step) > _LEAST_STEP_SECONDS else 0.0


def double_pause(first_seconds: float, times: int, longest_seconds: float) -> float:
    """Return a pause that was doubled so often, up to the longest; times may be any number after a year of trouble."""
    return min(longest_seconds, first_seconds * (1 << min(times, _MOST_DOUBLINGS)))


def watch_files(names: Iterable[str], *, not_before: float = 0.0) -> tuple[Watch, ...]:
    """Return what is to be watched, as it is now: call this before the files are read."""
    return tuple(Watch(path=path, signature=take_signature(path), not_before=not_before) for path in names)


def take_signature(path: str) -> tuple[int, ...]:
    """Return what changes when a file is written, replaced, or reached through another link; nothing without a file."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, found.st_nlink


def is_orphan(path: str) -> bool:
    """Return whether a file has no name: it was replaced outside, and a mount of it alone keeps the old one."""
    try:
        return os.stat(path).st_nlink == 0
    except OSError:
        return False


def write_agenda(service: str, agenda: Agenda) -> None:
    """Let the supervisor know when a service is due."""
    write_file(_find_path(service), json.dumps(asdict(agenda)) + "\n", 0o600)


def read_agenda(service: str) -> Agenda:
    """Return when a service is due; an empty agenda where nothing was planned."""
    text = read_text(_find_path(service))
    if text is None:
        return Agenda()
    values = json.loads(text)
    watches = tuple(
        Watch(path=one["path"], signature=tuple(one["signature"]), not_before=one["not_before"])
        for one in values["watches"]
    )
    return Agenda(due_at=values["due_at"], watches=watches, wall_offset=values["wall_offset"])


def is_due(agenda: Agenda, now: float) -> bool:
    """Return whether the time has come, the wall clock was set, or a watched file has changed and come to rest."""
    if (agenda.due_at is not None and now >= agenda.due_at) or find_step(agenda):
        return True
    return any(_has_changed(watch) for watch in agenda.watches if now >= watch.not_before)


def _has_changed(watch: Watch) -> bool:
    found = take_signature(watch.path)
    if found == watch.signature:
        return False
    return not found or abs(time.time() - found[2] / 1e9) > _SETTLED_SECONDS


def _find_path(service: str) -> str:
    return f"{paths.RUN}/{service}-agenda.json"
