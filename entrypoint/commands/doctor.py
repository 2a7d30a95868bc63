"""`authrelay doctor`: walks the way that mail will go, and stops at the first broken step. Network, processes."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable
from typing import Final

from entrypoint.command_line import Parser, parse_seconds
from entrypoint.commands.prepare import Occasion, prepare
from entrypoint.config.settings import Settings
from entrypoint.config.upstreams import Upstream
from entrypoint.diagnosis.configuration import find_configuration
from entrypoint.diagnosis.report import Result, find_status, make_json, render_end, render_step
from entrypoint.diagnosis.steps import Step
from entrypoint.diagnosis.token_source import walk_token
from entrypoint.diagnosis.ways import examine, stay_silent
from entrypoint.errors import CommandFailedError, StartupError, quote_value

_TIMEOUT_SECONDS: Final = 20.0
_ADDRESS: Final = re.compile(r"[^\s<>\x00-\x1f\x7f]{1,254}")
_EPILOG: Final = """\
Never sends a message. Exit status: 0 all is well; otherwise that of the broken step: docs/doctor.md has the table.
"""


def main(arguments: list[str]) -> int:
    """Walk to every upstream, or to one; return 0, or the status of the first broken step."""
    options = _parse_arguments(arguments)
    try:
        prepared = prepare(Occasion.LOOK)
    except StartupError as error:
        if not options.json:
            raise
        problems = Step(name="settings", is_ok=False, detail=str(error), remedy="Mend the settings that it names")
        result = Result(setting="RELAYHOST", nexthop="", steps=[problems])
        sys.stdout.write(json.dumps(make_json([result], error.exit_status), indent=2) + "\n")
        return error.exit_status
    for warning in prepared.all_warnings:
        sys.stderr.write(f"authrelay: WARNING: {warning}\n")
    settings, plan = prepared.settings, prepared.plan
    with tempfile.TemporaryDirectory() as directory:
        results = examine(
            settings,
            find_configuration(plan.files, plan.authorities, directory),
            report=stay_silent if options.json else _Screen().show,
            sender=options.sender,
            recipient=options.to,
            timeout_seconds=options.timeout,
            find_token=walk_token,
            wanted=_choose(settings, options.upstream),
        )
    status = find_status(results)
    if options.json:
        sys.stdout.write(json.dumps(make_json(results, status), indent=2) + "\n")
    else:
        sys.stdout.write(render_end(results, has_recipient=options.to is not None))
    return status


def _parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="authrelay doctor",
        description="Walk the way that mail will go, one step a line, and stop at the first broken one.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument(
        "upstream",
        metavar="UPSTREAM",
        nargs="?",
        help="walk to this one alone: the name of one in UPSTREAMS, a host, or an account (all)",
    )
    parser.add_argument("--to", metavar="ADDRESS", type=_parse_address, help="also ask for this recipient")
    parser.add_argument(
        "--from", metavar="ADDRESS", dest="sender", type=_parse_address, help="the sender to ask with; else the account"
    )
    parser.add_argument("--timeout", metavar="SECONDS", type=parse_seconds, default=_TIMEOUT_SECONDS)
    parser.add_argument("--json", action="store_true", help="print JSON (docs/doctor.md)")
    return parser.parse_args(arguments)


def _choose(settings: Settings, word: str | None) -> Callable[[Upstream], bool]:
    """Return what tells the wanted upstreams; raise CommandFailedError when the word names none."""
    if word is None:
        return bool

    def is_wanted(upstream: Upstream) -> bool:
        host = upstream.nexthop.host
        names = (
            upstream.setting,
            upstream.service.removeprefix("smtp-"),
            str(upstream.nexthop),
            host,
            upstream.username,
        )
        return word.lower() in {name.lower() for name in names if name}

    if not any(map(is_wanted, settings.every_upstream)):
        known = "; ".join(f"{one.setting} {one.nexthop}" for one in settings.every_upstream)
        raise CommandFailedError(f"there is no upstream '{quote_value(word)}'; there are {known}")
    return is_wanted


def _parse_address(text: str) -> str:
    if not _ADDRESS.fullmatch(text) or "@" not in text:
        raise argparse.ArgumentTypeError(f"'{quote_value(text)}' is no mail address; write user@example.com")
    return text


class _Screen:
    """Shows each step as soon as it is known, below a line that names the upstream."""

    def __init__(self) -> None:
        self._has_colour = sys.stdout.isatty()
        self._is_first = True

    def show(self, result: Result, step: Step) -> None:
        """Show one step."""
        if len(result.steps) == 1:
            gap = "" if self._is_first else "\n"
            sys.stdout.write(f"{gap}{result.setting} {result.nexthop}, level {result.level}\n")
            self._is_first = False
        sys.stdout.write(render_step(step, has_colour=self._has_colour))
        sys.stdout.flush()
