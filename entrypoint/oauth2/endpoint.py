"""Asks a token endpoint, and reads its answer. Network, clock, by `system`.

Whoever imports this has OAuth 2.0 configured.
"""

from __future__ import annotations

import email.utils
import json
import math
import time
from dataclasses import dataclass, field
from typing import Any, Final

from entrypoint.config.declaration import InvalidValue
from entrypoint.config.oauth2 import OAuth2, check_access_token
from entrypoint.config.web_url import hide_query
from entrypoint.errors import quote_value
from entrypoint.oauth2.errors import TokenError, explain_refusal, explain_silence, hide
from entrypoint.oauth2.request import ClientKey, make_form
from entrypoint.system.web import Answer, Bounds, WebError, send_form

_BOUNDS: Final = Bounds(seconds=10.0, max_bytes=2**18, what="an answer of a token endpoint")
_ASSUMED_SECONDS: Final = 3600.0
"""Where the endpoint does not say how long a token lives, which it should (RFC 6749 section 5.1)."""
_LONGEST_SECONDS: Final = 30 * 86400.0
_LEAST_SECONDS: Final = 5.0
"""With less, every second would be spent on the next one."""
_MOST_TOKEN_BYTES: Final = 40_000
"""More than any server takes in a line of AUTH (RFC 4954 section 4: 12288 bytes of base64)."""
_LONGEST_WAIT_SECONDS: Final = 3600.0


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What an endpoint gave."""

    access_token: str = field(repr=False)
    lifetime_seconds: float
    refresh_token: str = field(default="", repr=False)
    """A new one, which replaces the one that was sent (RFC 6749 section 6); empty where that stays."""


def fetch_token(oauth2: OAuth2, username: str, refresh_token: str, key: ClientKey | None) -> Grant:
    """Return a new access token, or raise TokenError. Takes 10 seconds at most."""
    answer = _ask(oauth2, make_form(oauth2, username, refresh_token, key))
    values = _read(answer)
    if values is None or (answer.status != 200 and "error" not in values):
        raise explain_silence(answer.status, answer.reason, read_retry_after(answer.retry_after))
    if "error" in values:
        raise _refuse(oauth2, answer, values, refresh_token)
    return take_grant(values)


def ask(url: str, form: str, authorities: str | None) -> tuple[int, dict[str, Any]]:
    """Send a form, and return the status and the values of the answer; raise TokenError where there are none."""
    answer = _send(url, form, authorities)
    values = _read(answer)
    if values is None:
        raise explain_silence(answer.status, answer.reason, read_retry_after(answer.retry_after))
    return answer.status, values


def try_endpoint(oauth2: OAuth2, username: str, key: ClientKey | None) -> str:
    """Ask for nothing with a refresh token's grant, and return what a token endpoint says to that; raise TokenError.

    For looking: the refresh token itself may be good for one question only.
    """
    answer = _ask(oauth2, make_form(oauth2, username, "", key))
    values = _read(answer)
    if values is None or "error" not in values:
        raise explain_silence(answer.status, answer.reason, 0.0)
    if str(values["error"]) == "invalid_client" or answer.status >= 500 or answer.status == 429:
        raise _refuse(oauth2, answer, values)
    return f"{answer.status} {quote_value(str(values['error']))}, as it must to a question without a token"


def read_retry_after(text: str) -> float:
    """Return the seconds of a Retry-After field, at most an hour (RFC 9110 section 10.2.3)."""
    seconds = 0.0
    if text.strip().isdecimal():
        seconds = float(text.strip()[:9])
    elif text:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError):
            seconds = 0.0
    return min(max(0.0, seconds), _LONGEST_WAIT_SECONDS)


def _ask(oauth2: OAuth2, form: str) -> Answer:
    return _send(oauth2.token_url, form, oauth2.ca.pem if oauth2.ca else None)


def _send(url: str, form: str, authorities: str | None) -> Answer:
    try:
        return send_form(url, form, _BOUNDS, authorities=authorities)
    except WebError as error:
        remedy = "Check OAUTH2_TOKEN_URL, and that this container reaches that server directly (proxies are not used)"
        if error.kind == "untrusted":
            remedy = "If its CA is your own, give it in OAUTH2_CA_FILE"
        elif error.kind == "resolver":
            remedy = "Check the container's network and its name server"
        # Whatever is wrong on the way may be right in a moment; only a certificate is somebody's mistake.
        raise TokenError(str(error), remedy, is_for_person=error.kind == "untrusted") from error


def _read(answer: Answer) -> dict[str, Any] | None:
    try:
        values = json.loads(answer.content)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def _refuse(oauth2: OAuth2, answer: Answer, values: dict[str, Any], refresh_token: str = "") -> TokenError:
    error, description = (hide(str(values.get(name, "")), (refresh_token,)) for name in ("error", "error_description"))
    return explain_refusal(oauth2, answer.status, error, description, read_retry_after(answer.retry_after))


def take_grant(values: dict[str, Any]) -> Grant:
    """Return what an answer gave (RFC 6749 section 5.1), or raise TokenError."""
    token = values.get("access_token")
    if not isinstance(token, str) or not token:
        raise TokenError("its answer has no access_token", "Check OAUTH2_TOKEN_URL", is_for_person=True)
    if str(values.get("token_type", "Bearer")).lower() != "bearer":
        kind = quote_value(str(values["token_type"]))
        raise TokenError(
            f"it gives tokens of the type '{kind}'", "XOAUTH2 takes Bearer alone: RFC 6750", is_for_person=True
        )
    try:
        check_access_token(token)
    except InvalidValue as invalid:
        raise TokenError(invalid.what, "Check OAUTH2_TOKEN_URL", is_for_person=True) from None
    if len(token) > _MOST_TOKEN_BYTES:
        raise TokenError(
            f"its token has {len(token)} bytes", "No mail server takes so much: ask for less scope", is_for_person=True
        )
    lifetime_seconds = _read_lifetime(values.get("expires_in"))
    if lifetime_seconds < _LEAST_SECONDS:
        raise TokenError(
            f"its token lives for {lifetime_seconds:g} seconds",
            "Let it live longer at the provider",
            is_for_person=True,
        )
    refresh_token = values.get("refresh_token")
    return Grant(
        access_token=token,
        lifetime_seconds=lifetime_seconds,
        refresh_token=refresh_token if isinstance(refresh_token, str) else "",
    )


def _read_lifetime(value: object) -> float:
    """Return seconds; some endpoints write the number as text."""
    try:
        seconds = float(str(value))
    except ValueError:
        return _ASSUMED_SECONDS
    return min(seconds, _LONGEST_SECONDS) if math.isfinite(seconds) and seconds > 0 else _ASSUMED_SECONDS


def name_endpoint(oauth2: OAuth2) -> str:
    """Return the endpoint for a message."""
    return quote_value(hide_query(oauth2.token_url))
