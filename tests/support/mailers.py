"""The programs that applications hand mail in with, logging in over verified TLS; and SMTP inside TLS. Runs docker."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Sequence
from typing import Final

from tests.support.dialogue import Answer
from tests.support.engine import Container, Engine, Network, Result

MAILERS_IMAGE: Final = "authrelay-peer-mailers:dev"
CA_PATH: Final = "/ca.pem"
# The distribution's own bundle, which knows nothing of a test's CA.
OTHER_CA_PATH: Final = "/etc/ssl/certs/ca-certificates.crt"
IMPLICIT: Final = 465

# Standard input: JSON, a list of sessions, held one after the other, or all at once. Standard output: for each the
# replies, [code, text], the greeting first; code 0 is no reply. STARTTLS goes on inside TLS.
_SCRIPT: Final = r"""
import base64, concurrent.futures, json, socket, ssl, sys, time
def read(stream):
    lines = []
    while True:
        line = stream.readline()
        if not line:
            raise OSError("closed")
        lines.append(line[4:].rstrip(b"\r\n").decode("utf-8", "replace"))
        if line[3:4] != b"-":
            return [int(line[:3]), "\n".join(lines)]
def hold(order):
    replies = []
    try:
        context = ssl.create_default_context(cafile=order["ca"])
        if order["certificate"]:
            context.load_cert_chain(order["certificate"])
        begun = time.monotonic()
        connection = socket.create_connection((order["address"] or order["host"], order["port"]), 20)
        if order["is_implicit"]:
            connection = context.wrap_socket(connection, server_hostname=order["host"])
        stream = connection.makefile("rb")
        replies.append(read(stream))
        for step in order["steps"]:
            step = base64.b64decode(step)
            if step == b"SHOW\r\n":
                import hashlib
                shown = hashlib.sha256(connection.getpeercert(binary_form=True)).hexdigest()
                replies.append([200, shown + " " + connection.version()])
                continue
            connection.sendall(step)
            replies.append(read(stream))
            if step == b"STARTTLS\r\n" and replies[-1][0] == 220:
                connection = context.wrap_socket(connection, server_hostname=order["host"])
                stream = connection.makefile("rb")
        replies.append([200, "%.3f" % (time.monotonic() - begun)])
        connection.close()
    except OSError as error:
        replies.append([0, "%s: %s" % (type(error).__name__, error)])
    return replies
orders = json.load(sys.stdin)
with concurrent.futures.ThreadPoolExecutor(orders["at_once"]) as pool:
    json.dump(list(pool.map(hold, orders["sessions"])), sys.stdout)
"""

_NODE: Final = r"""
const order = JSON.parse(require("fs").readFileSync(0));
const transport = require("nodemailer").createTransport({
  host: order.host, port: order.port, secure: order.port === 465, requireTLS: true,
  tls: { ca: require("fs").readFileSync(order.ca) },
  auth: { user: order.user, pass: order.password },
});
transport.sendMail({ envelope: { from: order.sender, to: "b@example.com" }, from: order.sender, to: "b@example.com",
  subject: "x", text: "hello" }).then((info) => console.log(info.response), (error) => {
  console.log(error.response || error.message); process.exit(1); });
"""
_SMTPLIB: Final = r"""
import json, smtplib, ssl, sys
order = json.load(sys.stdin)
context = ssl.create_default_context(cafile=order["ca"])
if order["port"] == 465:
    connection = smtplib.SMTP_SSL(order["host"], 465, timeout=30, context=context)
else:
    connection = smtplib.SMTP(order["host"], order["port"], timeout=30)
    connection.starttls(context=context)
with connection:
    connection.login(order["user"], order["password"])
    connection.sendmail(order["sender"], ["b@example.com"], "Subject: x\r\n\r\nhello\r\n")
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submission:
    """One message, and who hands it in."""

    host: str
    port: int
    user: str
    password: str
    sender: str
    ca: str = CA_PATH


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """What a client says; inside TLS from the start on port 465, after STARTTLS where that is among its steps."""

    host: str
    steps: Sequence[str | bytes]
    port: int = 587
    # Path of key and certificate in the container.
    certificate: str = ""
    # Where the host is reached; empty: where its name leads.
    address: str = ""


def plain(user: str, password: str) -> str:
    """AUTH PLAIN in one line."""
    return "AUTH PLAIN " + encode(f"\0{user}\0{password}")


def encode(text: str) -> str:
    """Base64, as SASL has it in SMTP."""
    return base64.b64encode(text.encode()).decode()


class Mailers:
    """A container with these programs."""

    def __init__(self, engine: Engine, network: Network, authority: str) -> None:
        self.container: Container = engine.run(MAILERS_IMAGE, kind="mailers", network=network)
        self.put(CA_PATH, authority)

    def put(self, path: str, text: str) -> None:
        """Write a file there."""
        self.container.exec(["tee", path], stdin=text.encode())

    def hold(self, sessions: Sequence[Session], *, at_once: int = 1) -> list[list[Answer]]:
        """Hold sessions; of each the greeting, the reply to every step, and at last how many seconds it took.

        The step `SHOW` is answered with the SHA-256 of the certificate that the server has shown, and the version.
        """
        orders = [
            {
                "host": session.host,
                "address": session.address,
                "port": session.port,
                "is_implicit": session.port == IMPLICIT,
                "ca": CA_PATH,
                "certificate": session.certificate,
                "steps": [
                    base64.b64encode(step if isinstance(step, bytes) else f"{step}\r\n".encode()).decode()
                    for step in session.steps
                ],
            }
            for session in sessions
        ]
        stdin = json.dumps({"sessions": orders, "at_once": at_once}).encode()
        output = self.container.exec(["python3", "-c", _SCRIPT], stdin=stdin).stdout
        return [[Answer(code=code, text=text) for code, text in replies] for replies in json.loads(output)]

    def swaks(self, one: Submission) -> Result:
        """Run swaks, with LOGIN on port 465 and PLAIN elsewhere."""
        mode = ["--tls-on-connect", "--auth", "LOGIN"] if one.port == IMPLICIT else ["--tls", "--auth", "PLAIN"]
        where = ["--server", one.host, "--port", str(one.port), "--from", one.sender, "--to", "b@example.com"]
        login = ["--auth-user", one.user, "--auth-password", one.password]
        return self._run(["swaks", *where, *mode, *login, "--tls-verify", "--tls-ca-path", one.ca])

    def smtplib(self, one: Submission) -> Result:
        """Run Python's smtplib."""
        return self._run(["python3", "-c", _SMTPLIB], one)

    def nodemailer(self, one: Submission) -> Result:
        """Run Node's nodemailer."""
        return self._run(["env", "NODE_PATH=/usr/share/nodejs", "node", "-e", _NODE], one)

    def msmtp(self, one: Submission) -> Result:
        """Run msmtp, a sendmail(1) for those who have none."""
        command = ["msmtp", "--file=/dev/null", f"--host={one.host}", f"--port={one.port}", "--tls=on"]
        command += [f"--tls-starttls={'off' if one.port == IMPLICIT else 'on'}", f"--tls-trust-file={one.ca}"]
        command += ["--auth=on", f"--user={one.user}", f"--passwordeval=printf '%s' '{one.password}'"]
        return self._run([*command, f"--from={one.sender}", "--", "b@example.com"])

    def curl(self, one: Submission) -> Result:
        """Run curl."""
        scheme = "smtps" if one.port == IMPLICIT else "smtp"
        url = f"{scheme}://{one.host}:{one.port}"
        command = ["curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", one.ca, "--url", url]
        command += ["--user", f"{one.user}:{one.password}", "--mail-from", one.sender, "--mail-rcpt", "b@example.com"]
        return self._run([*command, "--upload-file", "-"])

    def _run(self, command: Sequence[str], order: Submission | None = None) -> Result:
        stdin = json.dumps(dataclasses.asdict(order)).encode() if order else b"Subject: x\r\n\r\nhello\r\n"
        return self.container.exec(command, stdin=stdin, check=False)
