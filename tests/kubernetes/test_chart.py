"""The Helm chart, rendered by helm itself: what Kubernetes would be given, and what is refused before."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from kubernetes_validate import utils

from entrypoint.config.environment import read_settings
from entrypoint.config.names import NAMES, find_unknown_names
from entrypoint.config.settings import DECLARATIONS
from tests.support.authorities import Authority
from tests.support.chart import (
    CHART,
    ROOT,
    HelmError,
    list_values,
    make_schema,
    parse_objects,
    render_chart,
    render_values_table,
    run_helm,
)
from tests.support.pod_security import find_baseline_faults, find_restricted_faults

EXAMPLE: Final = ROOT / "kubernetes" / "example"
MANIFESTS: Final = ROOT / "kubernetes" / "manifests"
RELEASES: Final = ("1.37", "1.36", "1.35")
"""The newest Kubernetes and the two before, which are those that are maintained."""
CAPABILITIES: Final = ("CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID")
PORT_25: Final = "NET_BIND_SERVICE"
BEGIN: Final = "<!-- values:begin -->"
END: Final = "<!-- values:end -->"
REMEDY: Final = "AUTHRELAY_UPDATE_GOLDEN=1 writes it anew"
PASSWORD: Final = {"RELAYHOST_PASSWORD": {"existingSecret": "relay", "key": "password"}}
UPSTREAM: Final = {"RELAYHOST": "smtp.example.com:587", "RELAYHOST_USERNAME": "user@example.com"}
PODS: Final = "10.244.0.0/16"
GATEWAY: Final[dict[str, Any]] = {"settings": {**UPSTREAM, "MYNETWORKS": PODS}, "secrets": PASSWORD}
PROMETHEUS: Final = {"networkPolicy": {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]}}
SIDECAR: Final[dict[str, Any]] = {"authrelay": {"mode": "sidecar"}}


def merge(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Values over values, as helm does it."""
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            is_mapping = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
            merged[key] = merge(merged[key], value) if is_mapping else value
    return merged


def gateway(values: Mapping[str, Any] | None = None, /, **settings: Any) -> dict[str, Any]:
    return merge(GATEWAY, {"settings": settings}, values or {})


VALUES: Final[Mapping[str, dict[str, Any]]] = {
    "defaults": gateway(),
    "one": gateway({"replicas": 1}),
    "none": gateway({"replicas": 0}),
    "provider": merge(GATEWAY, {"settings": {"RELAYHOST": None, "PROVIDER": "gmail"}}),
    "delivers": gateway({"readiness": "delivers"}),
    "long-drain": gateway(DRAIN_TIMEOUT="5m"),
    "own-grace": gateway({"terminationGracePeriodSeconds": 120, "leaveSeconds": 15}, DRAIN_TIMEOUT="90s"),
    "existing-claim": gateway({"replicas": 1, "queue": {"type": "existingClaim", "existingClaim": "queue"}}),
    "empty-dir": gateway({"queue": {"type": "emptyDir", "mayBeLost": True}}),
    "storage": gateway({"queue": {"storageClassName": "fast", "size": "20Gi", "accessModes": ["ReadWriteOncePod"]}}),
    "scaled-by-cpu": gateway({"autoscaling": {"enabled": True}}),
    "scaled-by-queue": gateway({"autoscaling": {"enabled": True, "cpuPercent": 0, "queueMessages": 500}}),
    "service-monitor": merge(gateway(), PROMETHEUS, {"metrics": {"serviceMonitor": {"enabled": True}}}),
    "pod-monitor": merge(
        gateway(), PROMETHEUS, {"metrics": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}}
    ),
    "alerts": gateway({"metrics": {"prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}}}),
    "load-balancer": gateway(
        {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"], "annotations": {"a": "b"}}}
    ),
    "network": gateway(
        {
            "networkPolicy": {
                "from": [{"namespaceSelector": {}}],
                "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 587}]}],
            }
        }
    ),
    "no-policy": gateway({"networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}}),
    "clients-log-in": merge(
        gateway(LISTEN_PORTS=[587, 2525], SMTPD_TLS_SECURITY_LEVEL="encrypt"),
        {"files": {"SMTPD_TLS_CERT": {"existingConfigMap": "relay.example", "key": "tls.crt"}}},
        {"secrets": {name: {"existingSecret": "relay.tls", "key": "x"} for name in ("SMTPD_TLS_KEY", "DKIM_KEY")}},
        {"secrets": {"SMTPD_USERS_TABLE": {"existingSecret": "users", "key": "table"}}},
        {"settings": {"DKIM_DOMAINS": "example.com"}},
    ),
    "status-for-nobody": gateway(STATUS_LISTEN="none"),
    "status-for-itself": gateway({"readiness": "delivers"}, STATUS_LISTEN="127.0.0.1:9999"),
    "host-users": gateway({"hostUsers": True}),
    "empty-queues": gateway({"emptyQueue": {"replicas": [3, 4]}}),
    "placed": gateway(
        {
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "mail", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "topologySpreadConstraints": [
                {
                    "topologyKey": "rack",
                    "maxSkew": 1,
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {"a": "b"}},
                }
            ],
            "priorityClassName": "mail",
            "runtimeClassName": "gvisor",
            "serviceAccountName": "relay",
            "imagePullSecrets": [{"name": "registry"}],
            "image": {"repository": "registry.example.com/authrelay", "digest": f"sha256:{'0f' * 32}"},
            "podAnnotations": {"a": "b"},
            "podLabels": {"team": "mail"},
        }
    ),
    "own-postfix": gateway(
        {
            "extraVolumes": [{"name": "own", "configMap": {"name": "own"}}],
            "extraVolumeMounts": [{"name": "own", "mountPath": "/etc/authrelay/main.cf.d", "readOnly": True}],
        },
        POSTFIX_bounce_queue_lifetime="1d",
        HEADER_CHECKS_TABLE=["/^Subject: $(HOME)$/ REJECT", "/$$/ DUNNO"],
        MESSAGE_SIZE_LIMIT=52428800,
        HIDE_RECEIVED=True,
    ),
    "named": gateway({"nameOverride": "relayhost", "fullnameOverride": "postfix", "test": {"to": "a@example.com"}}),
    "sidecar": {},
    "ordinary-sidecar": {"authrelay": {"sidecar": {"native": False}}},
    "sidecar-on-a-volume": {"authrelay": {"queue": {"type": "volume", "volumeName": "data", "mayBeLost": False}}},
    "watched-sidecar": {"authrelay": {"settings": {"STATUS_LISTEN": "0.0.0.0:9154"}, "hostUsers": True}},
}


@functools.cache
def render(name: str) -> str:
    """The manifest of one of the value sets; those of sidecars are the example application's."""
    chart = EXAMPLE if "sidecar" in name else CHART
    return render_chart(VALUES[name], chart=chart)


def list_pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pods of a manifest: what they are for, and their specifications."""
    for one in objects:
        if one["kind"] == "Pod":
            yield "test", one["spec"]
        elif "template" in one.get("spec", {}):
            yield one["kind"], one["spec"]["template"]["spec"]


def find(objects: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    found = [one for one in objects if one["kind"] == kind and name in ("", one["metadata"]["name"])]
    assert len(found) == 1, [(one["kind"], one["metadata"]["name"]) for one in objects]
    return found[0]


def get_relay(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The relay's container in a pod."""
    containers = [*spec.get("initContainers", ()), *spec["containers"]]
    return next(one for one in containers if one["name"] == "authrelay")


def get_env(spec: Mapping[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in get_relay(spec)["env"]}


def refuse(values: Mapping[str, Any], chart: pathlib.Path = CHART) -> str:
    """What helm says of values that cannot be used."""
    with pytest.raises(HelmError) as refused:
        render_chart(values, chart=chart)
    return str(refused.value)


@pytest.mark.parametrize("chart", [CHART, EXAMPLE], ids=lambda chart: str(chart.name))
def test_lint_has_nothing_to_say(chart: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """helm's own opinion, with warnings as errors."""
    values = tmp_path / "values.yaml"
    values.write_text(json.dumps(GATEWAY if chart == CHART else {}), encoding="utf-8")
    said = run_helm("lint", "--strict", str(chart), "--values", str(values))
    assert "1 chart(s) linted, 0 chart(s) failed" in said
    assert not re.findall(r"\[(?:WARNING|ERROR)\].*", said)


@pytest.mark.parametrize("name", VALUES)
def test_manifest_is_what_kubernetes_knows(name: str) -> None:
    """Against the schemas of each release, and no field that none of them knows: a misspelled one is passed over."""
    objects = parse_objects(render(name))
    assert objects
    for one in objects:
        if "monitoring.coreos.com" not in one["apiVersion"]:
            validate(json.dumps(one))


@functools.cache
def validate(text: str) -> None:
    """Most objects are the same in many sets of values."""
    for release in RELEASES:
        kubernetes_validate.validate(json.loads(text), release, strict=True)


@pytest.fixture(autouse=True, scope="module")
def _schemas_are_read_once() -> Iterator[None]:
    """The definitions are megabytes, and every object of every release would read them again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


@pytest.mark.parametrize("name", VALUES)
def test_pods_pass_baseline_and_miss_restricted_in_what_a_mail_server_needs(name: str) -> None:
    """Root, which gives each daemon its own user, and four capabilities: docs/hardening.md says who needs them."""
    for kind, spec in list_pods(parse_objects(render(name))):
        assert find_baseline_faults(spec) == []
        relay = [
            f"container authrelay: {fault}"
            for fault in ("runAsNonRoot", "runAsUser 0", *(f"capability {one}" for one in CAPABILITIES))
        ]
        assert find_restricted_faults(spec) == ([] if kind == "test" else sorted(relay))
        assert spec["automountServiceAccountToken"] is False
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["requests"]["memory"]
            assert container["resources"]["limits"]["memory"]


def test_rights_are_those_with_which_every_test_of_the_image_runs() -> None:
    """And port 25, which Docker lets root of a container have, and not every runtime of Kubernetes."""
    compose = yaml.safe_load((ROOT / "compose" / "relay.yaml").read_text(encoding="utf-8"))["services"]["relay"]
    context = get_relay(find(parse_objects(render("defaults")), "StatefulSet")["spec"]["template"]["spec"])[
        "securityContext"
    ]
    assert context["capabilities"] == {"drop": compose["cap_drop"], "add": sorted([*compose["cap_add"], PORT_25])}
    assert context["readOnlyRootFilesystem"] == compose["read_only"]
    assert context["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize("name", VALUES)
def test_settings_are_what_the_relay_reads(name: str, tmp_path: pathlib.Path) -> None:
    """The relay's own reader is given what the pod would have, with a file for each reference."""
    for _, spec in list_pods(parse_objects(render(name))):
        if not any(one["name"] == "authrelay" for one in [*spec.get("initContainers", ()), *spec["containers"]]):
            continue
        mounts = {one["mountPath"]: one["name"] for one in get_relay(spec)["volumeMounts"]}
        volumes = {one["name"]: one for one in spec["volumes"]}
        environ = {}
        for key, value in get_env(spec).items():
            # What a kubelet does with $(NAME) and $$.
            environ[key] = value.replace("$$", "$")
            if not key.endswith("_FILE"):
                continue
            directory, _, file = value.rpartition("/")
            volume = volumes[mounts[directory]]
            items = (volume.get("secret") or volume["configMap"])["items"]
            assert file in [item["path"] for item in items]
            assert file == key.removesuffix("_FILE")
            environ[key] = str(tmp_path / file)
            (tmp_path / file).write_text(make_secrets()[file], encoding="utf-8")
        settings, _ = read_settings(environ, str(ROOT / "tests/unit/postfix-parameters"), str(tmp_path))
        assert settings.drain_timeout >= 20
        assert settings.relayhost_password is not None
        assert settings.relayhost_password.reveal() == "secret"


@functools.cache
def make_secrets() -> dict[str, str]:
    """What is in the objects that the value sets refer to."""
    chain = Authority().make_chain("relay.example.com")
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password)
    return {
        "RELAYHOST_PASSWORD": "secret",
        "SMTPD_USERS_TABLE": "app:secret",
        "SMTPD_TLS_CERT": chain.chain_pem,
        "SMTPD_TLS_KEY": chain.key_pem,
        "DKIM_KEY": key.decode(),
    }


def test_numbers_lists_and_dollars_arrive_as_they_were_written() -> None:
    """helm has numbers as floats, and a kubelet takes $(NAME) for another variable."""
    env = get_env(find(parse_objects(render("own-postfix")), "StatefulSet")["spec"]["template"]["spec"])
    assert env["MESSAGE_SIZE_LIMIT"] == "52428800"
    assert env["HIDE_RECEIVED"] == "true"
    assert env["HEADER_CHECKS_TABLE"] == "/^Subject: $$(HOME)$$/ REJECT\n/$$$$/ DUNNO"
    assert env["POSTFIX_bounce_queue_lifetime"] == "1d"


def test_sidecar_listens_to_its_pod_alone() -> None:
    """Neither its ports nor its page are for anybody else, and it starts before and ends after the application."""
    spec = find(parse_objects(render("sidecar")), "Deployment")["spec"]["template"]["spec"]
    relay = get_relay(spec)
    assert relay["restartPolicy"] == "Always"
    assert get_env(spec)["INET_INTERFACES"] == "loopback-only"
    assert get_env(spec)["STATUS_LISTEN"] == "127.0.0.1:9154"
    assert "ports" not in relay
    assert "readinessProbe" not in relay
    assert relay["startupProbe"]["exec"]["command"] == ["authrelay", "health"]
    # Its own 60 s to drain and ten more, beside the 30 s that the example's application has.
    assert spec["terminationGracePeriodSeconds"] == 100
    ordinary = find(parse_objects(render("ordinary-sidecar")), "Deployment")["spec"]["template"]["spec"]
    assert "restartPolicy" not in get_relay(ordinary)


@pytest.mark.parametrize("name", [name for name in VALUES if "sidecar" not in name])
def test_gateway_leaves_its_service_drains_and_keeps_what_is_left(name: str) -> None:
    """Both patiences fit, and no claim is removed by a controller."""
    objects = parse_objects(render(name))
    workload = find(objects, "StatefulSet")["spec"]
    spec = workload["template"]["spec"]
    seconds, unit = re.findall(r"^([0-9]+)([sm])$", get_env(spec)["DRAIN_TIMEOUT"])[0]
    leave = int(get_relay(spec)["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] >= leave + int(seconds) * (60 if unit == "m" else 1) + 6
    if "volumeClaimTemplates" in workload:
        assert workload["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    else:
        assert name in ("existing-claim", "empty-dir")
    mounts = {one["mountPath"]: one for one in get_relay(spec)["volumeMounts"]}
    assert mounts["/var/spool/postfix"]["name"] == mounts["/var/lib/authrelay"]["name"] == "queue"
    assert mounts["/var/spool/postfix"]["subPath"] != mounts["/var/lib/authrelay"]["subPath"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("defaults", "/readyz?exclude=upstream"),
        ("delivers", "/readyz"),
        ("status-for-nobody", ""),
        ("status-for-itself", ""),
    ],
)
def test_probes_ask_what_the_relay_knows(name: str, path: str) -> None:
    """Alive is another question than ready; where the kubelet cannot reach the page a command asks."""
    relay = get_relay(find(parse_objects(render(name)), "StatefulSet")["spec"]["template"]["spec"])
    ready = relay["readinessProbe"]
    if path:
        assert ready["httpGet"] == {"path": path, "port": 9154}
        assert relay["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": 9154}
    else:
        words = ["authrelay", "health", *(["--ready"] if name == "status-for-itself" else [])]
        assert ready["exec"] == {"command": words}
        assert relay["livenessProbe"]["exec"] == {"command": ["authrelay", "health"]}


def test_service_reaches_every_port_that_the_relay_has() -> None:
    """25 and 587 by themselves; those of LISTEN_PORTS, and 465 with a certificate, otherwise."""
    for name, ports in (("defaults", [25, 587]), ("clients-log-in", [587, 2525, 465])):
        objects = parse_objects(render(name))
        relay = get_relay(find(objects, "StatefulSet")["spec"]["template"]["spec"])
        named = {port["name"]: port["containerPort"] for port in relay["ports"]}
        service = find(objects, "Service", "relay-authrelay")["spec"]
        assert [named[port["targetPort"]] for port in service["ports"]] == ports
        assert [port["port"] for port in service["ports"]] == ports
        policy = find(objects, "NetworkPolicy")["spec"]
        assert [named[port["port"]] for port in policy["ingress"][0]["ports"]] == ports


def test_services_and_policies_select_gateways_and_nothing_else() -> None:
    """The pod of `helm test` and the Jobs have the release's labels, too."""
    objects = parse_objects(render("empty-queues"))
    labels = {
        kind: (one["metadata"] if kind == "Pod" else one["spec"]["template"]["metadata"])["labels"]
        for kind in ("StatefulSet", "Job", "Pod")
        for one in objects
        if one["kind"] == kind
    }
    selectors = [find(objects, "StatefulSet")["spec"]["selector"]["matchLabels"]]
    selectors += [one["spec"]["selector"] for one in objects if one["kind"] == "Service"]
    selectors += [find(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]]
    selectors += [find(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
    for selector in selectors:
        chosen = [kind for kind, own in labels.items() if selector.items() <= own.items()]
        assert chosen == ["StatefulSet"]


def test_job_has_the_volume_that_was_left_behind() -> None:
    """Named as the StatefulSet names it, or it would wait for ever for another one."""
    objects = parse_objects(render("empty-queues"))
    workload = find(objects, "StatefulSet")
    claim = workload["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    jobs = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Job"]
    claims = [job["volumes"][0]["persistentVolumeClaim"]["claimName"] for job in jobs]
    assert claims == [f"{claim}-{workload['metadata']['name']}-{number}" for number in (3, 4)]
    for job in jobs:
        assert get_env(job)["INET_INTERFACES"] == "loopback-only"
        assert get_env(job)["RELAYHOST"] == UPSTREAM["RELAYHOST"]


def test_alerts_and_dashboard_are_those_of_monitoring() -> None:
    """One source: what was tried with a real Prometheus is what a cluster gets."""
    objects = parse_objects(render("alerts"))
    alerts = yaml.safe_load((ROOT / "monitoring" / "alerts.yaml").read_text(encoding="utf-8"))
    assert find(objects, "PrometheusRule")["spec"] == alerts
    shown = find(objects, "ConfigMap", "relay-authrelay-dashboard")["data"]["authrelay.json"]
    assert json.loads(shown) == json.loads((ROOT / "monitoring" / "dashboard.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "kind"), [("service-monitor", "ServiceMonitor"), ("pod-monitor", "PodMonitor")])
def test_monitor_finds_the_metrics_under_the_name_that_the_alerts_know(name: str, kind: str) -> None:
    """`job="authrelay"`, whatever the release is called."""
    objects = parse_objects(render(name))
    spec = find(objects, kind)["spec"]
    endpoint = spec["endpoints" if kind == "ServiceMonitor" else "podMetricsEndpoints"][0]
    assert {"targetLabel": "job", "replacement": "authrelay"} in endpoint["relabelings"]
    found = find(objects, "Service", "relay-authrelay-headless") if kind == "ServiceMonitor" else None
    labels = (found or find(objects, "StatefulSet")["spec"]["template"])["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert endpoint["port"] == "status"


@pytest.mark.parametrize(("kubernetes", "host_users"), [("1.37", False), ("1.33", False), ("1.32", None)])
def test_user_namespace_is_used_where_clusters_have_it(kubernetes: str, host_users: bool | None) -> None:
    """Root of the pod is then nobody on the node."""
    objects = parse_objects(render_chart(GATEWAY, kubernetes=kubernetes))
    assert find(objects, "StatefulSet")["spec"]["template"]["spec"].get("hostUsers") is host_users


WRONG: Final[Sequence[tuple[dict[str, Any], str]]] = [
    (gateway(RELAYHOST_PASSWORD="hunter2"), "at '/settings/RELAYHOST_PASSWORD': value must be 'given by reference"),
    (gateway(RELAYHOTS="x"), "at '/settings': additional properties 'RELAYHOTS' not allowed"),
    (gateway(DRAIN_TIMEOUT="20 s"), "at '/settings/DRAIN_TIMEOUT': '20 s' does not match pattern"),
    (gateway(LOG_FORMAT="xml"), "at '/settings/LOG_FORMAT': value must be one of 'plain', 'json'"),
    (gateway(RELAYHOST_CONCURRENCY=0), "at '/settings/RELAYHOST_CONCURRENCY': minimum: got 0, want 1"),
    (gateway({"replicas": "three"}), "at '/replicas': got string, want integer"),
    (gateway({"relayhost": "x"}), "at '': additional properties 'relayhost' not allowed"),
    (gateway({"mode": "daemon"}), "at '/mode': value must be one of 'gateway', 'sidecar'"),
    (gateway({"queue": {"accessModes": ["ReadOnlyMany"]}}), "at '/queue/accessModes/0': value must be one of"),
    (gateway({"secrets": {"OAUTH2_CLIENT_SECRET": "hunter2"}}), "at '/secrets/OAUTH2_CLIENT_SECRET': got string, want"),
    (gateway({"secrets": {"CLIENT_KEY": {"existingSecret": "relay"}}}), "missing property 'key'"),
    (gateway({"files": {"DKIM_KEY": {"existingConfigMap": "a", "key": "b"}}}), "DKIM_KEY"),
    (gateway({"service": {"type": "ExternalName"}}), "at '/service/type': value must be one of 'ClusterIP'"),
]


def test_wrong_values_are_refused_by_the_schema_all_at_once_and_in_words() -> None:
    """One by one would be an afternoon. What is wrong is named and what is right, and never a secret."""
    refused = refuse(merge(*(values for values, _ in WRONG)))
    assert [said for _, said in WRONG if said not in refused] == []
    assert "hunter2" not in refused


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "settings.RELAYHOST: there is no upstream. Name it, for example"),
        ({"settings": UPSTREAM}, "settings.MYNETWORKS: who may send?"),
        (gateway({"secrets": {"RELAYHOST_USERNAME": PASSWORD["RELAYHOST_PASSWORD"]}}), "RELAYHOST_USERNAME: it is in "),
        (
            gateway({"terminationGracePeriodSeconds": 30}),
            "a pod needs 31 seconds to end: 5 to leave the Service, DRAIN_TIMEOUT=20s and 6 for deliveries under way",
        ),
        (gateway({"queue": {"type": "emptyDir"}}), "queue.type=emptyDir: mail that was accepted and is not yet deliv"),
        (gateway({"queue": {"type": "existingClaim", "existingClaim": "a"}}), "two relays cannot have one queue"),
        (gateway({"queue": {"type": "existingClaim"}, "replicas": 1}), "queue.existingClaim: queue.type is existing"),
        (gateway({"queue": {"type": "volume"}}), "queue.type=volume: that is for a sidecar"),
        (gateway(INET_INTERFACES="loopback-only"), "nobody would reach a gateway"),
        (gateway(DKIM_DOMAINS="example.com"), "settings.DKIM_DOMAINS: each gateway would make a key of its own"),
        (gateway(LOG_ADDRESSES="hash"), "settings.LOG_ADDRESSES=hash: each gateway would make a key of its own"),
        (gateway(OAUTH2_CLIENT_ID="x"), "each gateway would make a certificate of its own"),
        (gateway({"autoscaling": {"enabled": True, "maxReplicas": 2}}), "it is more than autoscaling.maxReplicas=2"),
        (gateway({"autoscaling": {"enabled": True, "cpuPercent": 0}}), "autoscaling: it has nothing to go by"),
        (gateway({"emptyQueue": {"replicas": [2]}}), "gateway 2 is, or may be, running"),
        (gateway({"metrics": {"podMonitor": {"enabled": True}}}), "networkPolicy.metricsFrom: nobody may read the me"),
        (
            merge(gateway(STATUS_LISTEN="none"), PROMETHEUS, {"metrics": {"podMonitor": {"enabled": True}}}),
            "settings.STATUS_LISTEN=none: Prometheus cannot reach it",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_in_words(values: dict[str, Any], said: str) -> None:
    """Before anything is installed, with what was set and what is right."""
    refused = refuse(values)
    assert said in refused
    assert "nil pointer" not in refused


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"queue": {"mayBeLost": False}}, "Use a volume of the pod's (queue.type: volume, queue.volumeName: data), or"),
        ({"queue": {"type": "volumeClaimTemplate"}}, "a sidecar's pod has no claims of the relay's"),
        ({"queue": {"type": "volume"}}, "queue.volumeName: queue.type is volume, and it has no name"),
        ({"terminationGracePeriodSeconds": 65}, "a pod needs 66 seconds to end"),
    ],
)
def test_sidecar_that_cannot_work_is_refused_in_words(values: dict[str, Any], said: str) -> None:
    """The application's chart is told the same."""
    assert said in refuse({"authrelay": values}, EXAMPLE)


def test_all_problems_are_told_at_once() -> None:
    """One by one would be an afternoon."""
    refused = refuse({"queue": {"type": "emptyDir"}, "terminationGracePeriodSeconds": 1})
    for said in ("settings.RELAYHOST:", "settings.MYNETWORKS:", "queue.type=emptyDir:", "terminationGracePeriodSec"):
        assert said in refused


def test_nothing_is_installed_beside_an_application() -> None:
    """As a dependency in the mode sidecar the chart only lends its templates."""
    assert parse_objects(render_chart({"mode": "sidecar"})) == []


def test_schema_knows_every_setting_by_its_declaration() -> None:
    """A new setting is a new value, and a secret one can be given by reference alone."""
    path = CHART / "values.schema.json"
    text = path.read_text(encoding="utf-8")
    made = json.dumps(make_schema(json.loads(text)), indent=2) + "\n"
    if os.environ.get("AUTHRELAY_UPDATE_GOLDEN"):
        path.write_text(made, encoding="utf-8")
    assert text == made, REMEDY
    schema = json.loads(text)
    assert set(schema["definitions"]["settings"]["properties"]) == NAMES
    by_reference = set(schema["properties"]["secrets"]["properties"])
    assert {one.name for one in DECLARATIONS if one.is_secret} <= by_reference
    assert not {one.name for one in DECLARATIONS if one.is_secret} & set(schema["properties"]["files"]["properties"])


def test_readme_has_every_value() -> None:
    """Its table is made from the comments in values.yaml."""
    path = CHART / "README.md"
    text = path.read_text(encoding="utf-8")
    shown = text.split(BEGIN)[1].split(END)[0].strip()
    if os.environ.get("AUTHRELAY_UPDATE_GOLDEN"):
        path.write_text(text.replace(shown, render_values_table()), encoding="utf-8")
    assert shown == render_values_table(), REMEDY


def test_every_value_says_what_it_is_and_is_in_the_schema() -> None:
    """A value without either is one that nobody can use, or that everybody can misuse."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    listed = list_values(text)
    told = {path for path, _, comment in listed if comment}
    for path, _, _ in listed:
        parts = path.split(".")
        assert any(".".join(parts[:length]) in told for length in range(1, len(parts) + 1)), path
        node: Any = schema
        for part in parts:
            node = schema["definitions"]["settings"] if "$ref" in node else node
            node = node["properties"][part] if "properties" in node else node["additionalProperties"]


def make_plain(name: str) -> str:
    """A manifest for people without helm: as rendered, without the words of helm's own."""
    values = yaml.safe_load((MANIFESTS / f"{name}.values.yaml").read_text(encoding="utf-8"))
    chart = {"gateway": CHART, "sidecar": EXAMPLE}[name]
    text = render_chart(values, chart=chart, release={"gateway": "authrelay", "sidecar": "application"}[name])
    parts = [part.strip("\n") for part in text.split("\n---\n") if "helm.sh/hook" not in part]
    lines = [
        line for line in "\n---\n".join(parts).splitlines() if not re.search(r"helm\.sh/|managed-by|# Source", line)
    ]
    head = (MANIFESTS / f"{name}.head").read_text(encoding="utf-8")
    return head + "\n".join(lines).removeprefix("---\n").strip("\n") + "\n"


@pytest.mark.parametrize("name", ["gateway", "sidecar"])
def test_plain_manifest_is_what_the_chart_renders(name: str) -> None:
    """People without helm get what people with helm get."""
    path = MANIFESTS / f"{name}.yaml"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    made = make_plain(name)
    if os.environ.get("AUTHRELAY_UPDATE_GOLDEN"):
        path.write_text(made, encoding="utf-8")
    assert text == made, REMEDY
    for one in parse_objects(text):
        validate(json.dumps(one))


def test_swarm_stack_has_the_rights_of_compose_and_time_to_drain() -> None:
    """Of Compose's own words a stack passes some over without a word: a relay without /run would not start."""
    stack = yaml.safe_load((ROOT / "compose" / "swarm.yaml").read_text(encoding="utf-8"))["services"]["relay"]
    relay = yaml.safe_load((ROOT / "compose" / "relay.yaml").read_text(encoding="utf-8"))["services"]["relay"]
    for key in ("image", "read_only", "cap_drop", "cap_add", "sysctls"):
        assert stack[key] == relay[key]
    assert not {"tmpfs", "security_opt", "restart", "mem_limit", "container_name", "depends_on"} & set(stack)
    mounts = {one["target"]: one["type"] for one in stack["volumes"] if isinstance(one, dict)}
    assert mounts == dict.fromkeys(relay["tmpfs"], "tmpfs")
    seconds = [
        int(text.removesuffix("s")) for text in (stack["stop_grace_period"], stack["environment"]["DRAIN_TIMEOUT"])
    ]
    assert seconds[0] >= seconds[1] + 6
    limits = stack["deploy"]["resources"]["limits"]
    assert (limits["memory"].lower(), limits["pids"]) == (relay["mem_limit"], relay["pids_limit"])


@pytest.mark.parametrize("name", [*sorted(NAMES), "POSTFIX", "POSTFIX_MASTER_SMTP", "MAIL", "SMTP", "RELAY"])
def test_service_of_any_name_breaks_no_setting(name: str) -> None:
    """A kubelet tells every container of each Service of its namespace in seven variables or more."""
    links = {
        f"{name}_SERVICE_HOST": "10.0.0.1",
        f"{name}_SERVICE_PORT": "25",
        f"{name}_SERVICE_PORT_SMTP": "25",
        f"{name}_SERVICE_PORT_SUBMISSION": "587",
        f"{name}_PORT": "tcp://10.0.0.1:25",
        f"{name}_PORT_25_TCP": "tcp://10.0.0.1:25",
        f"{name}_PORT_25_TCP_PROTO": "tcp",
        f"{name}_PORT_25_TCP_PORT": "25",
        f"{name}_PORT_25_TCP_ADDR": "10.0.0.1",
        f"{name}_PORT_53_UDP": "udp://10.0.0.1:53",
    }
    environ = {"RELAYHOST": "smtp.example.com:587", **links}
    assert find_unknown_names(environ) == []
    assert find_unknown_names(links) == []
    settings, warnings = read_settings(environ, str(ROOT / "tests/unit/postfix-parameters"), "/nonexistent")
    assert (str(settings.relayhost_nexthop), settings.postfix_parameters, warnings) == (
        "[smtp.example.com]:587",
        (),
        (),
    )
