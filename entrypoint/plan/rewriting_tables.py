"""The tables that change addresses and headers on the way, for cleanup(8). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from entrypoint.config.aliases import EVERY_OTHER, LOCAL_NAMES, index, resolve
from entrypoint.config.sender_rewriting import SenderRewrite
from entrypoint.config.settings import Settings
from entrypoint.plan.rewriting import ANSWERS


def render_sender_rewrites(table: Iterable[SenderRewrite]) -> str:
    """Return a regexp_table(5) in the order in which canonical(5) would look: addresses, domains, everyone.

    In an indexed table `*` could not stand, and a second table for it would go before every domain: Postfix asks all
    for the address before it asks any for the domain. It looks a result up again, until one does not change: so what a
    line writes has a line of its own that leaves it as it is. The null sender is looked up too, as one without an @.
    """
    lines = {line.pattern: line.target for line in table}
    for target in list(lines.values()):
        lines.setdefault(target.lower(), target)
    addresses = [pattern for pattern in lines if not pattern.startswith(("@", "*"))]
    domains = [pattern for pattern in lines if pattern.startswith("@")]
    rules = [f"/^{escape_pattern(pattern)}$/ {escape_result(lines[pattern])}\n" for pattern in addresses]
    rules += [f"/.{escape_pattern(pattern)}$/ {escape_result(lines[pattern])}\n" for pattern in domains]
    if "*" in lines:
        rules.append(f"/.@/ {escape_result(lines['*'])}\n")
    return "".join(rules)


def render_aliases(settings: Settings, own_name: str) -> str:
    """Return the source of virtual_alias_maps: a key for each name that this relay goes by (virtual(5))."""
    lines = index(settings.alias_table or ())
    # As the check of settings had it, which has refused every circle.
    own_names = (settings.myhostname,) if settings.myhostname else ()
    records = {key: resolve(lines, name, own_names) for name in lines for key in list_alias_keys(name, own_name)}
    return "".join(f"{key} {', '.join(addresses)}\n" for key, addresses in records.items())


def list_alias_keys(pattern: str, own_name: str) -> tuple[str, ...]:
    """Return what a line's name is looked up as."""
    if "@" in pattern:
        return (pattern,)
    name = "" if pattern == EVERY_OTHER else pattern
    return tuple(f"{name}@{domain}" for domain in dict.fromkeys((own_name.lower(), *LOCAL_NAMES)))


def render_own_checks(settings: Settings, own_name: str) -> str:
    """Return the header_checks(5) that our settings need; they look at a header before it is rewritten.

    What PREPEND writes is not rewritten; the header itself is, and then dropped (postconf(5) message_drop_headers).
    A Received header is not left out but emptied: they are what ends a loop (RFC 5321 section 6.3).
    """
    rules = []
    if settings.sender_rewrite_table:
        is_author = settings.sender_rewrite_reply_to == "author"
        kept = [name for name in ANSWERS if not (is_author and name == "Reply-To")]
        rules.append(f"/^(({'|'.join(kept)})[[:blank:]]*:.*)$/ PREPEND $1\n")
        if is_author:
            rules.append("/^From[[:blank:]]*:(.*)$/ PREPEND Reply-To:$1\n")
    if settings.hide_received:
        name = escape_pattern(own_name)
        ours = rf"Received: from .*[[:space:]]by {name} \(Postfix\) (with [A-Z0-9]+[[:space:]]+id [0-9A-Za-z]+)"
        rules.append(f"/^{ours}.*(;[^;]*)$/ REPLACE Received: by {own_name} $1$2\n")
        rules.append(f"/^Received:.*(;[^;]*)$/ REPLACE Received: by {own_name} (hidden)$1\n")
        rules.append(f"/^Received:/ REPLACE Received: by {own_name} (hidden)\n")
    return "".join(rules)


def escape_pattern(text: str) -> str:
    """Return a regular expression of POSIX's that is found where the text itself stands.

    Each odd character is alone in brackets, which no extension gives a meaning; `^` and `/` cannot be.
    """
    return "".join(
        letter if letter.isalnum() or letter in "@-_" else f"\\{letter}" if letter in "^/" else f"[{letter}]"
        for letter in text
    )


def escape_result(text: str) -> str:
    """Return a text in which Postfix replaces nothing (regexp_table(5))."""
    return text.replace("$", "$$")
