"""`authrelay render DIR`: writes the complete configuration, so that a person can read it before trusting it."""

from __future__ import annotations

import sys

from entrypoint.commands.prepare import Occasion, prepare
from entrypoint.system.install import write_configuration


def main(arguments: list[str]) -> int:
    """Write every file of the plan into a directory; what holds secrets is readable for its owner only."""
    if len(arguments) != 1:
        sys.stderr.write("usage: authrelay render DIRECTORY\n")
        return 64
    prepared = prepare(Occasion.LOOK)
    for name in write_configuration(prepared.plan.files, arguments[0]):
        sys.stdout.write(f"{arguments[0].rstrip('/')}/{name}\n")
    for warning in prepared.all_warnings:
        sys.stderr.write(f"authrelay: WARNING: {warning}\n")
    return 0
