"""The settings in force as anybody may see them: secrets hidden, each value as a user could have written it. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from entrypoint.config.certificates import Certificates
from entrypoint.config.declaration import MISSING, Declaration
from entrypoint.config.logins import KnownCertificate, SenderOwners
from entrypoint.config.routes import Route
from entrypoint.config.secret import Secret
from entrypoint.config.settings import DECLARATIONS, Settings
from entrypoint.config.tls import TlsRule
from entrypoint.config.values import parse_duration_seconds, parse_refresh_seconds
from entrypoint.config.web_url import hide_query

HIDDEN: Final = "(hidden)"
_LINES: Final = (TlsRule, Route, SenderOwners, KnownCertificate)
"""What is a line of a table."""
_DURATIONS: Final = (parse_duration_seconds, parse_refresh_seconds)


def list_settings(settings: Settings) -> list[dict[str, Any]]:
    """Return name, value and is_default of each setting, POSTFIX_<parameter> and service of the user's."""
    rows = [_describe(declaration, getattr(settings, declaration.name.lower())) for declaration in DECLARATIONS]
    rows += [_make_row(f"POSTFIX_{name}", value, is_default=False) for name, value in settings.postfix_parameters]
    rows += [_make_row(entry.setting, str(entry), is_default=False) for entry in settings.master_entries]
    return rows


def _describe(declaration: Declaration, value: Any) -> dict[str, Any]:
    default = None if declaration.default is None else declaration.parse(declaration.default)
    if value == default:
        return _make_row(declaration.name, declaration.default or "", is_default=True)
    if declaration.is_secret or isinstance(value, Secret):
        return _make_row(declaration.name, HIDDEN, is_default=False)
    if declaration.cleared is not MISSING and value == declaration.cleared:
        return _make_row(declaration.name, "none", is_default=False)
    text = _write(value)
    if declaration.parse in _DURATIONS:
        text += "s"
    return _make_row(declaration.name, text, is_default=False)


def _make_row(name: str, value: str, *, is_default: bool) -> dict[str, Any]:
    return {"name": name, "value": value, "is_default": is_default}


def _write(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Certificates):
        return ", ".join(f"{one.subject}, SHA-256 {one.sha256}" for one in value.members)
    if isinstance(value, TlsRule):
        words = [str(value.destination), value.level.value, *(f"{name}={text}" for name, text in value.attributes)]
        return " ".join(words)
    if isinstance(value, tuple):
        separator = "; " if value and isinstance(value[0], _LINES) else " "
        return separator.join(map(_write, value))
    return hide_query(str(value)) if str(value).startswith(("http://", "https://")) else str(value)
