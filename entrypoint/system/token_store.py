"""Access tokens and refresh tokens as they are kept across restarts: a file for each account, root only. Disk.

Uses `files`, since what is kept must be written atomically, and be on the disk before the old one is given up.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from entrypoint import paths
from entrypoint.system.files import make_directory, read_text, write_file


@dataclass(frozen=True, kw_only=True)
class KeptToken:
    """What is known of one account; times in seconds since the epoch."""

    origin: str
    """A digest of what the access token follows from: with other settings it is another's."""
    access_token: str = field(repr=False)
    """Empty when it has ended, and no other came."""
    fetched_at: float = 0.0
    expires_at: float = 0.0
    refresh_at: float = 0.0
    seed: str = ""
    """A digest of the refresh token in the settings from which the one here descends."""
    refresh_token: str = field(default="", repr=False)
    """The latest that an answer brought; empty where the one in the settings still is."""


def load_token(service: str) -> KeptToken | None:
    """Return what is kept for an smtp(8) service's account; `None` for nothing that can be read."""
    try:
        text = read_text(_find_path(service))
        return KeptToken(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None


def save_token(service: str, token: KeptToken) -> None:
    """Keep it, whatever happens to the machine from now on: the endpoint may have forgotten the old one already."""
    make_directory(paths.TOKENS, 0o700)
    write_file(_find_path(service), json.dumps(asdict(token)) + "\n", 0o600, is_durable=True)


def _find_path(service: str) -> str:
    return f"{paths.TOKENS}/{service}.json"
