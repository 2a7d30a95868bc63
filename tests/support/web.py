"""The web server of a test: a container that serves a CA file over HTTP and HTTPS. Runs docker."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

from tests.support.authorities import Authority
from tests.support.engine import Container, Engine, File, Network
from tests.support.upstream import MOCK_IMAGE
from tests.support.wait import wait_until

WEB_HOST = "ca.example.test"

# Python's own web server on ports 80 and 443, serving /www.
_SERVER = """
import functools, http.server, ssl, threading
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/www")
plain, tls = (http.server.ThreadingHTTPServer(("", port), handler) for port in (80, 443))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/combined.pem")
tls.socket = context.wrap_socket(tls.socket, server_side=True)
threading.Thread(target=tls.serve_forever, daemon=True).start()
plain.serve_forever()
"""


@dataclass(frozen=True, kw_only=True)
class Web:
    """A web server with a CA file, and the bundle of a system that trusts the server's own CA."""

    container: Container
    bundle: pathlib.Path

    def put(self, pem: str) -> None:
        """Serve this CA file from now on."""
        self.container.put({"/www/ca.pem": File(data=pem.encode())})


def start_web(engine: Engine, network: Network, pem: str) -> Web:
    """Start a web server that serves /ca.pem."""
    authority = Authority()
    bundle = engine.directory() / "ca-certificates.crt"
    bundle.write_text(authority.pem, encoding="ascii")
    container = engine.run(
        MOCK_IMAGE,
        ["python", "-c", _SERVER],
        kind="web",
        network=network,
        aliases=(WEB_HOST,),
        files={
            "/www/ca.pem": File(data=pem.encode()),
            "/tls/combined.pem": File(data=authority.make_chain(WEB_HOST).combined_pem.encode()),
        },
    )
    probe = "import socket; [socket.create_connection(('127.0.0.1', port), 1).close() for port in (80, 443)]"
    wait_until(
        lambda: container.exec(["python", "-c", probe], check=False).status == 0, 10, "the web server should listen"
    )
    return Web(container=container, bundle=bundle)
