"""Runs inside bench/syslog's image: the forwarder in each form, then rsyslog, on one core. Prints JSON.

Arguments: messages, rounds. The lines are those of a relay that sends one message after the other.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

LOG, OUT, RUN = "/tmp/log", "/tmp/out", "/run/authrelay"  # noqa: S108 - a container of its own
_ALPHABET = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxy"
_RSYSLOG = ("/usr/sbin/rsyslogd", "-n", "-f", "/etc/rsyslog.conf", "-i", "NONE")
_FORWARDER = ("/opt/authrelay/bin/python3", "-I", "-m", "entrypoint.services.forwarder")
_FORMS = ("plain full", "plain hash", "json full", "json hash")


def write_lines(messages: int) -> list[bytes]:
    """The datagrams of so many messages."""
    server, found = "smtp.example.com[192.0.2.25]:587", []
    for number in range(messages):
        rest, name = number, ""
        for _ in range(5):
            rest, digit = divmod(rest, len(_ALPHABET))
            name = _ALPHABET[digit] + name
        name, pid = f"4jZZ{name}FMzH11d", 100 + number % 50
        found += [
            "smtpd[70]: connect from unknown[172.18.0.5]",
            f"smtpd[70]: {name}: client=unknown[172.18.0.5]",
            f"cleanup[71]: {name}: message-id=<{number}.abc@app.example.test>",
            f"qmgr[62]: {name}: from=<app-{number % 100}@example.test>, size=4275, nrcpt=1 (queue active)",
            "smtpd[70]: disconnect from unknown[172.18.0.5] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5",
            f"smtp[{pid}]: Verified TLS connection established to {server}: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 "
            "(256/256 bits) key-exchange x25519 server-signature ECDSA (prime256v1) server-digest SHA256",
            f"smtp[{pid}]: {name}: to=<user-{number}@example.com>, relay={server}, delay=0.84, "
            f"delays=0.02/0.28/0.4/0.13, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as {number})",
            f"qmgr[62]: {name}: removed",
        ]
    return [f"<22>Nov 25 22:59:05 postfix/{line}".encode() for line in found]


def start(command: tuple[str, ...], standard_input: int | None) -> int:
    """Start a program on the first core alone, its output in a file; its process."""
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        out = os.open(OUT if standard_input is not None else os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        if standard_input is not None:
            os.dup2(standard_input, 0)
        os.execv(command[0], command)  # noqa: S606 - no shell
    return pid


def run(command: tuple[str, ...], lines: list[bytes], *, is_forwarder: bool) -> dict[str, float]:
    """Give every line to a program, wait until it is written, and return what it cost."""
    for path in (LOG, OUT):
        if os.path.exists(path):
            os.unlink(path)
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if is_forwarder:
        log.bind(LOG)
    pid = start(command, log.fileno() if is_forwarder else None)
    wait(lambda: os.path.exists(f"{RUN}/observations" if is_forwarder else LOG))
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(LOG)
    cpu_before, began = read_cpu(pid), time.monotonic()
    for line in lines:
        sender.send(line)
    last = lines[-1].rpartition(b"postfix/")[2]
    wait(lambda: os.path.exists(OUT) and read_end().rstrip().endswith((last, last + b'"}')))
    seconds, cpu = time.monotonic() - began, read_cpu(pid) - cpu_before
    os.kill(pid, signal.SIGTERM)
    _, _, usage = os.wait4(pid, 0)
    if is_forwarder:
        os.unlink(f"{RUN}/observations")
    written = sum(b"postfix/" in line for line in open(OUT, "rb"))  # noqa: SIM115 - at the end of the process
    assert written >= len(lines), f"{command[0]}: {written} of {len(lines)} lines"
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_kib": usage.ru_maxrss}


def read_cpu(pid: int) -> float:
    """The CPU time of a process so far, in seconds."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_end() -> bytes:
    """The last bytes of what was written."""
    with open(OUT, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 4096))
        return file.read()


def wait(is_so: Callable[[], bool]) -> None:
    """Wait at most a minute, without taking the core from whom is waited for."""
    ends_at = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < ends_at
        time.sleep(0.002)


def main() -> None:
    """Measure in turn, round after round."""
    messages, rounds = int(sys.argv[1]), int(sys.argv[2])
    os.makedirs(RUN, exist_ok=True)
    for name, text in (("listeners.json", "[]"), ("addresses.key", "k" * 64)):
        with open(f"{RUN}/{name}", "w", encoding="ascii") as file:
            file.write(text)
    lines = write_lines(messages)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in (*_FORMS, "rsyslog")}
    for _ in range(rounds):
        for form in _FORMS:
            with open(f"{RUN}/log-rules", "w", encoding="ascii") as file:
                file.write(f"{form}\n")
            rows[form].append(run(_FORWARDER, lines, is_forwarder=True))
        rows["rsyslog"].append(run(_RSYSLOG, lines, is_forwarder=False))
    print(json.dumps({"lines": len(lines), "rows": rows, "own_peak_kib": resource.getrusage(0).ru_maxrss}))


if __name__ == "__main__":
    main()
