"""Who may send: from MYNETWORKS, or the container's own subnets, to Postfix's `mynetworks`. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final

from entrypoint.config.settings import Settings
from entrypoint.config.values import IPAddress, IPNetwork
from entrypoint.plan.files import Facts

_LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def choose_networks(settings: Settings, facts: Facts) -> tuple[IPNetwork, ...]:
    """Return the networks whose hosts may send.

    By default loopback and the attached subnets, as long as they are private: with `--network host` on a rented server
    the attached subnet belongs to strangers.
    """
    if settings.mynetworks is not None:
        return settings.mynetworks or _LOOPBACK
    return (*_LOOPBACK, *(subnet for subnet in facts.subnets if subnet.is_private))


def find_public_subnets(settings: Settings, facts: Facts) -> tuple[IPNetwork, ...]:
    """Return the attached subnets that the default leaves out because they are public."""
    if settings.mynetworks is not None:
        return ()
    return tuple(subnet for subnet in facts.subnets if not subnet.is_private)


def choose_excluded_gateways(networks: tuple[IPNetwork, ...], gateways: tuple[IPAddress, ...]) -> tuple[IPAddress, ...]:
    """Return the gateways that lie in a network but are not named themselves.

    Behind a userland proxy or an IPv6 NAT every outsider arrives from the gateway's address.
    """
    return tuple(
        gateway
        for gateway in gateways
        if any(gateway in network for network in networks) and ipaddress.ip_network(gateway) not in networks
    )


def render_networks(networks: tuple[IPNetwork, ...], excluded: tuple[IPAddress, ...]) -> str:
    """Return the value of mynetworks: first what is left out, since the first match counts."""
    return " ".join([*(f"!{format_host(address)}" for address in excluded), *map(_format_network, networks)])


def render_gateway_answers(gateways: tuple[IPAddress, ...], *, can_log_in: bool) -> str:
    """Return a cidr_table(5) that tells a client behind a gateway what to do.

    It names no network and decides nothing but the text: without it the next restriction refuses the client as well.
    """
    login = "Log in, inside TLS. " if can_log_in else ""
    return "".join(
        f"{gateway} REJECT {gateway} is this container's gateway: anyone outside may look like it. {login}"
        f"If only your own programs reach the published port, add {gateway} to MYNETWORKS\n"
        for gateway in gateways
    )


def format_host(address: IPAddress) -> str:
    """Return an address as mynetworks and inet_interfaces want it: IPv6 in brackets."""
    return f"[{address}]" if address.version == 6 else str(address)


def _format_network(network: IPNetwork) -> str:
    if network.version == 6:
        return f"[{network.network_address}]/{network.prefixlen}"
    return str(network)
