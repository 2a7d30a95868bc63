"""Who may relay, as a table: from everywhere that a client can be, everything that ever opened a relay."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.dialogue import Answer, Place, hold_dialogues
from tests.support.engine import Engine, Network, run_docker
from tests.support.relay import IMAGE, Relay
from tests.support.upstream import MOCK_IMAGE, Upstream
from tests.support.wait import wait_until

OWN: Final = "relay.example.test"
# Of TEST-NET-like space that no docker network has; reached by a route of its own.
ROUTED: Final = "198.51.100.7"
CONTAINER_PYTHON: Final = "/opt/authrelay/bin/python3"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One way to hand in a message."""

    rcpt_to: str
    # What the upstream is told when the client may send; empty: nobody may send this.
    arrives: str
    helo: str = "client.example.test"
    # The null sender, or one that tells the message apart.
    has_sender: bool = True
    # Said after EHLO; refused, and of no effect.
    command: str = ""
    # What asks for the content: DATA, or BDAT with all of it.
    data: str = "DATA"


_B: Final = "b@example.com"
ATTEMPTS: Final[Mapping[str, Attempt]] = {
    "plain": Attempt(rcpt_to=_B, arrives=_B),
    "null-sender": Attempt(rcpt_to=_B, arrives=_B, has_sender=False),
    "helo-own-name": Attempt(rcpt_to=_B, arrives=_B, helo=OWN),
    "helo-localhost": Attempt(rcpt_to=_B, arrives=_B, helo="localhost"),
    "helo-loopback": Attempt(rcpt_to=_B, arrives=_B, helo="[127.0.0.1]"),
    "xclient": Attempt(rcpt_to=_B, arrives=_B, command="XCLIENT ADDR=127.0.0.1 NAME=localhost"),
    "xforward": Attempt(rcpt_to=_B, arrives=_B, command="XFORWARD ADDR=127.0.0.1 NAME=localhost"),
    "login": Attempt(rcpt_to=_B, arrives=_B, command="AUTH PLAIN AGEAYg=="),
    # A route is dropped, as RFC 5321 section 3.6.1 wants it.
    "source-route": Attempt(rcpt_to=f"@{OWN}:{_B}", arrives=_B),
    "long-source-route": Attempt(rcpt_to=f"@{OWN},@x.example.test:{_B}", arrives=_B),
    "percent": Attempt(rcpt_to="b%example.com", arrives=_B),
    "bang": Attempt(rcpt_to="example.com!b", arrives=_B),
    "quoted": Attempt(rcpt_to=f'"{_B}"', arrives=_B),
    "quoted-percent": Attempt(rcpt_to='"b%example.com"', arrives=_B),
    # Our own name is a domain like any other: the upstream decides.
    "percent-at-own-name": Attempt(rcpt_to=f"b%example.com@{OWN}", arrives=f"b%example.com@{OWN}"),
    "bang-at-own-name": Attempt(rcpt_to=f"example.com!b@{OWN}", arrives=f"example.com!b@{OWN}"),
    "two-ats": Attempt(rcpt_to=f"{_B}@{OWN}", arrives=f'"{_B}"@{OWN}'),
    "quoted-at-own-name": Attempt(rcpt_to=f'"{_B}"@{OWN}', arrives=f'"{_B}"@{OWN}'),
    "quoted-percent-at-own-name": Attempt(rcpt_to=f'"b%example.com"@{OWN}', arrives=f"b%example.com@{OWN}"),
    "own-name": Attempt(rcpt_to=f"b@{OWN}", arrives=f"b@{OWN}"),
    "postmaster": Attempt(rcpt_to="postmaster", arrives=f"postmaster@{OWN}"),
    # RFC 5321 section 4.5.1 has this one accepted from everyone, where there is a postmaster.
    "postmaster-in-capitals": Attempt(rcpt_to="PostMaster", arrives=f"PostMaster@{OWN}"),
    "postmaster-by-bdat": Attempt(
        rcpt_to="postmaster", arrives=f"postmaster@{OWN}", data="BDAT 9 LAST\r\nS: x\r\n\r\nx"
    ),
    "localhost": Attempt(rcpt_to="b@localhost", arrives="b@localhost"),
    "address": Attempt(rcpt_to="b@[192.0.2.9]", arrives="b@[192.0.2.9]"),
    # Ourselves; and we have no mailboxes.
    "own-address": Attempt(rcpt_to="b@[127.0.0.1]", arrives=""),
    "own-ipv6-address": Attempt(rcpt_to="b@[IPv6:::1]", arrives=""),
}
# For nobody: they tell strangers which addresses exist, start deliveries, or end sessions that others could use.
COMMANDS: Final = ("VRFY b@example.com", "EXPN list", "ETRN example.com", "ETRN @example.com", "TURN", "BDAT 0 LAST")

MAY_SEND: Final = {
    "neighbour": True,
    "neighbour-ipv6": True,
    "neighbour-on-second-network": True,
    "container-itself": True,
    "container-itself-ipv6": True,
    "gateway": False,
    "gateway-ipv6": False,
    "gateway-of-second-network": False,
    "neighbour-link-local": False,
    "published-on-loopback": False,
    "published-on-ipv6-loopback": False,
    "published-on-ipv6-for-ipv4": False,
    "published-without-proxy": False,
    "routed": False,
    "none-neighbour": False,
    "none-gateway": False,
    "none-container-itself": True,
}
SENDERS: Final = [name for name, may_send in MAY_SEND.items() if may_send]
STRANGERS: Final = [name for name, may_send in MAY_SEND.items() if not may_send]
# ETRN's refusal is the one that Postfix writes as a warning.
_ALLOWED: Final = ("warning: reject: ETRN",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """The relays of this file, and where their clients are."""

    relays: Mapping[str, Relay]
    places: Mapping[str, Place]

    def find(self, name: str) -> tuple[Relay, Place]:
        """The relay that a client of this kind talks to, and the client."""
        if name not in self.places:
            pytest.skip("this machine has no address but docker's own")
        kinds = {"none": "none", "published-on-ipv6-for-ipv4": "ipv4-only"}
        return self.relays[next((kinds[start] for start in kinds if name.startswith(start)), "default")], self.places[
            name
        ]


def find_outer_address() -> str:
    """An address of this machine that is none of docker's: what is published there is reached without a proxy."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.200", 9))
        return str(probe.getsockname()[0])
    return ""


def find_port(relay: Relay, host: str, port: int) -> int:
    """The port of this machine's address behind which docker publishes one."""
    bindings = relay.container.inspect()["NetworkSettings"]["Ports"][f"{port}/tcp"]
    return next(int(entry["HostPort"]) for entry in bindings if entry["HostIp"] == host)


def run_ip(relay: Relay, *arguments: str) -> str:
    """Run ip(8) in the relay's network."""
    options = ["run", "--rm", "--network", f"container:{relay.container.name}", "--cap-add", "NET_ADMIN"]
    return run_docker([*options, "--entrypoint", "ip", MOCK_IMAGE, *arguments]).text


@pytest.fixture(scope="module")
def stage(
    engine: Engine, network: Network, client: Client, the_upstream: Upstream, module_relays: Relays
) -> Iterator[Stage]:
    """A relay on two networks, one that trusts nobody, one on an IPv4 network published over IPv6."""
    second = engine.network()
    default = module_relays.create(
        allowed=_ALLOWED,
        arguments=["--publish=127.0.0.1::25", "--publish=[::1]::25", "--publish=0.0.0.0::587"],
    )
    engine.connect(default.container, second)
    none = module_relays.create({"MYNETWORKS": "none"}, allowed=_ALLOWED)
    # Its upstream stays out of reach: nothing must come so far.
    ipv4 = Relays(engine, second, the_upstream)
    ipv4_only = ipv4.create(allowed=_ALLOWED, arguments=["--publish=[::1]::25"])
    relays = {"default": default, "none": none, "ipv4-only": ipv4_only}
    for relay in relays.values():
        relay.start()
    for relay in relays.values():
        relay.wait_ready()
    on_second = Client(engine, second)
    far = Client(engine, network, arguments=["--cap-add", "NET_ADMIN"])
    far.container.exec(["ip", "address", "add", f"{ROUTED}/32", "dev", "eth0"])
    own, own6 = default.container.address(network), default.container.address6(network)
    run_ip(default, "route", "add", f"{ROUTED}/32", "via", far.container.address(network))
    link_local = run_ip(default, "-6", "-o", "address", "show", "scope", "link", "to", "fe80::/10").split()[3]
    places = {
        "neighbour": Place(host=own, container=client.container),
        "neighbour-ipv6": Place(host=own6, container=client.container),
        "neighbour-on-second-network": Place(host=default.container.address(second), container=on_second.container),
        "container-itself": Place(host="127.0.0.1", container=default.container, python=CONTAINER_PYTHON),
        "container-itself-ipv6": Place(host="::1", container=default.container, python=CONTAINER_PYTHON),
        "gateway": Place(host=own),
        "gateway-ipv6": Place(host=own6),
        "gateway-of-second-network": Place(host=default.container.address(second)),
        "neighbour-link-local": Place(host=f"{link_local.split('/')[0]}%eth0", container=client.container),
        "published-on-loopback": Place(host="127.0.0.1", port=find_port(default, "127.0.0.1", 25)),
        "published-on-ipv6-loopback": Place(host="::1", port=find_port(default, "::1", 25)),
        "published-on-ipv6-for-ipv4": Place(host="::1", port=find_port(ipv4_only, "::1", 25)),
        "routed": Place(host=own, container=far.container, source=ROUTED),
        "none-neighbour": Place(host=none.container.address(network), container=client.container),
        "none-gateway": Place(host=none.container.address(network)),
        "none-container-itself": Place(host="127.0.0.1", container=none.container, python=CONTAINER_PYTHON),
    }
    if outer := find_outer_address():
        places["published-without-proxy"] = Place(host=outer, port=find_port(default, "0.0.0.0", 587))
    yield Stage(relays=relays, places=places)
    complaints = ipv4.find_complaints()
    ipv4.remove()
    assert not complaints


def write_steps(name: str, attempt: Attempt) -> list[bytes]:
    """What the client says, up to the content, which comes only after a 354."""
    sender = f"{name}@example.test" if attempt.has_sender else ""
    lines = [f"EHLO {attempt.helo}", attempt.command, f"MAIL FROM:<{sender}>", f"RCPT TO:<{attempt.rcpt_to}>"]
    end = "" if attempt.data.startswith("BDAT") else "\r\n"
    return [*(f"{line}\r\n".encode() for line in lines if line), f"{attempt.data}{end}".encode()]


def hand_in(place: Place) -> dict[str, list[Answer]]:
    """Try everything; the replies to MAIL, RCPT, DATA and, where DATA was taken, the content."""
    dialogues = [write_steps(name, attempt) for name, attempt in ATTEMPTS.items()]
    answers = hold_dialogues(place, dialogues)
    again = {
        index: [*dialogues[index], f"Subject: {name}\r\n\r\nhello\r\n.\r\n".encode()]
        for index, name in enumerate(ATTEMPTS)
        if answers[index][-1].code == 354
    }
    for index, answer in zip(again, hold_dialogues(place, list(again.values())), strict=True):
        answers[index] = answer
    return {name: answers[index] for index, name in enumerate(ATTEMPTS)}


def has_queued(relay: Relay) -> str:
    """The queue files of a relay, also those that no list shows."""
    folders = "incoming active deferred hold maildrop corrupt bounce defer"
    return relay.exec(["bash", "-c", f"cd /var/spool/postfix && find {folders} -type f"]).text


@pytest.mark.parametrize("name", STRANGERS)
def test_stranger_is_refused_whatever_it_tries(name: str, stage: Stage, upstream: Upstream) -> None:
    """Nothing that a client says can make up for where it is; and nothing of it is kept."""
    relay, place = stage.find(name)
    for trick, answers in hand_in(place).items():
        if ATTEMPTS[trick].rcpt_to.lower() != "postmaster":
            assert answers[-2].code >= 500, f"{trick}: RCPT must be refused: {answers}"
        assert answers[-1].code >= 500, f"{trick}: DATA must be refused: {answers}"
    assert has_queued(relay) == ""
    assert upstream.messages() == []


@pytest.mark.parametrize("name", SENDERS)
def test_sender_reaches_the_upstream_and_no_mailbox_of_ours(name: str, stage: Stage, upstream: Upstream) -> None:
    """Who may send may send to everyone, through the upstream and on no other way."""
    relay, place = stage.find(name)
    for trick, answers in hand_in(place).items():
        expected = 250 if ATTEMPTS[trick].arrives else 554
        assert answers[-1].code == expected, f"{trick}: {answers}"
    expected_messages = sorted(
        (f"{trick}@example.test" if attempt.has_sender else "", attempt.arrives)
        for trick, attempt in ATTEMPTS.items()
        if attempt.arrives
    )
    wait_until(lambda: len(upstream.messages()) >= len(expected_messages), 30, "everything should reach the upstream")
    assert sorted((message.mail_from, *message.rcpt_tos) for message in upstream.messages()) == expected_messages
    wait_until(lambda: not has_queued(relay), 10, "nothing should stay behind")


@pytest.mark.parametrize("name", ["neighbour", "container-itself", "gateway", "published-on-loopback"])
def test_commands_that_serve_only_strangers_are_refused_to_all(name: str, stage: Stage, upstream: Upstream) -> None:
    """VRFY and EXPN would tell addresses, ETRN would start deliveries, XCLIENT would change who a client is."""
    _, place = stage.find(name)
    steps = [f"{command}\r\n".encode() for command in COMMANDS]
    ((_, hello, *answers),) = hold_dialogues(place, [[b"EHLO x\r\n", *steps, b"QUIT\r\n"]])
    assert [answer.code for answer in answers[:-1]] == [502, 500, 459, 459, 500, 503]
    assert not {"AUTH", "XCLIENT", "XFORWARD", "VRFY"} & set(hello.text.split())
    assert upstream.messages() == []


def test_network_that_is_everyone_is_refused_at_the_start() -> None:
    """A relay that is open must not run for a second."""
    wide = ("0.0.0.0/0", "::/0", "128.0.0.0/1", "10.0.0.0/7", "[2001::]/15", "127.0.0.0/8 0.0.0.0/0")
    script = 'for networks; do MYNETWORKS=$networks authrelay run 2>&1; echo "status $?"; done'
    command = ["run", "--rm", "--network=none", "--env=RELAYHOST=x.example.test", "--entrypoint=bash", IMAGE]
    lines = run_docker([*command, "-c", script, "bash", *wide]).text.splitlines()
    assert [line for line in lines if line.startswith("status")] == ["status 78"] * len(wide)
    assert len([line for line in lines if "MYNETWORKS=" in line]) == len(wide)


@pytest.mark.parametrize("mask", [32, 31])
def test_gateway_may_send_only_when_it_is_named_itself(mask: int, relays: Relays, network: Network) -> None:
    """Saying it twice is the only way: no network that contains it, however narrow, lets it in."""
    config = network.inspect()["IPAM"]["Config"]
    gateway = next(entry["Gateway"] for entry in config if ":" not in entry.get("Gateway", ":"))
    address = gateway if mask == 32 else f"{gateway.rpartition('.')[0]}.0/{mask}"
    relay = relays.start({"MYNETWORKS": f"127.0.0.0/8 {address}"})
    steps = [b"EHLO x\r\n", b"MAIL FROM:<a@example.test>\r\n", b"RCPT TO:<b@example.com>\r\n", b"QUIT\r\n"]
    (answers,) = hold_dialogues(Place(host=relay.container.address(network)), [steps])
    assert answers[3].code == (250 if mask == 32 else 554)
