"""What the mock saw: sessions, logins and messages, and their JSON. Pure."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

# Of the commands inside TLS; the messages are recorded apart and whole.
MAX_TRANSCRIPT_BYTES = 1 << 20


@dataclasses.dataclass(kw_only=True)
class Login:
    """One AUTH exchange."""

    mechanism: str
    identity: str
    # An access token, where the mechanism has one.
    password: bytes
    is_inside_tls: bool
    is_accepted: bool = False


@dataclasses.dataclass(kw_only=True)
class Message:
    """One message, from MAIL to the reply after its content."""

    id: int
    session_id: int
    login: str
    mail_from: str
    mail_parameters: list[str]
    rcpt_tos: list[str]
    rcpt_parameters: list[list[str]]
    # After dot-unstuffing, else exactly as received.
    data: bytes = b""
    received_at: float = 0.0
    # The reply that the client was sent after the content; None: it was sent none, and knows nothing.
    final_code: int | None = None
    final_reply_at: float | None = None


@dataclasses.dataclass(kw_only=True)
class Session:
    """One connection."""

    id: int
    peer: str
    peer_port: int
    port: int
    started_at: float
    ended_at: float | None = None
    # Raw bytes of the connection before TLS; all of them where there is no TLS.
    plain: bytearray = dataclasses.field(default_factory=bytearray)
    # Decrypted command lines, without message content.
    inside_tls: bytearray = dataclasses.field(default_factory=bytearray)
    tls_version: str | None = None
    tls_cipher: str | None = None
    tls_error: str | None = None
    sni: str | None = None
    client_certificate_subject: str | None = None
    client_certificate_sha256: str | None = None
    helo: str = ""
    # The verbs in order, "DATA." standing for a complete content.
    verbs: list[str] = dataclasses.field(default_factory=list)
    # Each reply of 400 and more: the verb that it answers ("" before the first), and its lines.
    refusals: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    logins: list[Login] = dataclasses.field(default_factory=list)
    messages: list[Message] = dataclasses.field(default_factory=list)

    def note_inside_tls(self, data: bytes) -> None:
        """Append to the transcript, up to its bound."""
        self.inside_tls += data[: max(0, MAX_TRANSCRIPT_BYTES - len(self.inside_tls))]


def render_json(value: Any) -> Any:
    """Render a record as plain JSON values; bytes become base64 text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: render_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, (list, tuple)):
        return [render_json(item) for item in value]
    return value
