"""`authrelay import`: from an old Postfix, or another image's variables, to settings, with a remark for each change."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Callable
from typing import Final

from entrypoint.command_line import Parser
from entrypoint.config.environment import read_settings
from entrypoint.errors import ConfigurationError, UsageError
from entrypoint.migration.draft import Draft
from entrypoint.migration.images import convert_variables, find_image, parse_variables
from entrypoint.migration.main_cf import convert
from entrypoint.system.files import make_directory, read_text, write_file
from entrypoint.system.processes import finish_command, start_command

_SECRETS: Final = "/run/secrets"
_SERVICES: Final = "smtp unix - - n - - smtp\nrelay unix - - n - - smtp\nlmtp unix - - n - - lmtp\n"
_EPILOG: Final = """\
SOURCE is a directory with a main.cf and its tables, a main.cf, or a file of variables (docker run --env-file, or the
`environment` of a Compose file); - is standard input. Passwords are not printed: --write puts them into files.
"""


def main(arguments: list[str]) -> int:
    """Print the settings; return 0, or raise what kept the source from being read."""
    options = _parse_arguments(arguments)
    draft = _convert(options.source)
    for problem in _find_problems(draft):
        draft.remark(f"MEND THIS: {problem}")
    if options.write:
        for path in _write(draft, options.write):
            sys.stdout.write(f"{path}\n")
        return 0
    sys.stdout.write(draft.render())
    if secrets := draft.list_secrets():
        where = ", ".join(f"{_SECRETS}/{name}" for name in sorted(secrets))
        sys.stderr.write(f"authrelay: to be made: {where}; --write DIRECTORY makes them\n")
    return 0


def _parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="authrelay import",
        description="Print the settings that an old Postfix configuration, or another image's variables, come to.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("--write", metavar="DIRECTORY", help="write relay.env and secrets/ there, passwords included")
    return parser.parse_args(arguments)


def _convert(source: str) -> Draft:
    directory = source if os.path.isdir(source) else os.path.dirname(source) or "."
    read_table, find_file = _make_reader(directory)
    if os.path.isdir(source):
        source = _find_source(source)
    text = sys.stdin.read() if source == "-" else read_text(source)
    if text is None:
        raise UsageError(f"{source} cannot be read. Give a directory with main.cf, a main.cf, or a file of variables")
    if _is_main_cf(text):
        return convert(_ask_postfix(text), read_table, source, find_file)
    variables = parse_variables(text)
    image = find_image(variables)
    if not image:
        raise UsageError(f"{source} has neither a parameter of Postfix nor a variable of a relay image that is known")
    return convert_variables(variables, image, source, read_table, find_file)


def _find_source(directory: str) -> str:
    for name in ("main.cf", "mailserver.env", ".env", "relay.env"):
        if os.path.exists(path := os.path.join(directory, name)):
            return path
    raise UsageError(f"{directory} has neither main.cf nor mailserver.env. Name the file itself")


def _is_main_cf(text: str) -> bool:
    """Return whether a parameter of Postfix's is set in it; variables are in capitals."""
    return re.search(r"(?m)^(relayhost|my\w+|smtpd?_\w+)\s*=", text) is not None


def _ask_postfix(text: str) -> dict[str, str]:
    """Return what is set in a main.cf, as Postfix itself reads it (postconf(1) -nx)."""
    with tempfile.TemporaryDirectory() as directory:
        write_file(os.path.join(directory, "main.cf"), text, 0o600)
        # Parameters such as smtp_destination_rate_delay are known by the services that there are.
        write_file(os.path.join(directory, "master.cf"), _SERVICES, 0o600)
        lines = finish_command(start_command(("postconf", "-c", directory, "-nx")))
    # It also warns of parameters that nothing uses.
    pairs = (line.partition("=") for line in lines if "postconf: " not in line)
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip() != "config_directory"}


def _make_reader(directory: str) -> tuple[Callable[[str], str | None], Callable[[str], str]]:
    """Return what reads a table that the old configuration names, and what says where a file will be."""

    def read_table(path: str) -> str | None:
        for place in (
            os.path.join(directory, path.removeprefix("/etc/postfix/")),
            os.path.join(directory, os.path.basename(path)),
        ):
            if (text := read_text(place)) is not None:
                return text
        return None

    def find_file(path: str) -> str:
        return f"{_SECRETS}/{os.path.basename(path)}"

    return read_table, find_file


def _find_problems(draft: Draft) -> list[str]:
    """Return what a start would refuse; files of the person's own are not looked at."""
    try:
        read_settings(draft.values)
    except ConfigurationError as error:
        own = tuple(f"{name}" for name in draft.files)
        return [str(problem) for problem in error.problems if not (own and any(name in str(problem) for name in own))]
    return []


def _write(draft: Draft, directory: str) -> list[str]:
    """Write relay.env and the secrets, and return their paths."""
    make_directory(directory, 0o755)
    path = os.path.join(directory, "relay.env")
    write_file(path, draft.render(), 0o644)
    written = [path]
    for name, value in sorted(draft.list_secrets().items()):
        make_directory(os.path.join(directory, "secrets"), 0o700)
        path = os.path.join(directory, "secrets", name)
        write_file(path, value, 0o600)
        written.append(path)
    return written
