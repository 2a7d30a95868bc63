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

from tests.support import daemon
from tests.support.wait import wait_until

LABEL = "authrelay.test"
_CAPABILITIES = int(pathlib.Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1


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


def _order(container: str, order: str, arguments: Sequence[str], timeout_seconds: float = 120) -> None:
    """Have the daemon do something with a container, or the `docker` command with the arguments."""
    if not daemon.find_socket():
        run_docker(arguments, timeout_seconds=timeout_seconds)
        return
    method, path = ("DELETE", order) if order.startswith("?") else ("POST", f"/{order}")
    try:
        daemon.ask(method, f"/containers/{container}{path}", timeout_seconds)
    except daemon.DaemonError as error:
        raise EngineError(f"docker {' '.join(arguments)}: {error}") from error


class Network:
    """A bridge network of the run."""

    def __init__(self, name: str, subnet6: str) -> None:
        self.name = name
        self.subnet6 = subnet6

    def inspect(self) -> dict[str, Any]:
        """What docker knows about it."""
        found: dict[str, Any] = json.loads(run_docker(["network", "inspect", self.name]).stdout)[0]
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Entry:
    """How this process enters a container: nsenter(1), and setpriv(1) there to have no more rights than it has."""

    pid: int
    since: float
    command: tuple[str, ...]
    environment: Mapping[str, str]

    @classmethod
    def find(cls, known: Mapping[str, Any]) -> _Entry | None:
        """Return the way in, by what the engine and proc(5) know of it; nothing where its users are mapped."""
        pid = int(known["State"]["Pid"])
        process = pathlib.Path(f"/proc/{pid}")
        if not pid or os.readlink(process / "ns/user") != os.readlink("/proc/self/ns/user"):
            return None
        if not (process / "root/usr/bin/setpriv").exists():
            return None
        since = process.stat().st_ctime
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
        bounds = int(status["CapBnd"], 16)
        dropped = [f"-cap_{number}" for number in range(_CAPABILITIES) if not bounds & 1 << number]
        variables = (f"HOSTNAME={known['Config']['Hostname']}", *known["Config"]["Env"])
        return cls(
            pid=pid,
            since=since,
            command=(
                *("nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"),
                *("setpriv", *([f"--bounding-set={','.join(dropped)}"] if dropped else [])),
                *(["--no-new-privs"] if status["NoNewPrivs"] == "1" else []),
            ),
            environment=dict(one.split("=", 1) for one in variables),
        )


class Container:
    """One container of the run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._entry: _Entry | None = None

    def exec(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        user: str = "root",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout_seconds: float = 120,
        is_privileged: bool = False,
    ) -> Result:
        """Run a command inside; raise EngineError when it fails, unless `check` is false.

        Privileged is with all capabilities, whatever the container has. An exec by the engine takes a tenth of a second
        of a processor; where this process may enter the container itself it does, for a twentieth of that. The command
        then has the container's namespaces, environment and rights, but not its control group and system call filter.
        """
        entry = None if is_privileged else self._find_entry()
        if entry is None:
            options = ["--interactive", "--user", user, *(["--privileged"] if is_privileged else [])]
            for key, value in (env or {}).items():
                options += ["--env", f"{key}={value}"]
            return run_docker(
                ["exec", *options, self.name, *command], stdin=stdin, check=check, timeout_seconds=timeout_seconds
            )
        done = subprocess.run(
            [*entry.command, f"--reuid={user}", f"--regid={user}", "--init-groups", "--", *command],
            input=stdin,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
            env={**entry.environment, **(env or {})},
        )
        if check and done.returncode != 0:
            said = (done.stderr + done.stdout).decode("utf-8", "replace").strip()
            raise EngineError(f"in {self.name}: {' '.join(command)}: status {done.returncode}: {said}")
        return Result(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def _find_entry(self) -> _Entry | None:
        """Return the way in, if its first process runs on this machine, with its users as ours, and this is root."""
        if os.geteuid() != 0 or shutil.which("nsenter") is None:
            return None
        with contextlib.suppress(OSError):
            if self._entry and os.stat(f"/proc/{self._entry.pid}").st_ctime == self._entry.since:
                return self._entry
        try:
            self._entry = _Entry.find(self.inspect())
        except OSError:
            self._entry = None
        return self._entry

    def start(self) -> None:
        """Start it (again)."""
        _order(self.name, "start", ["start", self.name])

    def stop(self, timeout_seconds: int = 30) -> None:
        """Send its stop signal, and KILL after the timeout."""
        arguments = ["stop", "--time", str(timeout_seconds), self.name]
        _order(self.name, f"stop?t={timeout_seconds}", arguments, timeout_seconds + 60)

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal to its first process."""
        _order(self.name, f"kill?signal={signal}", ["kill", "--signal", signal, self.name])

    def restart(self, timeout_seconds: int = 30) -> None:
        """Stop and start."""
        self.stop(timeout_seconds)
        self.start()

    def pause(self) -> None:
        """Freeze all its processes."""
        _order(self.name, "pause", ["pause", self.name])

    def unpause(self) -> None:
        """Let them go on."""
        _order(self.name, "unpause", ["unpause", self.name])

    def remove(self) -> None:
        """Remove it with its anonymous volumes, running or not."""
        with contextlib.suppress(EngineError):
            _order(self.name, "?force=1&v=1", ["rm", "--force", "--volumes", self.name])

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
        if not daemon.find_socket():
            return run_docker(["logs", self.name], is_merged=True).text
        body = daemon.ask("GET", f"/containers/{self.name}/logs?stdout=1&stderr=1")
        return daemon.join_streams(body).decode("utf-8", "replace")

    def inspect(self) -> dict[str, Any]:
        """What docker knows about it."""
        found: dict[str, Any]
        if daemon.find_socket():
            try:
                found = json.loads(daemon.ask("GET", f"/containers/{self.name}/json"))
            except daemon.DaemonError as error:
                raise EngineError(str(error)) from error
        else:
            (found,) = json.loads(run_docker(["inspect", self.name]).stdout)
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
