"""Which kept token belongs to the settings in force, and which refresh token is the latest. Clock; disk, by `system`.

Imports no library of OAuth 2.0: a start with a token that is still good needs none.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Final

from entrypoint.config.oauth2 import OAuth2
from entrypoint.config.upstreams import Upstream
from entrypoint.system.token_store import KeptToken, load_token

_REFRESHED: Final = (0.70, 0.80)
"""In which part of a token's life the next one is fetched, by chance: a fleet that was started together must not ask
together for ever, and what is left is time enough to try again."""
_LEAST_SECONDS: Final = 2.0
"""However short a token lives."""
_USABLE_SECONDS: Final = 1.0
"""A token that ends sooner would not see the end of a login."""


def find_token(upstream: Upstream, oauth2: OAuth2) -> KeptToken | None:
    """Return the kept access token of an upstream, if it is one of these settings and has not ended."""
    kept = load_token(upstream.service)
    if kept is None or not kept.access_token or kept.origin != digest_origin(upstream, oauth2):
        return None
    return kept if kept.seed == _digest_seed(oauth2) and kept.expires_at - time.time() > _USABLE_SECONDS else None


def find_refresh_token(oauth2: OAuth2, kept: KeptToken | None) -> str:
    """Return the latest refresh token: the kept one, as long as it descends from the one in the settings."""
    if oauth2.refresh_token is None:
        return ""
    given = oauth2.refresh_token.reveal()
    return kept.refresh_token if kept and kept.refresh_token and kept.seed == digest(given) else given


def make_kept(
    upstream: Upstream,
    oauth2: OAuth2,
    *,
    access_token: str,
    lifetime_seconds: float,
    refresh_token: str,
    before: KeptToken | None,
) -> KeptToken:
    """Return what is to be kept of an answer; without a new refresh token the latest stays."""
    latest = refresh_token or find_refresh_token(oauth2, before)
    now, (first, last) = time.time(), _REFRESHED
    part = first + (last - first) * int.from_bytes(os.urandom(4)) / 2**32
    return KeptToken(
        origin=digest_origin(upstream, oauth2),
        access_token=access_token,
        fetched_at=now,
        expires_at=now + lifetime_seconds,
        refresh_at=now + max(_LEAST_SECONDS, lifetime_seconds * part),
        seed=_digest_seed(oauth2),
        refresh_token="" if digest(latest) == _digest_seed(oauth2) else latest,
    )


def digest_origin(upstream: Upstream, oauth2: OAuth2) -> str:
    """Return a digest of whose token it is: who asks, whom, for what. A secret may change without it."""
    account = oauth2.service_account.email if oauth2.service_account else ""
    parts = (oauth2.grant, oauth2.token_url, oauth2.client_id, oauth2.scope, account, upstream.username or "")
    return digest("\0".join(parts))


def digest_configuration(upstream: Upstream, oauth2: OAuth2) -> str:
    """Return a digest of everything that asking depends on."""
    account = oauth2.service_account.key.reveal() if oauth2.service_account else ""
    key = oauth2.client_key.reveal() if oauth2.client_key else ""
    authorities = oauth2.ca.pem if oauth2.ca else ""
    return digest("\0".join((digest_origin(upstream, oauth2), *oauth2.secrets, account, key, authorities)))


def _digest_seed(oauth2: OAuth2) -> str:
    return digest(oauth2.refresh_token.reveal()) if oauth2.refresh_token else ""


def digest(text: str) -> str:
    """Return a digest from which nobody finds the text."""
    return hashlib.sha256(text.encode()).hexdigest()
