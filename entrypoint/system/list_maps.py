"""Reads what Mailman writes for Postfix: which addresses its lists have. Disk. Uses `config.list_maps` to read it."""

from __future__ import annotations

import os

from entrypoint.config.list_maps import SOURCES as SOURCES
from entrypoint.config.list_maps import ListMaps as ListMaps
from entrypoint.config.list_maps import are_whole, parse_list_maps
from entrypoint.errors import escape_odd


def read_list_maps(directory: str) -> tuple[ListMaps | None, str]:
    """Return what is in the directory, or `None` and why that cannot be known now."""
    texts = []
    for name in SOURCES:
        path = os.path.join(directory, name)
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                texts.append(file.read())
        except FileNotFoundError:
            if name == SOURCES[0]:
                return None, f"{escape_odd(path)} is not there"
        except OSError as error:
            return None, f"{escape_odd(path)} cannot be read ({error.strerror})"
    if not are_whole(texts):
        return None, f"{escape_odd(os.path.join(directory, SOURCES[0]))} is empty, or its last line has no end"
    return parse_list_maps(texts), ""
