"""The status service: listens, and answers until it is told to end. Network, processes."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from typing import Any, Final, TextIO

from entrypoint.health.checks import make_checks
from entrypoint.journal.addresses import load_rules
from entrypoint.services.status.answers import Answers
from entrypoint.services.status.connections import Connections, open_listener
from entrypoint.services.status.redaction import hide_in_texts
from entrypoint.system.log import write_line

_RETRY_SECONDS: Final = 10.0
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nobody is asked at these
_REASONS: Final = {
    errno.EADDRINUSE: "another program has that port. Choose another one, for example 9155",
    errno.EADDRNOTAVAIL: "this container does not have that address. Use 0.0.0.0 or [::]",
    errno.EACCES: "a port below 1024 needs a privilege that it does not have. Use 9154",
    errno.EAFNOSUPPORT: "this container does not have that kind of address. Use 0.0.0.0",
}


def serve(listen: str, endpoint: TextIO) -> int:
    """Answer at `192.0.2.10:9154` or `[2001:db8::10]:9154` until TERM.

    `endpoint`: where the container's own health check learns that it is this service which has the port, and not
    another one on the same network.
    """
    host, _, port = listen.rpartition(":")
    listener = listen_at(host.strip("[]"), int(port), listen)
    with endpoint:
        endpoint.write(find_endpoint(host.strip("[]"), port))
    answers = Answers(
        {"checks": _tell_checks, "metrics": _tell_metrics, "openmetrics": _tell_openmetrics, "page": _tell_page}
    )
    connections = Connections(listener, answers.answer)
    answers.connections = connections

    def end(*_: object) -> None:
        answers.end()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        connections.turn()


def find_endpoint(address: str, port: str) -> str:
    """Return the address and the port at which the container itself reaches the service, as bash needs them."""
    return f"{_LOOPBACK.get(address, address)} {port}\n"


def listen_at(address: str, port: int, words: str) -> socket.socket:
    """Return the listening socket; as long as it cannot be had, try again, and say so once, in the user's `words`."""
    is_told = False
    while True:
        try:
            listener = open_listener(address, port)
        except OSError as error:
            if not is_told:
                reason = _REASONS.get(error.errno or 0, "set another one, or STATUS_LISTEN=none")
                text = f"STATUS_LISTEN={words}: {error.strerror}: {reason}. Mail is not affected; it is tried again"
                write_line("WARNING", text)
                is_told = True
            time.sleep(_RETRY_SECONDS)
        else:
            if is_told:
                write_line("INFO", f"STATUS_LISTEN={words}: the status service answers there now")
            return listener


# Each runs in a child of its own, and imports there what is heavy.


def _tell_checks(checks: Mapping[str, Any] | None) -> bytes:
    del checks
    return json.dumps(hide_in_texts(make_checks(), load_rules()[1])).encode()


def _tell_metrics(checks: Mapping[str, Any] | None) -> bytes:
    from entrypoint.services.status.metrics import render_metrics

    return render_metrics(checks, is_openmetrics=False)


def _tell_openmetrics(checks: Mapping[str, Any] | None) -> bytes:
    from entrypoint.services.status.metrics import render_metrics

    return render_metrics(checks, is_openmetrics=True)


def _tell_page(checks: Mapping[str, Any] | None) -> bytes:
    """Return the page's policy, a line, and the page."""
    from entrypoint.services.status.page import render_page
    from entrypoint.services.status.policy import make_policy
    from entrypoint.services.status.view import gather

    return f"{make_policy()}\n{render_page(gather(checks))}".encode("utf-8", "replace")
