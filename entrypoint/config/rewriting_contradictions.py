"""What is wrong between the settings that change addresses, and those that look at them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoint.config.aliases import EVERY_OTHER, index, resolve
from entrypoint.config.declaration import InvalidValue
from entrypoint.config.sender_rewriting import EVERYONE, rewrite
from entrypoint.config.settings import Settings
from entrypoint.errors import Problem


def check_rewriting(settings: Settings) -> Iterator[Problem]:
    """Yield every problem."""
    yield from _check_reply_to(settings)
    yield from _check_sender_routes(settings)
    yield from _check_aliases(settings)


def _check_reply_to(settings: Settings) -> Iterator[Problem]:
    if settings.sender_rewrite_reply_to == "kept":
        return
    if not any(line.pattern == EVERYONE for line in settings.sender_rewrite_table or ()):
        yield Problem(
            setting="SENDER_REWRITE_REPLY_TO",
            value=settings.sender_rewrite_reply_to,
            what="it takes the Reply-To from every message, also from one whose From stays, and SENDER_REWRITE_TABLE "
            "has no line for every sender",
            remedy="Add a line '* relay@example.com' to it, or remove SENDER_REWRITE_REPLY_TO",
        )


def _check_sender_routes(settings: Settings) -> Iterator[Problem]:
    """Mail goes by the new sender: a route for an old one would never be taken."""
    lines = settings.sender_rewrite_table or ()
    kept = {line.target.lower() for line in lines}
    for sender, upstream in settings.sender_routes if lines else ():
        sample = f"someone{sender}" if sender.startswith("@") else sender
        after = rewrite(lines, sample)
        if after != sample and not any(address.endswith(sender) for address in kept):
            yield Problem(
                setting="SENDER_REWRITE_TABLE",
                what=f"mail goes by the new sender, so that none has '{sender}' any more, for which there is "
                f"{upstream.setting}",
                remedy=f"Add a line '{sender} {sender}', which leaves it as it is, or send mail from "
                f"'{after if not sender.startswith('@') else '@' + after.rpartition('@')[2]}' there",
            )


def _check_aliases(settings: Settings) -> Iterator[Problem]:
    lines, own_name = settings.alias_table or (), settings.myhostname
    if own_name is None:
        return
    for line in lines:
        there = next((target for target in line.targets if target.lower().endswith(f"@{own_name}")), None)
        if line.pattern == EVERY_OTHER and there:
            yield Problem(
                setting="ALIAS_TABLE",
                what=f"line {line.line}: {own_name} is MYHOSTNAME, so that mail to everyone there would go to {there}",
                remedy=f"Set MYHOSTNAME to a name of the relay's own, for example relay.{own_name}, or remove the line",
            )
            return
        name, _, domain = line.pattern.rpartition("@")
        if name and domain == own_name:
            yield Problem(
                setting="ALIAS_TABLE",
                what=f"line {line.line}: '{line.pattern}' is '{name}', for {own_name} is MYHOSTNAME",
                remedy=f"Write '{name}: {', '.join(line.targets)}'",
            )
            return
    for line in lines:
        try:
            resolve(index(lines), line.pattern, (own_name,))
        except InvalidValue as invalid:
            yield Problem(setting="ALIAS_TABLE", what=invalid.what, remedy=invalid.remedy)
            return
