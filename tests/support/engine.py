"""The container engine, by its command line: containers, networks, volumes; all removed. Runs docker."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import posixpath
import re
import secrets
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.wait import wait_until

LABEL = "authrelay.test"


class EngineError(AssertionError):
    """A docker command failed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a command in a container, or docker itself, left behind."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, bytes that are not UTF-8 replaced."""
        return self.stdout.decode("utf-8", "replace")


_NOT_STARTED = 126


def run_docker(
    arguments: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout_seconds: float = 120,
    check: bool = True,
    is_merged: bool = False,
) -> Result:
    """Run one docker command. Raises EngineError when it fails, unless `check` is false.

    When `is_merged`, standard error comes within standard output. An exec whose program runc did not bring to its
    start, which was seen once and not explained, is tried again.
    """
    program = os.environ.get("DOCKER", "docker")
    for is_last in (False, False, True):
        done = subprocess.run(
            [program, *arguments],
            input=stdin,
            stdout=subprocess.PIPE,
            timeout=timeout_seconds,
            check=False,
            stderr=subprocess.STDOUT if is_merged else subprocess.PIPE,
        )
        fault = done.stdout if is_merged else done.stderr
        if is_last or done.returncode != _NOT_STARTED or b"waiting for init preliminary setup" not in fault:
            break
    result = Result(status=done.returncode, stdout=done.stdout, stderr=done.stderr or b"")
    if check and result.status != 0:
        said = (result.stderr + result.stdout).decode("utf-8", "replace").strip()
        raise EngineError(f"docker {' '.join(arguments)}: status {result.status}: {said}")
    return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """A file to put into a container. Owned by root unless a uid is given."""

    data: bytes
    mode: int = 0o644
    uid: int = 0


def pack(files: Mapping[str, File]) -> bytes:
    """Make a tar of files by absolute path; docker makes the directories that lack."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, file in files.items():
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size, info.mode, info.uid, info.gid = len(file.data), file.mode, file.uid, 0
            archive.addfile(info, io.BytesIO(file.data))
    return buffer.getvalue()


class Network:
    """A bridge network of the run."""

    def __init__(self, name: str, subnet6: str) -> None:
        self.name = name
        self.subnet6 = subnet6

    def inspect(self) -> dict[str, Any]:
        """What docker knows about it."""
        found: dict[str, Any] = json.loads(run_docker(["network", "inspect", self.name]).stdout)[0]
        return found


class Container:
    """One container of the run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._pid, self._pid_since, self._search_path = 0, 0.0, ""

    def exec(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        user: str = "",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout_seconds: float = 120,
        is_privileged: bool = False,
    ) -> Result:
        """Run a command inside; raise EngineError when it fails, unless `check` is false.

        Privileged is with all capabilities, whatever the container has.
        """
        options = ["--interactive", *(["--user", user] if user else []), *(["--privileged"] if is_privileged else [])]
        for key, value in (env or {}).items():
            options += ["--env", f"{key}={value}"]
        return run_docker(
            ["exec", *options, self.name, *command], stdin=stdin, check=check, timeout_seconds=timeout_seconds
        )

    def look(
        self, command: Sequence[str], *, stdin: bytes = b"", check: bool = True, timeout_seconds: float = 120
    ) -> Result:
        """Run a command that only looks, or talks to others, without the engine where this process may enter itself.

        An exec takes a tenth of a second of a processor, nsenter(1) a fiftieth of that. The command is root's, with all
        rights, and outside the container's limits.
        """
        pid = self._find_enterable()
        if not pid:
            return self.exec(command, stdin=stdin, check=check, timeout_seconds=timeout_seconds)
        done = subprocess.run(
            ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--", *command],
            input=stdin,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
            env={"PATH": self._search_path},
        )
        if check and done.returncode != 0:
            said = (done.stderr + done.stdout).decode("utf-8", "replace").strip()
            raise EngineError(f"in {self.name}: {' '.join(command)}: status {done.returncode}: {said}")
        return Result(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def _find_enterable(self) -> int:
        """Return its first process, if it runs on this machine, with its users as ours, and this is root; else 0."""
        if os.geteuid() != 0 or shutil.which("nsenter") is None:
            return 0
        with contextlib.suppress(OSError):
            if self._pid and os.stat(f"/proc/{self._pid}").st_ctime == self._pid_since:
                return self._pid
        pid = int(self.inspect()["State"]["Pid"])
        try:
            environ = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            is_mapped = os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
            since = os.stat(f"/proc/{pid}").st_ctime
        except OSError:
            return 0
        if not pid or is_mapped:
            return 0
        paths = (one.removeprefix(b"PATH=").decode() for one in environ if one.startswith(b"PATH="))
        self._search_path = next(paths, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        self._pid, self._pid_since = pid, since
        return pid

    def start(self) -> None:
        """Start it (again)."""
        run_docker(["start", self.name])

    def stop(self, timeout_seconds: int = 30) -> None:
        """Send its stop signal, and KILL after the timeout."""
        run_docker(["stop", "--time", str(timeout_seconds), self.name], timeout_seconds=timeout_seconds + 60)

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal to its first process."""
        run_docker(["kill", "--signal", signal, self.name])

    def restart(self, timeout_seconds: int = 30) -> None:
        """Stop and start."""
        self.stop(timeout_seconds)
        self.start()

    def pause(self) -> None:
        """Freeze all its processes."""
        run_docker(["pause", self.name])

    def unpause(self) -> None:
        """Let them go on."""
        run_docker(["unpause", self.name])

    def remove(self) -> None:
        """Remove it with its anonymous volumes, running or not."""
        run_docker(["rm", "--force", "--volumes", self.name], check=False)

    def put(self, files: Mapping[str, File]) -> None:
        """Copy files in, with their modes and owners; also before the start. Not into a tmpfs."""
        run_docker(["cp", "-", f"{self.name}:/"], stdin=pack(files))

    def read(self, path: str) -> bytes:
        """The content of one file; also after the end."""
        tar = run_docker(["cp", f"{self.name}:{path}", "-"]).stdout
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            member = archive.extractfile(posixpath.basename(path))
            if member is None:
                raise EngineError(f"{self.name}:{path} is not a file")
            return member.read()

    def logs(self) -> str:
        """Standard output and standard error, in the order in which docker received them."""
        return run_docker(["logs", self.name], is_merged=True).text

    def inspect(self) -> dict[str, Any]:
        """What docker knows about it."""
        found: dict[str, Any] = json.loads(run_docker(["inspect", self.name]).stdout)[0]
        return found

    @property
    def is_running(self) -> bool:
        """Whether its first process lives."""
        return bool(self.inspect()["State"]["Running"])

    def watch_port(self, port: int, timeout_seconds: float) -> None:
        """Wait until something in it listens at a TCP port, or for so long; not at all where that cannot be seen.

        The kernel's table is read from outside (proc(5) /proc/pid/net): a program in the container, tried again and
        again while it starts, would cost more than the start.
        """
        tables = pathlib.Path(f"/proc/{self.inspect()['State']['Pid']}/net")
        is_listening = re.compile(rf":{port:04X} \S+ 0A ")
        deadline = time.monotonic() + timeout_seconds
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                if any(is_listening.search(table.read_text()) for table in tables.glob("tcp*")):
                    return
                (tables / "tcp").stat()  # the container's end
                time.sleep(0.02)

    def health(self) -> str:
        """`starting`, `healthy` or `unhealthy`; empty without a health check."""
        return str(self.inspect()["State"].get("Health", {}).get("Status", ""))

    def wait_exit(self, timeout_seconds: float = 30) -> int:
        """Wait for its end; the exit status."""
        wait_until(lambda: not self.is_running, timeout_seconds, f"{self.name} should end")
        return self.exit_status()

    def exit_status(self) -> int:
        """The exit status of its last run. Raises EngineError while it runs."""
        state = self.inspect()["State"]
        if state["Running"]:
            raise EngineError(f"{self.name} still runs")
        return int(state["ExitCode"])

    def address(self, network: Network) -> str:
        """Its IPv4 address on a network."""
        return str(self.inspect()["NetworkSettings"]["Networks"][network.name]["IPAddress"])

    def address6(self, network: Network) -> str:
        """Its IPv6 address on a network."""
        return str(self.inspect()["NetworkSettings"]["Networks"][network.name]["GlobalIPv6Address"])

    def published_port(self, port: int) -> int:
        """The port of 127.0.0.1 behind which docker publishes a port of the container."""
        bindings = self.inspect()["NetworkSettings"]["Ports"].get(f"{port}/tcp") or []
        if not bindings:
            raise EngineError(f"{self.name}: port {port} is not published: {self.logs()[-2000:]}")
        return int(bindings[0]["HostPort"])


class Engine:
    """Everything that one test run has in the container engine; a context manager that removes it all."""

    def __init__(self) -> None:
        self.run_id = secrets.token_hex(4)
        self.containers: list[Container] = []
        self._directories: list[pathlib.Path] = []

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _name(self, kind: str) -> str:
        return f"authrelay-{self.run_id}-{kind}-{secrets.token_hex(3)}"

    @property
    def _label(self) -> str:
        return f"{LABEL}={self.run_id}"

    def create(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        kind: str = "test",
        network: Network | None = None,
        aliases: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        files: Mapping[str, File] | None = None,
    ) -> Container:
        """Make a container without starting it; `arguments` are options of `docker run`."""
        container = Container(self._name(kind))
        options = ["--name", container.name, "--label", self._label]
        if network is not None:
            options += ["--network", network.name]
            for alias in aliases:
                options += ["--network-alias", alias]
        for key, value in (env or {}).items():
            options += ["--env", f"{key}={value}"]
        run_docker(["create", *options, *arguments, image, *command])
        self.containers.append(container)
        if files:
            container.put(files)
        return container

    def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        kind: str = "test",
        network: Network | None = None,
        aliases: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        files: Mapping[str, File] | None = None,
    ) -> Container:
        """Make a container and start it in the background."""
        container = self.create(
            image,
            command,
            kind=kind,
            network=network,
            aliases=aliases,
            env=env,
            arguments=arguments,
            files=files,
        )
        container.start()
        return container

    def network(self, *, is_ipv6: bool = False, is_internal: bool = False) -> Network:
        """Make a network; with IPv6 it gets a unique local subnet (RFC 4193) of its own."""
        name = self._name("net")
        token = secrets.token_hex(5)
        subnet6 = f"fd{token[:2]}:{token[2:6]}:{token[6:10]}::/64" if is_ipv6 else ""
        options = ["--label", self._label]
        if is_ipv6:
            options += ["--ipv6", "--subnet", subnet6]
        if is_internal:
            options += ["--internal"]
        run_docker(["network", "create", *options, name])
        return Network(name, subnet6)

    def volume(self) -> str:
        """Make a named volume; its name."""
        name = self._name("volume")
        run_docker(["volume", "create", "--label", self._label, name])
        return name

    def directory(self) -> pathlib.Path:
        """Make a directory of the host to bind into containers, open to every user of theirs."""
        directory = pathlib.Path(tempfile.mkdtemp(prefix="authrelay-test-"))
        directory.chmod(0o755)
        self._directories.append(directory)
        return directory

    def connect(self, container: Container, network: Network, aliases: Sequence[str] = ()) -> None:
        """Attach a container to one more network."""
        options = [option for alias in aliases for option in ("--alias", alias)]
        run_docker(["network", "connect", *options, network.name, container.name])

    def close(self) -> None:
        """Remove whatever carries the run's label, in the order in which docker allows it."""
        for listing, removal in (
            (["ps", "--all", "--quiet"], ["rm", "--force", "--volumes"]),
            (["network", "ls", "--quiet"], ["network", "rm"]),
            (["volume", "ls", "--quiet"], ["volume", "rm", "--force"]),
        ):
            found = run_docker([*listing, "--filter", f"label={self._label}"], check=False).text.split()
            if found:
                run_docker([*removal, *found], check=False)
        for directory in self._directories:
            shutil.rmtree(directory, ignore_errors=True)
        self.containers.clear()
