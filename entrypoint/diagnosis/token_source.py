"""The access token of an upstream: where it comes from, how old it is, and whether there will be another. Network.

What is found by looking changes nothing: a refresh token may be good for one use, which is the running relay's.
"""

from __future__ import annotations

import time

from entrypoint.config.oauth2 import REFRESH_TOKEN, OAuth2
from entrypoint.config.secret import Secret
from entrypoint.config.upstreams import Upstream
from entrypoint.config.web_url import hide_query
from entrypoint.diagnosis.steps import Broken, Step
from entrypoint.oauth2.keeping import find_token
from entrypoint.system.token_store import KeptToken
from entrypoint.upkeep.token_states import load_token_states, show_time

NAME = "token"


def recall_token(upstream: Upstream, oauth2: OAuth2) -> tuple[Step, Secret]:
    """Return what is kept, without a question to the endpoint, or raise Broken."""
    kept = find_token(upstream, oauth2)
    if kept is None:
        state = load_token_states().get(upstream.service)
        what = state.what if state else ""
        name = state.endpoint if state else hide_query(oauth2.token_url)
        if state and what:
            raise Broken(NAME, f"there is no access token: {name}: {what}", state.remedy)
        raise Broken(NAME, f"the access token from {name} is being fetched", "Wait a moment")
    return Step(name=NAME, is_ok=True, detail=_describe(kept, oauth2)), Secret(kept.access_token)


def walk_token(upstream: Upstream, oauth2: OAuth2) -> tuple[Step, Secret]:
    """Return the same after a question to the endpoint, or raise Broken."""
    # Imported here: who has passwords does not wait for it.
    from entrypoint.oauth2.certificate import find_key
    from entrypoint.oauth2.endpoint import fetch_token, name_endpoint, try_endpoint
    from entrypoint.oauth2.errors import TokenError, name_for

    kept = find_token(upstream, oauth2)
    endpoint = name_endpoint(oauth2)
    present = f"{_describe(kept, oauth2)}; " if kept else ""
    try:
        key, _ = find_key(oauth2)
        if oauth2.grant == REFRESH_TOKEN:
            answer = try_endpoint(oauth2, upstream.username or "", key)
            if kept is None:
                raise Broken(
                    NAME,
                    f"there is no access token here, and looking does not use up the refresh token; {endpoint} answers "
                    f"{answer}",
                    "Walk inside the running relay: docker exec relay authrelay doctor",
                )
            return Step(name=NAME, is_ok=True, detail=f"{present}{endpoint} answers {answer}"), Secret(
                kept.access_token
            )
        grant = fetch_token(oauth2, upstream.username or "", "", key)
    except TokenError as error:
        until = f"; the present token is good until {show_time(kept.expires_at)}" if kept else ""
        raise Broken(NAME, f"{endpoint}: {error.what}{until}", name_for(upstream.setting, error.remedy)) from error
    life = f"{endpoint} gives one for {grant.lifetime_seconds:.0f} s"
    return Step(name=NAME, is_ok=True, detail=f"{present}{life}"), Secret(
        kept.access_token if kept else grant.access_token
    )


def _describe(kept: KeptToken, oauth2: OAuth2) -> str:
    now = time.time()
    return (
        f"one from {hide_query(oauth2.token_url)}, by {oauth2.grant}, {now - kept.fetched_at:.0f} s old, good until "
        f"{show_time(kept.expires_at)}, {kept.expires_at - now:.0f} s more"
    )
