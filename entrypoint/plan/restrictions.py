"""Who may send what to whom, as smtpd(8) asks it, one restriction after the other. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from entrypoint import paths
from entrypoint.config.settings import Settings
from entrypoint.plan.files import Facts, PlannedFile
from entrypoint.plan.lists import list_list_permits, list_recipient_checks, list_sender_exceptions
from entrypoint.plan.rewriting import list_alias_recipients
from entrypoint.plan.tables import render_allowed

_ALLOWED_SENDERS: Final = f"{paths.POSTFIX_CONFIG}/allowed_senders"
_ALLOWED_RECIPIENTS: Final = f"{paths.POSTFIX_CONFIG}/allowed_recipients"


def plan_restrictions(settings: Settings, own_name: str) -> Iterator[PlannedFile]:
    """Yield the tables of allowed domains."""
    others = (*list_alias_recipients(settings, own_name), *(settings.list_domains or ()))
    for path, table in (
        # A bounce has no sender.
        (_ALLOWED_SENDERS, render_allowed(settings.allowed_sender_domains, "<>")),
        (_ALLOWED_RECIPIENTS, render_allowed(settings.allowed_recipient_domains, *others)),
    ):
        if table:
            yield PlannedFile(path=path, text=table, is_table=True)


def view_restrictions(
    settings: Settings, facts: Facts, permits: Sequence[str], refusals: Sequence[str]
) -> dict[str, Any]:
    """Return what main.cf has to say. `permits`: who may send to everyone; `refusals`: what everyone else is told."""
    return {
        "relay_restrictions": ", ".join([*permits, *list_list_permits(settings), *refusals]),
        "sender_restrictions": ", ".join(_list_sender_restrictions(settings)),
        "recipient_restrictions": ", ".join(_list_recipient_restrictions(settings, facts)),
        "has_exact_domains": any(
            (settings.allowed_sender_domains, settings.allowed_recipient_domains, settings.list_domains)
        ),
    }


def _list_sender_restrictions(settings: Settings) -> Iterator[str]:
    if settings.sender_login_table:
        yield "reject_sender_login_mismatch"
    if settings.allowed_sender_domains:
        yield from list_sender_exceptions(settings)
        yield f"check_sender_access lmdb:{_ALLOWED_SENDERS}"
        yield "check_sender_access static:{550 5.7.1 this domain is none of ALLOWED_SENDER_DOMAINS}"


def _list_recipient_restrictions(settings: Settings, facts: Facts) -> Iterator[str]:
    yield from list_recipient_checks(settings, facts)
    if settings.allowed_recipient_domains:
        yield f"check_recipient_access lmdb:{_ALLOWED_RECIPIENTS}"
        yield "check_recipient_access static:{550 5.7.1 this domain is none of ALLOWED_RECIPIENT_DOMAINS}"
