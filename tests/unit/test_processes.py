"""Commands and limits: what failed says so, and nothing inherits a limit that makes it slow."""

from __future__ import annotations

import pathlib
import resource
import subprocess
import sys

import pytest

from entrypoint.errors import CommandFailedError
from entrypoint.system.processes import bound_file_limit, finish_command, read_standard_error, start_command

ROOT = pathlib.Path(__file__).parents[2]


def _run(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.mark.parametrize(
    ("hard", "expected"),
    [(2**30, 65536), (resource.RLIM_INFINITY, 65536), (65537, 65536), (65536, 65536), (1024, 1024)],
)
def test_file_limit_is_bounded_and_never_raised(hard: int, expected: int) -> None:
    """Some engines give 2^30; a program that closes every possible descriptor then takes minutes to start."""
    assert bound_file_limit(hard) == expected


def test_command_that_fails_is_told_with_its_status_and_words() -> None:
    """The reason is in what the command said, on whichever stream."""
    process = start_command(
        _run("import sys; print('one'); sys.stdout.flush(); sys.stderr.write('two\\n\\n'); sys.exit(3)")
    )
    with pytest.raises(CommandFailedError) as caught:
        finish_command(process)
    assert str(caught.value).endswith(" ended with status 3: one; two")
    assert caught.value.exit_status == 70


def test_command_that_fails_in_silence_says_that() -> None:
    """An empty reason looks like a cut-off line."""
    with pytest.raises(CommandFailedError, match=r"ended with status 1: it said nothing$"):
        finish_command(start_command(_run("raise SystemExit(1)")))


def test_command_that_succeeds_returns_what_it_said() -> None:
    """postmap warns about a doubtful table and succeeds: the caller decides what a word means."""
    assert finish_command(start_command(_run("print(' postfix: warning '); print()"))) == ["postfix: warning"]


def test_command_that_speaks_no_utf8_is_still_told() -> None:
    """A traceback about an encoding would hide what was said."""
    code = "import sys; sys.stdout.buffer.write(b'\\xff!'); sys.exit(1)"
    with pytest.raises(CommandFailedError, match=r"ended with status 1: \ufffd!$"):
        finish_command(start_command(_run(code)))


def test_standard_error_alone_is_read() -> None:
    """postconf prints thousands of lines to standard output; only the others matter."""
    assert read_standard_error(_run("import sys; print('out'); sys.stderr.write('err')")) == "err"


_BESIDE = """
import os, signal, sys
from entrypoint.system.processes import become_beside, leave_result, remember
then = "import os; from entrypoint.system.processes import await_result; print(*await_result()); "
then += "print(os.pread(3, 99, 0), *os.environ)"
writer = become_beside(sys.executable, ("-c", then), {"PYTHONPATH": os.getcwd()})
remember("settings")
FATE
"""


@pytest.mark.parametrize(
    ("fate", "told"),
    [("leave_result(writer, 'UTC')", "0 UTC"), ("sys.exit(78)", "78"), ("os.kill(os.getpid(), signal.SIGKILL)", "-9")],
)
def test_start_is_awaited_by_the_program_that_its_parent_has_become(fate: str, told: str) -> None:
    """What ends the start ends the container with the same status; the supervisor has no variable of the user's."""
    command = (sys.executable, "-B", "-c", _BESIDE.replace("FATE", fate))
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT), "SECRET": "x"}
    )
    first, second = done.stdout.splitlines()
    assert first.strip() == told
    assert second.startswith("b'settings' PYTHONPATH")
    assert "SECRET" not in second
