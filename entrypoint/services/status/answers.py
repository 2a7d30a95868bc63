"""What each path answers, and the children that work it out: one for everybody who asks the same. Processes.

The service itself imports nothing heavy and reads nothing. Whatever is asked for is worked out in a child that ends
with its answer: memory is given back, a fault hurts one answer, and nobody is held up meanwhile. An answer serves all
who ask until it is stale, so that no number of requests takes more than a tenth of a core.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from entrypoint import paths
from entrypoint.health.report import render_health
from entrypoint.services.status.connections import MOST_CONNECTIONS, Connection, Connections
from entrypoint.services.status.request import Request
from entrypoint.services.status.response import JSON, TEXT, Response, make_page, refuse
from entrypoint.system.agenda import take_signature
from entrypoint.system.log import write_line
from entrypoint.system.processes import start_child

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
WORK_SECONDS: Final = 15
"""For one answer. Two listeners that do not greet take six."""
_LEAST_FRESH_SECONDS: Final = 1.0
_MOST_FRESH_SECONDS: Final = 60.0
_FRESH_FACTOR: Final = 10.0
"""An answer serves for ten times as long as it kept a core busy; waiting for a forwarder that hangs costs nothing."""
_WELL_SECONDS: Final = 2.0
"""Ten probes a second cost one in two seconds; what is not well is looked at again soon, for starts are short."""
_UNWELL_SECONDS: Final = 0.5

_DECISIVE_FILES: Final = (paths.SERVICES, paths.UPKEEP, paths.VERDICT, paths.CONFIGURATION, paths.TOKEN_STATES)
"""When one of them was written, the last checks are stale at once."""

HEALTHY: Final = ("is_healthy", "")
ACCEPTING: Final = ("is_accepting", "intake")
READY: Final = ("is_ready", "readiness")
"""What is asked: the verdict in `health.report`'s report, and which checks are shown beside those of health."""

Work = Callable[[Mapping[str, Any] | None], bytes]
"""What a child does; it is given the last checks, if they are fresh."""


@dataclass(kw_only=True)
class _Errand:
    """A child at work, and who waits for it."""

    pid: int
    reader: int
    signs: tuple[object, ...]
    """What was seen of the files that decide, before."""
    result: bytearray = field(default_factory=bytearray)
    waiting: list[tuple[Connection, Callable[[bytes], Response]]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Kept:
    result: bytes
    stale_at: float
    signs: tuple[object, ...]


class Answers:
    """Answers requests; `works` by name: checks, metrics, openmetrics, page."""

    def __init__(self, works: Mapping[str, Work]) -> None:
        self._works = works
        self._errands: dict[str, _Errand] = {}
        self._kept: dict[str, _Kept] = {}
        self.connections: Connections | None = None
        """Where answers go to."""

    def answer(self, connection: Connection, request: Request) -> None:
        """Answer at once with what is fresh, or when it has been worked out."""
        route = find_route(request)
        if route is None:
            self._send(connection, refuse(404))
            return
        name, finish = route
        if kept := self._find_fresh(name):
            self._send(connection, finish(kept.result))
            return
        try:
            errand = self._errands.get(name) or self._begin(name)
        except OSError:  # there can be no more processes
            self._send(connection, refuse(500))
            return
        if len(errand.waiting) >= MOST_CONNECTIONS:
            errand.waiting = [one for one in errand.waiting if not one[0].has_left]
        errand.waiting.append((connection, finish))

    def end(self) -> None:
        """End every child."""
        for errand in self._errands.values():
            os.kill(errand.pid, signal.SIGKILL)

    def _send(self, connection: Connection, response: Response) -> None:
        if self.connections is not None:
            self.connections.answer(connection, response)

    def _find_fresh(self, name: str) -> _Kept | None:
        kept = self._kept.get(name)
        is_fresh = kept and time.monotonic() < kept.stale_at and kept.signs == _take_signs(name)
        return kept if is_fresh else None

    def _begin(self, name: str) -> _Errand:
        kept = self._find_fresh("checks")
        checks = json.loads(kept.result) if kept else None
        signs = _take_signs(name)
        pid, reader = start_child(partial(_work, name, self._works[name], checks), WORK_SECONDS)
        errand = _Errand(pid=pid, reader=reader, signs=signs)
        self._errands[name] = errand
        if self.connections is not None:
            self.connections.watch(reader, partial(self._collect, name))
        return errand

    def _collect(self, name: str) -> None:
        errand = self._errands[name]
        if data := os.read(errand.reader, 2**16):
            errand.result += data
            return
        del self._errands[name]
        if self.connections is not None:
            self.connections.forget(errand.reader)
        os.close(errand.reader)
        _, status, used = os.wait4(errand.pid, 0)
        result = bytes(errand.result) if status == 0 else b""
        if result:
            stale_at = time.monotonic() + _choose_freshness(name, result, used.ru_utime + used.ru_stime)
            self._kept[name] = _Kept(result=result, stale_at=stale_at, signs=errand.signs)
        for connection, finish in errand.waiting:
            self._send(connection, finish(result) if result else refuse(500))


def _take_signs(name: str) -> tuple[object, ...]:
    return tuple(map(take_signature, _DECISIVE_FILES)) if name == "checks" else ()


def find_route(request: Request) -> tuple[str, Callable[[bytes], Response]] | None:
    """Return which work a path needs and how its result is sent, or `None` where there is nothing."""
    accept = request.accept.lower()
    if request.path == "/":
        return "page", make_page
    if request.path == "/metrics":
        if "application/openmetrics-text" in accept:
            return "openmetrics", partial(_make_response, OPENMETRICS)
        return "metrics", partial(_make_response, EXPOSITION)
    if request.path in ("/healthz", "/readyz"):
        is_text = "text/plain" in accept and "json" not in accept
        question = HEALTHY if request.path == "/healthz" else ACCEPTING if _leaves_upstream_out(request) else READY
        return "checks", partial(_make_health, question, is_text)
    return None


def _work(name: str, work: Work, checks: Mapping[str, Any] | None) -> bytes:
    """Do a child's work; a fault in it is said, and is no more than an answer that is missing."""
    os.nice(10)  # mail goes before
    try:
        return work(checks)
    except Exception as error:
        write_line("WARNING", f"status: {name} cannot be told: {type(error).__name__}: {error}")
        raise


def _choose_freshness(name: str, result: bytes, busy_seconds: float) -> float:
    if name == "checks":
        return _WELL_SECONDS if json.loads(result)["is_ready"] else _UNWELL_SECONDS
    return min(_MOST_FRESH_SECONDS, max(_LEAST_FRESH_SECONDS, _FRESH_FACTOR * busy_seconds))


def _make_response(content_type: str, result: bytes) -> Response:
    return Response(code=200, body=result, content_type=content_type)


def _leaves_upstream_out(request: Request) -> bool:
    """Return whether `?exclude=upstream` is there, as Kubernetes' own /readyz leaves checks out."""
    return "exclude=upstream" in request.query.split("&")


def _make_health(question: tuple[str, str], is_text: bool, result: bytes) -> Response:
    report = json.loads(result)
    verdict, part = question
    is_well = report[verdict]
    checks = report["health"] + (report[part] if part else [])
    if is_text:
        findings = [(one["name"], one["is_well"], one["detail"]) for one in checks]
        body, content_type = render_health(findings, report["warnings"]), TEXT
    else:
        answer = {"status": "ok" if is_well else "failed", "checks": checks, "warnings": report["warnings"]}
        body, content_type = json.dumps(answer) + "\n", JSON
    return Response(code=200 if is_well else 503, body=body.encode(), content_type=content_type)
