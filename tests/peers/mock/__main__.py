"""The mock's command line: serve (the default), show, healthy."""

from __future__ import annotations

import os
import pathlib
import sys

from . import control, server, show
from .authority import make_server_certificate
from .state import State


def serve() -> None:
    """Serve SMTP and the control API. Only the environment is needed: MOCK_HOSTNAME, MOCK_ACCOUNTS (lines of
    user:password), MOCK_AUTHORITY_DIR, MOCK_CLIENT_CERTIFICATE_FILE."""
    hostname = os.environ.get("MOCK_HOSTNAME") or "mail.example.test"
    accounts = dict(line.split(":", 1) for line in os.environ.get("MOCK_ACCOUNTS", "").splitlines() if ":" in line)
    directory = os.environ.get("MOCK_AUTHORITY_DIR")
    file = os.environ.get("MOCK_CLIENT_CERTIFICATE_FILE")
    chain_pem, key_pem = make_server_certificate(hostname, pathlib.Path(directory) if directory else None)
    state = State(
        hostname=hostname,
        accounts=accounts,
        chain_pem=chain_pem,
        key_pem=key_pem,
        client_certificate_file=pathlib.Path(file) if file else None,
    )
    control.serve(state, server.listen(state))


def main(arguments: list[str]) -> int:
    """Run one command."""
    if not arguments:
        serve()
    elif arguments == ["show"]:
        print(show.show())
    elif arguments == ["healthy"]:
        try:
            return 0 if show.fetch("/healthy") else 1
        except OSError:
            return 1
    else:
        print("usage: python -m mock [show | healthy]", file=sys.stderr)
        return 64
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
