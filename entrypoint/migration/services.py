"""What an old configuration says to Postfix beside main.cf: milters, and lines of master.cf. Pure."""

from __future__ import annotations

import re
from typing import Final

from entrypoint.config.declaration import InvalidValue
from entrypoint.config.master import fold_name, parse_entry
from entrypoint.config.milters import parse_milter
from entrypoint.migration.draft import Draft

_ACTIONS: Final = ("tempfail", "accept", "reject", "quarantine")
_HERE: Final = re.compile(r"unix:.*|inet:(localhost|127\.[\d.]+|\[::1\]):\d+")
_CHROOT: Final = 4


def take_milters(draft: Draft, value: str) -> None:
    """Take over smtpd_milters."""
    taken = []
    for word in re.split(r"[\s,]+", value.strip()):
        try:
            taken.append(parse_milter(word))
        except InvalidValue as invalid:
            draft.remark(f"NOT TAKEN: smtpd_milters has {word}: {invalid.what}")
    if taken:
        here = ", ".join(milter for milter in taken if _HERE.fullmatch(milter))
        note = f"CHANGED: {here} was on the same host; in the container that is the container itself" if here else ""
        draft.set("SMTPD_MILTERS", " ".join(taken), note)


def take_milter_action(draft: Draft, value: str) -> None:
    """Take over milter_default_action."""
    if value in _ACTIONS:
        draft.set("MILTER_DEFAULT_ACTION", value)
    else:
        draft.remark(f"NOT TAKEN: milter_default_action = {value}: tempfail is the default")


def take_service(draft: Draft, line: str) -> None:
    """Take over a line of master.cf, without its chroot."""
    words = line.split()
    note = ""
    if len(words) > _CHROOT and words[_CHROOT] == "y":
        words[_CHROOT] = "n"
        note = "CHANGED: nothing is chrooted in the container"
    name = fold_name(*words[:2]) if len(words) > 1 else ""
    try:
        parse_entry(name, " ".join(words))
    except InvalidValue as invalid:
        draft.remark(f"NOT TAKEN: master.cf has '{line}': {invalid.what}. {invalid.remedy.replace(f'{name}=', '')}")
    else:
        draft.set(name, " ".join(words), note)
