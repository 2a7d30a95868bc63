"""What the kernel says of this container's networks, and what names resolve to. Reads /proc/net; DNS.

Uses `resolver`, so that a start does not wait for name servers.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

from entrypoint.system.resolver import find_addresses

_UP: Final = 0x1
_GATEWAY: Final = 0x2
_REJECT: Final = 0x200
_LOCAL: Final = 0x80000000
"""Flags of linux/route.h and linux/ipv6_route.h."""
_LOOK_UP_SECONDS: Final = 5.0
"""As long as the C library gives one name server (resolv.conf(5), `timeout`)."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_ipv4_routes(text: str) -> tuple[list[Network], list[Address]]:
    """Return the attached subnets and the gateways of /proc/net/route (proc(5)): addresses are in host byte order."""
    subnets: list[Network] = []
    gateways: list[Address] = []
    for line in text.splitlines()[1:]:
        interface, destination, gateway, flags, _, _, _, mask = line.split()[:8]
        if not int(flags, 16) & _UP or int(flags, 16) & _REJECT or interface == "lo":
            continue
        if int(flags, 16) & _GATEWAY:
            gateways.append(ipaddress.IPv4Address(bytes.fromhex(gateway)[::-1]))
        # A route to one host says nothing about neighbours; with Calico it is the one to the gateway itself.
        elif (prefix := int(mask, 16).bit_count()) not in (0, 32):
            subnets.append(ipaddress.IPv4Network((bytes.fromhex(destination)[::-1], prefix), strict=False))
    return subnets, gateways


def parse_ipv6_routes(text: str) -> tuple[list[Network], list[Address]]:
    """Return the same from /proc/net/ipv6_route; link-local and multicast routes say nothing about neighbours."""
    subnets: list[Network] = []
    gateways: list[Address] = []
    for line in text.splitlines():
        destination, prefix, _, _, gateway, _, _, _, flags, interface = line.split()
        bits = int(flags, 16)
        if not bits & _UP or bits & _LOCAL or interface == "lo":
            continue
        network = ipaddress.IPv6Network((bytes.fromhex(destination), int(prefix, 16)), strict=False)
        if bits & _GATEWAY:
            gateways.append(ipaddress.IPv6Address(bytes.fromhex(gateway)))
        elif network.prefixlen not in (0, 128) and not network.is_link_local and not network.is_multicast:
            subnets.append(network)
    return subnets, gateways


def find_silent_gateways(subnets: Sequence[Network], gateways: Sequence[Address]) -> list[Address]:
    """Return the first address of each attached subnet through which no route leads, unless it is our own.

    A container on two networks has its default route in one, and the other's gateway, which engines put first in a
    subnet, is in no table; but it reaches us all the same, and stands for everyone once the first network is detached.
    """
    return [
        subnet[1]
        for subnet in subnets
        if subnet.num_addresses > 2
        and not any(gateway in subnet for gateway in gateways)
        and not is_own_address(subnet[1])
    ]


def is_own_address(address: Address) -> bool:
    """Return whether this container has the address, as with the host's network. Nothing is sent."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return False
        return ipaddress.ip_address(probe.getsockname()[0]) == address


def read_routes() -> tuple[tuple[Network, ...], tuple[Address, ...]]:
    """Return the subnets that this container's interfaces are attached to, and its gateways."""
    subnets: list[Network] = []
    gateways: list[Address] = []
    for path, parse in (("/proc/net/route", parse_ipv4_routes), ("/proc/net/ipv6_route", parse_ipv6_routes)):
        try:
            with open(path, encoding="ascii") as file:
                found = parse(file.read())
        except FileNotFoundError:  # a kernel without IPv6
            continue
        subnets += found[0]
        gateways += found[1]
    gateways += find_silent_gateways(subnets, gateways)
    return tuple(dict.fromkeys(subnets)), tuple(dict.fromkeys(gateways))


def read_host_name() -> str:
    """Return the container's host name."""
    return socket.gethostname().lower()


def resolve_name(name: str) -> tuple[Address, ...]:
    """Return the addresses of a name, none where it does not resolve now."""
    try:
        return tuple(map(ipaddress.ip_address, find_addresses(name, _LOOK_UP_SECONDS)))
    except OSError:
        return ()
