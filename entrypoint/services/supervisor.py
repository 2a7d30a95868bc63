"""Runs supervisor as a library: the root of the process tree once the start is done. Processes.

Two things are different from supervisord: its first transition does not wait for the first poll, which takes a second,
and a service that fails for good ends the container with a status and a reason. Services write to the container's own
output, not through a pipe that this process would have to empty.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from typing import Any, ClassVar, Final

from entrypoint import paths
from entrypoint.errors import CannotWriteError, CommandFailedError
from entrypoint.services import forwarder, offshoot
from entrypoint.services.drain import Drain, look_at_rest
from entrypoint.services.library import (
    STOPPED_STATES,
    ExitNow,
    ProcessConfig,
    Subprocess,
    Supervisor,
    SupervisorStates,
    decode_wait_status,
    events,
    getProcessStateDescription,
)
from entrypoint.services.listening import DKIM, LOGINS, MAIL_SOCKETS, open_mail_socket
from entrypoint.services.log_socket import LogSocket
from entrypoint.services.occasions import Occasion
from entrypoint.services.signals import Options
from entrypoint.services.status import service as status_service
from entrypoint.system.daemons import list_children
from entrypoint.system.files import read_text
from entrypoint.system.log import copy_line, write_line
from entrypoint.system.memory import give_way
from entrypoint.system.processes import REMEMBERED, await_result
from entrypoint.system.service_record import STATUS, Service, ServiceRecord, save_services

_FORWARDER: Final = "log-forwarder"
_MAIL_SERVICE: Final = "postfix"
_UPKEEP: Final = "upkeep"
_OFFSHOOTS: Final = {_FORWARDER: forwarder.main, LOGINS: offshoot.answer_logins, DKIM: offshoot.sign_mail}
_GIVE_WAY: Final = {_MAIL_SERVICE: 300, DKIM: 300, LOGINS: 400, STATUS: 800, _UPKEEP: 900, "probe": 900, "tokens": 900}
"""Who is ended first when memory is used up: what can be done later; then a daemon of Postfix, which its master starts
again. Otherwise it would be the largest, this process, and the container with it."""


class _Process(Subprocess):  # type: ignore[misc] # supervisor has no types
    """A child whose output is the container's.

    Its standard input: a socket of ours, for what runs now and then the settings, for others nothing.
    """

    ending = ""
    """How it ended the last time: an exit status or a signal."""
    starts = 0

    def spawn(self) -> Any:
        self.starts += 1
        return super().spawn()

    def _spawn_as_child(self, filename: str, argv: Any) -> Any:
        """Become the service. Runs in the child."""
        if work := _OFFSHOOTS.get(self.config.name):
            self._prepare_child_fds()
            offshoot.branch_off(self.config.name, self.set_uid, work)
        if self.config.name == STATUS:
            self._prepare_child_fds()
            # Opened, and emptied, while this is still root.
            endpoint = open(paths.STATUS_ENDPOINT, "w", encoding="ascii")  # noqa: SIM115 - the service closes it
            offshoot.branch_off(STATUS, self.set_uid, lambda: status_service.serve(argv[-1], endpoint))
        return super()._spawn_as_child(filename, argv)

    def _prepare_child_fds(self) -> None:
        """Give the child its descriptors 0 to 2 and no others. Runs in the child, before exec."""
        if self.config.name != _MAIL_SERVICE:
            os.setpgrp()  # a terminal's Ctrl-C is for the supervisor alone
        if self.config.name in (_MAIL_SERVICE, STATUS):
            standard_input = os.open(os.devnull, os.O_RDONLY)
        else:
            standard_input = self.config.sockets.get(self.config.name, REMEMBERED)
        give_way(_GIVE_WAY.get(self.config.name, 0))
        os.dup2(standard_input, 0)
        os.closerange(3, self.config.options.minfds)

    def finish(self, pid: int, sts: int) -> None:
        self.ending = decode_wait_status(sts)[1]
        super().finish(pid, sts)


class _Service(ProcessConfig):  # type: ignore[misc] # supervisor has no types
    """What to run: a program of supervisord.conf without the pipes that supervisord reads its output from."""

    log_socket: LogSocket
    sockets: ClassVar[dict[str, int]] = {}

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
        self._is_ending_copied = False

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
        self._watch_forwarder()
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
        self._note_change()
        for process in self._list_processes():
            if not process.config.autostart and process.state not in STOPPED_STATES:
                process.stop()
        mail = self._find(_MAIL_SERVICE)
        self._drain = Drain(mail.config.stopwaitsecs)
        if mail.pid:
            self._drain.begin(mail.pid)

    def _watch_forwarder(self) -> None:
        """End a forwarder that lives and does not read, for mail waits for it; it is started again like any other."""
        forwarder = self._find(_FORWARDER)
        if forwarder.config.log_socket.is_neglected(time.monotonic()) and forwarder.pid:
            write_line("WARNING", f"{_FORWARDER} does not read what Postfix logs, and mail waits for that: it is ended")
            os.kill(forwarder.pid, signal.SIGKILL)

    def _find(self, name: str) -> _Process:
        return next(process for process in self._list_processes() if process.config.name == name)

    def ordered_stop_groups_phase_1(self) -> None:
        """Stop the next service; the milter and the forwarder only when the last process of Postfix has ended."""
        if self.stop_groups and self.stop_groups[-1].config.name in (DKIM, _FORWARDER):
            self._drain = self._drain or Drain(0)
            if self._drain.wait_for(list_children(os.getpid()) - {process.pid for process in self._list_processes()}):
                return
            self._copy_ending()
        super().ordered_stop_groups_phase_1()

    def _copy_ending(self) -> None:
        """Tell the syslog server how this ends while there is a forwarder; standard output is told when all is over."""
        if not self._is_ending_copied:
            self._is_ending_copied = True
            severity, text = ("ERROR", self.failure) if self.failure else describe_end()
            copy_line(severity, time.time(), text)

    def _start_at_once(self, _: Any) -> None:
        """Start every service before the first poll; Postfix first, whose lines the socket holds for a moment."""
        for group in sorted(self.process_groups.values(), key=lambda group: group.config.name != _MAIL_SERVICE):
            group.transition()

    def _note_change(self, _: Any = None) -> None:
        """Write what runs now for health checks and the status page."""
        services = {
            process.config.name: Service(
                state=getProcessStateDescription(process.state),
                pid=process.pid,
                restarts=max(0, process.starts - 1),
                since=process.laststart,
            )
            for process in self._list_processes()
            if process.config.autostart
        }
        try:
            save_services(ServiceRecord(services=services, is_stopping=self._heeded_calls > 0))
        except CannotWriteError as error:
            # The mail goes on without it; `health` has the last record.
            write_line("WARNING", str(error))

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
        if process.config.name == STATUS:
            text = f"{STATUS} cannot be kept running: {process.ending}. There are no metrics and no page from now on"
            write_line("WARNING", f"{text}; mail is not affected. To try again, restart the container")
            return
        words = read_text(paths.LAST_FATAL_LINE) if process.config.name == _MAIL_SERVICE else None
        self.failure = f"{process.config.name} cannot be kept running: {(words or process.ending).strip()}"
        self.options.mood = SupervisorStates.SHUTDOWN
        self.options.is_busy = True


def supervise() -> None:
    """Run the services until TERM; raise CommandFailedError when one of them cannot be kept running."""
    options = Options()
    options.realize(args=["-c", paths.SUPERVISORD_CONF, "--nodaemon"])
    _Service.log_socket = LogSocket()
    _Service.sockets[_FORWARDER] = _Service.log_socket.fileno()
    for name in {group.name for group in options.process_group_configs} & MAIL_SOCKETS.keys():
        _Service.sockets[name] = open_mail_socket(name).detach()
    for group in options.process_group_configs:
        group.process_configs = [
            _Service(options, **{name: getattr(config, name) for name in ProcessConfig.req_param_names})
            for config in group.process_configs
        ]
    options.make_logger()
    root = _Root(options)
    # What is here now stays: the collector need not touch it, and so the pages stay shared with our offshoots.
    gc.freeze()
    with contextlib.suppress(ExitNow):
        root.run()
    if root.failure:
        raise CommandFailedError(root.failure)


def describe_end() -> tuple[str, str]:
    """Return severity and text of what a stop leaves behind."""
    severity, rest = look_at_rest()
    return severity, f"stopped; {rest}"


def await_start() -> int:
    """Wait until everything is prepared; return the status of a start that failed, which has said why."""
    status, time_zone = await_result()
    if status < 0:
        write_line("ERROR", f"the start was ended by {signal.Signals(-status).name}, perhaps for want of memory")
        return CommandFailedError.exit_status
    os.environ["TZ"] = time_zone
    time.tzset()
    return status


def main() -> int:
    """Supervise, and return the exit status of the container."""
    try:
        supervise()
    except CommandFailedError as error:
        write_line("ERROR", str(error))
        return error.exit_status
    write_line(*describe_end())
    return 0


if __name__ == "__main__":
    sys.exit(await_start() or main())
