"""The Pod Security Standards of Kubernetes, baseline and restricted, for one pod's specification. Pure.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ (1.37): each function is a part of its tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

Spec = Mapping[str, Any]

_BASELINE_CAPABILITIES: Final = frozenset(
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID "
    "SYS_CHROOT".split()
)
_SAFE_SYSCTLS: Final = frozenset(
    "kernel.shm_rmid_forced net.ipv4.ip_local_port_range net.ipv4.ip_unprivileged_port_start net.ipv4.tcp_syncookies "
    "net.ipv4.ping_group_range net.ipv4.ip_local_reserved_ports net.ipv4.tcp_keepalive_time net.ipv4.tcp_fin_timeout "
    "net.ipv4.tcp_keepalive_intvl net.ipv4.tcp_keepalive_probes net.ipv4.tcp_rmem net.ipv4.tcp_wmem".split()
)
_SELINUX_TYPES: Final = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_RESTRICTED_VOLUMES: Final = frozenset(
    "configMap csi downwardAPI emptyDir ephemeral image persistentVolumeClaim projected secret".split()
)
_SECCOMP: Final = ("RuntimeDefault", "Localhost")


def find_baseline_faults(spec: Spec) -> list[str]:
    """Return what the policy "baseline" forbids in a pod."""
    return sorted(_list_baseline_faults(spec))


def find_restricted_faults(spec: Spec) -> list[str]:
    """Return what the policy "restricted" forbids beyond baseline."""
    return sorted(_list_restricted_faults(spec))


def list_containers(spec: Spec) -> list[Mapping[str, Any]]:
    """Return every container of a pod."""
    return [one for key in ("initContainers", "containers", "ephemeralContainers") for one in spec.get(key) or ()]


def _list_baseline_faults(spec: Spec) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is true"
    for volume in spec.get("volumes") or ():
        if "hostPath" in volume:
            yield f"volume {volume['name']}: hostPath"
    context = spec.get("securityContext") or {}
    for sysctl in context.get("sysctls") or ():
        if sysctl["name"] not in _SAFE_SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    yield from _list_profile_faults("pod", context)
    for container in list_containers(spec):
        name = f"container {container['name']}"
        context = container.get("securityContext") or {}
        if context.get("privileged"):
            yield f"{name}: privileged"
        for capability in (context.get("capabilities") or {}).get("add") or ():
            if capability not in _BASELINE_CAPABILITIES:
                yield f"{name}: capability {capability}"
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                yield f"{name}: hostPort {port['hostPort']}"
        if context.get("procMount", "Default") != "Default":
            yield f"{name}: procMount {context['procMount']}"
        yield from _list_profile_faults(name, context)
        yield from (f"{name}: {where}: host {host}" for where, host in _list_handler_hosts(container))


def _list_profile_faults(name: str, context: Spec) -> Iterator[str]:
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{name}: hostProcess"
    if (context.get("appArmorProfile") or {}).get("type") == "Unconfined":
        yield f"{name}: AppArmor Unconfined"
    if (context.get("seccompProfile") or {}).get("type") == "Unconfined":
        yield f"{name}: seccomp Unconfined"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{name}: SELinux {dict(selinux)}"


def _list_handler_hosts(container: Spec) -> Iterator[tuple[str, str]]:
    """Since 1.34: probes and hooks may not be sent elsewhere."""
    lifecycle = container.get("lifecycle") or {}
    handlers = {
        **{key: container.get(key) for key in ("livenessProbe", "readinessProbe", "startupProbe")},
        **{key: lifecycle.get(key) for key in ("postStart", "preStop")},
    }
    for where, handler in handlers.items():
        for kind in ("httpGet", "tcpSocket"):
            if host := ((handler or {}).get(kind) or {}).get("host"):
                yield where, host


def _list_restricted_faults(spec: Spec) -> Iterator[str]:
    for volume in spec.get("volumes") or ():
        if kinds := set(volume) - {"name"} - _RESTRICTED_VOLUMES:
            yield f"volume {volume['name']}: {min(kinds)}"
    pod = spec.get("securityContext") or {}
    if pod.get("runAsUser") == 0:
        yield "pod: runAsUser 0"
    for container in list_containers(spec):
        name = f"container {container['name']}"
        context = container.get("securityContext") or {}
        capabilities = context.get("capabilities") or {}
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation"
        if context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
            yield f"{name}: runAsNonRoot"
        if context.get("runAsUser") == 0:
            yield f"{name}: runAsUser 0"
        if (context.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type") not in _SECCOMP:
            yield f"{name}: seccomp"
        if "ALL" not in (capabilities.get("drop") or ()):
            yield f"{name}: capabilities are not dropped"
        for capability in set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
            yield f"{name}: capability {capability}"
