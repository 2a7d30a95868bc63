"""What changes addresses and headers on the way: its files, and what main.cf says of them. Pure.

What renders the tables is imported when there is one: no other start needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from entrypoint import paths
from entrypoint.config.settings import Settings
from entrypoint.plan.files import PlannedFile

_SENDERS: Final = f"{paths.POSTFIX_CONFIG}/sender_rewrites"
_ALIASES: Final = f"{paths.POSTFIX_CONFIG}/aliases"
_OWN_CHECKS: Final = f"{paths.POSTFIX_CONFIG}/own_header_checks"
_HEADER_CHECKS: Final = f"{paths.POSTFIX_CONFIG}/header_checks"

ANSWERS: Final = (
    "Reply-To", "Resent-Reply-To", "Mail-Followup-To", "Disposition-Notification-To", "Return-Receipt-To", "Errors-To",
)  # fmt: skip
"""Where answers go: for Postfix they are headers of the sender's, too (canonical(5))."""
_DROPPED: Final = ("bcc", "content-length", "resent-bcc", "return-path")
"""What Postfix drops in any case (postconf(5) message_drop_headers)."""


def plan_rewriting(settings: Settings, own_name: str) -> Iterator[PlannedFile]:
    """Yield the tables of those settings that are set."""
    if settings.header_checks_table:
        yield PlannedFile(path=_HEADER_CHECKS, text=settings.header_checks_table)
    if not (settings.sender_rewrite_table or settings.alias_table or settings.hide_received):
        return
    from entrypoint.plan.rewriting_tables import render_aliases, render_own_checks, render_sender_rewrites

    if settings.sender_rewrite_table:
        yield PlannedFile(path=_SENDERS, text=render_sender_rewrites(settings.sender_rewrite_table))
    if settings.alias_table:
        yield PlannedFile(path=_ALIASES, text=render_aliases(settings, own_name), is_table=True)
    if own_checks := render_own_checks(settings, own_name):
        yield PlannedFile(path=_OWN_CHECKS, text=own_checks)


def list_alias_recipients(settings: Settings, own_name: str) -> tuple[str, ...]:
    """Return the recipients that ALIAS_TABLE stands for, as keys for access(5), in which a domain has no @."""
    if not settings.alias_table:
        return ()
    from entrypoint.plan.rewriting_tables import list_alias_keys

    keys = (key for line in settings.alias_table for key in list_alias_keys(line.pattern, own_name))
    return tuple(key.removeprefix("@") for key in keys)


def view_rewriting(settings: Settings) -> dict[str, Any]:
    """Return what main.cf needs to know."""
    has_senders = bool(settings.sender_rewrite_table)
    has_own = has_senders or settings.hide_received
    users = f"regexp:{_HEADER_CHECKS}" if settings.header_checks_table else ""
    return {
        "rewrites_headers": has_senders or bool(settings.masquerade_domains),
        "sender_rewrites": _SENDERS if has_senders else "",
        "dropped_headers": ", ".join([*_DROPPED, *(name.lower() for name in ANSWERS)]),
        "masquerade_domains": " ".join(settings.masquerade_domains or ()),
        "aliases": _ALIASES if settings.alias_table else "",
        "header_checks": ", ".join(filter(None, (f"regexp:{_OWN_CHECKS}" if has_own else "", users))),
        "has_own_checks": has_own,
        "users_checks": users,
    }
