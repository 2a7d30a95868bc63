"""Who receives signed mail: dkimpy and OpenDKIM as verifiers, and NSD for the records. Runs docker."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Mapping

from tests.support.engine import Container, Engine, Network
from tests.support.relay import Relay
from tests.support.wait import wait_until

DKIM_IMAGE = "authrelay-peer-dkim:dev"

_PUBLISH = """
set -e
cat >/tmp/zone
nsd-checkzone "$1" /tmp/zone
if pid=$(cat /tmp/nsd.pid 2>/dev/null); then kill "$pid"; while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done; fi
cat >/tmp/nsd.conf <<END
server:
  do-ip6: no
  username: ""
  chroot: ""
  pidfile: "/tmp/nsd.pid"
  xfrdfile: ""
  zonelistfile: "/tmp/zone.list"
zone:
  name: "$1"
  zonefile: "/tmp/zone"
END
exec nsd -c /tmp/nsd.conf
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the two verifiers say of one signature."""

    domain: str
    selector: str
    algorithm: str
    # True, False, or why it cannot be told.
    dkimpy: bool | str
    opendkim: str

    @property
    def is_good(self) -> bool:
        """Whether both say so."""
        return self.dkimpy is True and self.opendkim.endswith(" succeeded")


class Verifier:
    """A container with both verifiers."""

    def __init__(self, engine: Engine, network: Network) -> None:
        self.container: Container = engine.run(DKIM_IMAGE, kind="dkim", network=network)

    def verify(self, messages: Mapping[str, bytes], records: Mapping[str, str]) -> dict[str, list[Verdict]]:
        """What is said of each message's signatures, from the first one downwards, the TXT records being these."""
        order = {
            "records": dict(records),
            "messages": {name: base64.b64encode(data).decode() for name, data in messages.items()},
        }
        result = self.container.exec(["python3", "/usr/local/lib/verify.py"], stdin=json.dumps(order).encode())
        names = [one.name for one in dataclasses.fields(Verdict)]
        return {
            name: [Verdict(**dict(zip(names, values, strict=True))) for values in found]
            for name, found in json.loads(result.stdout).items()
        }


def read_records(relay: Relay) -> dict[str, str]:
    """The records that `authrelay dkim` prints, by name."""
    return parse_zone(relay.exec(["authrelay", "dkim", "--no-dns"]).text)


def parse_zone(text: str) -> dict[str, str]:
    """The TXT records of lines of a zone file."""
    lines = re.findall(r"^(\S+)\. IN TXT \( (.*) \)$", text, flags=re.MULTILINE)
    return {name: "".join(re.findall(r'"([^"]*)"', strings)) for name, strings in lines}


class NameServer:
    """NSD, which serves one zone."""

    def __init__(self, engine: Engine, network: Network, zone: str) -> None:
        self.container: Container = engine.run(DKIM_IMAGE, kind="dns", network=network, arguments=["--init"])
        self._zone = zone

    def publish(self, lines: str) -> None:
        """Serve these lines of a zone file from now on, and nothing else."""
        head = f"$ORIGIN {self._zone}.\n@ 60 IN SOA ns hostmaster 1 60 60 60 60\n@ 60 IN NS ns\nns 60 IN A 192.0.2.1\n"
        self.container.exec(["sh", "-c", _PUBLISH, "sh", self._zone], stdin=(head + lines).encode())
        # Port 53, in the kernel's words.
        wait_until(lambda: ":0035 " in self.container.exec(["cat", "/proc/net/udp"]).text, 10, "NSD should answer")
