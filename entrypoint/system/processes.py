"""Runs commands, becomes another program, and bounds what a process tree may open. The only one that does."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn, cast

from entrypoint.errors import CommandFailedError

REMEMBERED: Final = 3
"""The descriptor of what `remember` keeps."""
_RESULT: Final = 4
"""The descriptor at which what `leave_result` leaves can be read."""
_MOST_FILES: Final = 65536
"""Enough for every connection that Postfix can hold, and closed in no time. Some engines give 2^30, and programs that
close every possible descriptor then take minutes to start."""


def start_command(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start a command that works beside us; `finish_command` waits for it."""
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def finish_command(process: subprocess.Popen[str]) -> list[str]:
    """Wait for a command and return the lines that it wrote; raise CommandFailedError with them if it failed."""
    output, _ = process.communicate()
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if process.returncode:
        words = " ".join(cast("Sequence[str]", process.args))
        spoken = "; ".join(lines) or "it said nothing"
        raise CommandFailedError(f"{words} ended with status {process.returncode}: {spoken}")
    return lines


def read_standard_error(arguments: Sequence[str]) -> str:
    """Run a command whose standard output does not matter, and return what it wrote to standard error."""
    return subprocess.run(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    ).stderr


def start_child(work: Callable[[], bytes], seconds: int) -> tuple[int, int]:
    """Fork a child for one piece of work, and return its number and the descriptor at which the result can be read.

    It ends after so many seconds at the latest, and has no other descriptor of ours; its exit status is 0 when the
    result is whole.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    status = 1
    with contextlib.suppress(BaseException):
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(seconds)
        # A connection that stayed open here would not end for the client when the parent closes it.
        os.closerange(3, writer)
        os.closerange(writer + 1, _MOST_FILES)
        result = memoryview(work())
        while result:
            result = result[os.write(writer, result) :]
        status = 0
    os._exit(status)


def send_signal(pid: int, number: int) -> None:
    """Send a signal, as the user of the process where the container's root has no CAP_KILL and may not (kill(2))."""
    try:
        os.kill(pid, number)
    except PermissionError:
        try:
            os.seteuid(os.stat(f"/proc/{pid}").st_uid)
            os.kill(pid, number)
        except FileNotFoundError as error:
            raise ProcessLookupError from error
        finally:
            os.seteuid(0)


def reset_signals() -> None:
    """Treat signals as a program that was just started does: a fork inherits its parent's handlers."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def bound_file_limit(hard: int) -> int:
    """Return the RLIMIT_NOFILE to run with, soft and hard: what the hard limit allows, but never above 65536."""
    return _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)


def apply_file_limit() -> None:
    """Bound the number of open files for this process and all that it starts."""
    limit = bound_file_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def become_beside(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Become another program, and return in a child: the descriptor for `leave_result`, which the other awaits.

    Both have a file without a name (memfd_create(2)) for what is remembered: on no disk, in no environment, and closed
    in every other child.
    """
    memory, (reader, writer) = os.memfd_create("settings", 0), os.pipe()
    for descriptor, number in ((memory, REMEMBERED), (reader, _RESULT)):
        if descriptor != number:
            os.dup2(descriptor, number)
    if os.fork():
        os.set_inheritable(_RESULT, True)
        become(program, arguments, environment)
    os.close(_RESULT)
    return writer


def leave_result(writer: int, text: str) -> NoReturn:
    """End this child well, and at once: nothing that it imported needs to be taken apart."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(writer, text.encode())
    os._exit(0)


def await_result() -> tuple[int, str]:
    """Return how the child that prepared everything has ended, an exit status or a signal below 0, and its result."""
    with open(_RESULT, encoding="utf-8") as file:
        text = file.read()
    return os.waitstatus_to_exitcode(os.wait()[1]), text


def remember(text: str) -> None:
    """Keep a text for whoever the supervisor hands it to."""
    os.write(REMEMBERED, text.encode())


def recall() -> str:
    """Return the remembered text, of which the supervisor makes our standard input."""
    return os.pread(0, os.fstat(0).st_size, 0).decode()


def become(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by another program with exactly this environment."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(program, (program, *arguments), dict(environment))  # noqa: S606 - no shell is meant
