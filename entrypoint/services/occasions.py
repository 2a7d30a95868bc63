"""Services that run now and then, as their agendas say. Processes, disk."""

from __future__ import annotations

from typing import Any, Final

from entrypoint.services.library import RUNNING_STATES
from entrypoint.system.agenda import Agenda, find_now, is_due, read_agenda
from entrypoint.system.log import write_line

_AFTER_FAILURE_SECONDS: Final = 300.0


class Occasion:
    """When a service that runs now and then is due; it writes its own agenda."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._agenda: Agenda | None = None

    def run_when_due(self, process: Any) -> None:
        """Start it, unless it runs already."""
        if process.state in RUNNING_STATES:
            return
        self._agenda = self._agenda or read_agenda(self._name)
        if is_due(self._agenda, find_now()):
            process.spawn()

    def call(self) -> None:
        """Let it run as soon as it can."""
        self._agenda = Agenda(due_at=0.0)

    def note_ending(self, *, is_expected: bool, ending: str) -> None:
        """Look into its new agenda; if it failed, and so may have written none, wait a while."""
        self._agenda = None
        if not is_expected:
            write_line("ERROR", f"{self._name} failed ({ending}) and is tried again in {_AFTER_FAILURE_SECONDS:g} s")
            self._agenda = Agenda(due_at=find_now() + _AFTER_FAILURE_SECONDS)
