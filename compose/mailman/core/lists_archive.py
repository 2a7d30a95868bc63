"""HyperKitty as the archive, which may be away for a while.

What it missed comes to it when it is back, not with the next post; and where a post will be is known without asking.
"""

from __future__ import annotations

import time

import mailman_hyperkitty
import requests
from mailman.config import config
from mailman.config.config import external_configuration
from mailman.runners.archive import ArchiveRunner

_PATIENCE_SECONDS = 10


class Archiver(mailman_hyperkitty.Archiver):
    """See `IArchiver`."""

    def __init__(self):
        super().__init__()
        self._site = external_configuration(config.archiver.hyperkitty.configuration).get("general", "site")

    def list_url(self, mlist):
        """As hyperkitty/urls.py has it."""
        return f"{self._site}list/{mlist.fqdn_listname}/"

    def permalink(self, mlist, msg):
        """As hyperkitty/urls.py has it."""
        digest = msg["Message-ID-Hash"]
        return f"{self._site}list/{mlist.fqdn_listname}/message/{digest}/" if digest else super().permalink(mlist, msg)

    def process_queue(self):
        """Only when somebody listens: every attempt for every message would be a page of log."""
        if self._switchboard.files or self._switchboard.get_files(".bak"):
            try:
                requests.head(self.base_url, timeout=_PATIENCE_SECONDS, allow_redirects=False)
            except requests.RequestException:
                return
            super().process_queue()


class Runner(ArchiveRunner):
    """The runner, which looks after what waits."""

    _looked_at = 0.0

    def _do_periodic(self):
        if time.monotonic() < self._looked_at + _PATIENCE_SECONDS:
            return
        self._looked_at = time.monotonic()
        for archiver in config.archivers:
            if isinstance(archiver, Archiver):
                archiver.process_queue()
