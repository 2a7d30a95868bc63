"""What the command lines of several commands have in common: how they refuse, and how long to wait. Pure."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from entrypoint.errors import UsageError, quote_value


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are errors of ours (EX_USAGE), like every other."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{self.format_usage().rstrip()}\n{message}")


def parse_seconds(text: str) -> float:
    """Return a number of seconds, more than none and at most an hour."""
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?", text) or not 0 < float(text) <= 3600:
        raise argparse.ArgumentTypeError(f"'{quote_value(text)}' is not a number of seconds up to 3600")
    return float(text)
