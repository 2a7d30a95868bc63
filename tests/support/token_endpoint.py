"""The token endpoint of a test: tests/peers/tokens/endpoint.py in a container, with a CA of its own. Runs docker."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import pathlib
from typing import Any, Final

from tests.support.authorities import Authority
from tests.support.engine import Container, Engine, File, Network
from tests.support.upstream import MOCK_IMAGE
from tests.support.wait import wait_until

TOKEN_HOST: Final = "login.example.test"
TOKEN_URL: Final = f"https://{TOKEN_HOST}/token"
_CONTROL_PORT: Final = 8026


class TokenEndpoint:
    """A token endpoint, and what it was asked."""

    def __init__(self, engine: Engine, network: Network, key: bytes) -> None:
        """`key`: what it signs access tokens with, as JSON Web Tokens by HS256."""
        self.authority = Authority()
        script = pathlib.Path(__file__).parents[1] / "peers" / "tokens" / "endpoint.py"
        self.container: Container = engine.run(
            MOCK_IMAGE,
            ["python", "/endpoint.py"],
            kind="tokens",
            network=network,
            aliases=(TOKEN_HOST,),
            files={
                "/endpoint.py": File(data=script.read_bytes()),
                "/tls/combined.pem": File(data=self.authority.make_chain(TOKEN_HOST).combined_pem.encode()),
            },
            arguments=["--publish", f"127.0.0.1::{_CONTROL_PORT}"],
        )
        self._port = self.container.published_port(_CONTROL_PORT)
        wait_until(self._is_up, 20, "the token endpoint should start")
        self.order(key=base64.b64encode(key).decode())

    def order(self, **values: Any) -> None:
        """Replace parts of its state: clients, accounts, refresh_tokens, expires_in, is_rotating, bytes, device ..."""
        self._ask("POST", "/state", values)

    def fail(self, **fault: Any) -> None:
        """Answer so from now on: status, error, description, retry_after, text, hang (seconds), times."""
        self.order(fault=fault)

    def mend(self) -> None:
        """Answer well."""
        self.order(fault={})

    def forget(self) -> None:
        """Begin a new record."""
        self._ask("POST", "/forget", {})

    def requests(self, path: str = "/token") -> list[dict[str, Any]]:
        """What was asked there: grant_type, client_id, scope, status (-1: no answer), at."""
        record = self._ask("GET", "/record")["record"]
        return [request for request in record if request["path"] == path]

    def refresh_tokens(self) -> dict[str, str]:
        """The refresh tokens that are good, and whose they are."""
        found: dict[str, str] = self._ask("GET", "/record")["refresh_tokens"]
        return found

    def _is_up(self) -> bool:
        try:
            return bool(self._ask("GET", "/record"))
        except (OSError, http.client.HTTPException):
            return False

    def _ask(self, method: str, path: str, value: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(value or {}))
            return json.loads(connection.getresponse().read())
