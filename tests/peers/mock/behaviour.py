"""What the mock does on purpose, as one value that the control API replaces. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any

STAGES = ("connect", "handshake", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "content", "end-of-data")
KINDS = ("reply", "hang", "drop", "reset")
AUTH_OFFERS = ("inside-tls", "absent", "before-tls", "always")
EXTENSIONS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """One misbehaviour at one stage: a reply of the test's choice, silence, or a connection that is closed or reset."""

    kind: str
    code: int = 0
    text: str = ""
    # How often it happens before the stage is good again; None: always.
    times: int | None = None
    # Only for a command (or, at end-of-data, a message) that contains this text.
    containing: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Everything that can be wrong with the mock; the defaults are a good upstream."""

    # No: connections are refused; those that are there go on.
    is_listening: bool = True
    starttls_offered: bool = True
    auth_offered: str = "inside-tls"
    require_auth: bool = True
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    extensions: tuple[str, ...] = EXTENSIONS
    tls_minimum: str = "TLSv1.2"
    tls_maximum: str = "TLSv1.3"
    # Before each reply: a tarpit.
    reply_delay_seconds: float = 0.0
    final_reply_delay_seconds: float = 0.0
    # More, chosen anew for each message, from none to this.
    final_reply_jitter_seconds: float = 0.0
    faults: dict[str, Fault] = dataclasses.field(default_factory=dict)


def parse_behaviour(value: dict[str, Any]) -> Behaviour:
    """Make a behaviour from JSON. An unknown word is a ValueError: no test misbehaves in vain."""
    known = {field.name for field in dataclasses.fields(Behaviour)}
    if unknown := set(value) - known:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}. Known: {', '.join(sorted(known))}")
    faults = {}
    for stage, fault in value.get("faults", {}).items():
        if stage not in STAGES:
            raise ValueError(f"{stage}: not a stage. Stages: {', '.join(STAGES)}")
        made = Fault(**fault)
        if made.kind not in KINDS:
            raise ValueError(f"{made.kind}: not a kind of fault. Kinds: {', '.join(KINDS)}")
        if made.kind == "reply" and stage in ("handshake", "content"):
            raise ValueError(f"{stage}: no SMTP reply is possible there. Kinds: hang, drop, reset")
        if made.kind == "reply" and not 200 <= made.code <= 599:
            raise ValueError(f"{made.code}: not a reply code, which is 200 to 599")
        faults[stage] = made
    fields = {**value, "faults": faults}
    for name in ("mechanisms", "extensions"):
        if name in fields:
            fields[name] = tuple(fields[name])
    behaviour = Behaviour(**fields)
    if behaviour.auth_offered not in AUTH_OFFERS:
        raise ValueError(f"auth_offered={behaviour.auth_offered}: not one of {', '.join(AUTH_OFFERS)}")
    return behaviour
