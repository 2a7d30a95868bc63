"""The address of a document on the web, as a setting may name it. Pure."""

from __future__ import annotations

from typing import Final

from entrypoint.config.declaration import SETTING, InvalidValue
from entrypoint.config.values import parse_address_or_name

_EXAMPLE: Final = f"{SETTING}=https://ca.example.com/ca.pem"


def parse_web_url(text: str) -> str:
    """Return an http or https URL (RFC 3986) without its fragment, which is never sent.

    A message quotes neither a login nor a query: both may be secrets.
    """
    try:
        return _parse(text)
    except InvalidValue as problem:
        raise InvalidValue(problem.what, problem.remedy, may_hold_secret="@" in text or "?" in text) from None


def hide_query(url: str) -> str:
    """Return a URL for a message, without what may be a token."""
    path, question_mark, _ = url.partition("?")
    return path + ("?..." if question_mark else "")


def _parse(text: str) -> str:
    # Imported here: only a start that is given a URL pays for it.
    from urllib.parse import urlsplit

    if "@" in text:
        raise InvalidValue(
            "it has an @ sign, as before a host stands a user name or a password, and a CA needs neither",
            f"Write {_EXAMPLE}; an @ sign in a path is written %40",
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidValue(
            "it contains a blank, a control character or a letter that is not ASCII",
            f"Write it as a browser copies it, for example {_EXAMPLE}",
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidValue("its host or port cannot be read", f"Write {_EXAMPLE}") from None
    if parts.scheme not in ("http", "https") or "://" not in text:
        raise InvalidValue("it does not begin with https:// or http://", f"Write {_EXAMPLE}")
    if not parts.hostname:
        raise InvalidValue("it names no host", f"Write {_EXAMPLE}")
    if port == 0:
        raise InvalidValue("'0' is not a port", f"Write {_EXAMPLE}")
    parse_address_or_name(parts.hostname)
    return text.partition("#")[0]
