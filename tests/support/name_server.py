"""A name server that says what a test wants, DNSSEC's word for it included. Runs docker."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping

from tests.support.engine import Container, Engine, Network
from tests.support.upstream import MOCK_IMAGE
from tests.support.wait import wait_until

# UDP alone: no answer here is long. What is not in the zone does not exist. An answer is vouched for (the AD bit,
# RFC 4035 section 3.2.3) where the name's last labels are among `signed`; Postfix asks for NS of the root to learn
# whether anything is (postconf(5) dnssec_probe).
_SERVER = r"""
import base64, json, socket, struct, sys
TYPES = {"A": 1, "NS": 2, "MX": 15, "TLSA": 52}
zone = json.load(sys.stdin)
records = {}
for name, kind, data in zone["records"]:
    records.setdefault(name, {}).setdefault(TYPES[kind], []).append(base64.b64decode(data))
server = socket.socket(type=socket.SOCK_DGRAM)
server.bind(("", 53))
print("ready", flush=True)
while True:
    query, peer = server.recvfrom(4096)
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    name, (kind,) = ".".join(labels), struct.unpack(">H", query[at + 1 : at + 3])
    found = records.get(name, {}).get(kind, [])
    # Response, recursion; a name with names below it exists, too.
    flags = 0x8180 | (0 if any(one == name or one.endswith("." + name) for one in records) else 3)
    if name in zone["failing"]:
        flags = 0x8182
    elif any(name == one or name.endswith("." + one) for one in zone["signed"]) or (not name and zone["signed"]):
        flags |= 0x20
    answer = query[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0) + query[12 : at + 5]
    for data in found:
        answer += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data
    server.sendto(answer, peer)
"""


class NameServer:
    """A container that answers at port 53."""

    def __init__(self, engine: Engine, network: Network, zone: Mapping[str, object]) -> None:
        """`zone`: `records`, lists of name, type and data in base64; `signed`, the zones that DNSSEC vouches for;
        `failing`, the names for which there is no answer but SERVFAIL."""
        self._engine = engine
        self.container: Container = engine.run(
            MOCK_IMAGE,
            ["bash", "-c", 'exec python -c "$SERVER" <<<"$ZONE"'],
            kind="names",
            network=network,
            env={"SERVER": _SERVER, "ZONE": json.dumps(dict(zone))},
        )
        self._address = self.container.address(network)
        wait_until(lambda: "ready" in self.container.logs(), 20, "the name server should listen")

    def write_resolv_conf(self) -> pathlib.Path:
        """Write a resolv.conf(5) that leads here, and to nobody else."""
        path = self._engine.directory() / "resolv.conf"
        path.write_text(f"nameserver {self._address}\noptions timeout:1 attempts:1\n")
        return path
