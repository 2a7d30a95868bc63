"""Every member gets a post once, also when Mailman is killed while it hands a post over, member by member.

Mailman remembers nothing of that before its end: what it was handing over when it was killed, or when its database
went away, it would hand over once more from the beginning. So each copy is written down as soon as the relay has it.
One copy at most is in doubt then, the one whose `250` was on its way (RFC 1047), and that one is sent again.

Posts are known by list, sender and Message-ID, and for a week: one that reaches Mailman twice, because a connection
broke before its `250`, is sent once, too. Sieve's "duplicate" does the same (RFC 7352).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pathlib
import time

import mailman.mta.deliver
from mailman.config import config
from mailman.mta.base import BaseDelivery
from mailman.mta.deliver import BulkDelivery, Deliver

_KEEP_SECONDS = 7 * 86400
"""More than the relay and Mailman try (`maximal_queue_lifetime`, `[mta] delivery_retry_period`: 5 days)."""
_SWEEP_SECONDS = 3600

log = logging.getLogger("mailman.smtp")


class Record:
    """Who has a post already: a file with an address in each line."""

    _swept_at = 0.0

    def __init__(self, directory: pathlib.Path, post: str) -> None:
        self._path = directory / post
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            self._begin(directory)
            text = b""
        # A line that was cut off by the machine's end counts as none.
        whole = text[: text.rfind(b"\n") + 1]
        self.members = set(whole.decode().splitlines())
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if len(whole) != len(text):
            os.ftruncate(self._file, len(whole))

    def _begin(self, directory: pathlib.Path) -> None:
        directory.mkdir(mode=0o750, exist_ok=True)
        if time.time() < Record._swept_at + _SWEEP_SECONDS:
            return
        Record._swept_at = time.time()
        for old in directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if old.stat().st_mtime < time.time() - _KEEP_SECONDS:
                    old.unlink()

    def add(self, members: set[str]) -> None:
        """Write it down, on the disk."""
        self.members |= members
        os.write(self._file, "".join(f"{member}\n" for member in sorted(members)).encode())
        os.fdatasync(self._file)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


class _Once:
    """Before each hand-over: who has it? After it: who has it now?"""

    _record = None

    def deliver(self, mlist, msg, msgdata):
        """See `IMailTransportAgentDelivery`."""
        sender = BaseDelivery._get_sender(self, mlist, msg, msgdata)
        # Mail for a list's owners may have the Message-ID of a post.
        words = (mlist.list_id, sender, str(bool(msgdata.get("to_owner"))), str(msg["message-id"]).strip())
        post = hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()
        self._record = Record(pathlib.Path(config.VAR_DIR) / "sent", post)
        try:
            return super().deliver(mlist, msg, msgdata)
        finally:
            self._record.close()

    def _deliver_to_recipients(self, mlist, msg, msgdata, recipients):
        new = [one for one in recipients if one not in self._record.members]
        if len(new) < len(recipients):
            log.info("%s: %s has it already", msg["message-id"], ", ".join(set(recipients) - set(new)))
        if not new:
            return {}
        refused = super()._deliver_to_recipients(mlist, msg, msgdata, new)
        taken = set(new) - set(refused)
        if taken:
            self._record.add(taken)
        return refused


class _DeliverOnce(_Once, Deliver):
    """One copy for each member."""


class _BulkOnce(_Once, BulkDelivery):
    """One copy for several."""


mailman.mta.deliver.Deliver = _DeliverOnce
mailman.mta.deliver.BulkDelivery = _BulkOnce
deliver = mailman.mta.deliver.deliver
