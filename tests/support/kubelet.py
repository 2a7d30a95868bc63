"""The part of a kubelet that a podman lacks: pods that the chart rendered run for real, rootless. Runs docker.

podman is a container of its own (tests/peers/Dockerfile) in which an ordinary user runs `podman kube play`. What that
does not do and a kubelet does is done here, in the kubelet's own way: volumes of a StatefulSet, directories of subPath,
the swap of a Secret's `..data`, probes (podman would ask by a curl in the image), and the order in which pods end.
"""

from __future__ import annotations

import base64
import copy
import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from tests.support.engine import Engine, Network, Result
from tests.support.upstream import MOCK_IMAGE
from tests.support.wait import wait_until

PODMAN_IMAGE: Final = "authrelay-peer-podman:dev"
RELAY_IMAGE: Final = "localhost/authrelay"
CLIENT_IMAGE: Final = "localhost/client:test"
_HOME: Final = "/home/kubelet"
_VOLUMES: Final = f"{_HOME}/.local/share/containers/storage/volumes"

# What kubernetes/pkg/volume/util/atomic_writer.go does: a directory of its own for each version, a link to it that is
# replaced whole, and a link through that for each file. Arguments: the volume, name and content (base64) of each file.
_SWAP: Final = r"""
set -eu
cd "$1"; shift
new="..$(date +%Y_%m_%d_%H_%M_%S.%N)"; old=$(readlink ..data || true)
mkdir -m 755 "$new"
while [ $# != 0 ]; do
  printf %s "$2" | base64 -d >"$new/$1"; chmod 400 "$new/$1"
  [ -L "$1" ] || { rm -f "$1"; ln -s "..data/$1" "$1"; }
  shift 2
done
ln -s "$new" ..data_tmp; mv -T ..data_tmp ..data
[ -z "$old" ] || rm -r "$old"
"""

_GET: Final = r"""
import http.client, sys
asking = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=10)
asking.request("GET", sys.argv[3])
print(asking.getresponse().status)
"""


def make_pod(workload: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the pod that a controller makes of a workload, and the claims that go with it.

    hostUsers is left to podman, whose pods are in the user namespace of a user without rights anyway; their volumes
    would have to be mapped once more. Probes come from outside, but for commands.
    """
    spec = copy.deepcopy(workload["spec"])
    template = spec["template"] if "template" in spec else {"spec": spec, "metadata": workload["metadata"]}
    pod = template["spec"]
    pod.pop("hostUsers", None)
    pod["hostname"] = name
    claims = []
    for claim in spec.get("volumeClaimTemplates", ()):
        claim_name = f"{claim['metadata']['name']}-{name}"
        pod.setdefault("volumes", []).append(
            {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": claim_name}}
        )
        claims.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim_name},
                "spec": claim["spec"],
            }
        )
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if "httpGet" in container.get(kind, {}):
                del container[kind]
    metadata = {"name": name, "labels": template["metadata"].get("labels", {})}
    return [*claims, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}]


class Kubelet:
    """One node."""

    def __init__(self, engine: Engine, network: Network, relay_image: str) -> None:
        self.container = engine.run(
            PODMAN_IMAGE,
            kind="kubelet",
            network=network,
            arguments=["--privileged", "--init", "--volume", f"{_HOME}/.local"],
        )
        # The node's is root's alone here; elsewhere everybody's.
        self.container.exec(["sh", "-c", f"chown -R kubelet: {_HOME} && chmod 666 /dev/net/tun"])
        self.load(relay_image, f"{RELAY_IMAGE}:test")
        self.load(MOCK_IMAGE, CLIENT_IMAGE)
        self.podman("network", "create", "pods")
        self.podman("run", "--detach", "--name", "client", "--network", "pods", CLIENT_IMAGE, "sleep", "infinity")

    def podman(self, *arguments: str, stdin: bytes = b"", check: bool = True) -> Result:
        """Run podman as the user."""
        env = {"HOME": _HOME, "XDG_RUNTIME_DIR": "/run/user/1000", "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
        return self.container.exec(
            ["podman", *arguments], stdin=stdin, user="kubelet", env=env, check=check, timeout_seconds=300
        )

    def load(self, image: str, name: str) -> None:
        """Bring an image of docker's along."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
            load = ["docker", "exec", "--interactive", "--user=kubelet", f"--env=HOME={_HOME}"]
            load += ["--env=XDG_RUNTIME_DIR=/run/user/1000", self.container.name, "podman", "load", "--quiet"]
            done = subprocess.run(load, stdin=saving.stdout, capture_output=True, check=True, text=True)
        self.podman("tag", done.stdout.split()[-1], name)

    def play(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Let pods run, with what they refer to."""
        text = yaml.safe_dump_all(objects)
        played = self.podman("kube", "play", "--network", "pods", "--start=false", "-", stdin=text.encode())
        assert b"Error" not in played.stderr, played.stderr.decode()
        for one in objects:
            if one["kind"] in ("Secret", "ConfigMap"):
                self._lay_out(one, objects)
            elif one["kind"] == "Pod":
                self._make_directories(one["spec"])
        for one in objects:
            if one["kind"] == "Pod":
                self.podman("pod", "start", one["metadata"]["name"])

    def _lay_out(self, source: Mapping[str, Any], objects: Sequence[Mapping[str, Any]]) -> None:
        """Make of a Secret's or ConfigMap's plain files what a kubelet makes."""
        name = source["metadata"]["name"]
        for pod in (one for one in objects if one["kind"] == "Pod"):
            for volume in pod["spec"].get("volumes", ()):
                reference = volume.get(source["kind"][0].lower() + source["kind"][1:], {})
                if name in (reference.get("secretName"), reference.get("name")):
                    is_secret = source["kind"] == "Secret"
                    data = {
                        key: base64.b64decode(value) if is_secret else value.encode()
                        for key, value in source["data"].items()
                    }
                    self.swap(name, {item["path"]: data[item["key"]] for item in reference["items"]})

    def _make_directories(self, spec: Mapping[str, Any]) -> None:
        """Make the directories of subPath, where they lack."""
        claims = {
            one["name"]: one["persistentVolumeClaim"]["claimName"]
            for one in spec.get("volumes", ())
            if "persistentVolumeClaim" in one
        }
        mounts = [mount for container in spec["containers"] for mount in container.get("volumeMounts", ())]
        for mount in mounts:
            if "subPath" in mount:
                volume = claims.get(mount["name"], mount["name"])
                self.container.exec(["mkdir", "-p", f"{_VOLUMES}/{volume}/_data/{mount['subPath']}"], user="kubelet")

    def swap(self, volume: str, files: Mapping[str, bytes]) -> None:
        """Replace what is in the volume of a Secret, all at once."""
        words = [word for name, data in files.items() for word in (name, base64.b64encode(data).decode())]
        self.container.exec(["sh", "-c", _SWAP, "sh", f"{_VOLUMES}/{volume}/_data", *words], user="kubelet")

    def address(self, pod: str) -> str:
        """The pod's address."""
        infra = json.loads(self.podman("pod", "inspect", pod).stdout)
        found = (infra[0] if isinstance(infra, list) else infra)["InfraContainerID"]
        networks = json.loads(self.podman("inspect", found).stdout)[0]["NetworkSettings"]["Networks"]
        return str(networks["pods"]["IPAddress"])

    def probe(self, pod: str, container: Mapping[str, Any], kind: str) -> bool:
        """Ask what the kubelet would ask, from where it would."""
        probe = container[f"{kind}Probe"]
        if "exec" in probe:
            words = [f"{pod}-{container['name']}", *probe["exec"]["command"]]
            return self.podman("exec", *words, check=False).status == 0
        get = probe["httpGet"]
        words = [self.address(pod), str(get["port"]), get["path"]]
        status = self.podman("exec", "client", "python3", "-c", _GET, *words, check=False).text.strip()
        return status == "200"

    def wait_probe(self, pod: str, container: Mapping[str, Any], kind: str, is_well: bool = True) -> None:
        """Wait until a probe says so."""
        wait_until(lambda: self.probe(pod, container, kind) == is_well, 30, f"{kind} of {pod} should be {is_well}")

    def logs(self, pod: str, container: str = "authrelay") -> str:
        """What a container said."""
        done = self.podman("logs", f"{pod}-{container}", check=False)
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    def inspect(self, pod: str, container: str = "authrelay") -> dict[str, Any]:
        """What podman knows of a container."""
        found: dict[str, Any] = json.loads(self.podman("inspect", f"{pod}-{container}").stdout)[0]
        return found

    def delete(self, pod: str, grace_seconds: int, *, first: Sequence[str] = ()) -> int:
        """End a pod as a kubelet does, `first` some of its containers, and forget it; the relay's exit status."""
        for name in first:
            self.podman("stop", "--time", str(grace_seconds), f"{pod}-{name}")
        self.podman("stop", "--time", str(grace_seconds), f"{pod}-authrelay")
        status = int(self.inspect(pod)["State"]["ExitCode"])
        self.ended_log = self.logs(pod)
        self.podman("pod", "rm", "--force", pod)
        return status

    ended_log = ""
    """What the relay of the pod that was deleted last had said."""
