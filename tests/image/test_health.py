"""`authrelay health`: right when it says so, silent in the log."""

from __future__ import annotations

import json
import time

import pytest

from tests.image.conftest import Relays
from tests.support.wait import wait_until


def test_health_is_good_and_leaves_no_line_in_the_log(relays: Relays) -> None:
    """A probe every few seconds must not bury the log, as those of other images do."""
    relay = relays.start()
    wait_until(lambda: relay.logs().endswith(" quit=1 commands=1\n"), 5, "the greeting's own lines should have come")
    before = relay.logs()
    for _ in range(5):
        result = relay.exec(["authrelay", "health"])
        assert "ok     127.0.0.1:25: 220 relay.example.test ESMTP" in result.text
        assert "ok     127.0.0.1:587: 220 relay.example.test ESMTP" in result.text
        assert "ok     log-forwarder:" in result.text
        assert "ok     postfix:" in result.text
    assert relay.logs() == before


@pytest.mark.parametrize(
    "env",
    [
        {"INET_INTERFACES": "loopback-only"},
        {"INET_PROTOCOLS": "ipv6"},
        {"INET_PROTOCOLS": "ipv4", "LISTEN_PORTS": "2525"},
        {"INET_INTERFACES": "127.0.0.1 ::1"},
    ],
    ids=["sidecar", "ipv6", "other-port", "addresses"],
)
def test_health_knows_where_the_relay_listens(env: dict[str, str], relays: Relays) -> None:
    """A probe of port 25 on 127.0.0.1 would fail where nobody listens there, and restart a good container."""
    relay = relays.create(env)
    relay.start()
    port = int(env.get("LISTEN_PORTS", "25"))
    wait_until(lambda: relay.exec(["authrelay", "health"], check=False).status == 0, 20, "it should become healthy")
    wait_until(lambda: "daemon started" in relay.logs(), 10, "the last line of the start should be there")
    before = relay.logs()
    answer = json.loads(relay.exec(["authrelay", "health", "--json"]).text)
    assert answer["is_healthy"]
    assert any(finding["name"].endswith(f":{port}") for finding in answer["findings"])
    assert relay.logs() == before


def test_health_fails_while_postfix_does_not_answer(relays: Relays) -> None:
    """The kernel accepts connections for a master that hangs: only a greeting proves anything."""
    relay = relays.start(allowed=["killed by signal 9", "throttling"])
    relay.exec(["bash", "-c", "kill -STOP $(sed 's/ //g' /var/spool/postfix/pid/master.pid)"])
    killing = "for p in /proc/[0-9]*; do grep -q smtpd $p/comm && kill -9 ${p#/proc/}; done; true"
    relay.container.exec(["bash", "-c", killing], is_privileged=True)
    # What was well is believed for two seconds.
    wait_until(lambda: relay.exec(["authrelay", "health"], check=False).status == 69, 12, "it should be noticed")
    began = time.monotonic()
    result = relay.exec(["authrelay", "health"], check=False)
    assert result.status == 69
    assert "FAILED 127.0.0.1:25: timed out" in result.text
    assert time.monotonic() - began < 10, "the HEALTHCHECK's own timeout would have ended it"
    relay.exec(["bash", "-c", "kill -CONT $(sed 's/ //g' /var/spool/postfix/pid/master.pid)"])


def test_health_is_not_that_of_another_relay_on_the_same_network(relays: Relays) -> None:
    """With --network=host two relays may want one port: whoever has it must not answer for the other."""
    first = relays.start()
    second = relays.create({"LISTEN_PORTS": "2525"}, beside=first, allowed=["another program has that port"])
    second.start()
    second.wait_ready(port=2525)
    assert "127.0.0.1:2525: 220" in second.exec(["authrelay", "health"]).text
    assert "127.0.0.1:25: 220" in first.exec(["authrelay", "health"]).text


def test_engine_calls_the_container_healthy(relays: Relays) -> None:
    """`depends_on: condition: service_healthy` and orchestrators rely on the image's own HEALTHCHECK."""
    relay = relays.start(is_checked=True)
    wait_until(lambda: relay.container.health() == "healthy", 20, "the HEALTHCHECK should succeed")


def test_health_says_that_nothing_runs_where_nothing_runs(relays: Relays) -> None:
    """Asked outside a running relay the answer must be no, with the reason."""
    relay = relays.create(command=["health"], has_defaults=False)
    relay.start()
    assert relay.wait_exit() == 69
    assert "FAILED supervisor: nothing has been started" in relay.logs()
    relays.made.remove(relay)
    relay.remove()
