"""Which addresses the list server's lists have: as it writes them now, or as it was before. Disk, by `system`."""

from __future__ import annotations

import os
from typing import Final

from entrypoint import paths
from entrypoint.errors import escape_odd
from entrypoint.system.files import read_text
from entrypoint.system.list_maps import SOURCES, ListMaps, read_list_maps

_MOST_NAMED: Final = 3
_LOOK_SECONDS: Final = 5.0
_WAITING: Final = (
    "Until it can be read, mail to lists is told to come again (450). Mailman writes it when it has been started, with "
    "'incoming: mailman.mta.postfix.LMTP' under [mta]; mount its data directory there"
)


def find_lists(domains: tuple[str, ...], directory: str) -> tuple[tuple[str, ...] | None, tuple[str, ...], bool]:
    """Return the addresses, `None` where they are not known; what is to be said; whether nothing can be read now."""
    maps, fault = read_list_maps(directory)
    if maps is None:
        known = read_text(paths.LIST_RECIPIENTS)
        if known is None:
            return None, (f"LIST_MAPS_DIR: {fault}. {_WAITING}",), True
        addresses = tuple(line.split()[0] for line in known.splitlines())
        return addresses, (f"LIST_MAPS_DIR: {fault}. The lists that were there before are known still",), True
    remarks = tuple(_remark(maps, domains, os.path.join(directory, SOURCES[0])))
    return maps.addresses, remarks, False


def look_for_list_server(host: str, port: int) -> bool:
    """Return whether it takes connections; Network."""
    from entrypoint.system.connection import ConnectError, Deadline, connect  # only while it is away

    try:
        connect(host, port, Deadline(_LOOK_SECONDS)).close()
    except (OSError, ConnectError):
        return False
    return True


def _remark(maps: ListMaps, domains: tuple[str, ...], path: str) -> list[str]:
    remarks = []
    if maps.odd_lines:
        more = f" and {len(maps.odd_lines) - 1} more" if len(maps.odd_lines) > 1 else ""
        first = escape_odd(maps.odd_lines[0][:100])
        remarks.append(f"LIST_MAPS_DIR: {escape_odd(path)} has a line that is none of Mailman's: '{first}'{more}")
    missing = [domain for domain in maps.domains if domain not in domains]
    if missing:
        named = ", ".join(missing[:_MOST_NAMED])
        remarks.append(
            f"LIST_DOMAINS: Mailman has lists at {named}, which is not named there, so that nobody reaches them"
        )
    return remarks
