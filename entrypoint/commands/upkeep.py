"""`authrelay upkeep`: what a start does, again while the relay runs. The supervisor runs it when something is due.

It reads the settings and their files anew, fetches the CA when it is time, renews the certificate that we made, and
brings the running relay to what follows from them; or says why not, and leaves everything as it was. Called when the
wall clock was set, too.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from typing import Final

from entrypoint import paths
from entrypoint.commands.prepare import Occasion, Prepared, prepare
from entrypoint.config.disclosure import list_settings
from entrypoint.config.environment import find_files, list_files
from entrypoint.errors import StartupError
from entrypoint.plan.services import find_token_tables
from entrypoint.system.agenda import find_step, is_orphan, read_agenda, take_signature, watch_files
from entrypoint.system.daemons import (
    find_daemons,
    flush_domains,
    flush_queue,
    reload_postfix,
    renew_daemons,
    wait_until_ended,
)
from entrypoint.system.files import read_text
from entrypoint.system.install import apply_changes
from entrypoint.system.log import write_line
from entrypoint.system.processes import recall
from entrypoint.system.queue import is_running
from entrypoint.upkeep.expiry import Ending
from entrypoint.upkeep.in_force import InForce, find_change_times, load_in_force, make_certificates, save_in_force
from entrypoint.upkeep.record import (
    FETCH,
    FETCHED,
    SETTINGS,
    Record,
    key_by_text,
    load_record,
    save_record,
    say_changes,
)
from entrypoint.upkeep.schedule import NAME, choose_next_fetch, is_fetch_due, is_told, plan_next_run

_NAMES: Final = {
    "sasl_passwd": "the login at the upstream",
    "client-chain.pem": "the client certificate",
    "logins": "who may log in",
    "sender_logins": "whose a sender is",
    "client_certs": "which client certificates may send",
    "server-chain.pem": "the certificate that clients are shown",
    "list_recipients": "which lists there are",
    "tls_policy": "the TLS policies",
    "sender_routes": "where mail goes by its sender",
    "recipient_routes": "where mail goes by its recipient",
    "main.cf": "the parameters",
    "master.cf": "the services",
    "dkim-signers.json": "the DKIM keys",
    "syslog.json": "the syslog server",
    "syslog-ca.pem": "the syslog server's CA",
}
"""What a file is to the person who changed it."""
_UNDER_WAY_SECONDS: Final = 10.0
"""Longer ones have passed their login, or their upstream does not answer."""


def main(arguments: list[str]) -> int:
    """Do what is due, and plan the next run."""
    del arguments
    memory = json.loads(recall())
    environ: dict[str, str] = memory["environ"]
    # Before anything is read: what changes from now on is for the next run.
    watches, kept_tokens = watch_files(list_files(environ)), watch_files((paths.TOKENS,))
    step = find_step(read_agenda(NAME))
    before = load_record()
    is_due = is_fetch_due(before)
    is_refused = is_told(paths.REFUSED)
    endings: tuple[Ending, ...] = ()
    has_names = lacks_lists = False
    changed: list[str] = []
    try:
        prepared = prepare(Occasion.FETCH if is_due else Occasion.REVIEW, environ, key=bytes.fromhex(memory["key"]))
        under_way = find_daemons("smtp")
        tokens = find_token_tables(prepared.settings)
        had_no_token = any(_lacks_token(path) for path in tokens)
        changed = apply_changes(prepared.plan.files, noticed=tokens)
        watches += kept_tokens if tokens else ()
        if changed and set(changed) <= tokens:
            # The next session of smtp(8) has it by itself, and those of before stay good: nothing was withdrawn.
            under_way = set()
            if (had_no_token or _is_login_refused()) and is_running():
                flush_queue()
        endings, has_names, lacks_lists = prepared.endings, prepared.has_names, prepared.lacks_lists
        after = _judge(before, prepared, changed, is_fetched=is_due)
        after = replace(after, troubles={**after.troubles, **_find_orphans(environ)})
        after = replace(
            after, list_server_failures=_look_for_list_server(before, prepared, is_told(paths.LIST_TROUBLE))
        )
        _tell_changes(changed, prepared)
        _note_in_force(environ, prepared, has_changed=not set(changed) <= tokens)
    except StartupError as error:
        text = " ".join(str(error).splitlines())
        after = replace(before, troubles={**before.troubles, SETTINGS: text})
    if step < 0:
        _follow_clock(-step)
    elif is_refused and not changed and is_running():
        _end_old_sessions()
    say_changes(before, after)
    save_record(after)
    plan_next_run(after, watches, endings, has_names=has_names, lacks_lists=lacks_lists)
    if changed and under_way:
        _retry_what_failed_last(under_way)
    return 0


def _look_for_list_server(before: Record, prepared: Prepared, is_called: bool) -> int:
    """Have the mail for lists tried as soon as their server is there again; return how often it was not."""
    settings = prepared.settings
    if settings.list_domains is None or settings.list_lmtp is None or not (is_called or before.list_server_failures):
        return 0
    from entrypoint.upkeep.lists import look_for_list_server  # no other run needs it

    if not look_for_list_server(settings.list_lmtp.host, settings.list_lmtp.port):
        return before.list_server_failures + 1
    if before.list_server_failures:
        write_line("INFO", "the list server takes connections again: what waits for it is tried")
    if is_running():
        flush_domains(settings.list_domains)
    return 0


def _follow_clock(seconds: float) -> None:
    """Have what waits tried: its next try, and the queue manager's own clock, lie in the future (events(3postfix))."""
    write_line("INFO", f"the clock was set back by {seconds:.0f} s: what waits is tried at once")
    if is_running():
        reload_postfix()


def _end_old_sessions() -> None:
    """Have the queue manager see that the login is refused, and stop trying it.

    What a session from before still sends tells it that all is well, and each message that finds no such session is one
    more refused login, for which providers lock accounts.
    """
    write_line("INFO", "the upstream refuses the login, but not in sessions from before: they are ended; mail waits")
    renew_daemons()


def _retry_what_failed_last(deliveries: set[int]) -> None:
    """Try once more what was under way with the old password or CA, and was deferred for it only after the flush."""
    if wait_until_ended("smtp", deliveries, _UNDER_WAY_SECONDS):
        flush_queue()


def _lacks_token(path: str) -> bool:
    return any(line.endswith(":") for line in (read_text(path) or "").splitlines())


def _is_login_refused() -> bool:
    """Return whether the last delivery that failed did so at the login, and none went well since."""
    trouble, sent = take_signature(paths.TROUBLE), take_signature(paths.LAST_SENT)
    if not trouble or (sent and sent[2] > trouble[2]):
        return False
    return "SASL authentication failed" in (read_text(paths.TROUBLE) or "")


def _judge(before: Record, prepared: Prepared, changed: list[str], *, is_fetched: bool) -> Record:
    """Return what is to be remembered of a run that went well."""
    troubles = prepared.troubles
    if not is_fetched:
        kept = {key: text for key, text in before.troubles.items() if key.startswith(FETCH)}
        return replace(before, troubles={**troubles, **kept})
    failures = before.failures + 1 if prepared.is_copy else 0
    if prepared.is_copy:
        troubles[FETCH] = " ".join(prepared.fetch_warnings)
    else:
        troubles.update(key_by_text(prepared.fetch_warnings, FETCHED))
    due_at = choose_next_fetch(prepared.settings.relayhost_ca_refresh, failures)
    vain = 0 if paths.UPSTREAM_AUTHORITIES in changed else before.vain + 1
    return Record(troubles=troubles, fetch_due_at=due_at, failures=failures, vain=vain)


def _find_orphans(environ: dict[str, str]) -> dict[str, str]:
    """Return a warning for each file whose new content cannot be seen from here."""
    return {
        f"orphan:{path}": f"{path} was replaced outside, and this container still has the old one, since it is mounted "
        "alone. Restart the container; mount the directory instead, or write into the file, and it is noticed"
        for path in list_files(environ)
        if is_orphan(path)
    }


def _tell_changes(changed: list[str], prepared: Prepared) -> None:
    """Say what is in force from now on; of an access token whoever fetched it has spoken."""
    tokens = find_token_tables(prepared.settings)
    changed = [path for path in changed if path not in tokens]
    if not changed:
        return
    names = [os.path.basename(path) for path in changed]
    words = [_name_authorities(prepared) if name == "upstream-ca.pem" else _describe_file(name) for name in names]
    effect = "Postfix uses it from now on, and what waits is tried at once"
    if {paths.SYSLOG, paths.SYSLOG_AUTHORITIES} >= set(changed):
        effect = "The log goes there from now on"
    elif {paths.DKIM_SIGNERS} >= set(changed):
        effect = "Mail is signed with them from now on"
    write_line("INFO", f"changed: {'; '.join(words)}. {effect}")


def _describe_file(name: str) -> str:
    """Return what a file is, and of which service where it is not RELAYHOST's: `smtp-bulk.sasl_passwd`."""
    if name.startswith(paths.OWN_TABLE_PREFIX):
        return f"the table {name.removeprefix(paths.OWN_TABLE_PREFIX)}"
    service, _, kind = name.partition(".")
    return f"{_NAMES[kind]}, of {service}" if kind in _NAMES else _NAMES.get(name, name)


def _note_in_force(environ: dict[str, str], prepared: Prepared, *, has_changed: bool) -> None:
    """Leave word for the status service."""
    before = load_in_force()
    after = InForce(
        loaded_at=time.time() if has_changed else before.loaded_at,
        reloads=before.reloads + has_changed,
        certificates=make_certificates(prepared.endings),
        secrets=find_change_times(find_files(environ)),
    )
    save_in_force(after, list_settings(prepared.settings))


def _name_authorities(prepared: Prepared) -> str:
    members = prepared.plan.authorities.members if prepared.plan.authorities else ()
    named = ", ".join(f"'{one.subject}' with SHA-256 {one.sha256}" for one in members[:3])
    return f"the trusted CA is {named}{f' and {len(members) - 3} others' if len(members) > 3 else ''}"
