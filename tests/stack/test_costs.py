"""What the list server costs: time from `up` to the first post, and memory and time of its services.

Only the bounds are asserted that docs/lists.md promises; the figures are printed. `make lists-kills` has a hundred
posts for fifty members.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.stack.test_kills import LIST, MEMBERS, POSTS, Author, fill
from tests.support import daemon
from tests.support.engine import Engine
from tests.support.stack import Stack
from tests.support.wait import wait_until

_SERVICES = ("relay", "core", "web", "database", "lighttpd", "certificate")
_REST_SECONDS = 20
pytestmark = pytest.mark.skipif(not daemon.find_socket(), reason="the engine's API is asked, and is not here")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the engine says of a container's control group."""

    seconds: float
    mebibytes: float


class Meter(threading.Thread):
    """Reads all services twice a second, and keeps the most of their memory."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self._names = {one: stack.container(one).name for one in _SERVICES}
        self._is_over = threading.Event()
        self._before = self._read()
        self._began_at = time.monotonic()
        self.most = dict.fromkeys(_SERVICES, 0.0)
        self.most_together = 0.0

    def run(self) -> None:
        """Look, until it is enough."""
        while not self._is_over.wait(0.5):
            now = self._read()
            self.most = {one: max(self.most[one], reading.mebibytes) for one, reading in now.items()}
            self.most_together = max(self.most_together, sum(reading.mebibytes for reading in now.values()))

    def finish(self) -> str:
        """End it; a line for each service."""
        self._is_over.set()
        self.join()
        took = time.monotonic() - self._began_at
        seconds = {one: reading.seconds - self._before[one].seconds for one, reading in self._read().items()}
        lines = [f"  {one}: {self.most[one]:.0f} MiB, {seconds[one]:.1f} s of processor" for one in _SERVICES]
        lines.append(f"  together: {self.most_together:.0f} MiB, {sum(seconds.values()):.1f} s in {took:.0f} s")
        return "\n".join(lines)

    def _read(self) -> dict[str, Reading]:
        return {one: _read(name) for one, name in self._names.items()}


def _read(name: str) -> Reading:
    """As `docker stats` reckons: what is kept of files and could be read again is not counted."""
    stats = json.loads(daemon.ask("GET", f"/containers/{name}/stats?stream=false&one-shot=true"))
    memory = stats["memory_stats"]
    cached = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
    return Reading(
        seconds=stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9, mebibytes=(memory["usage"] - cached) / 2**20
    )


@pytest.fixture(scope="module")
def measured(engine: Engine) -> Iterator[Stack]:
    """A list server of its own; the first start, which makes the databases, is timed."""
    made = Stack(engine)
    began_at = time.monotonic()
    try:
        made.up()
        print(f"\nthe first start, until all is healthy: {time.monotonic() - began_at:.1f} s")
        fill(made)
        yield made
    finally:
        made.down("--volumes", "--remove-orphans")


def test_first_post_is_out_soon_after_a_start(measured: Stack) -> None:
    """Posted to the published port as soon as somebody greets there, while Mailman is still starting."""
    author = Author(measured, "first")
    author.allow(1)
    measured.down()
    began_at = time.monotonic()
    measured.compose("up", "--detach", "upstream", "relay", "core", "lighttpd")
    author.start()
    wait_until(lambda: author.accepted, 120, "the post should be taken")
    taken = time.monotonic() - began_at
    wait_until(lambda: measured.count_sent() >= MEMBERS, 120, "every member should have it")
    out = time.monotonic() - began_at
    print(f"from `up` until the post was taken: {taken:.1f} s, until every member had it: {out:.1f} s")
    author.end()
    assert out < 120


def test_memory_and_time_at_rest_and_at_work(measured: Stack) -> None:
    """The sum stays below what the documentation asks for."""
    measured.up()
    time.sleep(_REST_SECONDS)
    meter = Meter(measured)
    meter.start()
    time.sleep(_REST_SECONDS)
    print(f"at rest, {_REST_SECONDS} s:\n{meter.finish()}")
    at_rest = meter.most_together

    before = measured.count_sent()
    meter = Meter(measured)
    meter.start()
    author = Author(measured, "costs")
    began_at = time.monotonic()
    author.allow(POSTS)
    author.start()
    wait_until(lambda: len(author.accepted) == POSTS, 300, "every post should be taken")
    taken = time.monotonic() - began_at
    wait_until(lambda: measured.count_sent() >= before + POSTS * MEMBERS, 900, "every member should have every post")
    out = time.monotonic() - began_at
    print(
        f"{POSTS} posts to {MEMBERS} members of {LIST}, taken in {taken:.1f} s, "
        f"{POSTS * MEMBERS} copies out in {out:.1f} s ({POSTS * MEMBERS / out:.0f}/s):\n{meter.finish()}"
    )
    author.end()
    assert at_rest < 700
    assert meter.most_together < 1024
