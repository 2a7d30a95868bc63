"""A milter at TCP port 11332 that marks what it has seen; built on libmilter, as sendmail's own filters are.

A message says itself what else is to happen: `X-Milter-Verdict: wait` has the end of its content answered when there is
a file /tmp/released, `reject` or `tempfail` refuses it.
"""

from __future__ import annotations

import os
import time

import Milter  # type: ignore[import-not-found]  # Debian's python3-milter


class Marker(Milter.Base):  # type: ignore[misc]
    """One session of the relay's."""

    def __init__(self) -> None:
        self.verdict = ""

    def header(self, name: str, value: str) -> int:
        """Take note of what the message says of itself."""
        if name == "X-Milter-Verdict":
            self.verdict = value.strip()
        return int(Milter.CONTINUE)

    def eom(self) -> int:
        """Decide, at the end of the message."""
        while self.verdict == "wait" and not os.path.exists("/tmp/released"):
            time.sleep(0.05)
        if self.verdict == "reject":
            self.setreply("550", "5.7.1", "the milter does not like it")
            return int(Milter.REJECT)
        if self.verdict == "tempfail":
            return int(Milter.TEMPFAIL)
        self.addheader("X-Seen-By", "the milter")
        return int(Milter.ACCEPT)


Milter.factory = Marker
Milter.set_flags(Milter.ADDHDRS)
Milter.runmilter("marker", "inet:11332@0.0.0.0", 60)
