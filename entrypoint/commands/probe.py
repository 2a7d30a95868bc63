"""`authrelay probe`: walks to the upstreams as `doctor` does, and says in one line each what is broken, if anything.

The supervisor runs it at a start, when what Postfix has was changed, and when mail begins to wait. The relay never
waits for it.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Final

from entrypoint import paths
from entrypoint.config.environment import read_settings
from entrypoint.diagnosis.configuration import load_configuration
from entrypoint.diagnosis.report import Result
from entrypoint.diagnosis.ways import examine
from entrypoint.errors import ConfigurationError
from entrypoint.system.agenda import Agenda, find_now, watch_files, write_agenda
from entrypoint.system.authority_store import load_installed
from entrypoint.system.log import write_line
from entrypoint.system.processes import recall
from entrypoint.upkeep.verdict import Upstream, Verdict, load_verdict, save_verdict

NAME: Final = "probe"
_TIMEOUT_SECONDS: Final = 30.0
"""For each reply: some upstreams greet late on purpose."""
_FIRST_RETRY_SECONDS: Final = 5.0
"""Beside us in Compose an upstream may start a little later than we do."""
_LONGEST_RETRY_SECONDS: Final = 900.0
_LOGIN_RETRY_SECONDS: Final = 3600.0
"""Providers lock accounts that are tried with a wrong password again and again."""
_LOGIN_STEPS: Final = frozenset({"mechanisms", "auth", "sender"})
_TROUBLE_PAUSE_SECONDS: Final = 10.0
"""When deliveries fail for a reason that no walk finds, it is looked for ever more seldom, up to the longest pause."""
_UNREADABLE_PAUSE_SECONDS: Final = 60.0
_TOLD_STEPS: Final = ("handshake", "certificate", "auth")
_FILES: Final = tuple(
    f"{paths.POSTFIX_CONFIG}/{name}"
    for name in ("main.cf", "sasl_passwd", "tls_policy", "upstream-ca.pem", "client-chain.pem")
)


def main(arguments: list[str]) -> int:
    """Walk to each upstream, say what is new about it, and plan the next walk."""
    del arguments
    watches = watch_files(_FILES)
    before = load_verdict()
    pause = min(_LONGEST_RETRY_SECONDS, _TROUBLE_PAUSE_SECONDS * 2**before.vain)
    trouble = watch_files((paths.TROUBLE,), not_before=find_now() + pause)
    try:
        after = _probe(before)
    except ConfigurationError:
        # The upkeep says what is wrong with the files; what is in force will be walked when they are mended.
        write_agenda(NAME, Agenda(due_at=find_now() + _UNREADABLE_PAUSE_SECONDS, watches=watches))
        return 0
    for one in after.upstreams:
        if _is_news(one, before):
            write_line("INFO" if one.is_well else "WARNING", str(one))
    save_verdict(after)
    if after.is_well:
        write_agenda(NAME, Agenda(watches=watches + trouble))
    else:
        delivery = watch_files((paths.LAST_SENT,), not_before=find_now() + _FIRST_RETRY_SECONDS)
        write_agenda(NAME, Agenda(due_at=find_now() + _choose_pause(after), watches=watches + delivery))
    return 0


def _probe(before: Verdict) -> Verdict:
    settings, _ = read_settings(json.loads(recall()))
    leaves_login_out = settings.probe == "no-login" and bool(settings.credentials)
    if leaves_login_out:
        settings = replace(settings, relayhost_auth="none")
    installed = load_installed(sha256s=None)
    configuration = load_configuration(installed.certificates if installed else None)
    # At one address of each: a login at every one of many would be counted by some providers.
    results = examine(settings, configuration, timeout_seconds=_TIMEOUT_SECONDS, most_addresses=1)
    upstreams = tuple(_sum_up(result, leaves_login_out=leaves_login_out) for result in results)
    verdict = Verdict(at=time.time(), upstreams=upstreams)
    if verdict.is_well:
        return replace(verdict, vain=before.vain + 1 if before.is_well else 0)
    return replace(verdict, failures=before.failures + 1)


def _sum_up(result: Result, *, leaves_login_out: bool) -> Upstream:
    broken = result.broken
    if broken is not None:
        words = f"{broken.detail} -> {broken.remedy}. Mail is accepted, and waits"
    else:
        told = [step.detail for step in result.steps if step.name in _TOLD_STEPS or "CLEAR" in step.detail]
        if all(step.name != "auth" for step in result.steps):
            told.append("the login is not tried: PROBE=no-login" if leaves_login_out else "without a login")
        words = "; ".join(told)
    return Upstream(setting=result.setting, nexthop=result.nexthop, step=broken.name if broken else "", words=words)


def _is_news(one: Upstream, before: Verdict) -> bool:
    """Return whether a person has not been told: a repeated probe that finds the same is silent."""
    known = [earlier for earlier in before.upstreams if earlier.setting == one.setting]
    return not known or known[0].step != one.step or known[0].nexthop != one.nexthop


def _choose_pause(verdict: Verdict) -> float:
    """Return the seconds until the next walk to an upstream that is broken."""
    if any(one.step in _LOGIN_STEPS for one in verdict.upstreams):
        return _LOGIN_RETRY_SECONDS
    return float(min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** (verdict.failures - 1)))
