"""Where the syslog server is, and the way to it: UDP, TCP, or TLS that is verified. Network, disk.

Uses `connection` for its deadline and for TCP, and `resolver` to find where datagrams go. What is sent, and what may
have to be sent again, is in `syslog_session`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from dataclasses import dataclass
from typing import Any, Final

from entrypoint import paths
from entrypoint.system.connection import ConnectError, Deadline, connect
from entrypoint.system.resolver import LookUpTimeoutError, look_up

_KEEP_ALIVE: Final = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}
"""A server that vanished is found out within 90 seconds; TCP alone would never look."""
_SILENCE_MILLISECONDS: Final = 30_000
"""How long the other kernel may leave unconfirmed what was sent (tcp(7) TCP_USER_TIMEOUT); else it is 15 minutes."""
_SEND_BUFFER_BYTES: Final = 65536
"""What can be on the way at once, and so what may have to be sent again."""
_WRONG_NAME: Final = frozenset({62, 64})
_NOT_YET, _EXPIRED = 9, 10
"""X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH, _CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED (openssl-verify(1))."""


@dataclass(frozen=True, kw_only=True)
class SyslogServer:
    """What the plan says of SYSLOG_URL; `authorities` is a CA file, `own_name` the HOSTNAME of every message."""

    url: str
    """As a person may have set it, with its port."""
    transport: str
    host: str
    port: int
    authorities: str
    own_name: str


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why no line gets through: `kind` is unreachable, certificate, tls, closed or hanging; `text` tells a person."""

    kind: str
    text: str


def read_syslog_server() -> SyslogServer:
    """Return what the plan says; raise OSError where there is no server."""
    with open(paths.SYSLOG, encoding="utf-8") as file:
        return SyslogServer(**json.load(file))


def read_stamp() -> tuple[tuple[int, int], ...]:
    """Return what is different once the server, or the CA for it, has been changed."""
    stamps = []
    for path in (paths.SYSLOG, paths.SYSLOG_AUTHORITIES):
        with contextlib.suppress(OSError):
            found = os.stat(path)
            stamps.append((found.st_ino, found.st_mtime_ns))
    return tuple(stamps)


def open_way(server: SyslogServer, deadline: Deadline, turn: int = 0) -> socket.socket:
    """Return a connected socket, inside TLS where that is meant; raise OSError.

    `turn` is how often this went wrong: datagrams go to another address of the name each time, since only a refusal
    tells that one does not work.
    """
    if server.transport == "udp":
        return _open_datagrams(server, deadline, turn)
    connection = connect(server.host, server.port, deadline)
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in {**_KEEP_ALIVE, socket.TCP_USER_TIMEOUT: _SILENCE_MILLISECONDS}.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        return _begin_tls(connection, server, deadline) if server.transport == "tls" else connection
    except BaseException:
        connection.close()
        raise


def explain(error: OSError, server: SyslogServer) -> Trouble:
    """Return why a connection did not come about, or ended, in words for a person."""
    if isinstance(error, ConnectError):
        error = list(error.reasons.values())[-1]
    # What ssl's errors have, without importing it.
    verdict, code = getattr(error, "verify_message", None), getattr(error, "verify_code", 0)
    if verdict:
        text = f"its certificate is not accepted ({verdict.rstrip('.')}). {_find_remedy(code, server)}"
        return Trouble(kind="certificate", text=text)
    if hasattr(error, "library"):
        reason = getattr(error, "reason", None) or "it closed the connection"
        text = f"TLS cannot be begun ({reason}). It must speak TLS 1.2 or newer on port {server.port}"
        return Trouble(kind="tls", text=text)
    reason = error.strerror or re.sub(r"^_ssl\.c:\d+: ", "", str(error)) or "it does not answer in time"
    if isinstance(error, socket.gaierror | LookUpTimeoutError):
        remedy = "Is it written right, and does the name server know it?"
        return Trouble(kind="unreachable", text=f"it cannot be reached (the name {server.host}: {reason}). {remedy}")
    port = f"{'UDP' if server.transport == 'udp' else 'TCP'} port {server.port}"
    text = f"it cannot be reached ({reason}). Is it listening on {port}, and does every firewall let that through?"
    return Trouble(kind="unreachable", text=text)


def _find_remedy(code: int, server: SyslogServer) -> str:
    if code in _WRONG_NAME:
        return f"Write the name that is in it into SYSLOG_URL, or have it issued for {server.host}"
    if code == _EXPIRED:
        return "Its operator must renew it"
    if code == _NOT_YET:
        return "Check the clocks of both machines"
    return "Give the CA that signed it, for example SYSLOG_CA_FILE=/run/secrets/syslog-ca.pem"


def _open_datagrams(server: SyslogServer, deadline: Deadline, turn: int) -> socket.socket:
    reasons: dict[str, OSError] = {}
    found = look_up(server.host, server.port, socket.AF_UNSPEC, deadline.left())
    first = turn % len(found)
    for family, _, _, _, place in (*found[first:], *found[:first]):
        try:
            way = socket.socket(family, socket.SOCK_DGRAM)
            # Connected, so that the kernel tells of a port that nobody listens on (udp(7)).
            way.connect(place)
        except OSError as error:
            reasons[str(place[0])] = error
        else:
            return way
    raise ConnectError(reasons)


def _begin_tls(connection: socket.socket, server: SyslogServer, deadline: Deadline) -> Any:
    import ssl  # only who sends over TLS pays for it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=server.authorities)
    connection.settimeout(deadline.left())
    return context.wrap_socket(connection, server_hostname=server.host)
