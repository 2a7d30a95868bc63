"""Hands one message to the relay in this container, as an application does. Network.

Uses `smtp_session` to speak SMTP, and `handshake` where SMTPD_TLS_SECURITY_LEVEL=encrypt wants TLS of everyone.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from entrypoint.system.handshake import TlsOrder
from entrypoint.system.smtp_session import Reply, SessionError, connect

# "250 2.0.0 Ok: queued as 4C8D31F2A" (smtpd(8)).
_QUEUED: Final = re.compile(r"queued as ([0-9A-Za-z]+)")

_WANTS_TLS: Final = 530
"""RFC 3207 section 4. Whose certificate it is does not matter: this is our own relay, on our own address."""


class RefusedError(Exception):
    """The relay itself did not take the message: its words."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What the relay took."""

    greeting: str
    reply: str
    """To the content: the message is the relay's from here on."""
    queue_id: str
    """Empty where the reply names none."""
    taken_at: float
    """Seconds since the epoch."""
    refused: dict[str, str]
    """Recipients that it did not take, with its words."""


def submit(
    listener: tuple[str, int], *, name: str, sender: str, recipients: Sequence[str], message: str, seconds: float
) -> Submission:
    """Submit a message; raise RefusedError, or SessionError when nobody answers as an SMTP server does."""
    session = connect(*listener, seconds)
    with contextlib.closing(session):
        greeting = _demand(session.read_reply(), "the greeting")
        _demand(session.ask(f"EHLO {name}".encode()), "EHLO")
        reply = session.ask(f"MAIL FROM:<{sender}>".encode())
        if reply.code == _WANTS_TLS:
            _demand(session.ask(b"STARTTLS"), "STARTTLS")
            session.start_tls(TlsOrder(server_name=name))
            _demand(session.ask(f"EHLO {name}".encode()), "EHLO")
            reply = session.ask(f"MAIL FROM:<{sender}>".encode())
        _demand(reply, f"the sender <{sender}>")
        replies = {recipient: session.ask(f"RCPT TO:<{recipient}>".encode()) for recipient in recipients}
        refused = {recipient: str(reply) for recipient, reply in replies.items() if reply.code >= 400}
        if len(refused) == len(recipients):
            raise RefusedError("; ".join(f"for <{recipient}>: {words}" for recipient, words in refused.items()))
        _demand(session.ask(b"DATA"), "DATA")
        # A line that is a dot alone would end the message (RFC 5321 section 4.5.2).
        content = re.sub(r"(?m)^\.", "..", message).replace("\n", "\r\n")
        reply = _demand(session.ask(f"{content}.".encode("ascii")), "the message")
        taken_at = time.time()
        with contextlib.suppress(SessionError):
            session.ask(b"QUIT")
    queued = _QUEUED.search(str(reply))
    return Submission(
        greeting=str(greeting),
        reply=str(reply),
        queue_id=queued[1] if queued else "",
        taken_at=taken_at,
        refused=refused,
    )


def _demand(reply: Reply, what: str) -> Reply:
    if reply.code >= 400:
        raise RefusedError(f"at {what}: {reply}")
    return reply
