"""The relay of a test: an authrelay container, seen from outside. Runs docker; writes secrets to disk."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import posixpath
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.engine import Container, Engine, Network, Result, run_docker
from tests.support.wait import wait_until

IMAGE = os.environ.get("AUTHRELAY_IMAGE", "authrelay:dev")

# Our lines: "2026-11-22T23:31:03.123+00:00 WARNING authrelay: text".
_LINE = re.compile(r"^(?P<time>\d{4}-\d\d-\d\dT\S+) (?P<severity>[A-Z]+) (?P<source>\S+): ?(?P<text>.*)$")
_BAD_SEVERITIES = frozenset({"WARNING", "ERROR", "CRITICAL", "FATAL", "PANIC"})

# Bash, which every Debian has, reads the banner; QUIT, so that no lost connection is logged.
_BANNER = r'exec 3<>"/dev/tcp/127.0.0.1/$0" && read -r -t 2 line <&3 && printf "QUIT\r\n" >&3 && echo "$line"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of the relay's log."""

    severity: str
    # "authrelay", "postfix/smtp[77]"
    source: str
    text: str


def parse_log(text: str) -> list[LogLine]:
    """The lines of a log; one not of our form, such as a traceback, is an ERROR without a source."""
    lines = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if line.startswith('{"version":'):
            lines.append(_parse_record(json.loads(line)))
        elif match:
            lines.append(LogLine(severity=match["severity"], source=match["source"], text=match["text"]))
        elif line.strip():
            lines.append(LogLine(severity="ERROR", source="", text=line))
    return lines


def _parse_record(record: dict[str, Any]) -> LogLine:
    """A line of LOG_FORMAT=json; an event has no text of its own."""
    source, _, text = str(record.get("text", "")).partition(": ")
    if record["event"] == "authrelay":
        source, text = "authrelay", str(record["text"])
    return LogLine(severity=record["severity"], source=source, text=text)


def find_complaints(text: str, allowed: Sequence[str] = ()) -> list[LogLine]:
    """The lines at WARNING or above, without those in which one of the regular expressions is found."""
    return [
        line
        for line in parse_log(text)
        if line.severity in _BAD_SEVERITIES
        and not any(re.search(pattern, f"{line.source}: {line.text}") for pattern in allowed)
    ]


@functools.cache
def read_hardening() -> tuple[str, ...]:
    """What compose/relay.yaml, the file that people copy, says of a relay's rights, as `docker run` has it."""
    path = pathlib.Path(__file__).parents[2] / "compose" / "relay.yaml"
    relay = json.loads(run_docker(["compose", "--file", str(path), "config", "--format", "json"]).text)["services"]
    service = relay["relay"]
    assert service["read_only"] is True
    return (
        "--read-only",
        *(f"--tmpfs={path}" for path in service["tmpfs"]),
        *(f"--cap-drop={name}" for name in service["cap_drop"]),
        *(f"--cap-add={name}" for name in service["cap_add"]),
        *(f"--security-opt={option}" for option in service["security_opt"]),
        f"--memory={service['mem_limit']}",
        f"--memory-swap={service['memswap_limit']}",
        f"--pids-limit={service['pids_limit']}",
        *(f"--sysctl={name}={value}" for name, value in service["sysctls"].items()),
    )


class Relay:
    """One authrelay container, with the rights of compose/relay.yaml."""

    def __init__(
        self,
        engine: Engine,
        network: Network,
        *,
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, bytes] | None = None,
        volumes: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        command: Sequence[str] = (),
        aliases: Sequence[str] = ("relay",),
        image: str = IMAGE,
        is_started: bool = True,
        is_hardened: bool = True,
        is_checked: bool = False,
        beside: Relay | None = None,
    ) -> None:
        """`secrets`: content by path in the container; `volumes`: path in the container by name or host path.

        `beside` which other one it is: on the same network, with the same addresses.

        Checked is one whose HEALTHCHECK the engine runs: each is a program in a container, at every start of hundreds.

        Not hardened is what `docker run` gives without further options; the arguments come on top in both cases.

        Each directory that holds secrets is one bind mount of a temporary directory, as in Kubernetes: it
        hides what the image has there, and a file in it can be replaced while the relay runs.
        """
        self._directories: dict[str, pathlib.Path] = {}
        mounts: list[str] = []
        for path, data in (secrets or {}).items():
            parent = posixpath.dirname(path)
            if parent not in self._directories:
                directory = engine.directory()
                self._directories[parent] = directory
                mounts += ["--volume", f"{directory}:{parent}"]
            self.set_secret(path, data)
        for source, target in (volumes or {}).items():
            mounts += ["--volume", f"{source}:{target}"]
        self.container: Container = engine.create(
            image,
            command,
            kind="relay",
            network=None if beside else network,
            aliases=aliases,
            env=env,
            arguments=[
                *(["--network", f"container:{beside.container.name}"] if beside else ()),
                *(read_hardening() if is_hardened else ()),
                *(() if is_checked else ("--no-healthcheck",)),
                *(*mounts, *arguments),
            ],
        )
        if is_started:
            self.container.start()

    def set_secret(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """Write a secret file, or replace it atomically, owned by who runs the tests (root, in CI)."""
        directory = self._directories[posixpath.dirname(path)]
        new = directory / f".{posixpath.basename(path)}.new"
        new.touch(mode=0o600)
        new.write_bytes(data)
        new.chmod(mode)
        new.rename(directory / posixpath.basename(path))

    def wait_ready(self, timeout_seconds: float = 30, port: int = 25) -> Relay:
        """Wait for a 220 on the port, asked from within. Raises at once when the container has ended."""

        def is_ready() -> bool:
            if not self.container.is_running:
                raise AssertionError(f"the relay ended with {self.exit_status()}:\n{self.logs()}")
            return self.banner(port).startswith("220")

        self.container.watch_port(port, min(5, timeout_seconds))
        wait_until(is_ready, timeout_seconds, "the relay should answer with 220")
        return self

    def banner(self, port: int = 25) -> str:
        """The first line that the relay says on a port; empty when nobody listens."""
        return self.container.exec(["bash", "-c", _BANNER, str(port)], check=False).text.strip()

    def exec(self, command: Sequence[str], *, stdin: bytes = b"", check: bool = True) -> Result:
        """Run a command inside."""
        return self.container.exec(command, stdin=stdin, check=check)

    def postconf(self, *arguments: str) -> str:
        """What `postconf` prints; with names only, `postconf -h NAME` is their values, a line each."""
        options = arguments if any(word.startswith("-") for word in arguments) else ("-h", *arguments)
        return self.exec(["postconf", *(options if arguments else ())]).text.rstrip("\n")

    def postconf_complaints(self) -> str:
        """What plain `postconf` says on standard error; good is nothing."""
        return self.exec(["postconf"]).stderr.decode("utf-8", "replace")

    def queue(self) -> list[dict[str, Any]]:
        """The queue, one entry a message, as `postqueue -j` has it."""
        return [json.loads(line) for line in self.container.exec(["postqueue", "-j"]).text.splitlines() if line.strip()]

    def flush(self) -> None:
        """Try everything in the queue now."""
        self.exec(["postqueue", "-f"])

    def wait_queue(self, count: int, timeout_seconds: float = 30) -> list[dict[str, Any]]:
        """Wait until exactly so many messages are queued; they."""
        because = f"the relay's queue should hold {count} messages"
        wait_until(lambda: len(self.queue()) == count, timeout_seconds, because)
        return self.queue()

    def logs(self) -> str:
        """The whole log, with what Postfix has said up to now: the forwarder writes lines together, within 30 ms."""
        time.sleep(0.03)
        return self.container.logs()

    def complaints(self, allowed: Sequence[str] = ()) -> list[LogLine]:
        """The log's lines at WARNING or above that the test does not expect."""
        return find_complaints(self.logs(), allowed)

    def start(self) -> None:
        """Start it (again)."""
        self.container.start()

    def stop(self, timeout_seconds: int = 30) -> int:
        """Stop it as `docker stop` does; the exit status."""
        self.container.stop(timeout_seconds)
        return self.exit_status()

    def restart(self, timeout_seconds: int = 30) -> None:
        """Stop and start; not yet ready afterwards."""
        self.container.restart(timeout_seconds)

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal to its first process."""
        self.container.kill(signal)

    def remove(self) -> None:
        """Remove the container, keeping named volumes."""
        self.container.remove()

    def wait_exit(self, timeout_seconds: float = 30) -> int:
        """Wait for its end; the exit status."""
        return self.container.wait_exit(timeout_seconds)

    def exit_status(self) -> int:
        """The exit status of its last run."""
        return self.container.exit_status()
