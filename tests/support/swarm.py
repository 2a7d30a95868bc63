"""A swarm of one node with the stack of compose/swarm.yaml, in an engine of its own. Runs dockerd and docker.

The machine's own engine stays as it is: `docker swarm init` would change its networks.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.support.engine import Container, Engine, Network, run_docker
from tests.support.upstream import Upstream
from tests.support.wait import wait_until

STACK: Final = pathlib.Path(__file__).parents[2] / "compose" / "swarm.yaml"
SERVICE: Final = "relay_relay"
_ASK: Final = r"""
import http.client, sys
asking = http.client.HTTPConnection("127.0.0.1", 8025, timeout=60)
asking.request(sys.argv[1], sys.argv[2], sys.stdin.buffer.read())
answer = asking.getresponse()
sys.stdout.buffer.write(str(answer.status).encode() + b"\n" + answer.read())
"""


class InnerUpstream(Upstream):
    """The mock upstream in an engine whose published ports this process does not reach: it is asked from within."""

    def _connect(self) -> None:
        wait_until(self._is_healthy, 20, "the mock upstream should start")

    def _is_healthy(self) -> bool:
        return self.container.exec(["python", "-c", _ASK, "GET", "/healthy"], check=False).stdout.startswith(b"200")

    def _ask(self, method: str, path: str, body: bytes) -> Any:
        said = self.container.exec(["python", "-c", _ASK, method, path], stdin=body).stdout
        status, _, answer = said.partition(b"\n")
        if status != b"200":
            raise ValueError(f"{path}: {answer!r}")
        return json.loads(answer)


class Swarm:
    """The swarm, its network, and the stack."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        init = ["--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377", "--data-path-addr", "127.0.0.1"]
        run_docker(["swarm", "init", *init])
        run_docker(["network", "create", "--driver", "overlay", "--attachable", "mail"])
        self.network = Network("mail", "")

    def deploy(self, password: str, override: Mapping[str, Any]) -> None:
        """Run the stack as a person would, with what is to be filled in."""
        run_docker(["secret", "create", "relayhost_password", "-"], stdin=password.encode())
        path = self._engine.directory() / "override.yaml"
        path.write_text(json.dumps(override), encoding="utf-8")
        files = ["--compose-file", str(STACK), "--compose-file", str(path)]
        # Without a registry there is no digest to ask for.
        run_docker(["stack", "deploy", "--detach=true", "--resolve-image=never", *files, "relay"])

    def list_tasks(self) -> list[Container]:
        """The containers of the relays that run, by their numbers."""
        words = ["ps", "--filter", f"label=com.docker.swarm.service.name={SERVICE}", "--format", "{{.Names}}"]
        return [Container(name) for name in sorted(run_docker(words).text.split())]

    def list_healthy(self) -> list[str]:
        """The names of those that are healthy."""
        words = ["ps", "--filter", f"label=com.docker.swarm.service.name={SERVICE}", "--filter", "health=healthy"]
        return sorted(run_docker([*words, "--format", "{{.Names}}"]).text.split())

    def wait_replicas(self, count: int, timeout_seconds: float = 90) -> None:
        """Wait until exactly so many run, and are healthy."""
        because = f"{count} relays should run"
        wait_until(lambda: len(self.list_healthy()) == len(self.list_tasks()) == count, timeout_seconds, because)

    def scale(self, count: int) -> None:
        """Choose how many there are, and wait for it."""
        run_docker(["service", "scale", "--detach", f"{SERVICE}={count}"])
        self.wait_replicas(count)

    def update(self, options: Sequence[str]) -> None:
        """Update the service one relay after the other, and wait for the end of it."""
        run_docker(["service", "update", "--detach", "--no-resolve-image", *options, SERVICE])
        wait_until(lambda: self.find_update() in ("completed", "rollback_completed"), 240, "the update should end")
        assert self.find_update() == "completed"

    def find_update(self) -> str:
        """What became of the last update."""
        service = json.loads(run_docker(["service", "inspect", SERVICE]).stdout)[0]
        return str(service.get("UpdateStatus", {}).get("State", ""))

    def drain(self) -> None:
        """Take the node out of service: every relay ends as it ends before a machine's maintenance."""
        node = run_docker(["node", "ls", "--quiet"]).text.strip()
        run_docker(["node", "update", "--availability", "drain", node])
        wait_until(lambda: not self.list_tasks(), 90, "every relay should end")
        run_docker(["node", "update", "--availability", "active", node])

    def leave(self) -> None:
        """Remove the stack, and end the swarm."""
        run_docker(["stack", "rm", "relay"], check=False)
        wait_until(lambda: not self.list_tasks(), 90, "every relay should end")
        run_docker(["swarm", "leave", "--force"], check=False)
