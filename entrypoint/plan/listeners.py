"""The ports on which clients are greeted, and how a health check asks each of them. Pure."""

from __future__ import annotations

from typing import Any, Final

from entrypoint.config.nexthop import IMPLICIT_TLS_PORT
from entrypoint.config.settings import Settings

PROBE_SOURCE: Final = "127.0.0.25"
_SUBMISSION_PORTS: Final = (587, IMPLICIT_TLS_PORT)


def view_listeners(settings: Settings) -> list[dict[str, Any]]:
    """Return the ports, as columns of master.cf, whether strangers are screened there, and what each has of its own."""
    return [_view_listener(port, is_screened=is_screened(settings, port)) for port in settings.listen_ports]


def is_screened(settings: Settings, port: int) -> bool:
    """Return whether servers of strangers come to a port: on the two for submission (RFC 8314) are users' programs."""
    return bool(settings.list_domains) and port not in _SUBMISSION_PORTS


def _view_listener(port: int, *, is_screened: bool) -> dict[str, Any]:
    own = []
    if port == IMPLICIT_TLS_PORT:
        own.append("smtpd_tls_wrappermode = yes")  # RFC 8314 section 3.3
    if is_screened:
        # Two postscreen(8) cannot share one.
        own.append(f"postscreen_cache_map = lmdb:$data_directory/postscreen-{port}")
    return {"columns": f"{port:<15}", "is_screened": is_screened, "own": own}


def find_probe_targets(settings: Settings) -> list[tuple[str, int, str]]:
    """Return (address, port, source address) for each greeting that a health check must find.

    The source is an address that no client uses, so that the log can leave health checks out; IPv6 has only one
    loopback address, so that there it is the container's own.
    """
    if isinstance(settings.inet_interfaces, str):
        addresses = ["::1" if settings.inet_protocols == "ipv6" else "127.0.0.1"]
    else:
        addresses = [str(address) for address in settings.inet_interfaces]
    # On 465 TLS comes first; there is always another port, which is the same smtpd(8).
    own = (port for port in settings.own_ports if port != IMPLICIT_TLS_PORT)
    everywhere = [*own, *(one.port for one in settings.listeners if one.address is None)]
    targets = [(address, port) for address in addresses for port in everywhere]
    for one in settings.listeners:
        if one.address is not None:
            loopback = "127.0.0.1" if one.address.version == 4 else "::1"
            targets.append((loopback if one.address.is_unspecified else str(one.address), one.port))
    return [(address, port, address if ":" in address else PROBE_SOURCE) for address, port in targets]
