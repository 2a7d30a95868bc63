"""Keeps the key that LOG_ADDRESSES=hash makes its codes with: made once, and the same in each container. Disk.

Uses `files` to write and share it.
"""

from __future__ import annotations

import os
from typing import Final

from entrypoint import paths
from entrypoint.system.files import STATUS_GROUP, make_directory, read_text, share_file, write_file

_BYTES: Final = 32


def load_or_make_key() -> str:
    """Return the key of the state volume, made if there is none yet."""
    if key := (read_text(paths.OWN_ADDRESSES_KEY) or "").strip():
        return key
    key = os.urandom(_BYTES).hex()
    make_directory(paths.STATE, 0o755)
    write_file(paths.OWN_ADDRESSES_KEY, f"{key}\n", 0o600, is_durable=True)
    return key


def install_key(key: str) -> None:
    """Put the key where the processes that write addresses find it; for nobody else."""
    write_file(paths.ADDRESSES_KEY, key, 0o600)
    share_file(paths.ADDRESSES_KEY, 0o640, STATUS_GROUP)
