"""`authrelay tokens`: fetches access tokens ahead of the end of the present ones. The supervisor runs it when due.

What it fetches goes into the state volume; the upkeep sees that, and gives it to Postfix. Nobody waits for it: while
there is no token mail is accepted, and waits.
"""

from __future__ import annotations

import json
import re
import signal
import time
from dataclasses import replace
from typing import Final

from entrypoint import paths
from entrypoint.config.environment import list_files, read_settings
from entrypoint.config.oauth2 import OAuth2
from entrypoint.config.upstreams import Upstream
from entrypoint.errors import ConfigurationError, StartupError
from entrypoint.oauth2.certificate import find_key
from entrypoint.oauth2.endpoint import fetch_token, name_endpoint
from entrypoint.oauth2.errors import TokenError, name_for
from entrypoint.oauth2.keeping import digest_configuration, find_refresh_token, find_token, make_kept
from entrypoint.system.agenda import (
    Agenda,
    Watch,
    double_pause,
    find_now,
    find_wall_offset,
    read_agenda,
    take_signature,
    watch_files,
    write_agenda,
)
from entrypoint.system.files import read_text
from entrypoint.system.log import write_line
from entrypoint.system.processes import recall
from entrypoint.system.token_store import KeptToken, load_token, save_token
from entrypoint.upkeep.token_states import TokenState, load_token_states, save_token_states, show_time

NAME: Final = "tokens"
_FIRST_RETRY_SECONDS: Final = 2.0
_LONGEST_RETRY_SECONDS: Final = 300.0
"""An endpoint that is away is asked ever more seldom: a quarter of a token's life is left when it is asked first."""
_FIRST_PERSON_SECONDS: Final = 60.0
_LONGEST_PERSON_SECONDS: Final = 3600.0
"""What a person must mend is mended at the provider or in a file; a file is watched."""
_UNREADABLE_SECONDS: Final = 60.0
_FIRST_REFUSAL_SECONDS: Final = 30.0
_LONGEST_REFUSAL_SECONDS: Final = 3600.0
_OTHER_TROUBLE_SECONDS: Final = 300.0
"""A token that the upstream refuses before its end is replaced, ever more seldom: the next one may be refused, too."""
_REFUSED: Final = re.compile(r"SASL authentication failed; server (\S+)\[|host (\S+)\[\S+ said: 53\d")


def main(arguments: list[str]) -> int:
    """Fetch what is due, say what is new about it, and plan the next run."""
    del arguments
    # What an endpoint has given must be kept before anything ends this: a refresh token may be good for one use only.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    environ: dict[str, str] = json.loads(recall())["environ"]
    watches = watch_files(list_files(environ))
    trouble = take_signature(paths.TROUBLE)
    try:
        settings, _ = read_settings(environ)
    except ConfigurationError:
        # The upkeep says what is wrong with the files.
        write_agenda(NAME, Agenda(due_at=find_now() + _UNREADABLE_SECONDS, watches=watches))
        return 0
    before = load_token_states()
    silent: dict[str, TokenError] = {}
    after: dict[str, TokenState] = {}
    has_trouble = _has_trouble()
    refused_host = _find_refused_host() if has_trouble else ""
    if _is_called(watches):
        before = {service: replace(state, next_try_at=0.0) for service, state in before.items()}
    for upstream, oauth2 in settings.token_upstreams:
        after[upstream.service] = _serve(upstream, oauth2, before.get(upstream.service), silent, refused_host)
        save_token_states({**before, **after})
    save_token_states(after)
    # What fails for another reason fails again, and calls for nothing here.
    first_pause = _OTHER_TROUBLE_SECONDS if has_trouble and not refused_host else _FIRST_REFUSAL_SECONDS
    pauses = [double_pause(first_pause, one.refusals, _LONGEST_REFUSAL_SECONDS) for one in after.values()]
    watched = watch_files((paths.TROUBLE,), not_before=find_now() + min(pauses, default=0.0))
    watched = tuple(replace(one, signature=trouble) for one in watched)
    due_at = min((_find_next_run(service, state) for service, state in after.items()), default=None)
    write_agenda(NAME, Agenda(due_at=due_at, watches=watches + watched, wall_offset=find_wall_offset()))
    return 0


def _serve(
    upstream: Upstream, oauth2: OAuth2, before: TokenState | None, silent: dict[str, TokenError], refused_host: str
) -> TokenState:
    """Return how one account's token stands after it was fetched, where that was due.

    `silent` has the endpoints that did not answer in this run: nobody waits for one twice.
    """
    configuration = digest_configuration(upstream, oauth2)
    known = before if before and before.configuration == configuration else None
    state = known or TokenState(setting=upstream.setting, endpoint=name_endpoint(oauth2), configuration=configuration)
    present = find_token(upstream, oauth2)
    state = replace(
        state,
        fetched_at=present.fetched_at if present else 0.0,
        expires_at=present.expires_at if present else 0.0,
    )
    is_refused = bool(present) and refused_host == upstream.nexthop.host
    if not _is_due(state, present, is_refused=is_refused):
        return state
    try:
        kept = _fetch(upstream, oauth2, silent)
    except TokenError as error:
        return _note_failure(upstream, state, error)
    save_token(upstream.service, kept)
    if present is None or state.what or not known:
        write_line("INFO", f"{upstream.setting}: an access token came from {state.endpoint}; {_describe_life(kept)}")
    return replace(
        state,
        fetched_at=kept.fetched_at,
        expires_at=kept.expires_at,
        what="",
        remedy="",
        told="",
        failures=0,
        next_try_at=0.0,
        refusals=state.refusals + 1 if is_refused else 0,
    )


def _is_due(state: TokenState, present: KeptToken | None, *, is_refused: bool) -> bool:
    if find_now() < state.next_try_at:
        return False
    if present is None or is_refused or state.what:
        return True
    # A clock that was set back says that a token lives longer than it does.
    return not present.fetched_at - 1 <= time.time() < present.refresh_at


def _fetch(upstream: Upstream, oauth2: OAuth2, silent: dict[str, TokenError]) -> KeptToken:
    if oauth2.token_url in silent:
        raise silent[oauth2.token_url]
    before = load_token(upstream.service)
    try:
        key, remark = find_key(oauth2)
    except StartupError as error:
        raise TokenError(str(error), "Mend or remove that file", is_for_person=True) from error
    if remark:
        write_line("WARNING", remark)
    try:
        grant = fetch_token(oauth2, upstream.username or "", find_refresh_token(oauth2, before), key)
    except TokenError as error:
        if not error.is_for_person and not error.what.startswith("it answered"):
            silent[oauth2.token_url] = error
        raise
    return make_kept(
        upstream,
        oauth2,
        access_token=grant.access_token,
        lifetime_seconds=grant.lifetime_seconds,
        refresh_token=grant.refresh_token,
        before=before,
    )


def _note_failure(upstream: Upstream, state: TokenState, error: TokenError) -> TokenState:
    """Return how it stands, with a line where a person has not been told; take an ended token away from Postfix."""
    first, longest = _FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS
    if error.is_for_person:
        first, longest = _FIRST_PERSON_SECONDS, _LONGEST_PERSON_SECONDS
    failures = state.failures + 1 if state.is_for_person == error.is_for_person else 1
    pause = max(double_pause(first, failures - 1, longest), error.retry_after)
    after = replace(
        state,
        what=error.what,
        remedy=name_for(upstream.setting, error.remedy),
        is_for_person=error.is_for_person,
        failures=failures,
        next_try_at=find_now() + pause,
    )
    if not state.is_well:
        _withdraw(upstream)
    after = replace(after, told=f"{'still one' if after.is_well else 'none'}: {error.kind}")
    if after.told != state.told:
        effect = "" if after.is_well else ". Mail is accepted, and waits"
        write_line("WARNING", f"{upstream.setting} {upstream.nexthop}: {after.describe()}{effect}")
    return after


def _withdraw(upstream: Upstream) -> None:
    """Let no login be tried with a token that has ended: the refresh token stays."""
    kept = load_token(upstream.service)
    if kept and kept.access_token:
        save_token(upstream.service, replace(kept, access_token=""))


def _find_next_run(service: str, state: TokenState) -> float:
    """Return when an account wants attention next, on the agenda's clock."""
    kept = load_token(service)
    moments = []
    if kept and state.is_well:
        moments.append(find_now() + (state.expires_at if state.what else kept.refresh_at) - time.time())
    if state.what or not state.is_well:
        moments.append(state.next_try_at)
    return min(moments)


def _is_called(watches: tuple[Watch, ...]) -> bool:
    """Return whether somebody wrote a file since the last run, be it with the same content: it is to be tried again."""
    last = {watch.path: watch.signature for watch in read_agenda(NAME).watches}
    return any(last.get(watch.path, watch.signature) != watch.signature for watch in watches)


def _has_trouble() -> bool:
    """Return whether a delivery has failed since the last run, and that is long enough ago."""
    last = [watch for watch in read_agenda(NAME).watches if watch.path == paths.TROUBLE]
    return bool(last) and last[0].signature != take_signature(paths.TROUBLE) and find_now() >= last[0].not_before


def _find_refused_host() -> str:
    """Return the host of an upstream that has refused the last login that failed."""
    found = _REFUSED.search(read_text(paths.TROUBLE) or "")
    return (found[1] or found[2]).lower() if found else ""


def _describe_life(kept: KeptToken) -> str:
    return f"it is good until {show_time(kept.expires_at)}, and the next is fetched at {show_time(kept.refresh_at)}"
