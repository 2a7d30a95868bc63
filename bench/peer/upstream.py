"""An upstream that takes every message: STARTTLS, AUTH PLAIN, PIPELINING, as far away as it is told. Network.

Arguments: the round-trip time in milliseconds. It keeps nothing but when it said 250 to which message; SIGUSR1 has it
write that to /run/taken.json, and forget it.

The kernel may have no netem, so the distance is made by a proxy in front of the server: each chunk is handed on half a
round trip after it came, in either direction, and the first one a whole one later, which stands for the TCP handshake.
A window that has yet to grow (RFC 5681) is not imitated: messages of more than about 14 kB would take longer.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import resource
import signal
import ssl
import sys
import time

import uvloop

_PORT = 587
_INNER_PORT = 5870
_LOGIN = b"\0relay@bench.test\0secret"
_NUMBER = re.compile(rb"(?mi)^X-Bench: (\d+)")
_LIMIT = 64 * 2**20
_CHUNK = 2**16


class Upstream:
    """What all sessions share."""

    def __init__(self) -> None:
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain("/authority/server.pem", "/authority/server.key")
        self.taken: list[tuple[int, float]] = []
        self.connections = 0
        self.most = 0
        self.open = 0

    def dump(self) -> None:
        """Write down what came, and forget it."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        record = {
            "taken": self.taken,
            "connections": self.connections,
            "most": self.most,
            "cpu": used.ru_utime + used.ru_stime,
        }
        with open("/run/taken.part", "w", encoding="ascii") as file:
            json.dump(record, file)
        os.rename("/run/taken.part", "/run/taken.json")
        self.taken, self.connections, self.most = [], 0, self.open

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hold one session."""
        self.connections += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_secure = False
        writer.write(b"220 smtp.bench.test ESMTP\r\n")
        while True:
            line = (await reader.readuntil(b"\r\n")).decode()
            verb = line.split()[0].upper()
            if verb == "EHLO":
                more = "250-AUTH PLAIN\r\n" if is_secure else "250-STARTTLS\r\n"
                writer.write(f"250-smtp.bench.test\r\n250-PIPELINING\r\n{more}250 8BITMIME\r\n".encode())
            elif verb == "STARTTLS":
                writer.write(b"220 2.0.0 Ready\r\n")
                await writer.start_tls(self.tls)
                is_secure = True
            elif verb == "AUTH":
                assert is_secure
                words = line.split()
                if len(words) == 2:  # no initial response (RFC 4954 section 4)
                    writer.write(b"334 \r\n")
                    words.append((await reader.readuntil(b"\r\n")).decode())
                assert base64.b64decode(words[-1]).endswith(_LOGIN)
                writer.write(b"235 2.7.0 Ok\r\n")
            elif verb == "DATA":
                writer.write(b"354 Go on\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 2.0.0 Ok\r\n")
                match = _NUMBER.search(content[:4000])
                if match:
                    self.taken.append((int(match[1]), time.time()))
            elif verb == "QUIT":
                writer.write(b"221 2.0.0 Bye\r\n")
                return
            else:
                writer.write(b"250 2.0.0 Ok\r\n")


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_seconds: float) -> None:
    """Hand on each chunk, in order, so long after it came."""
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1000)

    async def hand_on() -> None:
        while True:
            due, chunk = await waiting.get()
            if (rest := due - time.monotonic()) > 0:
                await asyncio.sleep(rest)
            if not chunk:
                writer.close()
                return
            writer.write(chunk)
            await writer.drain()

    task = asyncio.create_task(hand_on())
    try:
        while True:
            chunk = await reader.read(_CHUNK)
            await waiting.put((time.monotonic() + delay_seconds, chunk))
            if not chunk:
                break
        await task
    except OSError:
        task.cancel()
        writer.close()


async def main() -> None:
    """Serve until killed."""
    trip_seconds = float(sys.argv[1]) / 1000
    upstream = Upstream()

    async def keep_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1.5 * trip_seconds)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", _INNER_PORT)
        await asyncio.gather(
            carry(reader, inner_writer, trip_seconds / 2), carry(inner_reader, writer, trip_seconds / 2)
        )

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, upstream.dump)
    port = _INNER_PORT if trip_seconds else _PORT
    servers = [await asyncio.start_server(upstream.serve, port=port, limit=_LIMIT, backlog=1000)]
    if trip_seconds:
        servers.append(await asyncio.start_server(keep_away, port=_PORT, backlog=1000))
    await asyncio.gather(*(server.serve_forever() for server in servers))


# In C: what the upstream takes of the machine, the relay lacks.
uvloop.run(main())
