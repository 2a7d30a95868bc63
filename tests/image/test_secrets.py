"""Passwords of every kind log in, a new one counts after a restart, and none is seen where it does not belong."""

from __future__ import annotations

import base64

import pytest

from tests.image.conftest import LOGIN, Relays
from tests.image.test_processes import list_processes
from tests.support.client import Client
from tests.support.engine import Engine
from tests.support.relay import Relay
from tests.support.upstream import Upstream
from tests.support.wait import wait_until

TEXT = b"Subject: x\r\n\r\nhello\r\n"
ODD_PASSWORDS = {
    "hash-first": "#not a comment",
    "hash-inside": "a # b",
    "dollar": "$myhostname${x}$(y)$$",
    "colon": "a:b::c:",
    "quotes": "\"'`\"'",
    "backslash": "a\\b\\\\c\\n\\",
    "blanks-inside": "two  blanks  and  more",
    "utf-8": "pässwörd €uro 日本語",
    "percent-and-braces": "%s%n{{ x }}{% if %}",
    "equals-and-commas": "a=b, c=d; e|f&g>h",
    "at-and-brackets": "user@[host]:587",
    "200-characters": "x" * 199 + "Z",
}


@pytest.fixture(scope="module")
def relay(module_relays: Relays) -> Relay:
    """A relay whose password file changes between restarts."""
    return module_relays.create()


@pytest.mark.parametrize("password", ODD_PASSWORDS.values(), ids=ODD_PASSWORDS.keys())
def test_password_logs_in_byte_for_byte_after_a_restart(
    password: str, relay: Relay, upstream: Upstream, client: Client
) -> None:
    """A password manager's output must work as it is, and a changed secret must not leave the old one behind."""
    upstream.set_accounts({LOGIN: password})
    relay.set_secret("/run/secrets/password", password.encode() + b"\n")
    if relay.container.is_running:
        relay.stop()
    relay.start()
    relay.wait_ready()
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    (login,) = upstream.sessions()[0].logins
    assert (login.password, login.is_accepted, login.is_inside_tls) == (password.encode(), True, True)


@pytest.mark.parametrize("name", ["dollar", "quotes", "utf-8"])
def test_password_in_the_variable_itself_logs_in(name: str, relays: Relays, upstream: Upstream, client: Client) -> None:
    """Not everyone has secret files."""
    password = ODD_PASSWORDS[name]
    upstream.set_accounts({LOGIN: password})
    relay = relays.start({"RELAYHOST_PASSWORD_FILE": "", "RELAYHOST_PASSWORD": password})
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    assert upstream.sessions()[0].logins[0].password == password.encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"two\nlines", "it contains a line break"),
        (b"a\r\nb", "it contains a carriage return"),
        (b" leading", "it begins or ends with a blank"),
        (b"trailing ", "it begins or ends with a blank"),
        (b"nul\0inside", "it contains a NUL character"),
        (b"\xff\xfe", "the file is not UTF-8 text"),
        (b"\n", "the file is empty"),
    ],
)
def test_password_that_postfix_cannot_carry_ends_the_start(content: bytes, message: str, relays: Relays) -> None:
    """A password that is silently another one would lock the account; better not to start."""
    relay = relays.create(allowed=["."])
    relay.set_secret("/run/secrets/password", content)
    relay.start()
    assert relay.wait_exit() == 78
    assert "authrelay: RELAYHOST_PASSWORD_FILE" in relay.logs()
    assert message in relay.logs()
    assert "Traceback" not in relay.logs()


def test_certificate_and_key_survive_a_restart_and_a_new_container(
    relays: Relays, state_volume: str, client: Client
) -> None:
    """An upstream may pin the fingerprint: it must be the same after every restart and upgrade."""
    volumes = {state_volume: "/var/lib/authrelay"}
    relay = relays.start(volumes=volumes)

    def read_identity(of: Relay) -> tuple[str, str]:
        certificate = of.exec(["cat", "/var/lib/authrelay/client-certificate.pem"]).stdout
        fingerprint = client.openssl(["x509", "-noout", "-fingerprint", "-sha256"], stdin=certificate).text
        return fingerprint.strip(), of.exec(["cat", "/var/lib/authrelay/client.pem"]).text

    first = read_identity(relay)
    relay.restart()
    relay.wait_ready()
    assert read_identity(relay) == first
    relay.stop()
    other = relays.start({"MYHOSTNAME": "renamed.example.test"}, volumes=volumes)
    assert read_identity(other) == first
    print("fingerprint before and after:", first[0])


def test_secrets_are_nowhere_but_in_roots_tables(relays: Relays, upstream: Upstream, client: Client) -> None:
    """Logs are shipped, inspections pasted into tickets, main.cf read by everyone: none may hold the password."""
    secret = "Tr0ub4dor-unique-secret"
    upstream.set_accounts({LOGIN: secret})
    relay = relays.start({"TLS_LOG_LEVEL": "2"}, secrets={"/run/secrets/password": secret.encode()})
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    encoded = base64.b64encode(f"\0{LOGIN}\0{secret}".encode()).decode()

    def has_secret(text: str) -> bool:
        return secret in text or encoded in text or base64.b64encode(secret.encode()).decode() in text

    assert not has_secret(relay.logs())
    assert not has_secret(str(relay.container.inspect()))
    for command in (
        ["cat", "/etc/postfix/main.cf", "/etc/postfix/master.cf", "/run/authrelay/supervisord.conf"],
        ["postconf"],
        ["bash", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'"],
        ["authrelay", "check"],
        ["authrelay", "health", "--json"],
    ):
        result = relay.exec(command)
        assert not has_secret(result.text + result.stderr.decode()), command

    holders = relay.exec(
        ["grep", "-rlF", secret, "/run/authrelay", "/var", "/etc", "/tmp", "/opt/authrelay"], check=False
    )
    assert set(holders.text.split()) == {
        "/run/authrelay/postfix/sasl_passwd",
        "/run/authrelay/postfix/sasl_passwd.lmdb",
    }
    modes = relay.exec(["stat", "-c", "%U %a", *sorted(holders.text.split())]).text
    assert modes == "root 600\nroot 600\n"


def test_password_variable_reaches_no_process(relays: Relays) -> None:
    """PID 1 reads the password from its environment once; what it becomes, and all that it starts, has none of it."""
    secret = "another-unique-secret"
    relay = relays.start({"RELAYHOST_PASSWORD_FILE": "", "RELAYHOST_PASSWORD": secret})
    # What `docker exec` and the HEALTHCHECK start has the container's own variables; everything else is ours.
    pids = " ".join(map(str, list_processes(relay)))
    script = f"for p in {pids}; do tr '\\0' '\\n' </proc/$p/environ | sed \"s#^#$p #\"; done"
    environments = relay.exec(["bash", "-c", script], check=False).text
    assert [line for line in environments.splitlines() if secret in line] == []
    assert wait_until(lambda: "LANG=C.UTF-8" in environments, 1, "the environment should have been read")


@pytest.fixture
def state_volume(engine: Engine) -> str:
    """A named volume."""
    return engine.volume()
