"""The status service over real connections, with works of the tests' own: who is served, and what it costs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from entrypoint.services.status import answers as answers_module
from entrypoint.services.status import connections as connections_module
from entrypoint.services.status import service
from entrypoint.services.status.answers import Answers, Work
from entrypoint.services.status.connections import MOST_CONNECTIONS, Connections, open_listener
from entrypoint.services.status.request import Request
from tests.support.wait import wait_until

Serve = Callable[[Mapping[str, Work]], int]
PARTS: Mapping[str, list[Any]] = {"health": [], "intake": [], "readiness": [], "warnings": []}
WELL = {"is_healthy": True, "is_accepting": True, "is_ready": True, **PARTS}


def _tell(text: bytes) -> Work:
    def tell(checks: Mapping[str, Any] | None) -> bytes:
        del checks
        return text

    return tell


WORKS: Mapping[str, Work] = {
    "checks": _tell(json.dumps(WELL).encode()),
    "metrics": _tell(b"metrics\n"),
    "openmetrics": _tell(b"openmetrics\n"),
    "page": _tell(b"default-src 'none'; style-src 'sha256-x'\n<p>page</p>\n"),
}


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Runs the loop in a process of its own, as the supervisor does; gives its port."""
    pids = []

    def start(works: Mapping[str, Work]) -> int:
        listener = open_listener("127.0.0.1", 0)
        if pid := os.fork():
            pids.append(pid)
            port: int = listener.getsockname()[1]
            listener.close()
            return port
        answers = Answers(works)
        answers.connections = Connections(listener, answers.answer)
        try:
            while True:
                answers.connections.turn()
        finally:
            os._exit(1)

    yield start
    for pid in pids:
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the service should still be there"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def ask(port: int, path: str, *, method: str = "GET", accept: str = "*/*") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, headers={"Accept": accept})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


def test_paths_are_answered_and_nothing_else(serve: Serve) -> None:
    """Prometheus, probes and people each get what is theirs; a scanner gets 404."""
    port = serve(WORKS)
    assert ask(port, "/metrics")[2] == b"metrics\n"
    assert ask(port, "/metrics", accept="application/openmetrics-text; version=1.0.0,*/*;q=0.1")[2] == b"openmetrics\n"
    assert json.loads(ask(port, "/healthz")[2]) == {"status": "ok", "checks": [], "warnings": []}
    assert ask(port, "/?x=y")[2] == b"<p>page</p>\n"
    for path in ("/.env", "/metrics/", "//", "/healthz/..", "*"):
        assert ask(port, path)[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        code, headers, _ = ask(port, "/", method=method)
        assert (code, headers["Allow"]) == (405, "GET, HEAD")
    code, headers, body = ask(port, "/metrics", method="HEAD")
    assert (code, headers["Content-Length"], body) == (200, "8", b"")


def test_every_answer_says_how_little_it_may(serve: Serve) -> None:
    """A browser is told to run, load, keep and embed nothing, and to guess no type."""
    port = serve(WORKS)
    for path in ("/", "/metrics", "/healthz", "/no"):
        headers = ask(port, path)[1]
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
    assert ask(port, "/")[1]["Content-Security-Policy"] == "default-src 'none'; style-src 'sha256-x'"


@pytest.mark.parametrize(("is_healthy", "is_ready"), [(True, True), (True, False), (False, False)])
def test_health_is_its_status_its_json_and_its_lines(serve: Serve, is_healthy: bool, is_ready: bool) -> None:
    """Orchestrators look at the status alone; the reasons are for people."""
    report = {
        **WELL,
        "is_healthy": is_healthy,
        "is_ready": is_ready,
        "health": [{"name": "postfix", "is_well": is_healthy, "detail": "x"}],
        "readiness": [{"name": "upstream", "is_well": is_ready, "detail": "y"}],
        "warnings": ["soon"],
    }
    port = serve({**WORKS, "checks": _tell(json.dumps(report).encode())})
    for path, is_well in (("/healthz", is_healthy), ("/readyz", is_ready)):
        code, headers, body = ask(port, path)
        assert code == (200 if is_well else 503)
        assert headers["Content-Type"] == "application/json"
        answer = json.loads(body)
        assert answer["status"] == ("ok" if is_well else "failed")
        assert [one["name"] for one in answer["checks"]] == ["postfix", "upstream"][: 1 + (path == "/readyz")]
        code, _, body = ask(port, path, accept="text/plain")
        assert code == (200 if is_well else 503)
        assert body.startswith(b"ok     postfix: x\n" if is_healthy else b"FAILED postfix: x\n")
        assert body.endswith(b"WARN   soon\n")


def test_readiness_without_the_upstream_is_about_taking_mail_in(serve: Serve) -> None:
    """While the upstream is away a gateway must stay in its Service: mail waits in the queue, not in applications."""
    report = {
        **WELL,
        "is_ready": False,
        "intake": [{"name": "queue space", "is_well": True, "detail": "x"}],
        "readiness": [{"name": "upstream", "is_well": False, "detail": "y"}],
    }
    port = serve({**WORKS, "checks": _tell(json.dumps(report).encode())})
    assert ask(port, "/readyz")[0] == ask(port, "/readyz?exclude=x")[0] == 503
    code, _, body = ask(port, "/readyz?verbose&exclude=upstream")
    assert (code, [one["name"] for one in json.loads(body)["checks"]]) == (200, ["queue space"])
    port = serve({**WORKS, "checks": _tell(json.dumps({**report, "is_accepting": False}).encode())})
    assert ask(port, "/readyz?exclude=upstream")[0] == 503


def test_silent_clients_do_not_keep_others_out(serve: Serve) -> None:
    """Slowloris: whoever says nothing gives its place to whoever asks."""
    port = serve(WORKS)
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(3 * MOST_CONNECTIONS)
        ]
        for one in silent[::2]:
            with contextlib.suppress(OSError):
                one.sendall(b"GET / HTTP/1.1\r\nX-A: ")
        began = time.monotonic()
        assert ask(port, "/healthz")[0] == 200
        assert time.monotonic() - began < 2
        assert sum(not _is_closed(one) for one in silent) <= MOST_CONNECTIONS


def _is_closed(one: socket.socket) -> bool:
    one.settimeout(0.01)
    try:
        return one.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_client_that_asks_nothing_is_left_after_a_while(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that was forgotten must not stay for ever, not even when there is room."""
    monkeypatch.setattr(connections_module, "REQUEST_SECONDS", 0.2)
    port = serve(WORKS)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        connection.settimeout(5)
        assert connection.recv(1) == b""


def test_clients_that_have_left_are_not_kept_until_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks and hangs up again and again would fill the memory, while a work takes its seconds."""
    reader, writer = os.pipe()
    monkeypatch.setattr(answers_module, "start_child", lambda *_: (0, reader))
    answers = Answers(WORKS)
    with contextlib.closing(os.fdopen(writer)), socket.socket() as peer:
        for _ in range(10 * MOST_CONNECTIONS):
            connection = connections_module.Connection(peer, answers.answer)
            answers.answer(connection, Request(path="/metrics", accept="", is_head=False))
            connection.has_left = True
        assert len(answers._errands["metrics"].waiting) <= MOST_CONNECTIONS + 1
    os.close(reader)


def test_client_that_does_not_read_is_left_and_holds_nobody_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is larger than what a socket takes: its writer would wait."""
    monkeypatch.setattr(connections_module, "_ANSWER_SECONDS", 3.0)
    port = serve({**WORKS, "page": _tell(b"default-src 'none'\n" + b"x" * 30_000_000)})
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.recv(1)
        assert ask(port, "/healthz")[0] == 200

        def is_left() -> bool:
            with open("/proc/net/tcp", encoding="ascii") as file:
                place = f"0100007F:{port:04X} 0100007F:{connection.getsockname()[1]:04X} 01"
                return place not in file.read()

        wait_until(is_left, 10, "the connection should be closed by the service")


def test_all_who_ask_at_once_cost_one_answer(serve: Serve, tmp_path: pathlib.Path) -> None:
    """Ten probes a second, or an impatient reader, must not take the processor from mail."""
    log = tmp_path / "asked"

    def work(checks: Mapping[str, Any] | None) -> bytes:
        del checks
        with log.open("a", encoding="ascii") as file:
            file.write("x")
        time.sleep(0.2)
        return json.dumps(WELL).encode()

    port = serve({**WORKS, "checks": work})
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda _: ask(port, "/healthz")[0], range(60)))
    assert codes == [200] * 60
    assert log.read_text(encoding="ascii") == "x"


def test_checks_are_made_anew_when_a_file_says_something_new(
    serve: Serve, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upstream that is found broken must not be ready for another two seconds."""
    verdict = tmp_path / "verdict"
    verdict.write_text("1", encoding="ascii")
    monkeypatch.setattr(answers_module, "_DECISIVE_FILES", (str(verdict),))
    monkeypatch.setattr(answers_module, "_WELL_SECONDS", 600.0)

    def work(checks: Mapping[str, Any] | None) -> bytes:
        del checks
        return json.dumps({**WELL, "warnings": [verdict.read_text(encoding="ascii")]}).encode()

    port = serve({**WORKS, "checks": work})
    assert json.loads(ask(port, "/healthz")[2])["warnings"] == ["1"]
    verdict.write_text("22", encoding="ascii")
    assert json.loads(ask(port, "/healthz")[2])["warnings"] == ["22"]


def test_work_that_hangs_holds_nobody_up_and_ends(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Postfix that does not list its queue must not make the container look dead."""
    monkeypatch.setattr(answers_module, "WORK_SECONDS", 1)

    def hang(checks: Mapping[str, Any] | None) -> bytes:
        del checks
        time.sleep(60)
        return b"never"

    port = serve({**WORKS, "page": hang})
    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(ask, port, "/")
        assert ask(port, "/healthz")[0] == 200
        assert not page.done()
        assert page.result(10)[0] == 500


def test_work_that_fails_is_one_answer_that_is_missing(serve: Serve) -> None:
    """A fault in a page must not end metrics and health."""

    def fail(checks: Mapping[str, Any] | None) -> bytes:
        raise ValueError(f"{checks}")

    def die(checks: Mapping[str, Any] | None) -> bytes:
        del checks
        os.write(max(find_descriptors()), b"authrelay_healthy 1\nauthrelay_re")  # half of it
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    port = serve({**WORKS, "page": fail, "metrics": die})
    assert ask(port, "/")[0] == 500
    assert ask(port, "/metrics")[0] == 500
    assert ask(port, "/healthz")[0] == 200


def test_work_is_given_the_checks_that_are_fresh(serve: Serve) -> None:
    """A scrape that comes after a probe need not ask the listeners again."""
    port = serve({**WORKS, "metrics": lambda checks: json.dumps(checks).encode()})
    assert json.loads(ask(port, "/metrics")[2]) is None
    assert ask(port, "/healthz")[0] == 200
    wait_until(lambda: json.loads(ask(port, "/metrics")[2]) == WELL, 5, "the next answer should have the checks")


def test_child_has_none_of_the_services_descriptors(serve: Serve) -> None:
    """A connection that a child kept open would not end for its client."""

    def list_descriptors(checks: Mapping[str, Any] | None) -> bytes:
        del checks
        return b"default-src 'none'\n" + " ".join(find_descriptors().values()).encode()

    port = serve({**WORKS, "page": list_descriptors})
    assert re.fullmatch(rb"pipe:\[\d+\]", ask(port, "/")[2])


def find_descriptors() -> dict[int, str]:
    """What is open here beyond standard output and error."""
    found = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        # The one by which the directory is read has gone again.
        with contextlib.suppress(FileNotFoundError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return {number: kind for number, kind in found.items() if number > 2}


def test_port_that_is_taken_is_told_once_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail goes on meanwhile; who reads the log must learn which setting it is, and when it is over."""
    lines: list[str] = []
    monkeypatch.setattr(service, "write_line", lambda severity, text: lines.append(f"{severity} {text}"))
    monkeypatch.setattr(service, "_RETRY_SECONDS", 0.05)
    taken = open_listener("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(service.listen_at, "127.0.0.1", port, f"127.0.0.1:{port}")
        wait_until(lambda: lines, 5, "it should be told")
        taken.close()
        waiting.result(5).close()
    assert lines == [
        f"WARNING STATUS_LISTEN=127.0.0.1:{port}: Address already in use: another program has that port. Choose "
        "another one, for example 9155. Mail is not affected; it is tried again",
        f"INFO STATUS_LISTEN=127.0.0.1:{port}: the status service answers there now",
    ]


def test_endpoint_is_told_only_while_the_port_is_ours(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --network=host another relay may have the port: its health is not ours."""
    monkeypatch.setattr(service, "_RETRY_SECONDS", 0.05)
    file = tmp_path / "endpoint"
    with open_listener("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        if not (pid := os.fork()):
            taken.close()
            service.serve(f"127.0.0.1:{port}", file.open("w", encoding="ascii"))
        try:
            wait_until(file.exists, 5, "it should begin")
            time.sleep(0.3)
            assert file.read_text() == ""
            taken.close()
            wait_until(lambda: file.read_text() == f"127.0.0.1 {port}\n", 5, "it should be told")
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("address", "expected"), [("0.0.0.0", "127.0.0.1 9"), ("::", "::1 9"), ("192.0.2.1", "192.0.2.1 9")]
)
def test_endpoint_of_every_address_is_the_containers_own(address: str, expected: str) -> None:
    """Nobody connects to 0.0.0.0."""
    assert service.find_endpoint(address, "9") == f"{expected}\n"


def test_any_address_of_version_6_takes_version_4_as_well() -> None:
    """Prometheus may come by either."""
    with open_listener("::", 0) as listener:
        port = listener.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port), timeout=5).close()
