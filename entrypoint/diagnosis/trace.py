"""Follows one message through Postfix's log: from lines to what happened to it. Pure.

Every line is matched from its start, and by queue id: what other clients send cannot pose as this message's fate.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_LINE: Final = re.compile(r"(\S+) [A-Z]+ postfix/([a-z-]+)\[(\d+)\]: (.*)")
_DELIVERY: Final = re.compile(
    r"to=<(?P<recipient>.*?)>, (?:orig_to=<.*?>, )?relay=(?P<relay>[^,]+), (?:conn_use=(?P<uses>\d+), )?"
    r"delay=[\d.]+, delays=(?P<delays>[\d.]+/[\d.]+/[\d.]+/[\d.]+), dsn=(?P<dsn>[\d.]+), "
    r"status=(?P<status>\w+) \((?P<words>.*)\)"
)
_TAKEN_UP: Final = re.compile(r"from=<.*>, size=\d+, nrcpt=(\d+) \(queue active\)")
_NOTICE: Final = re.compile(r"sender (?:non-delivery|delay(?:ed mail)?) notification: ([0-9A-Za-z]+)")
_TLS: Final = re.compile(
    r"(?P<trust>Verified|Trusted|Untrusted|Anonymous) TLS connection (?:established|reused) to (?P<relay>\S+): .*"
)
# A line of another message; "warning: " begins one that belongs to no message.
_OTHER_MESSAGE: Final = re.compile(r"(?!warning:|error:|fatal:|panic:)[0-9A-Za-z]{5,}: ")
_MOST_REMARKS: Final = 10
_MOST_PROCESSES: Final = 500


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What became of one recipient in one attempt."""

    recipient: str
    relay: str
    """`host[address]:port`, or `none` where no server was reached."""
    uses: int
    """How many messages the connection has carried with this one."""
    delays: tuple[float, float, float, float]
    """Seconds before the queue manager, in it, to connect and log in, to hand over (postconf(5) delay_logging...)."""
    dsn: str
    status: str
    """`sent`, `deferred`, `bounced`."""
    words: str
    """What the upstream said, or why there was nobody to say something."""
    trust: str
    """Postfix's word for the certificate of this connection; empty where it logged none."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened: `active`, `remark`, `tls`, `delivery`, `notice`, `removed` or `gap`."""

    kind: str
    at: float
    """Seconds since the epoch."""
    text: str
    delivery: Delivery | None = None
    trust: str = ""


class Trace:
    """The way of one message, as far as the log has told it."""

    def __init__(self, queue_id: str, most_recipients: int) -> None:
        self.queue_id = queue_id
        self.deliveries: dict[str, Delivery] = {}
        self.notice = ""
        """The queue id of the bounce message."""
        self.is_removed = False
        self._recipients = most_recipients
        self._remarks: dict[str, list[Event]] = {}
        self._trust: dict[str, str] = {}

    @property
    def is_decided(self) -> bool:
        """Whether every recipient has had an attempt."""
        return len(self.deliveries) >= self._recipients or (self.is_removed and bool(self.deliveries))

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be waited for: the notice of a bounce comes after the bounce."""
        has_bounced = any(delivery.status not in ("sent", "deferred") for delivery in self.deliveries.values())
        return self.is_decided and (not has_bounced or bool(self.notice) or self.is_removed)

    def note(self, line: str) -> Iterator[Event]:
        """Take a line of the log, and return what it says of this message."""
        # The great mass of lines, quickly.
        if "postfix/smtp[" not in line and self.queue_id not in line:
            return
        match = _LINE.fullmatch(line)
        if match is None:
            return
        at, program, process, text = _parse_time(match[1]), match[2], match[3], match[4]
        if text.startswith(f"{self.queue_id}: "):
            for remark in self._remarks.pop(process, ()) if program == "smtp" else ():
                self._trust.update({relay: trust for relay, trust in [_parse_tls(remark.text)] if relay})
                yield remark
            yield from self._note_own(at, program, text.partition(": ")[2])
        elif program == "smtp":
            self._note_process(at, process, text)

    def _note_own(self, at: float, program: str, text: str) -> Iterator[Event]:
        if delivery := _DELIVERY.fullmatch(text):
            yield self._note_delivery(at, text, delivery)
        elif program == "qmgr" and (taken_up := _TAKEN_UP.fullmatch(text)):
            self._recipients = int(taken_up[1])
            yield Event(kind="active", at=at, text=text)
        elif program == "bounce" and (notice := _NOTICE.fullmatch(text)):
            self.notice = notice[1]
            yield Event(kind="notice", at=at, text=notice[1])
        elif program in ("qmgr", "postsuper") and text == "removed":
            self.is_removed = True
            yield Event(kind="removed", at=at, text=program)
        elif program == "smtp":
            yield Event(kind="remark", at=at, text=text)

    def _note_delivery(self, at: float, text: str, match: re.Match[str]) -> Event:
        before, manager, connection, transmission = map(float, match["delays"].split("/"))
        delivery = Delivery(
            recipient=match["recipient"],
            relay=match["relay"],
            uses=int(match["uses"] or 1),
            delays=(before, manager, connection, transmission),
            dsn=match["dsn"],
            status=match["status"],
            words=match["words"],
            trust=self._trust.get(match["relay"], ""),
        )
        self.deliveries[delivery.recipient] = delivery
        return Event(kind="delivery", at=at, text=text, delivery=delivery)

    def _note_process(self, at: float, process: str, text: str) -> None:
        """Keep what smtp(8) says without a queue id: it belongs to the message whose line that process logs next."""
        if _OTHER_MESSAGE.match(text):
            self._remarks.pop(process, None)
            return
        trust = _parse_tls(text)[1]
        remarks = self._remarks.setdefault(process, [])
        remarks.append(Event(kind="tls" if trust else "remark", at=at, text=text, trust=trust))
        del remarks[:-_MOST_REMARKS]
        if len(self._remarks) > _MOST_PROCESSES:
            del self._remarks[next(iter(self._remarks))]


def _parse_tls(text: str) -> tuple[str, str]:
    """Return (relay, Postfix's word), both empty for a line that is no verdict."""
    match = _TLS.fullmatch(text)
    return (match["relay"], match["trust"]) if match else ("", "")


def _parse_time(text: str) -> float:
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
