"""The hall: words in, exit status out, and never a traceback for what a user did."""

from __future__ import annotations

import pathlib
import sys
import types

import pytest

from entrypoint.__main__ import OCCASIONAL, VERBS, main
from entrypoint.errors import (
    BadCertificateError,
    CannotWriteError,
    CommandFailedError,
    ConfigurationError,
    Problem,
    StartupError,
)


def _replace_command(monkeypatch: pytest.MonkeyPatch, verb: str, outcome: Exception | int) -> list[list[str]]:
    """Put a command in place of a real one; return the arguments that it is called with."""
    calls: list[list[str]] = []

    def run(arguments: list[str]) -> int:
        calls.append(arguments)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    module = types.ModuleType(f"entrypoint.commands.{verb}")
    vars(module)["main"] = run
    monkeypatch.setitem(sys.modules, f"entrypoint.commands.{verb}", module)
    return calls


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
def test_help_lists_every_command(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first thing that people type."""
    assert main([word]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: authrelay [COMMAND]\n")
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == list(VERBS)
    assert err == ""


def test_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """EX_USAGE of sysexits(3): a script can tell it from a broken configuration."""
    assert main(["relay", "--now"]) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("authrelay: there is no command 'relay'.\nusage: ")


def test_every_command_is_a_module_with_a_main() -> None:
    """The usage must not promise what is not there, nor hide what is."""
    directory = pathlib.Path(__file__).parents[2] / "entrypoint" / "commands"
    modules = {path.stem.replace("_", "-") for path in directory.glob("*.py")}
    verbs = {"import-settings" if verb == "import" else verb for verb in VERBS}
    assert verbs | OCCASIONAL == modules - {"--init--", "prepare", "endings", "start"}


def test_no_command_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container without arguments relays."""
    calls = _replace_command(monkeypatch, "run", 0)
    assert main([]) == 0
    monkeypatch.setattr(sys, "argv", ["authrelay", "run", "a", "b"])
    assert main() == 0
    assert calls == [[], ["a", "b"]]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StartupError("one\ntwo"), 70),
        (BadCertificateError("one\ntwo"), 65),
        (CannotWriteError("one\ntwo"), 73),
        (CommandFailedError("one\ntwo"), 70),
        (
            ConfigurationError([Problem(setting=n, what="bad", remedy="Mend it") for n in ("two", "one", "two")]),
            78,
        ),
    ],
)
def test_error_of_ours_becomes_its_status_and_lines_without_a_traceback(
    error: StartupError, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Orchestrators act on the status, people on the words; a traceback is for neither."""
    _replace_command(monkeypatch, "check", error)
    assert main(["check"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("authrelay: one")
    assert second.startswith("authrelay: two")


def test_status_of_a_command_is_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """69 of `health` is what makes a container unhealthy."""
    _replace_command(monkeypatch, "health", 69)
    assert main(["health"]) == 69


def test_reader_that_goes_away_is_no_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`authrelay settings | head` is a normal thing to type."""
    _replace_command(monkeypatch, "settings", BrokenPipeError())
    assert main(["settings"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("directory", [[], ["a", "b"]])
def test_render_wants_one_directory(directory: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Rendering somewhere by accident would write a password file there."""
    assert main(["render", *directory]) == 64
    assert capsys.readouterr().err == "usage: authrelay render DIRECTORY\n"
