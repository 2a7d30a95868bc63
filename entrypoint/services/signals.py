"""supervisord's options, with what it does about signals, and how long it sleeps, made ours. Processes.

A signal wakes it at once; TERM and INT begin a stop of our own, HUP calls for the upkeep.
"""

from __future__ import annotations

import os
import signal
from typing import Any, Final

from entrypoint.services.library import ServerOptions
from entrypoint.system.processes import send_signal

_STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
_BUSY_SECONDS: Final = 0.1
"""Between two looks while it is stopping: every second counts against the engine's patience."""


class Options(ServerOptions):  # type: ignore[misc] # supervisor has no types
    """supervisord's options."""

    test = False
    is_busy = False
    """Whether it must look often: it sleeps up to a second otherwise."""
    stop_calls = 0
    """How many signals to stop have come."""

    def __init__(self) -> None:
        super().__init__()
        self._wake_up = _WakeUp()
        self._is_called = False
        self._sleep = self.poller.poll
        self.poller.poll = self._poll

    def get_signal(self) -> int | None:
        """Return a signal for supervisor to act on: none of those that are ours."""
        number: int | None = super().get_signal()
        if number in _STOPS:
            self.stop_calls += 1
        elif number == signal.SIGHUP:
            self._is_called = True
        else:
            return number
        return None

    def take_call(self) -> bool:
        """Return whether HUP came since this was asked."""
        is_called, self._is_called = self._is_called, False
        return is_called

    def _poll(self, seconds: float) -> Any:
        return self._sleep(_BUSY_SECONDS if self.is_busy else seconds)

    def get_socket_map(self) -> dict[int, Any]:
        """Return what is polled."""
        return {self._wake_up.fileno(): self._wake_up}

    def kill(self, pid: int, signal: int) -> None:
        """Send a signal to a child, whatever its user is."""
        send_signal(pid, signal)

    def setpgrp(self) -> None:
        """Do nothing: master(8) begins a session of its own, which a leader of a process group must not (setsid(2))."""


class _WakeUp:
    """A descriptor that becomes readable on every signal: a poll under way would sleep on otherwise (PEP 475)."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def fileno(self) -> int:
        return self._reader

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        os.read(self._reader, 4096)

    def handle_error(self) -> None:
        raise RuntimeError("the wake-up pipe cannot be read")
