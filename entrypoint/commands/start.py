"""What `authrelay run` does before there is anything to supervise: settings -> plan -> disk."""

from __future__ import annotations

import json
import os
import time
from typing import Final

from entrypoint import __version__, paths
from entrypoint.commands.prepare import Occasion, Prepared, prepare
from entrypoint.config.disclosure import list_settings
from entrypoint.config.environment import find_files, list_files, read_environment
from entrypoint.config.settings import Settings
from entrypoint.config.web_url import hide_query
from entrypoint.system.address_key import install_key, load_or_make_key
from entrypoint.system.agenda import Agenda, Watch, find_now, watch_files, write_agenda
from entrypoint.system.files import read_text
from entrypoint.system.install import install, install_log_rules
from entrypoint.system.log import copy_line, write_line
from entrypoint.system.processes import remember
from entrypoint.system.queue import describe_place
from entrypoint.upkeep.in_force import InForce, find_change_times, make_certificates, save_in_force
from entrypoint.upkeep.record import FETCHED, Record, key_by_text, save_record, say_changes
from entrypoint.upkeep.schedule import choose_next_fetch, plan_next_run
from entrypoint.upkeep.verdict import Upstream, Verdict, save_verdict

_KEY_BYTES: Final = 16
_VOLUME: Final = f"Give it a volume: --volume queue:{paths.QUEUE}"


def start() -> str:
    """Make everything that the supervisor and its services need, and return the time zone that they have."""
    environ = read_environment()
    watches, kept_tokens = watch_files(list_files(environ)), watch_files((paths.TOKENS,))
    key = os.urandom(_KEY_BYTES)
    prepared = prepare(Occasion.START, key=key)
    settings = prepared.settings
    install_log_rules(prepared.plan.files)
    os.environ["TZ"] = settings.tz
    time.tzset()
    more = len(settings.every_upstream) - len(settings.main_upstreams)
    others = f" and {more} more upstream{'s' if more > 1 else ''}" if more else ""
    started_at, started = time.time(), f"version {__version__}, relaying to {settings.relayhost_nexthop}{others}"
    write_line("INFO", started)
    remarks = install(prepared.plan.files)
    # Until then nothing on the disk said that there is a syslog server.
    copy_line("INFO", started_at, started)
    for remark in remarks:
        write_line("WARNING", remark)
    if settings.log_addresses == "hash":
        given = settings.log_addresses_key
        install_key(given.reveal() if given else load_or_make_key())
    if fault := describe_place(read_text("/proc/self/mountinfo") or ""):
        write_line("WARNING", f"the queue lies {fault}: it is lost when this container is removed. {_VOLUME}")
    _tell_dkim(prepared)
    _begin_upkeep(prepared, watches + (kept_tokens if settings.token_upstreams else ()))
    if settings.token_upstreams:
        _begin_tokens(settings)
    elif settings.upstreams:
        write_agenda("tokens", Agenda(watches=watches))
    in_force = InForce(
        loaded_at=time.time(),
        certificates=make_certificates(prepared.endings),
        secrets=find_change_times(find_files(environ)),
    )
    save_in_force(in_force, list_settings(settings))
    remember(json.dumps({"environ": environ, "key": key.hex()}))
    return settings.tz


def _tell_dkim(prepared: Prepared) -> None:
    """Say what has to be published for a key that was made, once, and whether it may be lost."""
    if not prepared.settings.signs:
        return
    from entrypoint.config.dkim_key import render_record

    for signing in (signing for kept in prepared.dkim for signing in kept.made):
        write_line("INFO", f"DKIM: a key was made ({signing.key}). Publish its record: {render_record(signing)}")
    keeps_keys = prepared.settings.dkim_key is None
    if keeps_keys and (fault := describe_place(read_text("/proc/self/mountinfo") or "", paths.STATE)):
        text = f"the DKIM keys lie {fault}: the next container makes others, whose records nobody has published"
        write_line("WARNING", f"{text}. Give them a volume: --volume state:{paths.STATE}")


def _begin_tokens(settings: Settings) -> None:
    """Leave word of the access tokens that are kept, and let the others be fetched as soon as there is a supervisor."""
    # Imported here: whoever has passwords must not pay for it.
    from entrypoint.oauth2.keeping import find_token
    from entrypoint.upkeep.token_states import TokenState, save_token_states

    states = {}
    for upstream, oauth2 in settings.token_upstreams:
        kept = find_token(upstream, oauth2)
        states[upstream.service] = TokenState(
            setting=upstream.setting,
            endpoint=hide_query(oauth2.token_url),
            fetched_at=kept.fetched_at if kept else 0.0,
            expires_at=kept.expires_at if kept else 0.0,
        )
    save_token_states(states)
    # Also with a token that is still good: whether it is time for the next one is seen there.
    write_agenda("tokens", Agenda(due_at=find_now()))


def _begin_upkeep(prepared: Prepared, watches: tuple[Watch, ...]) -> None:
    """Say what should be known at the start, and plan what comes after it."""
    fetch_due_at = None
    if prepared.settings.relayhost_ca_url is not None:
        # What was fetched earlier serves at once, so that no start waits; what is there now comes right after.
        fetch_due_at = find_now() if prepared.is_copy else choose_next_fetch(prepared.settings.relayhost_ca_refresh, 0)
    troubles = {**prepared.troubles, **key_by_text(prepared.fetch_warnings, FETCHED)}
    record = Record(troubles=troubles, fetch_due_at=fetch_due_at)
    say_changes(Record(), record)
    save_record(record)
    plan_next_run(record, watches, prepared.endings, has_names=prepared.has_names, lacks_lists=prepared.lacks_lists)
    if prepared.settings.probe == "no":
        words = "it is not tried: PROBE=no"
        untried = [
            Upstream(setting=one.setting, nexthop=str(one.nexthop), step="", words=words, is_tried=False)
            for one in prepared.settings.every_upstream
        ]
        save_verdict(Verdict(at=time.time(), upstreams=tuple(untried)))
    else:
        write_agenda("probe", Agenda(due_at=find_now()))
