"""From the kernel's route tables to subnets and gateways: who is a neighbour decides who may send."""

from __future__ import annotations

import io
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

from entrypoint.system import interfaces
from entrypoint.system.interfaces import (
    find_silent_gateways,
    parse_ipv4_routes,
    parse_ipv6_routes,
    read_routes,
    resolve_name,
)

_HEAD: Final = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
_NOTHING: Final = "00000000000000000000000000000000"
_LOOPBACK: Final = (
    f"00000000000000000000000000000001 80 {_NOTHING} 00 {_NOTHING} 00000000 00000003 00000000 80200001       lo\n"
    f"{_NOTHING} 00 {_NOTHING} 00 {_NOTHING} ffffffff 00000001 00000000 00200200       lo\n"
)


def _route(interface: str, destination: str, gateway: str, flags: str, mask: str) -> str:
    return f"{interface}\t{destination}\t{gateway}\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0\n"


DOCKER: Final = (
    _HEAD
    + _route("eth0", "00000000", "010012AC", "0003", "00000000")
    + _route("eth0", "000012AC", "00000000", "0001", "0000FFFF")
)
TWO_NETWORKS: Final = DOCKER + _route("eth1", "000013AC", "00000000", "0001", "00F0FFFF")
HOST: Final = (
    _HEAD
    + _route("ens3", "00000000", "017100CB", "0003", "00000000")
    + _route("docker0", "000011AC", "00000000", "0001", "0000FFFF")
    + _route("ens3", "007100CB", "00000000", "0001", "00FFFFFF")
    + _route("ens3", "FEA9FEA9", "017100CB", "0007", "FFFFFFFF")
    + _route("*", "0000000A", "00000000", "0201", "000000FF")
    + _route("eth9", "00000A0A", "00000000", "0000", "0000FFFF")
)
CALICO: Final = (
    _HEAD
    + _route("eth0", "00000000", "0101FEA9", "0003", "00000000")
    + _route("eth0", "0101FEA9", "00000000", "0005", "FFFFFFFF")
)
LINK_SCOPE_DEFAULT: Final = _HEAD + _route("eth0", "00000000", "00000000", "0001", "00000000")


@pytest.mark.parametrize(
    ("text", "subnets", "gateways"),
    [
        (DOCKER, ["172.18.0.0/16"], ["172.18.0.1"]),
        (TWO_NETWORKS, ["172.18.0.0/16", "172.19.0.0/20"], ["172.18.0.1"]),
        (HOST, ["172.17.0.0/16", "203.0.113.0/24"], ["203.0.113.1", "203.0.113.1"]),
        (CALICO, [], ["169.254.1.1"]),
        (LINK_SCOPE_DEFAULT, [], []),
        (_HEAD, [], []),
    ],
    ids=["docker-bridge", "two-networks", "host-network", "calico", "link-scope-default", "no-network"],
)
def test_ipv4_routes_give_attached_subnets_and_gateways(text: str, subnets: list[str], gateways: list[str]) -> None:
    """A gateway that passed for a neighbour would let everyone send whose connections come through it."""
    found = parse_ipv4_routes(text)
    assert [str(subnet) for subnet in found[0]] == subnets
    assert [str(gateway) for gateway in found[1]] == gateways


def _route6(destination: str, prefix: str, gateway: str, flags: str, interface: str) -> str:
    return f"{destination} {prefix} {_NOTHING} 00 {gateway} 00000400 00000001 00000000 {flags} {interface:>8}\n"


_ULA: Final = "fd0000180000000000000000000000"
DOCKER6: Final = (
    _route6(_ULA + "00", "40", _NOTHING, "00000001", "eth0")
    + _route6("fe800000000000000000000000000000", "40", _NOTHING, "00000001", "eth0")
    + _route6(_NOTHING, "00", _ULA + "01", "00000003", "eth0")
    + _LOOPBACK
    + _route6(_ULA + "02", "80", _NOTHING, "80200001", "eth0")
    + _route6("fe800000000000000042acfffe120002", "80", _NOTHING, "80200001", "eth0")
    + _route6("ff000000000000000000000000000000", "08", _NOTHING, "00000001", "eth0")
)
DOWN6: Final = _route6(_ULA + "00", "40", _NOTHING, "00000000", "eth0")
HOST_ROUTE6: Final = _route6(_ULA + "07", "80", _NOTHING, "00000001", "eth0")


@pytest.mark.parametrize(
    ("text", "subnets", "gateways"),
    [
        (DOCKER6, ["fd00:18::/64"], ["fd00:18::1"]),
        (_LOOPBACK, [], []),
        ("", [], []),
        (DOWN6, [], []),
        (HOST_ROUTE6, [], []),
    ],
    ids=["unique-local", "loopback-only", "no-network", "down", "host-route"],
)
def test_ipv6_routes_give_attached_subnets_and_gateways(text: str, subnets: list[str], gateways: list[str]) -> None:
    """Docker's IPv6 networks are NATed as well: the gateway is everyone outside."""
    found = parse_ipv6_routes(text)
    assert [str(subnet) for subnet in found[0]] == subnets
    assert [str(gateway) for gateway in found[1]] == gateways


@pytest.mark.parametrize(
    ("own", "expected"),
    [("", ["172.19.0.1", "fd00:19::1"]), ("172.19.0.1", ["fd00:19::1"])],
    ids=["container", "host-network"],
)
def test_network_without_a_route_out_has_a_gateway_all_the_same(
    own: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second network's gateway is in no route table, and it is the host, and whoever comes through it."""
    monkeypatch.setattr(interfaces, "is_own_address", lambda address: str(address) == own)
    names = ["172.18.0.0/16", "172.19.0.0/16", "10.0.0.0/31", "fd00:19::/64"]
    subnets = [ipaddress.ip_network(name) for name in names]
    found = find_silent_gateways(subnets, [ipaddress.ip_address("172.18.0.254")])
    assert [str(gateway) for gateway in found] == expected


def test_address_of_this_machine_is_its_own() -> None:
    """With the host's network the first address of docker's subnets is the host itself."""
    assert interfaces.is_own_address(ipaddress.ip_address("127.0.0.1"))
    assert not interfaces.is_own_address(ipaddress.ip_address("198.51.100.1"))


def _serve_proc(files: dict[str, str]) -> Callable[..., io.StringIO]:
    def opened(path: str, **_: Any) -> io.StringIO:
        if path not in files:
            raise FileNotFoundError(path)
        return io.StringIO(files[path])

    return opened


def test_routes_are_read_from_both_families_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without IPv6 has no such file, and that is no reason not to start."""
    monkeypatch.setattr(interfaces, "is_own_address", lambda _: True)
    monkeypatch.setattr(interfaces, "open", _serve_proc({"/proc/net/route": HOST}), raising=False)
    subnets, gateways = read_routes()
    assert [str(subnet) for subnet in subnets] == ["172.17.0.0/16", "203.0.113.0/24"]
    assert [str(gateway) for gateway in gateways] == ["203.0.113.1"]
    both = {"/proc/net/route": DOCKER, "/proc/net/ipv6_route": DOCKER6}
    monkeypatch.setattr(interfaces, "open", _serve_proc(both), raising=False)
    assert [str(subnet) for subnet in read_routes()[0]] == ["172.18.0.0/16", "fd00:18::/64"]


def test_host_name_is_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """It becomes the name in EHLO when MYHOSTNAME is not set."""
    monkeypatch.setattr(socket, "gethostname", lambda: "Relay-1")
    assert interfaces.read_host_name() == "relay-1"


def test_name_that_does_not_resolve_has_no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is not up yet must not keep the relay from starting."""

    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert resolve_name("proxy.example.com") == ()


def test_name_server_that_does_not_answer_does_not_hold_up_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library waits for minutes where several name servers are named, and Compose gives up before."""
    is_over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [is_over.wait(30)][:0])
    monkeypatch.setattr(interfaces, "_LOOK_UP_SECONDS", 0.05)
    begin = time.monotonic()
    assert resolve_name("proxy.example.com") == ()
    assert time.monotonic() - begin < 5
    is_over.set()


def test_name_has_each_of_its_addresses_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """getaddrinfo(3) repeats an address for each kind of socket."""
    answers = [
        (0, 0, 0, "", ("192.0.2.1", 0)),
        (0, 0, 0, "", ("192.0.2.1", 0)),
        (0, 0, 0, "", ("2001:db8::1", 0, 0, 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    assert [str(address) for address in resolve_name("proxy.example.com")] == ["192.0.2.1", "2001:db8::1"]
