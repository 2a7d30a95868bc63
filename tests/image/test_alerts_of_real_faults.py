"""Relays with real faults, watched by a real Prometheus: each raises the alerts that are for it, and no others.

The rules are hastened (`tests.support.prometheus.hasten`): an hour of theirs is three minutes here. Only ages are as
the rules have them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.image.conftest import Relays
from tests.support.authorities import Authority
from tests.support.client import Client
from tests.support.clock import Clock
from tests.support.engine import Engine, Network
from tests.support.load import Load
from tests.support.prometheus import ALERTS, RULES, Prometheus, hasten
from tests.support.relay import Relay
from tests.support.upstream import Upstream, reply
from tests.support.wait import wait_until

TEXT = b"Subject: x\r\n\r\nhello\r\n"
PUT_OFF = b"X-Put-Off: yes\r\n"
DAY_SECONDS = 86400
PACE_SECONDS = 5
"""Longer than the relay itself waits: 2 s for a forwarder that hangs, 3 s for each listener that does not greet."""
OLD_SECONDS = 7800
DROPPED = 30000
"""Lines beyond what the forwarder's buffer and the pipe hold."""
SIGNAL = """for p in /proc/[0-9]*; do
  ! grep -qx "$1" "$p/comm" || kill "-$0" "${p#/proc/}"
done
true"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A relay, and every alert that its faults are to raise."""

    relay: Relay
    alerts: set[str]

    @property
    def host(self) -> str:
        return self.relay.container.name


class Cases:
    """Relays that each have a fault or two, side by side, so that their waiting is shared."""

    def __init__(self, engine: Engine, network: Network, relays: Relays, clock: Clock) -> None:
        """`clock`: of the relay `old`, which believes to live in the past until it is set right."""
        self._relays = relays
        clock.set(-OLD_SECONDS)
        self.by_name: dict[str, Case] = {
            "good": self._make("Down"),
            "gone": self._make(
                "NotReady UpstreamBroken ManyDeferred QueueGrowing",
                {"RELAYHOST": "localhost:9"},
                allowed=["does not work"],
            ),
            "login": self._make(
                "NotReady UpstreamBroken LoginFailing",
                secrets={"/run/secrets/password": b"wrong"},
                allowed=["does not work", "SASL authentication failed"],
            ),
            "log": self._make_with_stalled_log(),
            "full": self._make(
                "NotReady SettingsInvalid QueueSpaceLow QueueInodesLow ClientsRefused",
                {"MYNETWORKS": "127.0.0.0/8"},
                arguments=["--tmpfs", "/var/spool/postfix:size=60m,nr_inodes=3000"],
                allowed=["memory", "the file is empty", "not enough free space"],
            ),
            "refused": self._make_with_ending_certificate(),
            "old": self._make("QueueOld", volumes=clock.volumes),
            "hung": self._make(
                "NotReady Unhealthy ObservationsMissing Restarting",
                {"LISTEN_PORTS": "25"},
                allowed=["killed by signal", "throttling", "log-forwarder", "postfix"],
            ),
        }
        for case in self.by_name.values():
            case.relay.start()
        for case in self.by_name.values():
            case.relay.wait_ready()
            if "AuthrelayNotReady" not in case.alerts:
                wait_until(partial(is_probed, case.relay), 30, "its upstream should be known to work")
        targets = [f"{case.host}:9154" for case in self.by_name.values()]
        self.prometheus = Prometheus(engine, network, targets, rules=hasten(RULES), pace_seconds=PACE_SECONDS)
        are_up = f'count(up{{job="authrelay"}} == 1) == {len(targets)}'
        wait_until(lambda: self.prometheus.query(are_up), 30, "every relay should answer Prometheus")

    def _make(self, alerts: str, env: dict[str, str] | None = None, **options: Any) -> Case:
        relay = self._relays.create({"PROBE": "yes", **(env or {})}, **options)
        return Case(relay=relay, alerts={f"Authrelay{name}" for name in alerts.split()})

    def _make_with_stalled_log(self) -> Case:
        """Nobody reads its output; and it does not know the upstream's CA, which RELAYHOST_TLS=may lets pass."""
        return self._make(
            "TLSUnverified LogLinesDropped",
            {"RELAYHOST_TLS": "may", "RELAYHOST_CA_FILE": "", "RELAYHOST_USERNAME": "", "RELAYHOST_PASSWORD_FILE": ""},
            arguments=["--entrypoint", "bash"],
            command=["-c", "exec authrelay run > >(exec sleep infinity)"],
        )

    def _make_with_ending_certificate(self) -> Case:
        chain = Authority().make_client_chain_until("relay.example.test", time.time() + 2 * DAY_SECONDS)
        return self._make(
            "ManyBounced MailExpired CertificateEndsSoon CertificateEnds",
            {
                "CLIENT_CERT_FILE": "/run/secrets/client.pem",
                "CLIENT_KEY_FILE": "/run/secrets/client.key",
                "POSTFIX_maximal_queue_lifetime": "0",
                "POSTFIX_bounce_queue_lifetime": "0",
            },
            secrets={
                "/run/secrets/client.pem": chain.chain_pem.encode(),
                "/run/secrets/client.key": chain.key_pem.encode(),
            },
            allowed=["expires in"],
        )

    def fired(self, name: str) -> set[str]:
        """Every alert that has ever fired for a relay."""
        instance = f"{self.by_name[name].host}:9154"
        history = f'count_over_time(ALERTS{{alertstate="firing", instance="{instance}"}}[1h])'
        return {sample["metric"]["alertname"] for sample in self.prometheus.query(history)}

    def has(self, name: str, claim: str) -> bool:
        """Whether a comparison such as `metric > 3` is true for a relay."""
        metric, comparison = claim.split(" ", 1)
        instance = f"{self.by_name[name].host}:9154"
        return bool(self.prometheus.query(f'{metric}{{instance="{instance}"}} {comparison}'))

    def is_complete(self, name: str) -> bool:
        """Whether all that should fire has."""
        return self.fired(name) >= self.by_name[name].alerts


def is_probed(relay: Relay) -> bool:
    """Whether a relay knows that its upstream works."""
    return relay.exec(["authrelay", "health", "--ready"], check=False).status == 0


def has_deferred(relay: Relay) -> bool:
    """Whether a message waits after an attempt."""
    return any(entry["queue_name"] == "deferred" for entry in relay.queue())


@pytest.fixture(scope="module")
def cases(
    engine: Engine, network: Network, module_relays: Relays, the_upstream: Upstream, client: Client
) -> Iterator[Cases]:
    faults = {
        "rcpt": reply(550, "5.1.1 no such user", containing="nobody"),
        "end-of-data": reply(451, "4.3.0 later", containing=PUT_OFF.decode()),
    }
    the_upstream.behave(require_auth=False, faults=faults)
    clock = Clock(engine, client)
    made = Cases(engine, network, module_relays, clock)
    cause_faults(made, engine, network, client)
    wait_until(partial(has_deferred, made.by_name["old"].relay), 30, "its message should wait")
    clock.set(0)
    yield made
    the_upstream.reset()


def cause_faults(cases: Cases, engine: Engine, network: Network, client: Client) -> None:
    """Break everything at once; the faults of `good` and `hung` come later."""

    def send(name: str, *recipients: str, text: bytes = TEXT) -> None:
        client.converse(cases.by_name[name].host, 25, "a@example.test", recipients, text)

    cases.by_name["full"].relay.set_secret("/run/secrets/password", b"")
    # The first refusal with a code makes the series; what comes then is an increase.
    send("full", "b@example.com")
    wait_until(partial(cases.has, "full", "authrelay_client_rejections_total == 1"), 30, "it should be counted")
    for _ in range(9):
        send("full", "b@example.com")
    send("login", "b@example.com")
    send("log", "b@example.com")
    with Load(engine, network, cases.by_name["gone"].host, prefix="x", sessions=4) as load:
        load.wait_accepted(120)
    send("refused", *(f"nobody{number}@example.com" for number in range(15)))
    for name in ("refused", "old"):
        send(name, "b@example.com", text=PUT_OFF + TEXT)
    line = "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect('/dev/log'); "
    line += f"[s.send(b'<22>postfix/smtpd[1]: ' + b'x' * 200) for _ in range({DROPPED})]"
    cases.by_name["log"].relay.exec(["python3", "-c", line])


@pytest.mark.parametrize("name", ["gone", "login", "log", "full", "refused", "old"])
def test_fault_raises_its_alerts_and_no_others(name: str, cases: Cases) -> None:
    """An alert that stays silent is worse than none; one that cries beside it hides what is wrong."""
    wait_until(partial(cases.is_complete, name), 60, f"{cases.by_name[name].alerts} should fire")
    assert cases.fired(name) == cases.by_name[name].alerts


def test_processes_that_hang_or_die_are_told(cases: Cases) -> None:
    """Supervisor calls a process running that answers nobody."""
    hung = cases.by_name["hung"]

    def signal(name: str, process: str) -> None:
        hung.relay.container.exec(["bash", "-c", SIGNAL, name, process], is_privileged=True)

    # One that does not read is ended by the supervisor; one that cannot be asked goes on.
    hung.relay.exec(["rm", "/run/authrelay/observations"])
    wait_until(lambda: "AuthrelayObservationsMissing" in cases.fired("hung"), 40, "its silence should be told")
    for times in range(3):
        signal("KILL", "log-forwarder")
        restarted = partial(cases.has, "hung", f"authrelay_process_restarts_total > {times}")
        wait_until(restarted, 30, "it should be started again")
    signal("STOP", "master")
    signal("KILL", "smtpd")
    wait_until(partial(cases.is_complete, "hung"), 60, "all should fire")
    assert cases.fired("hung") == hung.alerts


def test_texts_of_alerts_are_whole(cases: Cases) -> None:
    """A template with a slip in it says so in the middle of the night, instead of the value."""
    texts = [text for alert in cases.prometheus.alerts() for text in alert["annotations"].values()]
    assert texts
    assert [text for text in texts if re.search(r"<error|%!|<no value>|\{\{", text)] == []


def test_relay_without_a_fault_raises_nothing_until_it_is_stopped(cases: Cases) -> None:
    """The same Prometheus, the same minutes: what is well is silent; and an end is told."""
    assert cases.fired("good") == set()
    cases.by_name["good"].relay.stop()
    wait_until(partial(cases.is_complete, "good"), 30, "its end should be told")
    assert cases.fired("good") == {"AuthrelayDown"}


def test_relays_that_prometheus_no_longer_knows_are_missed(cases: Cases) -> None:
    """Without a target there is nothing that any other rule could be about."""
    absent = 'ALERTS{alertname="AuthrelayAbsent", alertstate="firing"}'
    assert cases.prometheus.query(absent) == []
    cases.prometheus.watch([])
    wait_until(lambda: cases.prometheus.query(absent), 30, "their absence should be told")


def test_every_alert_was_raised_for_real(cases: Cases) -> None:
    """A rule that was only ever simulated may never fire."""
    raised = set().union(*(case.alerts for case in cases.by_name.values()))
    assert {*raised, "AuthrelayAbsent"} == set(ALERTS)
