"""Leaves word of what deliveries meet, in files that the supervisor watches for the upkeep and the probe. Disk.

A few files, each written seldom: this sits in the way of every log line.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Final

from entrypoint import paths

_DELIVERY: Final = re.compile(
    r"\S+ \S+ postfix/smtp\[\d+\]: \w+: to=<.*>, relay=.*, dsn=\d\.\d+\.\d+, status=(sent|deferred) \((.*)\)$"
)
# Before the upstream has looked at a sender: what smtp(8) says of the way, the session and the login.
_TROUBLE: Final = re.compile(
    r"(delivery temporarily suspended: )?("
    r"connect to |lost connection with |conversation with |host \S+ refused to talk to me|unable to look up host|"
    r"Host or domain name not found|SASL authentication failed|TLS is required|Cannot start TLS|Server certificate|"
    r"host \S+ said: 53\d)"
)
_LIST_SERVER: Final = re.compile(r".* status=deferred \(list server: (?!host \S+ said: )(.*)\)$")
"""What lmtp(8) says where Mailman was not asked, or did not answer (`plan.lists` has it begin so)."""
_UNTRUSTED: Final = ("Server certificate not trusted", "Server certificate not verified")
_REFUSED: Final = "SASL authentication failed"
_LEAST_SECONDS: Final = 1.0
_SETTLED_SECONDS: Final = 3.0
"""A file that changes again and again is not at rest, and the supervisor leaves it alone (`system.agenda`)."""
_LIST_SERVER_SECONDS: Final = 30.0
"""One that takes connections and no mail is tried again so often at most."""
_REFUSAL_SECONDS: Final = 30.0
"""Refusals further apart are not of one trouble: what lies between was delivered over sessions of its own."""


class Hints:
    """What was noted last, so that a thousand deliveries in a second cost one write."""

    def __init__(self) -> None:
        self._noted_at: dict[str, float] = {}
        self._refused_at = 0.0
        self._is_sent_since = False

    def note(self, line: str, at: float) -> None:
        """Leave word of a line, if it is one of a delivery; `at` is in seconds since the epoch."""
        if "postfix/smtp[" not in line:
            if "postfix/lmtp[" in line and (found := _LIST_SERVER.match(line.rstrip("\n"))):
                self._write(paths.LIST_TROUBLE, found[1], at, pause_seconds=_LIST_SERVER_SECONDS)
            return
        match = _DELIVERY.match(line.rstrip("\n"))
        if match is None:
            return
        if match[1] == "sent":
            self._is_sent_since = True
            self._write(paths.LAST_SENT, "", at)
        elif _TROUBLE.match(match[2]):
            self._write(paths.TROUBLE, match[2], at)
            if any(words in match[2] for words in _UNTRUSTED):
                self._write(paths.UNTRUSTED, match[2], at)
            if match[2].startswith(_REFUSED):
                self._note_refusal(match[2], at)

    def _note_refusal(self, text: str, at: float) -> None:
        """Leave word of a login that is refused before and after something was sent."""
        if self._is_sent_since and 0 <= at - self._refused_at < _REFUSAL_SECONDS:
            self._write(paths.REFUSED, text, at, pause_seconds=_SETTLED_SECONDS)
        self._refused_at, self._is_sent_since = at, False

    def _write(self, path: str, text: str, at: float, *, pause_seconds: float = _LEAST_SECONDS) -> None:
        if 0 <= at - self._noted_at.get(path, 0.0) < pause_seconds:
            return
        self._noted_at[path] = at
        # On a full disk nobody is called; the log must flow all the same.
        with contextlib.suppress(OSError):
            # For root alone: an upstream may echo what it was sent.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(descriptor, f"{text}\n".encode(errors="backslashreplace"))
            finally:
                os.close(descriptor)
