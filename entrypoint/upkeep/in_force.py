"""What is in force now, left for health checks and the status page: nothing in it is secret. Disk."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from entrypoint import paths
from entrypoint.system.files import read_text, write_file
from entrypoint.upkeep.expiry import Ending


@dataclass(frozen=True, kw_only=True)
class InForceCertificate:
    """A certificate in use; times in seconds since the epoch."""

    role: str
    """`trusted_ca`, `client` or `oauth2`."""
    what: str
    subject: str
    sha256: str
    not_after: int
    renewed_at: int | None = None


@dataclass(frozen=True, kw_only=True)
class InForce:
    """What Postfix runs with."""

    loaded_at: float = 0.0
    """When it was told so; in seconds since the epoch, as all times here."""
    reloads: int = 0
    """How often Postfix was reloaded because something had changed, since the container began."""
    certificates: tuple[InForceCertificate, ...] = ()
    secrets: Mapping[str, float] = field(default_factory=dict)
    """When the file of each X_FILE setting changed last, by the setting's name."""


def make_certificates(endings: Sequence[Ending]) -> tuple[InForceCertificate, ...]:
    """Return the certificates in use."""
    names = InForceCertificate.__dataclass_fields__
    return tuple(InForceCertificate(**{name: getattr(one, name) for name in names}) for one in endings)


def find_change_times(files: Mapping[str, str]) -> dict[str, float]:
    """Return when each file changed last, by its setting."""
    times = {}
    for setting, path in files.items():
        with contextlib.suppress(OSError):
            times[setting] = os.stat(path).st_mtime
    return times


def load_in_force() -> InForce:
    """Return what is in force; nothing, before a start."""
    text = read_text(paths.CONFIGURATION)
    if text is None:
        return InForce()
    values = json.loads(text)
    certificates = tuple(InForceCertificate(**one) for one in values["certificates"])
    return InForce(**{**values, "certificates": certificates})


def load_settings_in_force() -> list[dict[str, Any]]:
    """Return the settings in force as `config.disclosure` lists them."""
    found: list[dict[str, Any]] = json.loads(read_text(paths.SETTINGS_IN_FORCE) or "[]")
    return found


def save_in_force(in_force: InForce, settings: Sequence[Mapping[str, Any]]) -> None:
    """Leave word of what is in force."""
    write_file(paths.SETTINGS_IN_FORCE, json.dumps(list(settings)) + "\n", 0o644)
    write_file(paths.CONFIGURATION, json.dumps(asdict(in_force)) + "\n", 0o644)
