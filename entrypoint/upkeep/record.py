"""What the upkeep remembers from one run to the next, so that each trouble is said once. Disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from entrypoint import paths
from entrypoint.system.files import read_text, write_file
from entrypoint.system.log import write_line

FETCH: Final = "fetch"
SETTINGS: Final = "settings"
"""Keys of the two troubles whose end is said, too."""
FETCHED: Final = "fetched: "
"""The beginning of the keys of what is to be said of a CA that was fetched."""
_RECOVERIES: Final = {
    FETCH: "RELAYHOST_CA_URL: the CA was fetched again",
    SETTINGS: "the settings and their files can be used again",
}


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known after a run; times are of the agenda's clock."""

    troubles: Mapping[str, str] = field(default_factory=dict)
    """What is wrong or should be known, by a key that stays while the text may change; `authrelay health` shows it."""
    fetch_due_at: float | None = None
    failures: int = 0
    """How often in a row the CA could not be fetched."""
    vain: int = 0
    """How often in a row a fetch, for which a delivery called, brought nothing new."""
    list_server_failures: int = 0
    """How often in a row the list server was looked for in vain, since a delivery did not reach it."""


def load_record() -> Record:
    """Return what the run before remembered."""
    text = read_text(paths.UPKEEP)
    return Record(**json.loads(text)) if text else Record()


def save_record(record: Record) -> None:
    """Remember."""
    write_file(paths.UPKEEP, json.dumps(asdict(record)) + "\n", 0o644)


def key_by_text(texts: tuple[str, ...], prefix: str = "") -> dict[str, str]:
    """Return troubles that are known by nothing but their text."""
    return {prefix + text: text for text in texts}


def say_changes(before: Record, after: Record) -> None:
    """Write a line for each trouble that is new, and for the end of one that matters."""
    for key, text in after.troubles.items():
        if key == SETTINGS and text != before.troubles.get(key):
            write_line("ERROR", f"{text} What was in force before stays in force.")
        elif key not in before.troubles:
            write_line("WARNING", text)
    for key, text in _RECOVERIES.items():
        if key in before.troubles and key not in after.troubles:
            write_line("INFO", text)
