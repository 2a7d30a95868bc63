"""`authrelay probe`: walks to the upstreams as `doctor` does, and says in one line each what is broken, if anything.

The supervisor runs it at a start, when what Postfix has was changed, and when mail begins to wait. The relay never
waits for it. What waits is tried as soon as it finds the way open: Postfix by itself would look for it minutes later.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import replace
from typing import Final

from entrypoint import paths
from entrypoint.config.environment import read_settings
from entrypoint.diagnosis.configuration import load_configuration
from entrypoint.diagnosis.protection import load_links
from entrypoint.diagnosis.report import Result
from entrypoint.diagnosis.token_source import recall_token
from entrypoint.diagnosis.ways import examine
from entrypoint.errors import ConfigurationError
from entrypoint.plan.services import find_token_tables
from entrypoint.system.agenda import Agenda, double_pause, find_now, watch_files, write_agenda
from entrypoint.system.authority_store import load_installed
from entrypoint.system.daemons import flush_queue
from entrypoint.system.files import read_text
from entrypoint.system.log import write_line
from entrypoint.system.processes import recall
from entrypoint.system.queue import is_running
from entrypoint.upkeep.verdict import TOKEN, ShownCertificate, TlsState, Upstream, Verdict, load_verdict, save_verdict

NAME: Final = "probe"
_TIMEOUT_SECONDS: Final = 30.0
"""For each reply: some upstreams greet late on purpose."""
_FIRST_RETRY_SECONDS: Final = 5.0
"""Beside us in Compose an upstream may start a little later than we do."""
_LONGEST_RETRY_SECONDS: Final = 900.0
_FIRST_LOGIN_RETRY_SECONDS: Final = 30.0
_LONGEST_LOGIN_RETRY_SECONDS: Final = 3600.0
"""Providers lock accounts that are tried with a wrong password again and again: seven times in the first hour, which
finds the upstream that is given the new password after us, and then once an hour."""
_LOGIN_STEPS: Final = frozenset({"mechanisms", "auth", "sender"})
_REFUSED_LOGIN: Final = re.compile(r"SASL authentication failed|host \S+ said: 53\d")
_TROUBLE_PAUSE_SECONDS: Final = 10.0
"""When deliveries fail for a reason that no walk finds, it is looked for ever more seldom, up to the longest pause."""
_UNREADABLE_PAUSE_SECONDS: Final = 60.0
_CERTIFICATE_STEPS: Final = frozenset({"certificate", "name"})
_CHECKING_LEVELS: Final = frozenset({"secure", "verify", "fingerprint", "dane-only"})
"""Without TLSA records `dane` checks nothing, and that is not an error."""
_TOLD_STEPS: Final = ("handshake", "certificate", "auth")
_FILES: Final = ("main.cf", "master.cf", "sasl_passwd", "tls_policy", "upstream-ca.pem", "client-chain.pem")
"""What a walk follows from; an upstream of its own has the last of them by its service's name."""


def main(arguments: list[str]) -> int:
    """Walk to each upstream, say what is new about it, and plan the next walk."""
    del arguments
    watches = watch_files(_list_files())
    before = load_verdict()
    pause = double_pause(_TROUBLE_PAUSE_SECONDS, before.vain, _LONGEST_RETRY_SECONDS)
    trouble = watch_files((paths.TROUBLE,), not_before=find_now() + pause)
    try:
        after, tokens = _probe(before)
    except ConfigurationError:
        # The upkeep says what is wrong with the files; what is in force will be walked when they are mended.
        write_agenda(NAME, Agenda(due_at=find_now() + _UNREADABLE_PAUSE_SECONDS, watches=watches))
        return 0
    for one in after.upstreams:
        if _is_news(one, before) and one.step != TOKEN:  # of which whoever fetches it has spoken
            write_line("INFO" if one.is_well else "WARNING", str(one))
    save_verdict(after)
    if _is_open(before, after) and is_running():  # one that is just being started again tries what waits by itself
        flush_queue()
    if after.is_whole:
        # While all is well a new access token is no reason: every account would be logged in to for one of them.
        others = tuple(watch for watch in watches if watch.path not in tokens)
        write_agenda(NAME, Agenda(watches=others + trouble))
    else:
        delivery = watch_files((paths.LAST_SENT,), not_before=find_now() + _FIRST_RETRY_SECONDS)
        write_agenda(NAME, Agenda(due_at=find_now() + _choose_pause(after), watches=watches + delivery))
    return 0


def _list_files() -> list[str]:
    names = sorted(name for name in os.listdir(paths.POSTFIX_CONFIG) if name.endswith(_FILES))
    return [f"{paths.POSTFIX_CONFIG}/{name}" for name in names]


def _probe(before: Verdict) -> tuple[Verdict, frozenset[str]]:
    """Return what is found, and the tables whose password is an access token."""
    settings, _ = read_settings(json.loads(recall())["environ"])
    leaves_login_out = settings.probe == "no-login"
    installed = load_installed(sha256s=None)
    configuration = load_configuration(installed.certificates if installed else None)
    # At one address of each: a login at every one of many would be counted by some providers.
    results = examine(
        settings,
        configuration,
        timeout_seconds=_TIMEOUT_SECONDS,
        most_addresses=1,
        has_login=not leaves_login_out,
        find_token=recall_token,
    )
    upstreams = tuple(
        _sum_up(result, leaves_login_out=leaves_login_out and upstream.credentials is not None)
        for result, upstream in zip(results, settings.every_upstream, strict=True)
    )
    verdict = Verdict(at=time.time(), upstreams=upstreams)
    if verdict.is_whole:
        verdict = replace(verdict, vain=before.vain + 1 if before.is_whole else 0)
    else:
        verdict = replace(verdict, failures=before.failures + 1)
    return verdict, find_token_tables(settings)


def _sum_up(result: Result, *, leaves_login_out: bool) -> Upstream:
    broken = result.broken
    if broken is not None:
        words = f"{broken.detail} -> {broken.remedy}. Mail is accepted, and waits"
    else:
        told = [step.detail for step in result.steps if step.name in _TOLD_STEPS or "CLEAR" in step.detail]
        if all(step.name != "auth" for step in result.steps):
            told.append("the login is not tried: PROBE=no-login" if leaves_login_out else "without a login")
        words = "; ".join(told)
    step = broken.name if broken else ""
    return Upstream(setting=result.setting, nexthop=result.nexthop, step=step, words=words, tls=describe_tls(result))


def describe_tls(result: Result) -> TlsState | None:
    """Return what was seen of an upstream's TLS, also where its certificate is what is broken."""
    handshake = next((step.handshake for step in result.steps if step.handshake), None)
    if handshake is None:
        return None
    verdict = ""
    if result.broken and result.broken.name in _CERTIFICATE_STEPS:
        verdict = "not verified"
    elif result.level in _CHECKING_LEVELS and any(step.name == "certificate" for step in result.steps):
        verdict = "verified"
    return TlsState(
        level=result.level,
        protocol=handshake.protocol,
        cipher=handshake.cipher,
        verdict=verdict,
        chain=tuple(
            ShownCertificate(
                subject=link.subject,
                issuer=link.issuer,
                sha256=link.sha256,
                not_before=link.not_before.timestamp(),
                not_after=link.not_after.timestamp(),
            )
            for link in load_links(handshake)
        ),
    )


def _is_open(before: Verdict, after: Verdict) -> bool:
    """Return whether what waits may be tried at once: not where that is only some more refused logins."""
    if any(one.step in _LOGIN_STEPS for one in after.upstreams):
        return False
    was_broken = {one.setting for one in before.upstreams if not one.is_well}
    if any(one.is_well and one.setting in was_broken for one in after.upstreams):
        return True
    is_about_login = _REFUSED_LOGIN.search(read_text(paths.TROUBLE) or "")  # of one that the walk leaves out
    return after.is_whole and not (before.is_whole and is_about_login)


def _is_news(one: Upstream, before: Verdict) -> bool:
    """Return whether a person has not been told: a repeated probe that finds the same is silent."""
    known = [earlier for earlier in before.upstreams if earlier.setting == one.setting]
    return not known or known[0].step != one.step or known[0].nexthop != one.nexthop


def _choose_pause(verdict: Verdict) -> float:
    """Return the seconds until the next walk to an upstream that is broken."""
    first, longest = _FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS
    if any(one.step in _LOGIN_STEPS for one in verdict.upstreams):
        first, longest = _FIRST_LOGIN_RETRY_SECONDS, _LONGEST_LOGIN_RETRY_SECONDS
    return double_pause(first, verdict.failures - 1, longest)
