"""The status service of a real relay: what it answers, what it cannot read, and that mail does not mind it."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import threading
import time

import pytest

from tests.image.conftest import LOGIN, Relays
from tests.image.test_processes import list_processes
from tests.image.test_upkeep import submit, wait_line
from tests.support.client import Client, SmtpRefusedError
from tests.support.engine import Engine
from tests.support.relay import Relay
from tests.support.status import PORT, ask, find_address, read_metrics
from tests.support.upstream import Upstream, hang, reply
from tests.support.wait import wait_until

TEXT = b"Subject: x\r\n\r\nhello\r\n"
SECRET = "Tr0ub4dor-unique-secret"
ON = {"PROBE": "yes"}
UP = ("authrelay_upstream_up", "setting=RELAYHOST", "upstream=[mail.example.test]:587")


def find_status(relay: Relay) -> int:
    """The number of the service's process in the container."""
    (pid,) = (pid for pid, (parent, user, _) in list_processes(relay).items() if parent == 1 and user == "authrelay")
    return pid


def list_faults(relay: Relay, path: str = "/readyz") -> dict[str, str]:
    """What is not well, by name."""
    return {one["name"]: one["detail"] for one in ask(relay, path).json["checks"] if not one["is_well"]}


def wait_answer(relay: Relay, path: str, code: int, timeout_seconds: float = 30) -> None:
    """Wait for an answer; right after a start nobody answers yet."""

    def find_code() -> int:
        with contextlib.suppress(ConnectionRefusedError):
            return ask(relay, path).code
        return 0

    wait_until(lambda: find_code() == code, timeout_seconds, f"{path} should answer {code}")


def test_status_tells_what_the_relay_is_and_leaves_no_line_in_the_log(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """Scraped, probed and looked at, and the log is as it was."""
    relay = relays.start(ON)
    wait_answer(relay, "/readyz", 200)
    submit(relay, client)
    upstream.wait_messages(1)
    wait_until(lambda: "removed" in relay.logs(), 10, "the last line of the delivery should be there")
    before = relay.logs()
    for _ in range(5):
        metrics = read_metrics(relay)
        assert (metrics["authrelay_healthy",], metrics["authrelay_ready",]) == (1, 1)
        page = ask(relay, "/")
        assert page.code == 200
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert "relay.example.test" in page.text
        assert ask(relay, "/healthz").json["status"] == "ok"
    assert relay.logs() == before
    assert metrics[UP] == 1
    assert metrics["authrelay_upstream_probe_timestamp_seconds",] == pytest.approx(time.time(), abs=120)
    assert metrics["authrelay_configuration_valid",] == 1
    assert metrics["authrelay_process_restarts_total", "service=postfix"] == 0
    assert metrics["authrelay_secret_changed_timestamp_seconds", "setting=RELAYHOST_PASSWORD"] > 0
    roles = {key[1] for key in metrics if key[0] == "authrelay_certificate_not_after_timestamp_seconds"}
    assert roles == {"role=client", "role=trusted_ca", "role=upstream"}
    accept = "application/openmetrics-text; version=1.0.0"
    answer = ask(relay, "/metrics", accept=accept)
    assert answer.headers["content-type"].startswith(accept)
    assert answer.text.endswith("# EOF\n")


def test_readiness_falls_with_the_upstream_and_health_does_not(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """Healthy while everything defers is what other images report; restarted for it would be as wrong."""
    relay = relays.start(ON, allowed=["RELAYHOST .* does not work"])
    wait_answer(relay, "/readyz", 200)
    upstream.behave(faults={"connect": reply(421, "4.3.2 closed for tonight")})
    submit(relay, client)
    wait_answer(relay, "/readyz", 503)
    assert ask(relay, "/healthz").code == ask(relay, "/readyz?exclude=upstream").code == 200
    assert "closed for tonight" in list_faults(relay)["RELAYHOST [mail.example.test]:587"]
    assert read_metrics(relay)[UP] == 0
    wait_until(lambda: "1 queued" in ask(relay, "/").text or "closed for tonight" in ask(relay, "/").text, 10, "queued")
    upstream.mend()
    relay.flush()
    # A delivery is believed at once; the next probe comes some seconds later.
    wait_answer(relay, "/readyz", 200)
    wait_until(lambda: read_metrics(relay)[UP] == 1, 60, "the next probe should find it well")


def test_full_disk_is_told_before_a_client_is_refused(relays: Relays, upstream: Upstream, client: Client) -> None:
    """`/readyz` knows Postfix's own limit: from there on every MAIL FROM gets a 452."""
    relay = relays.start(
        {"MESSAGE_SIZE_LIMIT": "2M"},
        arguments=["--tmpfs=/var/spool/postfix:size=8m"],
        allowed=["the queue lies in memory", "not enough free space in mail queue"],
    )
    wait_answer(relay, "/readyz", 200)
    relay.exec(["sh", "-c", "head -c 6000000 /dev/zero >/var/spool/postfix/filler"])
    wait_answer(relay, "/readyz", 503)
    assert ask(relay, "/readyz?exclude=upstream").code == 503
    assert "takes no message" in list_faults(relay)["queue space"]
    assert ask(relay, "/healthz").code == 200
    assert read_metrics(relay)["authrelay_queue_free_bytes",] < 3 * 2**20
    with pytest.raises(SmtpRefusedError, match="452"):
        client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    relay.exec(["rm", "/var/spool/postfix/filler"])
    wait_answer(relay, "/readyz", 200)
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)


def test_reload_is_counted_and_restarts_no_counter(relays: Relays, upstream: Upstream) -> None:
    """A password that rotates every hour must not tear graphs."""
    relay = relays.start(allowed=["RELAYHOST_PASSWORD"])
    pid = find_status(relay)
    before = read_metrics(relay)
    upstream.set_accounts({LOGIN: "another"})
    relay.set_secret("/run/secrets/password", b"another\n")
    wait_line(relay, "changed: the login")
    wait_until(lambda: read_metrics(relay)["authrelay_configuration_reloads_total",] == 1, 10, "it should be counted")
    after = read_metrics(relay)
    changed = ("authrelay_secret_changed_timestamp_seconds", "setting=RELAYHOST_PASSWORD")
    assert after[changed] >= before[changed]
    assert find_status(relay) == pid
    relay.set_secret("/run/secrets/password", b"")
    wait_until(lambda: read_metrics(relay)["authrelay_configuration_valid",] == 0, 10, "it should be told")
    # The one before is in force: mail flows on.
    answer = ask(relay, "/readyz")
    assert answer.code == 200
    assert any("the file is empty" in warning for warning in json.loads(answer.body)["warnings"])


def test_dawdling_clients_keep_no_probe_out(relays: Relays, upstream: Upstream, client: Client) -> None:
    """Slowloris against the status port is felt by nobody, and least by mail."""
    relay = relays.start()
    relay.container.watch_port(PORT, 10)
    with contextlib.ExitStack() as stack:
        for number in range(300):
            connection = stack.enter_context(socket.create_connection((find_address(relay), PORT), timeout=10))
            if number % 2:
                with contextlib.suppress(OSError):
                    connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        began = time.monotonic()
        assert ask(relay, "/healthz").code == 200
        assert relay.exec(["authrelay", "health"]).status == 0
        assert time.monotonic() - began < 5
        client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
        upstream.wait_messages(1)


def test_service_can_read_no_secret_and_no_mail(
    relays: Relays, upstream: Upstream, client: Client, engine: Engine
) -> None:
    """Whoever finds a fault in it gets what it shows anyway, and nothing more."""
    upstream.set_accounts({LOGIN: SECRET})
    upstream.behave(faults={"rcpt": reply(451, "4.7.1 later")})
    relay = relays.start(
        secrets={"/run/secrets/password": SECRET.encode()},
        volumes={engine.volume(): "/var/spool/postfix", engine.volume(): "/var/lib/authrelay"},
    )
    client.send(
        relay.container.name, 25, "a@example.test", ["b@example.com"], b"Subject: x\r\n\r\nthe-words-of-a-mail\r\n"
    )
    relay.wait_queue(1)
    pid = find_status(relay)
    status = dict(line.split(":\t", 1) for line in relay.exec(["cat", f"/proc/{pid}/status"]).text.splitlines())
    assert status["Uid"].split() == ["101"] * 4
    assert status["Gid"].split() == ["103"] * 4
    assert set(status["Groups"].split()) == {"102", "103"}
    assert (status["CapEff"], status["CapPrm"], status["CapAmb"]) == ("0" * 16,) * 3
    list_kinds = f"cd /proc/{pid}/fd; for f in *; do [ $f -gt 2 ] && readlink $f; done; true"
    kinds = relay.container.exec(["bash", "-c", list_kinds], is_privileged=True).text
    assert re.fullmatch(r"((socket|anon_inode):\[?\w+\]?\n)+", kinds), kinds
    look = "find / -xdev -type f ! -path '/proc/*' ! -path '/sys/*' ! -path '/usr/*' ! -path '/opt/*' -readable"
    places = "find /run /var /dev /tmp /etc -type f -readable"
    found = relay.container.exec(
        ["sh", "-c", f"({look}; {places}) 2>/dev/null | sort -u"], user="authrelay", check=False
    )
    readable = found.text.split()
    assert "/run/authrelay/verdict.json" in readable
    assert not [path for path in readable if path.startswith(("/run/secrets", "/var/spool", "/etc/shadow"))]
    assert not [path for path in readable if "sasl_passwd" in path or path.endswith(("client.pem", "client-chain.pem"))]
    read = "cat /proc/1/environ /proc/1/mem /run/secrets/password; xargs cat"
    text = relay.container.exec(
        ["sh", "-c", read], stdin="\n".join(readable).encode(), user="authrelay", check=False
    ).stdout
    assert len(text) > 1000
    for secret in (
        SECRET.encode(),
        base64.b64encode(SECRET.encode()),
        b"PRIVATE KEY",
        b"the-words-of-a-mail",
    ):
        assert secret not in text
    queued = relay.container.exec(["postqueue", "-j"], user="authrelay").text
    assert json.loads(queued)["sender"] == "a@example.test"


def test_service_that_dies_is_started_again_and_mail_does_not_notice(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """What only watches must not be able to hurt."""
    relay = relays.start(allowed=["status ended"])
    assert ask(relay, "/healthz").code == 200
    relay.container.exec(["bash", "-c", f"kill -9 {find_status(relay)}"], user="authrelay")
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    assert relay.exec(["authrelay", "health"]).status == 0
    wait_line(relay, r"WARNING authrelay: status ended \(terminated by SIGKILL\) and is started again")

    def is_counted() -> bool:
        with contextlib.suppress(OSError):
            return read_metrics(relay)["authrelay_process_restarts_total", "service=status"] == 1
        return False

    wait_until(is_counted, 10, "the restart should be counted")


def test_service_that_is_lost_for_good_ends_nothing(relays: Relays, upstream: Upstream, client: Client) -> None:
    """A relay without metrics is a relay; one that ends for the lack of them is none."""
    relay = relays.start(allowed=["status ended", "status cannot be kept running"])
    killing = (
        "until [ -e /tmp/over ]; do for p in /proc/[0-9]*; do "
        '[ "$(cat $p/comm 2>/dev/null)" = status ] && kill -9 ${p#/proc/}; done; sleep 0.1; done'
    )
    killer = threading.Thread(
        target=relay.container.exec,
        args=(["timeout", "40", "bash", "-c", killing],),
        kwargs={"check": False, "user": "authrelay"},
    )
    killer.start()
    try:
        line = wait_line(relay, "status cannot be kept running", 40)
    finally:
        relay.container.exec(["touch", "/tmp/over"], check=False)
        killer.join()
    assert " WARNING authrelay: " in line
    assert "mail is not affected" in line
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    result = relay.exec(["authrelay", "health"])
    assert result.status == 0
    assert "WARN   the status service does not run" in result.text


def test_relay_without_the_service_listens_nowhere_else_and_knows_its_health(relays: Relays) -> None:
    """`none` is none: no process, no port, and the same answers by the command."""
    relay = relays.start({"STATUS_LISTEN": "none"})
    assert "authrelay" not in {user for _, user, _ in list_processes(relay).values()}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((find_address(relay), PORT), timeout=5)
    for command in (["authrelay", "health"], ["authrelay", "health", "--ready"]):
        assert relay.exec(command).status == 0
    assert "queue space" in relay.exec(["authrelay", "health", "--ready"]).text


def test_health_by_the_service_and_by_the_command_is_the_same(relays: Relays) -> None:
    """The HEALTHCHECK asks the service, because that costs less; it must not get another answer for that."""
    relay = relays.start({"STATUS_LISTEN": "127.0.0.1:9999"})
    wait_until(lambda: relay.exec(["authrelay", "health"], check=False).status == 0, 10, "it should be healthy")
    wait_until(lambda: "postfix: running" in relay.exec(["authrelay", "health"]).text, 20, "it should have settled")
    python = ["/opt/authrelay/bin/python3", "-I", "-m", "entrypoint"]
    assert relay.exec(["authrelay", "health"]).text == relay.exec([*python, "health"]).text
    numbers = re.compile(r"[\d.]+ GiB free|\d+ free")

    def read(command: list[str]) -> str:
        return numbers.sub("", relay.exec(command).text)

    assert read(["authrelay", "health", "--ready"]) == read([*python, "health", "--ready"])


def test_address_that_is_not_there_is_told_and_hinders_nothing(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """A mistake in a setting that no mail needs must not stop mail."""
    relay = relays.start({"STATUS_LISTEN": "192.0.2.1:9154"}, allowed=["STATUS_LISTEN"])
    line = wait_line(relay, "WARNING authrelay: STATUS_LISTEN=192.0.2.1:9154")
    assert "this container does not have that address. Use 0.0.0.0 or [::]. Mail is not affected" in line
    assert relay.exec(["authrelay", "health"]).status == 0
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    assert relay.stop() == 0


def test_stop_is_told_by_readiness_while_mail_still_goes_out(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """A balancer takes it out of service while it drains, and no orchestrator kills it for that."""
    upstream.behave(faults={"data": hang(times=1)})
    relay = relays.start({"DRAIN_TIMEOUT": "20s"}, allowed=["timed out", "lost connection"])
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    wait_until(lambda: upstream.sessions(), 10, "the delivery should be under way")
    stopping = threading.Thread(target=relay.container.stop, args=(60,))
    stopping.start()
    try:
        wait_answer(relay, "/readyz", 503, 10)
        assert "stop" in list_faults(relay)
        assert ask(relay, "/healthz").code == 200
    finally:
        upstream.mend()
        stopping.join()
    assert relay.exit_status() == 0
