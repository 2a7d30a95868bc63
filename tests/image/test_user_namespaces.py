"""In a user namespace, where root of the container is nobody outside: the relay works, and says what it cannot."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.engine import Engine, Network, run_docker
from tests.support.relay import IMAGE, Relay
from tests.support.second_engine import REMAPPED_ROOT, SecondEngine
from tests.support.upstream import HOSTNAME, MOCK_IMAGE
from tests.support.wait import wait_until

PASSWORD = "secret"


@pytest.fixture(scope="module")
def remapped() -> Iterator[Engine]:
    """An engine that maps users (dockerd's userns-remap), as `podman --userns=auto` does."""
    with SecondEngine([IMAGE, MOCK_IMAGE], maps_users=True), Engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def mail(remapped: Engine) -> tuple[Network, str]:
    """A network with an upstream, and the volume that has its CA."""
    network, authority = remapped.network(), remapped.volume()
    upstream = remapped.run(
        MOCK_IMAGE,
        network=network,
        aliases=[HOSTNAME],
        env={"MOCK_ACCOUNTS": f"relay@example.test:{PASSWORD}", "MOCK_AUTHORITY_DIR": "/authority"},
        arguments=["--volume", f"{authority}:/authority"],
    )
    healthy = ["python3", "-m", "mock", "healthy"]
    wait_until(lambda: upstream.exec(healthy, check=False).status == 0, 20, "the upstream should be there")
    return network, authority


def make_relay(engine: Engine, mail: tuple[Network, str], queue: str, *, is_started: bool = True) -> Relay:
    network, authority = mail
    env = {
        "RELAYHOST": f"[{HOSTNAME}]:587",
        "RELAYHOST_USERNAME": "relay@example.test",
        "RELAYHOST_PASSWORD": PASSWORD,
        "RELAYHOST_CA_FILE": "/authority/ca.pem",
    }
    volumes = {queue: "/var/spool/postfix", authority: "/authority"}
    return Relay(engine, network, env=env, secrets={}, volumes=volumes, is_started=is_started)


def find_outside(volume: str) -> pathlib.Path:
    """Where a volume lies on this machine."""
    return pathlib.Path(json.loads(run_docker(["volume", "inspect", volume]).stdout)[0]["Mountpoint"])


def test_relay_works_in_a_user_namespace(remapped: Engine, mail: tuple[Network, str]) -> None:
    """With the rights of compose/relay.yaml, which mean less there."""
    queue = remapped.volume()
    relay = make_relay(remapped, mail, queue).wait_ready()
    assert relay.exec(["awk", "{print $2}", "/proc/1/uid_map"]).text.strip() == str(REMAPPED_ROOT)
    words = ["--server", f"{relay.container.name}:25", "--from", "a@example.test", "--to", "b@example.com"]
    remapped.run(MOCK_IMAGE, ["swaks", *words], network=mail[0])
    wait_until(lambda: "status=sent" in relay.logs(), 20, "it should be delivered")
    assert "Verified TLS connection established" in relay.logs()
    assert (find_outside(queue) / "active").stat().st_uid == REMAPPED_ROOT + 100
    assert relay.stop(10) == 0
    assert relay.logs().endswith("stopped; the queue is empty\n")
    assert relay.complaints() == []


def test_queue_of_another_map_of_users_is_refused_with_the_command_that_helps(
    remapped: Engine, mail: tuple[Network, str]
) -> None:
    """The volume of a container without a user namespace: its owners do not exist in here."""
    queue = remapped.volume()
    outside = find_outside(queue)
    relay = make_relay(remapped, mail, queue).wait_ready()
    assert relay.stop(10) == 0
    (outside / "deferred" / "ABCDEF").write_bytes(b"C")
    for path in (outside / "deferred" / "ABCDEF", outside / "active"):
        os.chown(path, 100, 0)
    relay.start()
    assert relay.wait_exit() == 73
    assert "/var/spool/postfix/active belongs to a user whom this container" in relay.logs()
    os.chown(outside / "active", REMAPPED_ROOT, REMAPPED_ROOT)
    relay.start()
    assert relay.wait_exit() == 73
    refusal = "/var/spool/postfix/deferred/ABCDEF belongs to a user whom this container"
    line = next(line for line in relay.logs().splitlines() if refusal in line)
    command = line.partition("where the volume lies: ")[2].partition(" The start")[0].split()
    assert command == ["chown", "-R", f"{REMAPPED_ROOT}:{REMAPPED_ROOT}", "."]
    subprocess.run(command, cwd=outside, check=True)
    relay.start()
    relay.wait_ready()
    assert "given back to Postfix" in relay.logs()
    assert relay.stop(10) == 0
