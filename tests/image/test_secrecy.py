"""A secret never appears: every command is run with known secrets, and everything that anybody can read is searched."""

from __future__ import annotations

import base64
import json
import re

import pytest

from tests.image.conftest import LOGIN, Relays
from tests.image.test_probe import wait_ready
from tests.image.test_upkeep import submit, wait_line
from tests.support.client import Client
from tests.support.engine import Engine, Network, run_docker
from tests.support.relay import Relay
from tests.support.upstream import HOSTNAME, Upstream, reply
from tests.support.wait import wait_until
from tests.support.web import WEB_HOST, start_web

PASSWORD = "k1-Wm:$9z#Qx"
NEXT_PASSWORD = "Zr7)pT|w4&Ln"
TOKEN = "t0kenV9bX2"
COMMANDS = [
    ["check"],
    ["settings"],
    ["settings", "--json"],
    ["discover-ca", f"{HOSTNAME}:587"],
    ["discover-ca", f"{HOSTNAME}:587", "--json"],
    ["doctor", "--to", "b@example.com", "--timeout", "3"],
    ["doctor", "--json"],
    ["queue"],
    ["queue", "--json"],
    ["health", "--ready"],
    ["health", "--ready", "--json"],
    ["send-test", "--to", "b@example.com", "--timeout", "5"],
    ["send-test", "--to", "b@example.com", "--timeout", "5", "--json"],
    ["render", "/tmp/rendered"],
    # Mistakes in the command line are quoted in an answer, too.
    ["doctor", "--to", PASSWORD],
    ["nonsense"],
]


def list_forms(secret: str) -> set[bytes]:
    """The secret as programs write it: plain, base64 at each alignment, hexadecimal, JSON, and within AUTH PLAIN."""
    data = secret.encode()
    forms = {data, data.hex().encode(), json.dumps(secret).strip('"').encode(), repr(secret).strip("'").encode()}
    forms |= {base64.b64encode(b"x" * offset + data)[4:-4] for offset in range(3)}
    forms.add(base64.b64encode(f"\0{LOGIN}\0{secret}".encode()).rstrip(b"=")[:-1])
    return forms


def list_key_lines(chain: str) -> set[bytes]:
    """The two lines of a P-256 key that hold what is private of it; the third is public (RFC 5958, RFC 5915)."""
    return {line.encode() for line in chain.partition("PRIVATE KEY-----\n")[2].splitlines()[:2]}


def find_leaks(text: bytes, secrets: set[bytes]) -> list[bytes]:
    return sorted(form for form in secrets if form.lower() in text.lower())


@pytest.fixture(scope="module")
def secrets() -> set[bytes]:
    """Every form of every secret, but the private key's, which each relay has of its own."""
    return list_forms(PASSWORD) | list_forms(NEXT_PASSWORD) | list_forms(TOKEN)


def read_world_readable(relay: Relay) -> bytes:
    """Whatever a process of another user in the container could read of what a start writes."""
    find = (
        "find /run /var/lib/authrelay /var/spool/postfix /tmp -type f -perm -004 ! -path '/run/secrets/*' "
        "-exec cat {} + 2>/dev/null; cat /proc/1/cmdline /proc/[0-9]*/cmdline 2>/dev/null; true"
    )
    return relay.exec(["sh", "-c", find]).stdout


def test_no_command_log_or_open_file_has_a_secret(
    engine: Engine, network: Network, relays: Relays, upstream: Upstream, client: Client, secrets: set[bytes]
) -> None:
    """Also where the upstream echoes what it was sent, and where the settings are wrong."""
    upstream.set_accounts({LOGIN: PASSWORD})
    web = start_web(engine, network, upstream.authority.pem)
    env = {
        "PROBE": "yes",
        "TLS_LOG_LEVEL": "2",
        "RELAYHOST_CA_FILE": "",
        "RELAYHOST_CA_URL": f"https://{WEB_HOST}/ca.pem?token={TOKEN}",
        "RELAYHOST_CA_REFRESH": "10s",
    }
    try:
        relay = relays.start(
            env,
            secrets={"/run/secrets/password": PASSWORD.encode()},
            volumes={str(web.bundle): "/etc/ssl/certs/ca-certificates.crt:ro"},
            allowed=["does not work", "RELAYHOST_CA_URL", "RELAYHOST_PASSWORD"],
        )
        wait_ready(relay)
        keys = list_key_lines(relay.exec(["cat", "/var/lib/authrelay/client.pem"]).text)
        assert {len(line) for line in keys} == {64}
        known = secrets | keys
        outputs = {}

        def run_all(occasion: str) -> None:
            for command in COMMANDS:
                result = relay.exec(["authrelay", *command], check=False)
                given = PASSWORD.encode() if PASSWORD in command else b"\0"
                outputs[f"{occasion}: {' '.join(command)}"] = (result.stdout + result.stderr).replace(given, b"")

        run_all("good")
        initial = base64.b64encode(b"\0".join((b"", LOGIN.encode(), PASSWORD.encode()))).decode()
        echo = f"5.7.8 not {PASSWORD} {initial}"
        upstream.behave(faults={"auth": reply(535, echo)})
        submit(relay, client)
        run_all("refused with an echo")
        upstream.mend()
        web.put("<html>")
        wait_line(relay, "RELAYHOST_CA_URL=.* it is a web page", 25)
        relay.set_secret("/run/secrets/password", f" {NEXT_PASSWORD}".encode())
        wait_line(relay, "ERROR authrelay: RELAYHOST_PASSWORD_FILE")
        run_all("bad settings")
        upstream.set_accounts({LOGIN: NEXT_PASSWORD})
        relay.set_secret("/run/secrets/password", NEXT_PASSWORD.encode())
        wait_line(relay, "changed: the login")
        relay.flush()
        wait_until(lambda: relay.queue() == [], 30, "everything should be delivered")
        outputs["open files"] = read_world_readable(relay)
        outputs["docker inspect"] = run_docker(["inspect", relay.container.name]).stdout.replace(
            f"token={TOKEN}".encode(), b""
        )
        # Postfix logs what an upstream says; whether that holds a secret is the upstream's doing.
        outputs["log"] = re.sub(rb"(?m)^.* postfix/\w+\[\d+\]: .*5\.7\.8 not .*$", b"", relay.logs().encode())
        leaks = {name: found for name, text in outputs.items() if (found := find_leaks(text, known))}
        assert leaks == {}
        rendered = relay.exec(["sh", "-c", f"grep -rlaF '{PASSWORD}' /tmp/rendered | xargs stat -c '%a %n'"]).text
        assert rendered.splitlines() == ["600 /tmp/rendered/sasl_passwd"]
    finally:
        web.container.remove()
