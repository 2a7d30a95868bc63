"""Goes after one message through the log until its fate is known, also past the end of a forwarder. Unix socket."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from entrypoint.diagnosis.trace import Event, Trace
from entrypoint.system.log_tap import LogFollower, TapClosedError

_LOOK_SECONDS: Final = 1.0
_NOTICE_SECONDS: Final = 2.0
"""How long the notice of a bounce may take: Postfix writes it at once."""
_AGAIN_SECONDS: Final = 0.1
_CONNECT_SECONDS: Final = 5.0


class Pursuit:
    """One message, and the end of the log at which it is waited for."""

    def __init__(self, trace: Trace, follower: LogFollower, is_queued: Callable[[], bool]) -> None:
        self.trace = trace
        self.has_lost_it = False
        """Whether the message left the queue, and the line that says how was lost with a forwarder."""
        self._follower = follower
        self._is_queued = is_queued
        self._has_gap = False
        self._looked_at = 0.0
        self._missed_at: float | None = None

    def go(self, seconds: float) -> Iterator[Event]:
        """Return what happens, as it happens, until all is decided or the time is over."""
        ends_at = time.monotonic() + seconds
        while not self.trace.is_over and not self.has_lost_it and time.monotonic() < ends_at:
            was_decided = self.trace.is_decided
            try:
                lines = self._follower.read_lines(max(0.01, min(_LOOK_SECONDS, ends_at - time.monotonic())))
            except TapClosedError as error:
                yield Event(kind="gap", at=time.time(), text=str(error))
                if not self._follow_again(ends_at, is_from_start=not error.is_behind):
                    return
                continue
            for line in lines:
                yield from self.trace.note(line)
            if self.trace.is_decided and not was_decided:
                ends_at = min(ends_at, time.monotonic() + _NOTICE_SECONDS)
            self._look_whether_it_left()

    def _follow_again(self, ends_at: float, *, is_from_start: bool) -> bool:
        """Wait for the next forwarder, which the supervisor starts in about a second."""
        self._has_gap = True
        self._follower.close()
        while (left := ends_at - time.monotonic()) > 0:
            try:
                self._follower = LogFollower(min(left, _CONNECT_SECONDS), is_from_start=is_from_start)
            except TapClosedError:
                time.sleep(_AGAIN_SECONDS)
            else:
                return True
        return False

    def _look_whether_it_left(self) -> None:
        """After a gap the line may be lost; then the queue knows more. Lines under way get a second to arrive."""
        if not self._has_gap or self.trace.is_decided:
            return
        now = time.monotonic()
        if self._missed_at is None:
            if now - self._looked_at > _LOOK_SECONDS:
                self._looked_at = now
                self._missed_at = None if self._is_queued() else now
        elif now - self._missed_at > _LOOK_SECONDS:
            self.has_lost_it = True
