"""The forwarder's process: what it costs over a million lines, and what becomes of the log and of mail without it.

`make events` sends through it a million lines of what here is some ten thousand.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import time
from functools import partial
from typing import Any

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.engine import Engine, Network, run_docker
from tests.support.load import Load, account, wait_until_delivered
from tests.support.observing import has_lines, observe, read_log
from tests.support.relay import Relay
from tests.support.status import ask
from tests.support.upstream import Upstream
from tests.support.wait import wait_until

FORWARDED_LINES = int(os.environ.get("AUTHRELAY_FORWARDED_LINES", "50000"))
TEXT = b"Subject: x\r\n\r\nhello\r\n"
LINES = 30000
"""The forwarder's buffer has 20000."""


def write_lines(relay: Relay, count: int) -> None:
    """Log as Postfix does, fast."""
    line = "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect('/dev/log'); "
    line += f"[s.send(b'<22>xx: line %d ' % n + b'x' * 90) for n in range(1, {count} + 1)]"
    relay.exec(["python3", "-c", line])


class Output:
    """A relay's standard output, which is read only when a test asks for it; a context manager."""

    def __init__(self, engine: Engine) -> None:
        directory = engine.directory()
        os.mkfifo(directory / "output", 0o666)
        # Held open from both ends: the relay neither waits for a reader nor learns that there is none.
        self._pipe = os.open(directory / "output", os.O_RDWR | os.O_NONBLOCK)
        self.text = b""
        self.options: dict[str, Any] = {
            "volumes": {str(directory): "/output"},
            "arguments": ["--entrypoint", "bash"],
            "command": ["-c", "exec authrelay run >/output/output"],
        }

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._pipe)

    def has(self, pattern: bytes) -> bool:
        """Read what there is, and tell whether all that was ever read matches."""
        with contextlib.suppress(BlockingIOError):
            while read := os.read(self._pipe, 65536):
                self.text += read
        return re.search(pattern, self.text) is not None


def test_output_that_nobody_reads_holds_up_neither_mail_nor_restarts_nor_the_stop(
    engine: Engine, relays: Relays, client: Client, upstream: Upstream
) -> None:
    """A log collector that hangs must not become an outage of mail, nor make the engine kill deliveries."""
    with Output(engine) as output:
        relay = relays.start(**output.options)
        write_lines(relay, 3000)
        forwarder = find_forwarder(relay)
        os.kill(int(forwarder), signal.SIGKILL)
        wait_until(lambda: find_forwarder(relay) not in ("", forwarder), 15, "the forwarder should be started again")
        client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
        assert upstream.wait_messages(1)
        assert not output.has(b"log-forwarder ended")
        assert relay.stop(10) == 0
        assert output.has(rb"WARNING authrelay: 1 log line was dropped, because .*\n(.*\n)*.* stopped; ")


def test_number_of_dropped_lines_is_the_truth(engine: Engine, relays: Relays) -> None:
    """Who misses lines must know how many, and where."""
    with Output(engine) as output:
        relay = relays.start(**output.options)
        write_lines(relay, LINES)
        wait_until(lambda: output.has(b"lines were dropped"), 30, "what is missing should be told")
        write_lines(relay, 1)
        wait_until(lambda: output.has(rb"xx: line 1 (.*\n)*.*xx: line 1 "), 10, "all should be there")
        missing = LINES + 1 - len(re.findall(rb"xx: line \d+ x", output.text))
        told = [int(count) for count in re.findall(rb"WARNING authrelay: (\d+) log lines were dropped", output.text)]
        metric = re.search(r'log_lines_dropped_total\{output="stdout"\} (\S+)', ask(relay, "/metrics").text)
    print(f"{LINES + 1} lines, {missing} missing, told: {told}, metric: {metric and metric[1]}")
    assert missing > LINES // 10
    assert sum(told) == missing
    assert metric
    assert float(metric[1]) == missing


def test_forwarder_that_dies_is_started_again_and_loses_nothing(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """The log is how an operator sees; its process must not be able to go missing."""
    relay = relays.start(allowed=["log-forwarder ended"])
    os.kill(int(find_forwarder(relay)), signal.SIGKILL)
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    wait_until(lambda: "status=sent" in relay.logs(), 10, "lines sent while the forwarder was away should arrive")
    assert "log-forwarder ended (terminated by SIGKILL) and is started again" in relay.logs()
    connects = re.findall(r"client=unknown", relay.logs())
    assert len(connects) == 1


def find_forwarder(relay: Relay) -> str:
    """The process of the forwarder on this machine; empty between one and the next."""
    lines = run_docker(["top", relay.container.name, "-eo", "pid,comm"]).text.splitlines()
    return next((line.split()[0] for line in lines if "log-forwarder" in line), "")


def measure_forwarder(relay: Relay) -> tuple[str, int]:
    """The process of the forwarder on this machine, and its memory in KiB."""
    pid = find_forwarder(relay)
    rollup = pathlib.Path("/proc", pid, "smaps_rollup").read_text()
    return pid, next(int(row.split()[1]) for row in rollup.splitlines() if row.startswith("Pss:"))


# Arguments: how many lines. Messages of a usual day; the client of each twentieth leaves, seldom without a word of it.
_WRITER = r"""
import socket, sys
server = "r.example[192.0.2.25]:587"
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.connect("/dev/log")
count, number = int(sys.argv[1]), 0
DIGITS = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxy"
while count > 0:
    number += 1
    rest, name = number, ""
    for _ in range(6):
        rest, digit = divmod(rest, 51)
        name = DIGITS[digit] + name
    name = "4jZZ" + name + "z" + "BCD"
    lines = [
        "smtpd[7]: connect from unknown[192.0.2.7]",
        "smtpd[7]: %s: client=unknown[192.0.2.7]" % name,
        "cleanup[8]: %s: message-id=<%d@app.example>" % (name, number),
        "qmgr[9]: %s: from=<from-%d@example.test>, size=345, nrcpt=1 (queue active)" % (name, number),
        "smtp[%d]: Verified TLS connection established to %s: TLSv1.3 with cipher X (256/256 bits)"
        % (number % 30000, server),
        "smtp[%d]: %s: to=<to-%d@example.com>, relay=%s, delay=0.1, delays=0/0/0.1/0, dsn=2.0.0, "
        "status=sent (250 2.0.0 Ok: queued as %d)" % (number % 30000, name, number, server, number),
        "qmgr[9]: %s: removed" % name,
        "smtpd[7]: disconnect from unknown[192.0.2.7] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5",
    ]
    if number % 20 == 0:
        lines[3:] = ["cleanup[8]: %s: removed (canceled)" % name] if number % 200 else []
    for line in lines:
        log.send(b"<22>Nov 23 00:01:02 postfix/" + line.encode())
        count -= 1
"""


def test_memory_of_the_forwarder_stays_flat(relays: Relays) -> None:
    """It lives as long as the container: what grows with every line ends in the engine's killing something."""
    options = ["--log-opt", "max-size=10m", "--log-opt", "max-file=2"]
    relay = relays.start({"LOG_FORMAT": "json", "LOG_ADDRESSES": "hash"}, arguments=options)
    python = ["/opt/authrelay/bin/python3", "-I", "-c", _WRITER]
    began, sizes = time.monotonic(), []
    for part in range(1, 6):
        relay.container.exec([*python, str(FORWARDED_LINES // 5)], timeout_seconds=3600)
        wait_until(partial(has_lines, relay, FORWARDED_LINES // 5 * part), 60, "all should be counted")
        sizes.append(measure_forwarder(relay)[1])
    seconds = time.monotonic() - began
    report = observe(relay)
    print(f"{FORWARDED_LINES} lines in {seconds:.0f} s: PSS in KiB {sizes}; {report['dropped']}")
    assert report["unknown_lines"] == 0
    # The first ones fill the tables, and once the buffer.
    assert sizes[-1] < sizes[1] + 3000


def test_postfix_goes_on_while_the_forwarder_stands_still(
    relays: Relays, upstream: Upstream, engine: Engine, network: Network
) -> None:
    """The lines wait in the socket (net.unix.max_dgram_qlen of compose/relay.yaml), and none of them is lost.

    After some seconds the supervisor ends it; only what it had read and not yet written is gone then.
    """
    relay = relays.start({"LOG_FORMAT": "json"}, allowed=["log-forwarder"])
    with Load(engine, network, relay.container.name, prefix="still", sessions=4, pause_seconds=0.5) as load:
        load.wait_accepted(20)
        pid = find_forwarder(relay)
        os.kill(int(pid), signal.SIGSTOP)
        before = upstream.count()
        time.sleep(5)
        during = upstream.count() - before
        wait_until(lambda: find_forwarder(relay) not in ("", pid), 10, "the supervisor should have ended it")
        load.wait_accepted(len(load.accepted()) + 20)
        accepted = load.end()
    wait_until_delivered(relay)
    lost, repeated = account(accepted, upstream.messages())
    assert (lost, repeated) == ([], [])
    wait_until(lambda: count_sent_lines(relay) >= len(accepted) - _AT_HAND, 10, "every line should be there")
    dropped = observe(relay)["dropped"]
    print(
        f"{during} delivered while it stood still, {len(accepted)} accepted, {count_sent_lines(relay)} told; {dropped}"
    )
    assert during >= 15
    assert dropped["stdout"] == 0


_AT_HAND = 3
"""Deliveries whose lines the forwarder may have had at hand in the moment in which it was stopped."""


def count_sent_lines(relay: Relay) -> int:
    """How many lines tell that the upstream took a message."""
    return sum(line["event"] == "attempt" and line["status"] == "sent" for line in read_log(relay))
