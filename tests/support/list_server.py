"""The list server of a test: GNU Mailman's core, and what it has taken by LMTP. Runs docker."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from tests.support.engine import Container, Engine, Network
from tests.support.upstream import PEERS_TAG
from tests.support.wait import wait_until

LIST_SERVER_IMAGE = f"authrelay-peer-mailman:{PEERS_TAG}"
LIST_SERVER_HOST = "mailman.example.test"
DATA = "/var/lib/mailman3/data"
_CONFIGURATION = "/etc/mailman3/mailman.cfg"
_PORT = 8024

_GO_ON = f"{DATA}/.go-on"
_MAKE = """
import os, time
from zope.component import getUtility
from mailman.app.lifecycle import create_list, remove_list
from mailman.interfaces.domain import IDomainManager
from mailman.interfaces.listmanager import IListManager
domains = getUtility(IDomainManager)
for name in {names!r}:
    domain = name.partition("@")[2]
    if domains.get(domain) is None:
        domains.add(domain, alias_domain={aliases!r}.get(domain))
    create_list(name)
commit()
while not os.path.exists({go_on!r}):
    time.sleep(0.05)
for name in {removed!r}:
    remove_list(getUtility(IListManager).get(name))
commit()
"""
_READ = r"""
import glob, json, pickle, sys
found = []
for path in sorted(glob.glob("/var/lib/mailman3/queue/*/*.pck")):
    with open(path, "rb") as file:
        message, about = pickle.load(file), pickle.load(file)
    # Only the header of a large one: as a whole it would be written anew at every look.
    whole = "".join("%s: %s\n" % one for one in message.items())
    if about["original_size"] < 1 << 20:
        whole = message.as_bytes()[:4000].decode("utf-8", "replace")
    found.append({
        "queue": path.split("/")[5], "list_id": about["listid"], "part": about.get("subaddress", ""),
        "size": about["original_size"], "message_id": message.get("Message-ID", ""), "text": whole,
    })
json.dump(found, sys.stdout)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Taken:
    """One message, for one list."""

    # Where Mailman has put it: `in` for posts and owners, `command`, `bounces`.
    queue: str
    list_id: str
    # `request`, `confirm`, `join`, `leave`, `owner`, `bounces`; empty for a post.
    part: str
    size: int
    message_id: str
    # At most 4000 bytes.
    text: str


class ListServer:
    """A container with Mailman's LMTP server, which takes some seconds to start; its data directory is a volume."""

    def __init__(self, engine: Engine, network: Network) -> None:
        self.volume = engine.volume()
        self.address = f"{LIST_SERVER_HOST}:{_PORT}"
        self.container: Container = engine.run(
            LIST_SERVER_IMAGE,
            kind="mailman",
            network=network,
            aliases=(LIST_SERVER_HOST,),
            arguments=["--volume", f"{self.volume}:{DATA}"],
        )

    def wait_listening(self) -> None:
        """Wait until it takes sessions."""

        self.container.watch_port(_PORT, 60)
        if not self.container.is_running:
            raise AssertionError(f"Mailman ended: {self.container.logs()}")

    def make_lists(self, *names: str, aliases: dict[str, str], removed: Sequence[str]) -> None:
        """Make lists and their domains, and at `go_on` remove some of them again; `aliases`: a domain's alias_domain.

        One process does both: each takes seconds to begin.
        """
        self.wait_listening()
        script = _MAKE.format(names=names, aliases=aliases, removed=tuple(removed), go_on=_GO_ON)
        command = (
            "setpriv",
            "--reuid=list",
            "--regid=list",
            "--clear-groups",
            "mailman",
            "-C",
            _CONFIGURATION,
            "shell",
        )
        self.container.exec(command, stdin=f"exec({script!r})\n".encode())

    def wait_written(self, name: str) -> None:
        """Wait until a list is in the file for Postfix."""
        command = ["grep", "--quiet", f"^{name} ", f"{DATA}/postfix_lmtp"]
        wait_until(lambda: self.container.exec(command, check=False).status == 0, 60, f"Mailman should have {name}")

    def go_on(self) -> None:
        """Let `make_lists` remove what it has to."""
        self.container.exec(["touch", _GO_ON])

    def taken(self) -> list[Taken]:
        """What it has taken since it was made."""
        return [Taken(**one) for one in json.loads(self.container.exec(["python3", "-c", _READ]).stdout)]
