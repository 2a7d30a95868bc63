"""SMTP byte for byte, in bulk: from a container, or from this machine, which outsiders look like. Runs docker."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence

from tests.support.engine import Container

# Standard library only. Standard input: JSON, a list of dialogues, held one after the other. Standard output: for each
# the replies, [code, text] a step; code 0 is no reply. Each step is sent whole; then one reply is awaited.
_SCRIPT = r"""
import base64, json, socket, sys
def read(stream):
    lines = []
    while True:
        line = stream.readline()
        if not line:
            raise OSError("closed")
        lines.append(line[4:].rstrip(b"\r\n").decode("utf-8", "replace"))
        if line[3:4] != b"-":
            return [int(line[:3]), "\n".join(lines)]
answers = []
for order in json.load(sys.stdin):
    replies = []
    try:
        source = (order["source"], 0) if order["source"] else None
        with socket.create_connection((order["host"], order["port"]), order["timeout"], source) as connection:
            stream = connection.makefile("rb")
            replies.append(read(stream))
            for step in order["steps"]:
                connection.sendall(base64.b64decode(step))
                replies.append(read(stream))
    except OSError as error:
        replies.append([0, "%s: %s" % (type(error).__name__, error)])
    answers.append(replies)
json.dump(answers, sys.stdout)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a client is, and how it reaches the relay."""

    host: str
    port: int = 25
    # None: this machine, or the network of one of its processes.
    container: Container | None = None
    pid: int = 0
    python: str = "python"
    # The address that it comes from; empty: as the kernel chooses.
    source: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """One reply. Code 0: the connection ended, or nothing came in time."""

    code: int
    text: str


def hold_dialogues(
    place: Place, dialogues: Sequence[Sequence[bytes]], *, timeout_seconds: float = 20
) -> list[list[Answer]]:
    """Hold one dialogue after the other; of each the greeting and the reply to every step, until it ended."""
    orders = [
        {
            "host": place.host,
            "port": place.port,
            "source": place.source,
            "timeout": timeout_seconds,
            "steps": [base64.b64encode(step).decode() for step in steps],
        }
        for steps in dialogues
    ]
    stdin = json.dumps(orders).encode()
    if place.container is None:
        entering = ["nsenter", f"--net=/proc/{place.pid}/ns/net"] if place.pid else []
        command = [*entering, sys.executable, "-c", _SCRIPT]
        done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, timeout=120, check=True)
        output = done.stdout
    else:
        output = place.container.exec([place.python, "-c", _SCRIPT], stdin=stdin).stdout
    return [[Answer(code=code, text=text) for code, text in replies] for replies in json.loads(output)]
