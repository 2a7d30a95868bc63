"""What is wrong between the settings for lists and the others. Pure; imported where there are any."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoint.config.aliases import EVERY_OTHER
from entrypoint.config.lists import LMTP_PORT
from entrypoint.config.sender_rewriting import EVERYONE
from entrypoint.config.settings import Settings
from entrypoint.errors import Problem

_EXAMPLES = {
    "LIST_DOMAINS": "lists.example.com",
    "LIST_LMTP": f"mailman:{LMTP_PORT}",
    "LIST_MAPS_DIR": "/var/lib/mailman3/data",
}


def check_lists(settings: Settings) -> Iterator[Problem]:
    """Yield every problem."""
    yield from _check_all_are_there(settings)
    if settings.dnsbl_sites and not settings.list_domains:
        yield Problem(
            setting="DNSBL_SITES",
            what="it is asked about who sends to lists, and there are no LIST_DOMAINS",
            remedy=f"Set LIST_DOMAINS={_EXAMPLES['LIST_DOMAINS']} and what it needs, or remove it",
        )
    for domain in settings.list_domains or ():
        yield from _check_routes(settings, domain)
        yield from _check_senders(settings, domain)
        yield from _check_aliases(settings, domain)


def _check_all_are_there(settings: Settings) -> Iterator[Problem]:
    given = {name: getattr(settings, name.lower()) is not None for name in _EXAMPLES}
    missing = [name for name, is_given in given.items() if not is_given]
    if missing and len(missing) < len(given):
        yield Problem(
            setting=next(name for name, is_given in given.items() if is_given),
            what=f"the list server needs {' and '.join(missing)} as well",
            remedy=f"Set {' and '.join(f'{name}={_EXAMPLES[name]}' for name in missing)}, or none of the three",
        )


def _check_routes(settings: Settings, domain: str) -> Iterator[Problem]:
    for pattern, target in settings.recipient_routes:
        if pattern == domain:
            place = "TRANSPORT_TABLE" if isinstance(target, str) or not target.is_named else target.setting
            yield Problem(
                setting="LIST_DOMAINS",
                value=domain,
                what=f"{place} sends that domain elsewhere",
                remedy="Name it in one of them",
            )


def _check_senders(settings: Settings, domain: str) -> Iterator[Problem]:
    """Mailman finds out whose mail bounced by the sender that it gave; a changed one would tell it nothing."""
    for masquerade in settings.masquerade_domains or ():
        if masquerade.startswith("!"):
            if domain == masquerade[1:] or domain.endswith(f".{masquerade[1:]}"):
                break
        elif domain.endswith(f".{masquerade}"):
            yield Problem(
                setting="MASQUERADE_DOMAINS",
                value=" ".join(settings.masquerade_domains or ()),
                what=f"bounces to the lists at {domain} would go to {masquerade}",
                remedy=f"Write MASQUERADE_DOMAINS=!{domain} {masquerade}",
            )
    for line in settings.sender_rewrite_table or ():
        if line.pattern == EVERYONE or line.pattern.endswith(f"@{domain}"):
            yield Problem(
                setting="SENDER_REWRITE_TABLE",
                what=f"'{line.pattern}' would change the senders of the lists at {domain}, by which Mailman knows "
                "whose mail bounced, and of what comes in for them",
                remedy="Name the domains of your applications alone: '@app.example.com relay@example.com'",
            )


def _check_aliases(settings: Settings, domain: str) -> Iterator[Problem]:
    for line in settings.alias_table or ():
        if line.pattern == EVERY_OTHER and domain == settings.myhostname:
            yield Problem(
                setting="ALIAS_TABLE",
                what=f"line {line.line}: {domain} is MYHOSTNAME and one of LIST_DOMAINS, so that mail to its lists "
                f"would go to {line.targets[0]}",
                remedy=f"Set MYHOSTNAME to a name of the relay's own, for example relay.{domain}, or remove the line",
            )
