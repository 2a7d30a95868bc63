"""`authrelay send-test --to ADDRESS`: sends a message through the running relay, and follows it. Network, processes."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from email.utils import format_datetime, localtime, make_msgid
from typing import Final

from entrypoint import paths
from entrypoint.command_line import Parser, parse_seconds
from entrypoint.config.environment import read_settings
from entrypoint.config.settings import Settings
from entrypoint.config.upstreams import Upstream
from entrypoint.diagnosis.judgement import list_forms
from entrypoint.diagnosis.narration import Facts, Outcome, Step, hide, judge, make_json, render_step, tell_event
from entrypoint.diagnosis.pursuit import Pursuit
from entrypoint.diagnosis.trace import Trace
from entrypoint.errors import CommandFailedError, quote_value
from entrypoint.system.files import read_text
from entrypoint.system.log_tap import LogFollower, TapClosedError
from entrypoint.system.processes import finish_command, start_command
from entrypoint.system.smtp_session import SessionError
from entrypoint.system.submission import RefusedError, Submission, submit

_TIMEOUT_SECONDS: Final = 60.0
_SUBMISSION_SECONDS: Final = 30.0
_TAP_SECONDS: Final = 5.0
# An address that needs no quoting in a header or a command (RFC 5321 section 4.1.2, Dot-string).
_ADDRESS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.:\[\]-]{1,253}")
_INSIDE: Final = "run it inside: docker exec relay authrelay send-test --to {to}"
_EPILOG: Final = """\
Exit status: 0 sent; 75 deferred, or not decided in time; 69 refused, or no relay is running here.
"""
_BODY: Final = """\
This is a test message of authrelay, a mail relay. Somebody ran
'authrelay send-test' on {name} to see whether its mail arrives.

It did. Nothing has to be done.
"""


def main(arguments: list[str]) -> int:
    """Submit, follow and tell; return 0 when it was sent, 75 or 69 otherwise."""
    options = _parse_arguments(arguments)
    listeners = json.loads(read_text(paths.LISTENERS) or "[]")
    report = _Report(options)
    if not listeners:
        inside = _INSIDE.format(to=options.to[0])
        return report.end(Outcome(result="no-relay", exit_status=69, text=f"no relay is running here; {inside}"))
    settings, _ = read_settings()
    values = _read_parameters()
    report.facts = _find_facts(settings, values)
    sender = options.sender or _choose_sender(settings, values["myhostname"])
    try:
        # Before anything is sent, so that no line can be missed.
        follower = LogFollower(_TAP_SECONDS)
    except TapClosedError as error:
        text = f"{error}, so that nothing was sent: is the relay running? 'authrelay health' says; or it is starting"
        return report.end(Outcome(result="no-relay", exit_status=69, text=text))
    try:
        submission = _submit(report, [(address, port) for address, port, _ in listeners], sender, values["myhostname"])
    except (RefusedError, SessionError) as error:
        follower.close()
        is_refusal = isinstance(error, RefusedError)
        text = f"the relay itself {'refuses' if is_refusal else 'does not answer'}: {error}; nothing was sent"
        return report.end(Outcome(result="refused" if is_refusal else "no-relay", exit_status=69, text=text))
    return _follow(report, follower, submission)


def _parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="authrelay send-test",
        description="Send a message through the running relay, and tell what becomes of it.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--to", metavar="ADDRESS", type=_parse_address, required=True, action="append", help="may be repeated"
    )
    parser.add_argument(
        "--from", metavar="ADDRESS", dest="sender", type=_parse_address, help="the sender; else the account"
    )
    parser.add_argument("--timeout", metavar="SECONDS", type=parse_seconds, default=_TIMEOUT_SECONDS)
    parser.add_argument("--json", action="store_true", help="print JSON (docs/send-test.md)")
    options = parser.parse_args(arguments)
    options.to = list(dict.fromkeys(options.to))
    return options


def _parse_address(text: str) -> str:
    if not text.isascii():
        raise argparse.ArgumentTypeError(
            f"'{quote_value(text)}': a test message has ASCII addresses only; write the domain as xn--..."
        )
    if not _ADDRESS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"'{quote_value(text)}' is no mail address; write user@example.com")
    return text


class _Report:
    """What is shown: each step as it happens, or JSON at the end. Whatever goes out passes `hide`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.began_at = time.time()
        self.facts = Facts(tls_level="")
        self.trace: Trace | None = None
        self._steps: list[Step] = []

    def tell(self, step: Step | None) -> None:
        """Show a step."""
        if step is None:
            return
        self._steps.append(hide(step, self.facts.secrets))
        if not self.options.json:
            sys.stdout.write(render_step(self._steps[-1]))
            sys.stdout.flush()

    def end(self, outcome: Outcome) -> int:
        """Show how it ended, and return the exit status."""
        answer = make_json(self._steps, outcome, self.trace, self.facts.secrets)
        if self.options.json:
            sys.stdout.write(json.dumps(answer, indent=2) + "\n")
        elif self.trace is None:
            sys.stderr.write(f"authrelay: {answer['text']}\n")
        else:
            sys.stdout.write(f"\n{outcome.result.upper()}: {answer['text']}.\n")
        return outcome.exit_status


def _read_parameters() -> dict[str, str]:
    names = ("myhostname", "smtp_tls_security_level", "smtp_tls_loglevel")
    pairs = (line.partition("=") for line in finish_command(start_command(("postconf", "-x", *names))))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _find_facts(settings: Settings, values: dict[str, str]) -> Facts:
    main = settings.every_upstream[0]

    def find_level(upstream: Upstream) -> str:
        rule = settings.find_tls_rule(upstream.nexthop)
        if rule or upstream.tls is not main.tls:
            return settings.find_tls_level(upstream).value
        # POSTFIX_smtp_tls_security_level goes before RELAYHOST_TLS; empty is Postfix's default: no TLS.
        return values["smtp_tls_security_level"] or "none"

    others: dict[tuple[str, int], tuple[str, str]] = {}
    for upstream in settings.every_upstream[1:]:
        if upstream.nexthop != main.nexthop:
            endpoint = (upstream.nexthop.host.lower(), upstream.nexthop.port)
            others.setdefault(endpoint, (upstream.setting, find_level(upstream)))
    logins = [(login[0], login[1].reveal()) for one in settings.every_upstream if (login := one.credentials)]
    return Facts(
        tls_level=find_level(main),
        others=others,
        secrets=tuple(form for username, password in logins for form in list_forms(username, password) if password),
    )


def _choose_sender(settings: Settings, name: str) -> str:
    """Return the account, for many upstreams take mail from no other sender."""
    account = settings.relayhost_username or ""
    return account if _ADDRESS.fullmatch(account) else f"root@{name}"


def make_message(sender: str, recipients: list[str], name: str) -> str:
    """Return the message (RFC 5322); RFC 3834 section 5 keeps vacation programs from answering it."""
    token = make_msgid(idstring="authrelay-test", domain=name)
    headers = (
        f"Date: {format_datetime(localtime())}",
        f"From: {sender}",
        f"To: {', '.join(recipients)}",
        f"Subject: authrelay test from {name}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
        f"Message-ID: {token}",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
    )
    return "\n".join((*headers, "", _BODY.format(name=name)))


def _submit(report: _Report, listeners: list[tuple[str, int]], sender: str, name: str) -> Submission:
    """Submit at the first listener that answers."""
    recipients = report.options.to
    for number, (address, port) in enumerate(listeners, 1):
        try:
            submission = submit(
                (address, port),
                name=name,
                sender=sender,
                recipients=recipients,
                message=make_message(sender, recipients, name),
                seconds=_SUBMISSION_SECONDS,
            )
        except SessionError as error:
            if error.kind == "unreachable" and number < len(listeners):
                continue
            raise
        seconds = submission.taken_at - report.began_at
        refused = tuple(f"not for <{one}>: {words}" for one, words in submission.refused.items())
        text = f"to {address} port {port}, from <{sender}>: {submission.reply}"
        report.tell(Step(seconds=seconds, name="submitted", text=text, more=refused))
        return submission
    raise SessionError("unreachable", "it listens nowhere")


def _follow(report: _Report, follower: LogFollower, submission: Submission) -> int:
    if not submission.queue_id:
        text = "the relay took it, but its reply names no queue id by which it could be followed"
        return report.end(Outcome(result="undecided", exit_status=75, text=text))
    report.trace = trace = Trace(submission.queue_id, len(report.options.to) - len(submission.refused))
    pursuit = Pursuit(trace, follower, lambda: _is_queued(submission.queue_id))
    for event in pursuit.go(report.options.timeout):
        report.tell(tell_event(event, report.began_at, report.facts))
    outcome = judge(trace, list(submission.refused), report.options.timeout, has_lost_it=pursuit.has_lost_it)
    return report.end(outcome)


def _is_queued(queue_id: str) -> bool:
    try:
        lines = finish_command(start_command(("postqueue", "-j")))
    except CommandFailedError:
        return True
    return any(line.startswith("{") and json.loads(line)["queue_id"] == queue_id for line in lines)
