"""The control API: HTTP and JSON, for tests and for `python -m mock show`. Network."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any

from .behaviour import parse_behaviour
from .record import render_json
from .state import State
from .tls import check_chain

PORT = 8025


def serve(state: State, listeners: list[threading.Thread]) -> None:
    """Serve the control API for ever."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthy":
                is_healthy = all(thread.is_alive() for thread in listeners)
                self._answer(200 if is_healthy else 503, is_healthy)
            elif self.path == "/sessions":
                self._answer(200, render_json(state.sessions()))
            elif self.path == "/messages":
                self._answer(200, render_json(state.messages()))
            elif self.path == "/counts":
                messages = state.messages()
                counts = {
                    "sessions": len(state.sessions()),
                    "messages": len(messages),
                    "accepted": sum(message.final_code == 250 for message in messages),
                }
                self._answer(200, counts)
            else:
                self._answer(404, "no such thing")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            try:
                answer = _apply(state, self.path, json.loads(body or b"null"))
            except (ValueError, TypeError, KeyError, OSError) as error:
                self._answer(400, f"{type(error).__name__}: {error}")
            else:
                self._answer(*answer)

        def _answer(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """The log is for what happens in SMTP."""

    http.server.ThreadingHTTPServer(("", PORT), Handler).serve_forever()


def _apply(state: State, path: str, value: Any) -> tuple[int, Any]:
    """Carry out one order. Raises for a wrong one."""
    if path == "/behaviour":
        state.behave(parse_behaviour(value))
    elif path == "/reset":
        state.reset()
    elif path == "/accounts":
        state.accounts = {str(user): str(password) for user, password in value.items()}
    elif path == "/tokens":
        state.tokens = {str(user): str(token) for user, token in value.items()}
    elif path == "/chain":
        check_chain(value["chain_pem"], value["key_pem"])
        with state.lock:
            state.chain_pem, state.key_pem = value["chain_pem"], value["key_pem"]
    elif path == "/client-certificates":
        state.client_certificates_pem = "\n".join(value)
    else:
        return 404, "no such thing"
    return 200, None
