"""One connection of smtpd(8) or cleanup(8) to the milter: the protocol, message by message. Pure.

The protocol is Sendmail's, version 6 (MILTER_README; libmilter/mfdef.h): packets of a length, a command and its data.
Of a session only the header and the body of each message are asked for, and an answer is given twice: whether the
message is ours to sign, so that the body of any other is not even sent, and the signatures at its end. Where strangers
may send to lists the recipients are asked for, too: what goes to lists alone may be a stranger's, who says what he
likes in From, and is not signed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from typing import Final

from entrypoint.services.dkim.senders import find_domains
from entrypoint.services.dkim.signature import BodyHash, Field, Signer, sign

_VERSION: Final = 6
_ADD_HEADERS: Final = 0x01
_WANTED: Final = (
    0x01 | 0x02 | 0x04 | 0x08 | 0x100 | 0x200  # neither connect, HELO, MAIL, RCPT, unknown commands nor DATA
    | 0x80 | 0x80000  # no answer to a header field or a piece of the body
    | 0x100000  # values with the blank behind the colon
)  # fmt: skip
_NO_RECIPIENTS: Final = 0x08
_RECIPIENT: Final = re.compile(rb"<?[^\0]*@([a-z0-9._\x80-\xff-]+|\[[^]\[<>()\0]*\])>?\0.*", re.DOTALL | re.IGNORECASE)
"""An address that can be read at a glance. What is written in another way proves nothing of who sends."""
_MOST_BYTES: Final = 1 << 20
"""Of one packet: a piece of a body has 64 kB, and a header field header_size_limit at most (postconf(5))."""
_UNASKED: Final = frozenset(b"CHMRTU")
"""Commands that are answered with "go on", should they come in spite of all."""

_GO_ON: Final = struct.pack(">Ic", 1, b"c")
_ACCEPT: Final = struct.pack(">Ic", 1, b"a")
_TRY_LATER: Final = struct.pack(">Ic", 1, b"t")


class ProtocolError(Exception):
    """Whoever is at the other end does not speak as Postfix does."""


class Session:
    """What was received of a connection, and of the message under way.

    `find_signers` returns who signs for a domain, nobody for one that is none of ours. `lists`: the domains to which
    strangers may send, and to no others.
    """

    def __init__(
        self,
        find_signers: Callable[[str], Sequence[Signer]],
        find_now: Callable[[], float],
        lists: frozenset[str] = frozenset(),
    ) -> None:
        self._find_signers = find_signers
        self._find_now = find_now
        self._lists = lists
        self._received = bytearray()
        self.failure: Exception | None = None
        """Why a message was not signed, and so not taken."""
        self._begin()

    def _begin(self) -> None:
        self._fields: list[Field] = []
        self._signers: list[Signer] = []
        self._body = BodyHash()
        self._is_ours = not self._lists

    def receive(self, data: bytes) -> bytes | None:
        """Take what has come and return what is to be answered; `None` at the end of the connection."""
        self._received += data
        answers = b""
        while len(self._received) >= 4:
            (length,) = struct.unpack_from(">I", self._received)
            if not 1 <= length <= _MOST_BYTES:
                raise ProtocolError(f"a packet of {length} bytes")
            if len(self._received) < 4 + length:
                break
            command, content = self._received[4], bytes(self._received[5 : 4 + length])
            del self._received[: 4 + length]
            if command == ord("Q"):
                return None
            answers += self._answer(command, content)
        return answers

    def _answer(self, command: int, content: bytes) -> bytes:
        if command == ord("L"):
            name, _, value = content.partition(b"\0")
            self._fields.append((name, value.removesuffix(b"\0")))
        elif command == ord("B"):
            self._body.update(content)
        elif command == ord("R") and self._lists:
            self._is_ours = self._is_ours or self._goes_elsewhere(content)
            return _GO_ON
        elif command == ord("N"):
            return self._try(self._choose_signers)
        elif command == ord("E"):
            self._body.update(content)
            return self._try(self._sign)
        elif command in b"AK":
            self._begin()
        elif command == ord("O"):
            return _negotiate(content, _WANTED & ~_NO_RECIPIENTS if self._lists else _WANTED)
        elif command in _UNASKED:
            return _GO_ON
        elif command != ord("D"):
            raise ProtocolError(f"command {command}")
        return b""

    def _try(self, work: Callable[[], bytes]) -> bytes:
        """Return the answer, or have the client try again: a message of ours must not leave without a signature."""
        try:
            return work()
        except Exception as error:
            self.failure = error
            self._begin()
            return _TRY_LATER

    def _goes_elsewhere(self, recipient: bytes) -> bool:
        """Return whether a recipient, which Postfix has let pass, is none that it lets strangers send to."""
        match = _RECIPIENT.fullmatch(recipient)
        return match is not None and match[1].rstrip(b".").lower().decode("utf-8", "replace") not in self._lists

    def _choose_signers(self) -> bytes:
        authors = (value for name, value in self._fields if name.strip().lower() == b"from")
        domains = find_domains(authors) if self._is_ours else ()
        # Of several patterns one domain may come: it signs once.
        signers = {
            (signer.domain, signer.selector): signer for domain in domains for signer in self._find_signers(domain)
        }
        self._signers = list(signers.values())
        if self._signers:
            return _GO_ON
        self._begin()
        return _ACCEPT

    def _sign(self) -> bytes:
        body_hash, now = self._body.finish(), self._find_now()
        added = b""
        for signer in self._signers:
            value = sign(signer, self._fields, body_hash, now)
            content = struct.pack(">I", 0) + b"DKIM-Signature\0 " + value + b"\0"
            added += struct.pack(">Ic", 1 + len(content), b"i") + content
        self._begin()
        return added + _GO_ON


def _negotiate(content: bytes, wanted: int) -> bytes:
    """Return what is wanted of what is offered; refuse what cannot do it."""
    if len(content) < 12:
        raise ProtocolError("an offer without its numbers")
    version, actions, steps = struct.unpack_from(">III", content)
    if version < _VERSION or not actions & _ADD_HEADERS or steps & wanted != wanted:
        raise ProtocolError(f"an offer of version {version}, actions {actions:#x}, steps {steps:#x}")
    return struct.pack(">IcIII", 13, b"O", _VERSION, _ADD_HEADERS, wanted)
