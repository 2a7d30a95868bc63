"""Runs supervisor as a library: the root of the process tree once the start is done. Processes.

Two things are different from supervisord: its first transition does not wait for the first poll, which takes a second,
and a service that fails for good ends the container with a status and a reason. Services write to the container's own
output, not through a pipe that this process would have to empty.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from typing import Any, Final

from supervisor import events
from supervisor.medusa.asyncore_25 import ExitNow
from supervisor.options import ProcessConfig, ServerOptions, decode_wait_status
from supervisor.process import Subprocess
from supervisor.states import RUNNING_STATES, SupervisorStates, getProcessStateDescription
from supervisor.supervisord import Supervisor

from entrypoint import paths
from entrypoint.errors import CommandFailedError
from entrypoint.system.agenda import Agenda, find_now, is_due, read_agenda
from entrypoint.system.files import read_text, write_file
from entrypoint.system.log import write_line
from entrypoint.system.processes import REMEMBERED

_FORWARDER: Final = "log-forwarder"
_MAIL_SERVICE: Final = "postfix"
_AFTER_FAILURE_SECONDS: Final = 300.0


class _Process(Subprocess):  # type: ignore[misc] # supervisor has no types
    """A child whose output is the container's.

    Its standard input: for the forwarder the log socket, for what runs now and then the settings, for Postfix nothing.
    """

    ending = ""
    """How it ended the last time: an exit status or a signal."""

    def _prepare_child_fds(self) -> None:
        """Give the child its descriptors 0 to 2 and no others. Runs in the child, before exec."""
        if self.config.name == _MAIL_SERVICE:
            standard_input = os.open(os.devnull, os.O_RDONLY)
        else:
            os.setpgrp()  # a terminal's Ctrl-C is for the supervisor alone
            standard_input = self.config.log_socket.fileno() if self.config.name == _FORWARDER else REMEMBERED
        os.dup2(standard_input, 0)
        os.closerange(3, self.config.options.minfds)

    def finish(self, pid: int, sts: int) -> None:
        self.ending = decode_wait_status(sts)[1]
        super().finish(pid, sts)


class _Service(ProcessConfig):  # type: ignore[misc] # supervisor has no types
    """What to run: a program of supervisord.conf without the pipes that supervisord reads its output from."""

    log_socket: socket.socket

    def make_dispatchers(self, proc: Any) -> tuple[dict[int, Any], dict[str, None]]:
        del proc
        ends = ("stdin", "stdout", "stderr", "child_stdin", "child_stdout", "child_stderr")
        return {}, dict.fromkeys(ends)

    def make_process(self, group: Any = None) -> _Process:
        process = _Process(self)
        process.group = group
        return process


class _Options(ServerOptions):  # type: ignore[misc] # supervisor has no types
    """supervisord's options, with a wake-up for signals beside its sockets."""

    test = False

    def __init__(self) -> None:
        super().__init__()
        self._wake_up = _WakeUp()

    def get_socket_map(self) -> dict[int, Any]:
        return {self._wake_up.fileno(): self._wake_up}

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


class _Occasion:
    """When a service that runs now and then is due; it writes its own agenda."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._agenda: Agenda | None = None

    def run_when_due(self, process: _Process) -> None:
        """Start it, unless it runs already."""
        if process.state in RUNNING_STATES:
            return
        self._agenda = self._agenda or read_agenda(self._name)
        if is_due(self._agenda, find_now()):
            process.spawn()

    def note_ending(self, *, is_expected: bool, ending: str) -> None:
        """Look into its new agenda; if it failed, and so may have written none, wait a while."""
        self._agenda = None
        if not is_expected:
            write_line("ERROR", f"{self._name} failed ({ending}) and is tried again in {_AFTER_FAILURE_SECONDS:g} s")
            self._agenda = Agenda(due_at=find_now() + _AFTER_FAILURE_SECONDS)


class _Root(Supervisor):  # type: ignore[misc] # supervisor has no types
    """The supervisor: keeps the record of what runs, says what changed, and ends everything when a service is lost."""

    failure = ""
    """Why everything was ended, if it was not asked for."""

    def __init__(self, options: _Options) -> None:
        super().__init__(options)
        names = [process.name for group in options.process_group_configs for process in group.process_configs]
        self._occasions = {name: _Occasion(name) for name in names}

    def _list_processes(self) -> list[_Process]:
        return [process for group in self.process_groups.values() for process in group.processes.values()]

    def runforever(self) -> None:
        events.subscribe(events.SupervisorRunningEvent, self._start_at_once)
        events.subscribe(events.ProcessStateEvent, self._note_change)
        events.subscribe(events.ProcessStateExitedEvent, self._tell_ending)
        events.subscribe(events.ProcessStateBackoffEvent, self._tell_ending)
        events.subscribe(events.ProcessStateFatalEvent, self._end_all)
        super().runforever()

    def tick(self, now: float | None = None) -> None:
        """Run what is due; called about once a second."""
        super().tick(now)
        if self.options.mood < SupervisorStates.RUNNING:
            return
        for process in self._list_processes():
            if not process.config.autostart:
                self._occasions[process.config.name].run_when_due(process)

    def _start_at_once(self, _: Any) -> None:
        """Start every service in its order, before the first poll."""
        for group in sorted(self.process_groups.values()):
            group.transition()

    def _note_change(self, _: Any) -> None:
        """Write what runs now for `authrelay health`."""
        states = {
            process.config.name: {"state": getProcessStateDescription(process.state), "pid": process.pid}
            for process in self._list_processes()
            if process.config.autostart
        }
        write_file(paths.SERVICES, json.dumps(states) + "\n", 0o644)

    def _tell_ending(self, event: Any) -> None:
        """Say that a service ended by itself and is started again, unless this was its last chance."""
        process = event.process
        if not process.config.autostart:
            self._occasions[process.config.name].note_ending(is_expected=event.expected, ending=process.ending)
        elif process.backoff <= process.config.startretries:
            write_line("WARNING", f"{process.config.name} ended ({process.ending}) and is started again")

    def _end_all(self, event: Any) -> None:
        """Begin to stop everything because a service cannot be kept running."""
        process = event.process
        if self.options.mood < SupervisorStates.RUNNING:
            return
        words = read_text(paths.LAST_FATAL_LINE) if process.config.name == _MAIL_SERVICE else None
        self.failure = f"{process.config.name} cannot be kept running: {(words or process.ending).strip()}"
        self.options.mood = SupervisorStates.SHUTDOWN


def open_log_socket() -> socket.socket:
    """Return the bound datagram socket that syslog(3) writes to. It lives as long as the container."""
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if os.path.exists(paths.LOG_SOCKET):
        os.unlink(paths.LOG_SOCKET)
    log.bind(paths.LOG_SOCKET)
    os.chmod(paths.LOG_SOCKET, 0o666)  # noqa: S103 - every Postfix daemon logs, whatever its user
    return log


def supervise() -> None:
    """Run the services until TERM; raise CommandFailedError when one of them cannot be kept running."""
    options = _Options()
    options.realize(args=["-c", paths.SUPERVISORD_CONF, "--nodaemon"])
    _Service.log_socket = open_log_socket()
    for group in options.process_group_configs:
        group.process_configs = [
            _Service(options, **{name: getattr(config, name) for name in ProcessConfig.req_param_names})
            for config in group.process_configs
        ]
    options.make_logger()
    root = _Root(options)
    with contextlib.suppress(ExitNow):
        root.run()
    if root.failure:
        raise CommandFailedError(root.failure)


def main() -> int:
    """Supervise, and return the exit status of the container."""
    try:
        supervise()
    except CommandFailedError as error:
        write_line("ERROR", str(error))
        return error.exit_status
    write_line("INFO", "stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
