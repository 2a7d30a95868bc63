"""Applications: so many sessions that hand in messages as fast as they are taken, or one now and then. Network.

Arguments: host, sessions, messages, size in bytes, recipients of each, seconds between messages. Standard output: JSON,
`[number, when it was begun, when it got its 250]` of each, and what it cost.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
import threading
import time
from typing import BinaryIO

host, sessions, messages, size, recipients = sys.argv[1], *(int(word) for word in sys.argv[2:6])
pause_seconds = float(sys.argv[6])
lock = threading.Lock()
numbers = iter(range(messages))
accepted: list[tuple[int, float, float]] = []


def say(connection: socket.socket, stream: BinaryIO, command: bytes, wanted: bytes) -> None:
    """Send a command and read its reply."""
    connection.sendall(command)
    while True:
        line = stream.readline()
        assert line[:3] == wanted, (command[:60], line)
        if line[3:4] != b"-":
            return


def send(connection: socket.socket, stream: BinaryIO, number: int) -> None:
    """Hand in one message."""
    head = b"From: a@bench.test\r\nTo: b@example.com\r\nSubject: bench\r\nX-Bench: %d\r\n\r\n" % number
    line = b"The quick brown fox jumps over the lazy dog, 0123456789 times\r\n"
    body = line * max(1, (size - len(head)) // len(line))
    began_at = time.time()
    say(connection, stream, b"MAIL FROM:<a@bench.test>\r\n", b"250")
    for one in range(recipients):
        say(connection, stream, b"RCPT TO:<b%d-%d@example.com>\r\n" % (number, one), b"250")
    say(connection, stream, b"DATA\r\n", b"354")
    say(connection, stream, head + body + b".\r\n", b"250")
    accepted.append((number, began_at, time.time()))


def work() -> None:
    """Hold one session until there is nothing left to send."""
    with socket.create_connection((host, 25), 600) as connection, connection.makefile("rb") as stream:
        say(connection, stream, b"", b"220")
        say(connection, stream, b"EHLO client.bench.test\r\n", b"250")
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            send(connection, stream, number)
            time.sleep(pause_seconds)
        say(connection, stream, b"QUIT\r\n", b"221")


threads = [threading.Thread(target=work) for _ in range(sessions)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(accepted) == messages, (len(accepted), messages)
used = resource.getrusage(resource.RUSAGE_SELF)
json.dump({"accepted": accepted, "cpu": used.ru_utime + used.ru_stime}, sys.stdout)
