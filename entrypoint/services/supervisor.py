"""Runs supervisor as a library: the root of the process tree once the start is done. Processes.

Two things are different from supervisord: its first transition does not wait for the first poll, which takes a second,
and a service that fails for good ends the container with a status and a reason. Services write to the container's own
output, not through a pipe that this process would have to empty.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from typing import Any, Final

from supervisor import events
from supervisor.medusa.asyncore_25 import ExitNow
from supervisor.options import ProcessConfig, decode_wait_status
from supervisor.process import Subprocess
from supervisor.states import STOPPED_STATES, SupervisorStates, getProcessStateDescription
from supervisor.supervisord import Supervisor

from entrypoint import paths
from entrypoint.errors import CommandFailedError
from entrypoint.services.drain import Drain, list_children
from entrypoint.services.occasions import Occasion
from entrypoint.services.signals import Options
from entrypoint.system.files import read_text, write_file
from entrypoint.system.log import write_line
from entrypoint.system.processes import REMEMBERED
from entrypoint.system.queue import count_messages, describe_place

_FORWARDER: Final = "log-forwarder"
_MAIL_SERVICE: Final = "postfix"
_UPKEEP: Final = "upkeep"


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


class _Root(Supervisor):  # type: ignore[misc] # supervisor has no types
    """The supervisor: keeps the record of what runs, says what changed, and ends everything when a service is lost."""

    failure = ""
    """Why everything was ended, if it was not asked for."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        names = [process.name for group in options.process_group_configs for process in group.process_configs]
        self._occasions = {name: Occasion(name) for name in names}
        self._drain: Drain | None = None
        self._heeded_calls = 0

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
        """Do what is due; called about once a second, and more often while stopping."""
        super().tick(now)
        if self.options.stop_calls > self._heeded_calls:
            self._heed_stop()
        if self.options.mood < SupervisorStates.RUNNING:
            return
        if self._drain is not None:
            if self._drain.hand_out():
                self.options.mood = SupervisorStates.SHUTDOWN
            return
        if self.options.take_call():
            self._occasions[_UPKEEP].call()
        for process in self._list_processes():
            if not process.config.autostart:
                self._occasions[process.config.name].run_when_due(process)

    def _heed_stop(self) -> None:
        """Begin the stop; a second call for it lets nothing more be handed out."""
        self._heeded_calls = self.options.stop_calls
        if self._drain is not None:
            self._drain.hurry()
            return
        self.options.is_busy = True
        for process in self._list_processes():
            if not process.config.autostart and process.state not in STOPPED_STATES:
                process.stop()
        mail = self._find_mail_service()
        self._drain = Drain(mail.config.stopwaitsecs)
        if mail.pid:
            self._drain.begin(mail.pid)

    def _find_mail_service(self) -> _Process:
        return next(process for process in self._list_processes() if process.config.name == _MAIL_SERVICE)

    def ordered_stop_groups_phase_1(self) -> None:
        """Stop the next service; the forwarder only when the last process of Postfix, which may log, has ended."""
        if self.stop_groups and self.stop_groups[-1].config.name == _FORWARDER:
            self._drain = self._drain or Drain(0)
            if self._drain.wait_for(list_children(os.getpid()) - {process.pid for process in self._list_processes()}):
                return
        super().ordered_stop_groups_phase_1()

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
        if self.options.mood < SupervisorStates.RUNNING or not process.config.autostart:
            return
        words = read_text(paths.LAST_FATAL_LINE) if process.config.name == _MAIL_SERVICE else None
        self.failure = f"{process.config.name} cannot be kept running: {(words or process.ending).strip()}"
        self.options.mood = SupervisorStates.SHUTDOWN
        self.options.is_busy = True


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
    options = Options()
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
    write_line(*describe_end(count_messages(), describe_place(read_text("/proc/self/mountinfo") or "")))
    return 0


def describe_end(messages: int, fault: str) -> tuple[str, str]:
    """Return severity and text of the last line: what is left, and where it lies; `fault` as of `describe_place`."""
    if not messages:
        return "INFO", "stopped; the queue is empty"
    count = "1 message is" if messages == 1 else f"{messages} messages are"
    if not fault:
        return "INFO", f"stopped; {count} left in the queue on the volume at {paths.QUEUE}, for the next start"
    return (
        "WARNING",
        f"stopped; {count} left in the queue, which lies {fault}: gone when this container is. Start it again, and "
        f"give the next one a volume: --volume queue:{paths.QUEUE}",
    )


if __name__ == "__main__":
    sys.exit(main())
