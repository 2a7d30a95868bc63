"""The listeners: one thread for each port and for each session. Network."""

from __future__ import annotations

import socket
import threading
import time

from .session import SmtpSession
from .state import State

# RFC 5321 and RFC 6409 start in the clear; RFC 8314 starts with TLS.
PORTS = {25: False, 587: False, 465: True}
_LOOK_SECONDS = 0.2


def listen(state: State) -> list[threading.Thread]:
    """Bind every port, IPv6 and IPv4 alike, and serve it in the background."""
    threads = []
    for port, is_implicit_tls in PORTS.items():
        thread = threading.Thread(target=_serve, args=(_open_listener(port), state, port, is_implicit_tls), daemon=True)
        thread.start()
        threads.append(thread)
    return threads


def _open_listener(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
    else:
        listener = socket.create_server(("", port), backlog=512)
    listener.settimeout(_LOOK_SECONDS)
    return listener


def _serve(listener: socket.socket, state: State, port: int, is_implicit_tls: bool) -> None:
    while True:
        if not state.behaviour.is_listening:
            listener.close()
            while not state.behaviour.is_listening:
                time.sleep(_LOOK_SECONDS)
            listener = _open_listener(port)
        try:
            connection, address = listener.accept()
        except TimeoutError:
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        record = state.open_session(peer=address[0].removeprefix("::ffff:"), peer_port=address[1], port=port)
        session = SmtpSession(state, record, connection, is_implicit_tls=is_implicit_tls)
        threading.Thread(target=session.run, daemon=True).start()
