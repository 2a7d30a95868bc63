"""Stands something empty in for modules while a library is imported that only names what is in them. Pure.

What a library imports for parts that the house does not use is read at every start, and some of it stays in memory.
Whoever imports one of these modules later gets it.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator
from typing import Any


class _Nothing(types.ModuleType):
    """A module of which every name is an empty class."""

    __path__ = ()  # type: ignore[assignment] # a package, so that what lies in it is looked for here

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@contextlib.contextmanager
def leave_out(*names: str) -> Iterator[None]:
    """Import without these modules, unless they are here already."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update({name: _Nothing(name) for name in absent})
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
