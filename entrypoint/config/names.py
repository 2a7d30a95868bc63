"""Which variables are ours, which nearly are, and which only look so. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from entrypoint.config.foreign import find_foreign
from entrypoint.config.settings import DECLARATIONS
from entrypoint.errors import Problem

FILE_SUFFIX: Final = "_FILE"
PARAMETER_PREFIX: Final = "POSTFIX_"
NAMES: Final = frozenset(declaration.name for declaration in DECLARATIONS)

_PREFIXES: Final = (
    "RELAYHOST_",
    "FALLBACK_RELAYHOST_",
    "CLIENT_CERT_",
    "CLIENT_KEY_",
    "DKIM_",
    "TLS_POLICY_",
    "OAUTH2_",
)
_COMMON: Final = frozenset(
    {"HOSTNAME", "HOME", "HOST", "PATH", "TERM", "USER", "LANG", "LANGUAGE", "SHLVL", "PWD", "PS1"}
)
"""What every container's environment has; HOSTNAME is two letters away from MYHOSTNAME."""

_SERVICE_LINK: Final = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO|START|END))?)$"
)
_LINK_URL: Final = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)


def is_service_link(name: str, value: str) -> bool:
    """Return whether Kubernetes or Docker injected a variable for a service or link that has one of our names.

    `X_PORT` counts only when it holds a URL as they write it: `RELAYHOST_PORT=587` is a person's mistake.
    """
    if _SERVICE_LINK.search(name):
        return True
    if name.endswith("_PORT"):
        return bool(_LINK_URL.match(value))
    return bool(re.search(r"_ENV_\w+$", name)) or (name.endswith("_NAME") and value.startswith("/"))


def find_unknown_names(environ: Mapping[str, str]) -> list[Problem]:
    """Return a problem for each variable that is not ours but was probably meant to be."""
    problems = []
    # Where the upstream is named as we do, such a variable may be an application's own.
    has_upstream = bool(environ.get("RELAYHOST") or environ.get(f"RELAYHOST{FILE_SUFFIX}"))
    for name, value in environ.items():
        base = name.removesuffix(FILE_SUFFIX)
        if base in NAMES or name in NAMES or name in _COMMON or is_service_link(name, value) or not value:
            continue
        if foreign := find_foreign(name) if not has_upstream else None:
            image, ours = foreign
            problems.append(
                Problem(
                    setting=name,
                    what=f"it is a name of {image}; here it is {ours}" if ours else f"it is a setting of {image} alone",
                    remedy="authrelay import converts all of them, and says what changes",
                )
            )
        elif name == "RELAYHOST_PORT":
            problems.append(
                Problem(
                    setting=name,
                    value=value,
                    what="there is no such setting",
                    remedy=f"Put the port into RELAYHOST, for example RELAYHOST=[smtp.example.com]:{value}",
                )
            )
        elif not name.startswith(PARAMETER_PREFIX) and (meant := _find_meant(base)):
            suffix = FILE_SUFFIX if name.endswith(FILE_SUFFIX) else ""
            problems.append(
                Problem(
                    setting=name,
                    what="there is no such setting",
                    remedy=f"Did you mean {meant}{suffix}? If it belongs to another program, set UNKNOWN_SETTINGS=warn",
                )
            )
    return problems


def find_close_parameter(name: str, parameters: Iterable[str]) -> str | None:
    """Return the Postfix parameter that was probably meant."""
    folded = {parameter.lower(): parameter for parameter in parameters}
    close = _find_close(name.lower(), folded, cutoff=0.8)
    return folded[close[0]] if close else None


def _find_meant(base: str) -> str | None:
    """Return the setting that is within two edits, or the closest one for a name that begins as ours do."""
    folded = {name.replace("_", ""): name for name in sorted(NAMES)}
    plain = base.upper().replace("_", "")
    if plain in folded:
        return folded[plain]
    near = [(measure_edits(plain, known), folded[known]) for known in folded if abs(len(known) - len(plain)) <= 2]
    if near and len(plain) > 5:
        edits, name = min(near)
        # Two edits in a short name are another word: TZ and LISTEN_PORT are not the same distance apart.
        if edits <= (1 if len(plain) < 9 else 2):
            return name
    if base.startswith(_PREFIXES):
        close = _find_close(base, NAMES, cutoff=0.0)
        return close[0] if close else None
    return None


def measure_edits(left: str, right: str) -> int:
    """Return the edit distance of two short texts: insertions, deletions, substitutions, swaps of neighbours."""
    before: list[int] = []
    above = list(range(len(right) + 1))
    for row, letter in enumerate(left, start=1):
        current = [row]
        for column, other in enumerate(right, start=1):
            edits = min(above[column] + 1, current[-1] + 1, above[column - 1] + (letter != other))
            if row > 1 and column > 1 and letter == right[column - 2] and left[row - 2] == other:
                edits = min(edits, before[column - 2] + 1)
            current.append(edits)
        before, above = above, current
    return above[-1]


def _find_close(name: str, names: Iterable[str], *, cutoff: float) -> list[str]:
    from difflib import get_close_matches  # no start without a mistake needs it

    return get_close_matches(name, list(names), n=1, cutoff=cutoff)
