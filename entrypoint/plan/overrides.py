"""What the user says to Postfix itself, in the place of what we say: main.cf, master.cf, tables. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from entrypoint.config.fragments import OwnTable
from entrypoint.config.master import INET, MasterEntry
from entrypoint.plan.files import PlannedFile


def override_parameters(main_cf: str, parameters: tuple[tuple[str, str], ...]) -> str:
    """Return main.cf with the user's own parameters at its end, and ours of the same name turned into comments."""
    if not parameters:
        return main_cf
    for name, _ in parameters:
        main_cf = re.sub(rf"(?m)^({re.escape(name)} =.*)$", r"# POSTFIX_\g<1>", main_cf)
    lines = "".join(f"{name} = {value}".rstrip() + "\n" for name, value in parameters)
    return f"{main_cf}\n# --- From POSTFIX_<parameter> and main.cf.d ---\n\n{lines}"


def override_services(master_cf: str, entries: tuple[MasterEntry, ...], sessions: int) -> str:
    """Return master.cf with the user's own services at its end, and ours of the same name turned into comments.

    A listener without a number of its own has as many sessions as ours have.
    """
    if not entries:
        return master_cf
    for entry in entries:
        name, kind = re.escape(entry.service), re.escape(entry.type)
        master_cf = re.sub(rf"(?m)^({name} +{kind} .*)$", rf"# {entry.setting}: \g<1>", master_cf)
    lines = "".join(line + "\n" for entry in entries for line in _render_entry(entry, sessions))
    return f"{master_cf}\n# --- From POSTFIX_MASTER_<service>__<type> ---\n\n{lines}"


def _render_entry(entry: MasterEntry, sessions: int) -> Iterator[str]:
    """Yield the lines of a service, an option on each (master(5))."""
    processes = str(sessions) if entry.type == INET and entry.processes == "-" else entry.processes
    yield (
        f"{entry.service:<16} {entry.type:<5} {entry.private:<7} {entry.unprivileged:<6} n      {entry.wakeup:<6} "
        f"{processes:<7} {entry.command}"
    )
    for name, value in entry.options:
        yield f"    -o {{ {f'{name} = {value}'.rstrip()} }}"
    if entry.arguments:
        yield f"    {' '.join(entry.arguments)}"


def plan_table(table: OwnTable) -> PlannedFile:
    """Return a table of the user's, for root alone if its file is."""
    return PlannedFile(
        path=table.path,
        text=table.text if table.text.endswith("\n") or not table.text else f"{table.text}\n",
        mode=0o600 if table.is_private else 0o644,
        is_table=table.type == "lmdb",
        text_type=table.type if table.type != "lmdb" else "",
    )
