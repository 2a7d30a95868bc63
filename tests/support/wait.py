"""Waiting for a condition instead of sleeping. Touches the clock only."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

_LEAST_REST_SECONDS = 0.1
_MOST_REST_SECONDS = 0.5


class WaitError(AssertionError):
    """The condition did not come true in time."""


def wait_until(predicate: Callable[[], Value], timeout_seconds: float, because: str) -> Value:
    """Return the predicate's first truthy value; raise WaitError with `because` and the last value otherwise.

    The predicate is tried once more at the end, so that a slow one is not judged by a stale answer. Most of them run a
    program in a container, and a machine has few cores: the longer it has lasted, the longer is the next rest.
    """
    began = time.monotonic()
    deadline = began + timeout_seconds
    while True:
        is_last = time.monotonic() >= deadline
        value = predicate()
        if value:
            return value
        if is_last:
            raise WaitError(f"{because}: not within {timeout_seconds:g} s; last value {value!r}")
        time.sleep(min(_MOST_REST_SECONDS, max(_LEAST_REST_SECONDS, (time.monotonic() - began) / 4)))
