"""The rendered pods run for real: `podman kube play`, rootless, with volumes, Secrets and probes as a kubelet has them.

Minutes: `make kubernetes` runs it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.image.test_stop import AT_THE_END
from tests.kubernetes.test_chart import EXAMPLE, find, get_relay, merge
from tests.support.chart import parse_objects, render_chart
from tests.support.engine import Engine
from tests.support.kubelet import CLIENT_IMAGE, RELAY_IMAGE, Kubelet, make_pod
from tests.support.relay import IMAGE, find_complaints
from tests.support.upstream import HOSTNAME, Upstream
from tests.support.wait import wait_until

LOGIN, PASSWORD, NEW_PASSWORD = "relay@example.test", "secret", "another, with $ and #"
VALUES: dict[str, Any] = {
    "image": {"repository": RELAY_IMAGE, "tag": "test", "pullPolicy": "Never"},
    "settings": {"RELAYHOST": f"{HOSTNAME}:587", "RELAYHOST_USERNAME": LOGIN},
    "secrets": {"RELAYHOST_PASSWORD": {"existingSecret": "relay", "key": "password"}},
    "files": {"RELAYHOST_CA": {"existingConfigMap": "relay-ca", "key": "ca.pem"}},
}
GATEWAY = merge(VALUES, {"settings": {"MYNETWORKS": "10.0.0.0/8"}, "readiness": "delivers"})
SEND = r"""
import smtplib, sys
with smtplib.SMTP(sys.argv[1], 25, "application.example.test", timeout=30) as relay:
    for name in sys.argv[2:]:
        relay.sendmail(name, ["b@example.com"], "Subject: x\r\n\r\nhello\r\n")
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made


@pytest.fixture(scope="module")
def nodes(engine: Engine) -> tuple[Kubelet, Upstream]:
    """A node, and an upstream that its pods reach."""
    network = engine.network()
    # First the upstream: the node's own resolver is asked for names that podman does not know.
    upstream = Upstream(engine, network)
    return Kubelet(engine, network, IMAGE), upstream


@pytest.fixture
def node(nodes: tuple[Kubelet, Upstream]) -> Iterator[Kubelet]:
    kubelet, upstream = nodes
    upstream.reset()
    yield kubelet
    kubelet.podman("pod", "rm", "--all", "--force")
    kubelet.podman("volume", "rm", "--all", "--force")
    kubelet.podman("secret", "rm", "--all", check=False)


@pytest.fixture
def upstream(nodes: tuple[Kubelet, Upstream]) -> Upstream:
    return nodes[1]


def make_sources(upstream: Upstream) -> list[dict[str, Any]]:
    """What the values refer to."""
    password = base64.b64encode(PASSWORD.encode() + b"\n").decode()
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "relay"}, "data": {"password": password}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "relay-ca"},
            "data": {"ca.pem": upstream.authority.pem},
        },
    ]


def send(node: Kubelet, host: str, *names: str, container: str = "client") -> None:
    node.podman("exec", container, "python3", "-c", SEND, host, *names)


def count_each(upstream: Upstream, names: list[str]) -> list[int]:
    """How often the content of each message came."""
    senders = [message.mail_from for message in upstream.messages()]
    return [senders.count(name) for name in names]


def name_all(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}@example.test" for number in range(count)]


def assert_silent(log: str, *allowed: str) -> None:
    assert find_complaints(log, [*AT_THE_END, *allowed]) == []


def test_gateway_pod_relays_is_probed_takes_a_new_secret_and_leaves_its_queue(
    node: Kubelet, upstream: Upstream
) -> None:
    """The life of a gateway, from its first greeting to its successor on the same volume."""
    workload = find(parse_objects(render_chart(GATEWAY)), "StatefulSet")
    accepting = find(parse_objects(render_chart({**GATEWAY, "readiness": "accepts"})), "StatefulSet")
    pod, *_ = reversed(make_pod(workload, "relay-authrelay-0"))
    claims = make_pod(workload, "relay-authrelay-0")[:-1]
    relay = get_relay(workload["spec"]["template"]["spec"])
    patient = get_relay(accepting["spec"]["template"]["spec"])
    grace = int(workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])
    name = pod["metadata"]["name"]
    node.play([*make_sources(upstream), *claims, pod])
    for kind in ("startup", "liveness", "readiness"):
        node.wait_probe(name, relay, kind)
    rights = node.podman("exec", f"{name}-authrelay", "grep", "-E", "CapEff|NoNewPrivs", "/proc/1/status").text.split()
    assert rights == ["CapEff:", "00000000000004c3", "NoNewPrivs:", "1"]

    send(node, name, *name_all("first", 5))
    upstream.wait_messages(5)
    session = upstream.messages()[0].session_id
    assert upstream.sessions()[session - 1].logins[0].is_inside_tls or upstream.messages()[0].login == LOGIN
    wait_until(lambda: "Verified TLS connection established" in node.logs(name), 10, "it should be verified")

    # The upstream goes: the pod is not to be restarted, mail is still taken, and only `delivers` says no.
    upstream.behave(is_listening=False)
    waiting = name_all("waiting", 5)
    send(node, name, *waiting)
    node.wait_probe(name, relay, "readiness", False)
    assert node.probe(name, relay, "liveness")
    assert node.probe(name, patient, "readiness")
    upstream.mend()
    node.wait_probe(name, relay, "readiness")
    upstream.wait_messages(10, 60)

    # The Secret is changed as a kubelet changes it.
    started = node.inspect(name)["State"]["StartedAt"]
    upstream.set_accounts({LOGIN: NEW_PASSWORD})
    node.swap("relay", {"RELAYHOST_PASSWORD": NEW_PASSWORD.encode()})
    wait_until(lambda: "changed: the login at the upstream" in node.logs(name), 20, "the new password should be seen")
    send(node, name, *name_all("changed", 3))
    upstream.wait_messages(13)
    assert node.inspect(name)["State"]["StartedAt"] == started

    # The pod is deleted while the upstream is slow: what does not go out meanwhile is the successor's.
    upstream.behave(final_reply_delay_seconds=3)
    last = name_all("last", 200)
    send(node, name, *last)
    assert node.delete(name, grace) == 0
    left = len(last) - sum(count_each(upstream, last))
    assert f"stopped; {left} messages are left in the queue on the volume at /var/spool/postfix" in node.ended_log
    assert left > 0
    assert_silent(node.ended_log, "RELAYHOST .* does not work", "connect to ", "Connection refused")
    upstream.mend()
    node.play([*make_sources_again(upstream), pod])
    upstream.wait_messages(13 + len(last), 60)
    assert set(count_each(upstream, [*waiting, *last])) == {1}


def make_sources_again(upstream: Upstream) -> list[dict[str, Any]]:
    """The same with the password that holds now."""
    secret, config = make_sources(upstream)
    return [{**secret, "data": {"password": base64.b64encode(NEW_PASSWORD.encode()).decode()}}, config]


def test_job_empties_the_volume_of_a_gateway_that_is_gone(node: Kubelet, upstream: Upstream) -> None:
    """Fewer gateways: nobody's mail stays on a volume that no pod has."""
    objects = parse_objects(render_chart(merge(GATEWAY, {"replicas": 3, "emptyQueue": {"replicas": [3]}})))
    workload, job = find(objects, "StatefulSet"), find(objects, "Job")
    name = "relay-authrelay-3"
    *claims, pod = make_pod(workload, name)
    upstream.behave(is_listening=False)
    node.play([*make_sources(upstream), *claims, pod])
    relay = get_relay(workload["spec"]["template"]["spec"])
    node.wait_probe(name, relay, "liveness")
    names = name_all("orphan", 20)
    send(node, name, *names)
    assert node.delete(name, 40) == 0
    assert "stopped; 20 messages are left" in node.ended_log

    [emptier] = make_pod(job, "emptier")
    node.play([*make_sources(upstream), emptier])
    wait_until(lambda: "relaying to" in node.logs("emptier"), 20, "the job should run")
    assert node.inspect("emptier")["State"]["Running"]
    upstream.mend()
    wait_until(lambda: not node.inspect("emptier")["State"]["Running"], 90, "the job should end")
    assert node.inspect("emptier")["State"]["ExitCode"] == 0
    assert node.logs("emptier").rstrip().endswith("stopped; the queue is empty")
    assert set(count_each(upstream, names)) == {1}


def test_sidecar_serves_its_pod_alone_and_ends_after_the_application(node: Kubelet, upstream: Upstream) -> None:
    """As an ordinary container: podman does not know native ones, so that here the kubelet's order is ours."""
    values = {"image": CLIENT_IMAGE, "authrelay": merge(VALUES, {"sidecar": {"native": False}, "hostUsers": True})}
    deployment = find(parse_objects(render_chart(values, chart=EXAMPLE)), "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    spec["containers"] += spec.pop("initContainers")
    application = next(one for one in spec["containers"] if one["name"] == "application")
    application["command"] = ["sleep", "infinity"]
    for container in spec["containers"]:
        container.setdefault("imagePullPolicy", "Never")
    [pod] = make_pod(deployment, "application")
    node.play([*make_sources(upstream), pod])
    relay = get_relay(spec)
    for kind in ("startup", "liveness"):
        node.wait_probe("application", relay, kind)
    # podman itself knows how to ask by a command; without systemd nothing makes it ask now and then.
    node.podman("healthcheck", "run", "application-authrelay")
    send(node, "localhost", *name_all("sidecar", 3), container="application-application")
    upstream.wait_messages(3)
    assert {message.login for message in upstream.messages()} == {LOGIN}

    script = "import socket, sys; sys.exit(socket.socket().connect_ex((sys.argv[1], int(sys.argv[2]))))"
    for port in (25, 587, 9154):
        words = ("exec", "client", "python3", "-c", script, node.address("application"), str(port))
        assert node.podman(*words, check=False).status != 0

    upstream.behave(final_reply_delay_seconds=0.5)
    names = name_all("late", 60)
    send(node, "localhost", *names, container="application-application")
    grace = int(spec["terminationGracePeriodSeconds"])
    assert node.delete("application", grace, first=["application"]) == 0
    assert node.ended_log.rstrip().endswith("stopped; the queue is empty")
    assert set(count_each(upstream, names)) == {1}
    assert_silent(node.ended_log)


def test_helm_test_sends_a_message_through_the_service(node: Kubelet, upstream: Upstream) -> None:
    """The pod as rendered; only the names of the two Services are given to it by hand."""
    objects = parse_objects(render_chart(merge(GATEWAY, {"test": {"to": "you@example.com", "from": "me@example.com"}})))
    workload = find(objects, "StatefulSet")
    *claims, pod = make_pod(workload, "relay-authrelay-0")
    node.play([*make_sources(upstream), *claims, pod])
    relay = get_relay(workload["spec"]["template"]["spec"])
    node.wait_probe("relay-authrelay-0", relay, "readiness")
    [test] = make_pod(find(objects, "Pod"), "tester")
    services = [one["metadata"]["name"] for one in objects if one["kind"] == "Service"]
    test["spec"]["hostAliases"] = [{"ip": node.address("relay-authrelay-0"), "hostnames": services}]
    node.play([test])
    wait_until(lambda: not node.inspect("tester", "client")["State"]["Running"], 60, "the test should end")
    said = node.logs("tester", "client")
    assert node.inspect("tester", "client")["State"]["ExitCode"] == 0, said
    assert "ready, and its upstream works" in said
    assert "accepted <" in said
    [message] = upstream.wait_messages(1)
    assert (message.mail_from, message.rcpt_tos) == ("me@example.com", ("you@example.com",))
    assert b"helm test of authrelay" in message.data
    assert json.loads(node.podman("pod", "inspect", "tester").stdout)
