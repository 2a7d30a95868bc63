"""What Mailman writes for Postfix: which addresses its lists have. Pure.

GNU Mailman 3 (mailman/mta/postfix.py of 3.3) writes them anew whenever a list or a domain comes or goes, each under
another name first: postfix_lmtp with every address of every list, for hash tables or as regular expressions, and
postfix_vmap with those of domains that have an alias_domain. Its own tables are not read: only the sources are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

SOURCES: Final = ("postfix_lmtp", "postfix_vmap")
"""The first is always there once Mailman runs, the second only where it is needed."""
_REGEXP: Final = re.compile(r"/\^(.*)\$/")
_EXTENSION: Final = r"(\+.*)?"
"""What Mailman puts into the expressions for -bounces and -confirm; here every address may have one."""
_ADDRESS: Final = re.compile(r"[a-z0-9!#$%&'*=?^_`{|}~./-]{1,64}@[a-z0-9._-]{1,253}")
"""A name that Mailman may give to a list, without the + that begins what is behind it (`[mta] verp_delimiter`)."""


@dataclass(frozen=True, kw_only=True)
class ListMaps:
    """The addresses of all lists, in lower case, and what else was there."""

    addresses: tuple[str, ...]
    domains: tuple[str, ...]
    """Where the lists are reached; what a domain with an alias_domain is called inside may be nobody's business."""
    odd_lines: tuple[str, ...] = ()
    """Lines that are none of Mailman's."""


def are_whole(texts: Sequence[str]) -> bool:
    """Return whether no file is just being written: the first has Mailman's remark at least, and each ends a line."""
    return bool(texts and texts[0]) and all(text.endswith("\n") for text in texts if text)


def parse_list_maps(texts: Iterable[str]) -> ListMaps:
    """Return what the files say; lines that cannot be read are left out, and named."""
    addresses: dict[str, int] = {}
    odd: list[str] = []
    for source, line in ((source, line) for source, text in enumerate(texts) for line in text.split("\n")):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, *value = line.split(maxsplit=1)
        address = _read_key(key).lower()
        if line[0].isspace() or not value or not _ADDRESS.fullmatch(address):
            odd.append(line.strip())
        else:
            addresses.setdefault(address, source)
    domains = dict.fromkeys(address.rpartition("@")[2] for address, source in addresses.items() if source == 0)
    return ListMaps(addresses=tuple(addresses), domains=tuple(domains), odd_lines=tuple(odd))


def _read_key(key: str) -> str:
    """Return the address for which an expression stands, `/^ant-bounces(\\+.*)?@example\\.com$/`, or a plain key."""
    match = _REGEXP.fullmatch(key)
    if match is None:
        return key
    plain = match[1].replace(_EXTENSION, "")
    # A dot that is not escaped stands for anything; so do the others.
    return "" if re.search(r"[.*?|()\[\]{}^$]", plain.replace("\\.", "")) else plain.replace("\\.", ".")
