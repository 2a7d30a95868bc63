"""What was received, for a person to read. Network: the control API of the mock beside it."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import Any

from .control import PORT


def fetch(path: str) -> Any:
    """Ask the mock of this container. Raises OSError when it is not there."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=10) as response:
        return json.load(response)


def show() -> str:
    """Every message with the session that brought it."""
    sessions = {session["id"]: session for session in fetch("/sessions")}
    messages = fetch("/messages")
    if not messages:
        return f"No message yet ({len(sessions)} connections)."
    return "\n".join(
        _render(number, message, sessions[message["session_id"]]) for number, message in enumerate(messages, 1)
    )


def _render(number: int, message: dict[str, Any], session: dict[str, Any]) -> str:
    logins = [login for login in session["logins"] if login["is_accepted"]]
    certificate = session["client_certificate_subject"]
    tls = f"{session['tls_version']} {session['tls_cipher']}" if session["tls_version"] else "none"
    login = f"{logins[-1]['identity']} by {logins[-1]['mechanism']}" if logins else "none"
    lines = [
        f"=== message {number} ===",
        f"from host     {session['peer']} to port {session['port']} (HELO {session['helo']})",
        f"TLS           {tls}",
        f"login         {login}",
        f"client cert   {certificate or 'none shown'}",
    ]
    if certificate:
        lines.append(f"  SHA-256     {session['client_certificate_sha256']}")
    lines.append(f"MAIL FROM     <{message['mail_from']}> {' '.join(message['mail_parameters'])}".rstrip())
    lines += [f"RCPT TO       <{recipient}>" for recipient in message["rcpt_tos"]]
    lines.append(f"final reply   {message['final_code'] or 'not sent'}")
    text = base64.b64decode(message["data"]).decode("utf-8", "replace").replace("\r\n", "\n")
    return "\n".join([*lines, "", text])
