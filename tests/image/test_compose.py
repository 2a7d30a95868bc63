"""The Compose file that people copy, started as they start it; only the upstream and its secrets are others."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from tests.image.conftest import LOGIN, PASSWORD
from tests.support.client import Client
from tests.support.engine import Container, Engine, Network, run_docker
from tests.support.relay import IMAGE
from tests.support.upstream import HOSTNAME, Upstream
from tests.support.wait import wait_until

FILE = pathlib.Path(__file__).parents[2] / "compose" / "relay.yaml"


@pytest.fixture
def compose(engine: Engine, network: Network, upstream: Upstream) -> Iterator[list[str]]:
    """The beginning of a command line of docker compose; what it started is removed."""
    directory = engine.directory()
    (directory / "password").write_text(PASSWORD + "\n")
    (directory / "ca.pem").write_text(upstream.authority.pem)
    os.chmod(directory / "password", 0o600)
    environment = {
        "RELAYHOST": f"[{HOSTNAME}]:587",
        "RELAYHOST_USERNAME": LOGIN,
        "RELAYHOST_CA_FILE": "/run/secrets/ca",
        "PROBE": "no",
    }
    change = {
        "services": {"relay": {"image": IMAGE, "environment": environment, "secrets": ["relayhost_password", "ca"]}},
        "secrets": {
            "relayhost_password": {"file": str(directory / "password")},
            "ca": {"file": str(directory / "ca.pem")},
        },
        "networks": {"mail": {"name": network.name, "external": True}},
    }
    (directory / "change.yaml").write_text(json.dumps(change))
    project = f"authrelay-compose-{uuid.uuid4().hex[:8]}"
    command = ["compose", "--project-name", project, "--file", str(FILE), "--file", str(directory / "change.yaml")]
    yield command
    run_docker([*command, "down", "--volumes", "--timeout", "5"])


def test_compose_file_starts_healthy_delivers_and_stops_in_time(
    compose: list[str], upstream: Upstream, client: Client
) -> None:
    """What is copied must work as it is: read-only, four capabilities, 192 MB."""
    run_docker([*compose, "up", "--detach", "--wait", "--wait-timeout", "30"])
    relay = Container(run_docker([*compose, "ps", "--format", "{{.Name}}"]).text.strip())
    client.send(relay.name, 25, "a@example.test", ["b@example.com"], b"Subject: x\r\n\r\nhello\r\n")
    (message,) = upstream.wait_messages(1)
    assert message.login == LOGIN
    host = relay.inspect()["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert (host["Memory"], host["MemorySwap"]) == (192 * 2**20, 192 * 2**20)
    assert "WARNING" not in relay.logs()
    run_docker([*compose, "stop"])
    wait_until(lambda: not relay.is_running, 10, "it should end")
    assert relay.exit_status() == 0
    assert relay.logs().endswith("stopped; the queue is empty\n")


def test_list_server_publishes_three_ports_and_has_no_rights_to_spare() -> None:
    """compose/mailman.yaml as it stands: what it costs to look is nothing, `make stack` starts it."""
    needed = ("RELAYHOST", "RELAYHOST_USERNAME", "LIST_DOMAIN", "WEB_HOST", "MAIL_HOST", "SITE_OWNER")
    environment = dict.fromkeys(needed, "x") | {"PATH": os.environ["PATH"]}
    command = ["docker", "compose", "--file", str(FILE.parent / "mailman.yaml"), "config", "--format", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    services = json.loads(done.stdout)["services"]
    published = {(name, port["target"]) for name, one in services.items() for port in one.get("ports", [])}
    assert published == {("relay", 25), ("lighttpd", 80), ("lighttpd", 443)}
    for name, one in services.items():
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
    assert {name for name, one in services.items() if "cap_add" in one} == {"relay", "certificate"}
    for name in needed:
        less = {key: value for key, value in environment.items() if key != name}
        done = subprocess.run(command, env=less, capture_output=True, check=False)
        assert f"Write {name}=" in done.stderr.decode(), name


def test_published_images_take_the_place_of_ours() -> None:
    """compose/mailman.published.yaml, which can be read here, and not run: there is no registry."""
    names = ("RELAYHOST", "RELAYHOST_USERNAME", "LIST_DOMAIN", "WEB_HOST", "MAIL_HOST", "SITE_OWNER")
    environment = dict.fromkeys(names, "x") | {"PATH": os.environ["PATH"]}
    files = [f"--file={FILE.parent / name}" for name in ("mailman.yaml", "mailman.published.yaml")]
    command = ["docker", "compose", *files, "config", "--format", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    project = json.loads(done.stdout)
    services = project["services"]
    assert {name for name, one in services.items() if "build" in one} == {"relay", "certificate", "lighttpd"}
    # Nothing of theirs lies in a volume of ours, and the relay reads from the one that Mailman writes to.
    used = {name: {one["source"] for one in services[name]["volumes"]} for name in ("database", "core", "web", "relay")}
    assert used["database"] == {"database-published"}
    assert used["core"] == {"mailman-published"}
    assert used["web"] == {"web-published", "socket"}
    lists = [one["source"] for one in services["relay"]["volumes"] if one["target"] == "/lists"]
    assert lists == ["mailman-published"]
    published = {(name, port["target"]) for name, one in services.items() for port in one.get("ports", [])}
    assert published == {("relay", 25), ("lighttpd", 80), ("lighttpd", 443)}
    for name, one in services.items():
        assert one["cap_drop"] == ["ALL"], name
