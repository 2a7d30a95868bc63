"""What runs in the container, as whom, with which files; and that little is enough for it."""

from __future__ import annotations

import json
import re
import resource

import pytest

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.engine import Engine, run_docker
from tests.support.relay import IMAGE, Relay
from tests.support.upstream import Upstream, reply
from tests.support.wait import wait_until

TEXT = b"Subject: x\r\n\r\nhello\r\n"


def list_processes(relay: Relay) -> dict[int, tuple[int, str, str]]:
    """Process id -> (parent, user, command line), without what `docker exec` started."""
    script = r"""
for p in /proc/[0-9]*; do
  [ -r $p/cmdline ] || continue
  echo "${p#/proc/}|$(sed -n 's/^PPid:\s*//p' $p/status)|$(stat -c %U $p)|$(tr '\0\n' '  ' <$p/cmdline)"
done"""
    found = {}
    for line in relay.exec(["bash", "-c", script], check=False).text.splitlines():
        pid, parent, user, command = line.split("|", 3)
        if pid.isdigit() and parent.isdigit():
            found[int(pid)] = (int(parent), user, command.strip())
    execed = {pid for pid, (parent, _, _) in found.items() if parent == 0 and pid != 1}
    while more := {pid for pid, (parent, _, _) in found.items() if parent in execed} - execed:
        execed |= more
    return {pid: process for pid, process in found.items() if pid not in execed}


def test_process_tree_is_a_supervisor_with_a_forwarder_postfix_and_the_status_service(relays: Relays) -> None:
    """Who is whose child decides who is told to stop, and who notices an end."""
    relay = relays.start()
    processes = list_processes(relay)
    names = {pid: command for pid, (_, _, command) in processes.items()}
    assert names[1] == "/opt/authrelay/bin/python3 -I -m entrypoint.services.supervisor"
    children = sorted(names[pid] for pid, (parent, _, _) in processes.items() if parent == 1)
    # The forwarder and the status service: forks, and what they are made of is the supervisor's.
    assert children == [names[1], names[1], "/usr/lib/postfix/sbin/master -s"]
    forks = {
        relay.exec(["cat", f"/proc/{pid}/comm"]).text.strip(): processes[pid][1]
        for pid, name in names.items()
        if name == names[1] and pid != 1
    }
    assert forks == {"log-forwarder": "root", "status": "authrelay"}
    (master,) = (pid for pid, name in names.items() if name.startswith("/usr/lib/postfix/sbin/master"))
    daemons = {command.split()[0]: user for parent, user, command in processes.values() if parent == master}
    assert {"qmgr", "pickup"} <= set(daemons)
    assert set(daemons.values()) == {"postfix"}
    assert processes[master][1] == "root"
    assert len(processes) <= 13


@pytest.mark.parametrize(
    ("is_hardened", "limit"), [(True, 1024), (True, None), (False, None)], ids=["1024", "the-largest", "plain"]
)
def test_relay_works_hardened_or_not_and_with_any_number_of_files(
    is_hardened: bool, limit: int | None, relays: Relays, upstream: Upstream, client: Client, engine: Engine
) -> None:
    """With the rights of compose/relay.yaml, as in all these tests, and with those of a plain `docker run`."""
    number = limit or resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    relay = relays.start(
        arguments=[f"--ulimit=nofile={number}:{number}"],
        volumes={engine.volume(): "/var/spool/postfix", engine.volume(): "/var/lib/authrelay"},
        is_hardened=is_hardened,
    )
    status = dict(line.split(":\t") for line in relay.exec(["cat", "/proc/1/status"]).text.splitlines())
    # CHOWN, DAC_OVERRIDE, SETGID, SETUID (capabilities(7)); a seccomp filter, where the kernel has it.
    assert (int(status["CapBnd"], 16) == 0xC3) == is_hardened
    assert status["NoNewPrivs"] == str(int(is_hardened))
    assert status.get("Seccomp") in (None, "2")
    for port in (25, 587):
        client.send(relay.container.name, port, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(2)
    upstream.behave(faults={"rcpt": reply(550, "5.1.1 no", times=1)})
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(3)
    relay.wait_queue(0)
    assert relay.exec(["authrelay", "health"]).status == 0
    assert relay.stop() == 0
    relay.start()
    relay.wait_ready()
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(4)


def test_relay_bounds_the_number_of_open_files(relays: Relays) -> None:
    """Some engines give 2^30, and programs that close every possible descriptor then take minutes to start."""
    relay = relays.start()
    limits = relay.exec(["bash", "-c", "grep 'open files' /proc/1/limits"]).text.split()
    assert int(limits[3]) == int(limits[4]) <= 65536


FILES = {
    "/etc/postfix": "root root 777 link",
    "/run/authrelay": "root root 755 directory",
    "/run/authrelay/postfix": "root root 755 directory",
    "/run/authrelay/postfix-data": "postfix root 700 directory",
    "/run/authrelay/postfix/main.cf": "root root 644 file",
    "/run/authrelay/postfix/master.cf": "root root 644 file",
    "/run/authrelay/postfix/not_about_the_message": "root root 644 file",
    "/run/authrelay/postfix/gateways": "root root 644 file",
    "/run/authrelay/postfix/sasl_passwd": "root root 600 file",
    "/run/authrelay/postfix/sasl_passwd.lmdb": "root root 600 file",
    "/run/authrelay/postfix/client-chain.pem": "root root 600 file",
    "/run/authrelay/postfix/upstream-ca.pem": "root root 644 file",
    "/run/authrelay/supervisord.conf": "root root 644 file",
    "/run/authrelay/supervisord.pid": "root root 644 file",
    "/run/authrelay/listeners.json": "root root 644 file",
    "/run/authrelay/services.json": "root root 644 file",
    "/run/authrelay/status-endpoint": "root root 644 file",
    "/run/authrelay/settings.json": "root root 644 file",
    "/run/authrelay/configuration.json": "root root 644 file",
    "/run/authrelay/upkeep.json": "root root 644 file",
    "/run/authrelay/upkeep-agenda.json": "root root 600 file",
    "/run/authrelay/verdict.json": "root root 644 file",
    "/run/authrelay/log-rules": "root root 644 file",
    "/run/authrelay/log-tap": "root root 600 socket",
    "/run/authrelay/observations": "root authrelay 660 socket",
    "/run/authrelay/addresses.key": "root authrelay 640 file",
    "/var/lib/authrelay/addresses.key": "root root 600 file",
    "/var/lib/authrelay": "root root 755 directory",
    "/var/lib/authrelay/client.pem": "root root 600 file",
    "/var/lib/authrelay/client-certificate.pem": "root root 644 file",
    "/var/spool/postfix": "root root 755 directory",
    "/var/spool/postfix/active": "postfix root 700 directory",
    "/var/spool/postfix/deferred": "postfix root 700 directory",
    "/var/spool/postfix/maildrop": "postfix postdrop 730 directory",
    "/var/spool/postfix/public": "postfix postdrop 710 directory",
    "/var/spool/postfix/private": "postfix root 700 directory",
    "/dev/log": "root root 666 socket",
}


def test_files_have_the_modes_and_owners_of_the_docs(relays: Relays) -> None:
    """The table in docs/secrets.md is this one: nothing more may lie there, and nothing more open."""
    relay = relays.start({"LOG_ADDRESSES": "hash"})
    listed = relay.exec(["stat", "-c", "%n=%U %G %a %F", *FILES]).text
    found = dict(line.split("=", 1) for line in listed.splitlines())
    words = {"regular file": "file", "regular empty file": "file", "symbolic link": "link"}
    assert {path: re.sub("|".join(words), lambda match: words[match[0]], text) for path, text in found.items()} == FILES
    ours = relay.exec(
        ["find", "/run/authrelay", "/var/lib/authrelay", "-not", "-path", "*/postfix-data/*"]
    ).text.split()
    assert set(ours) == {path for path in FILES if path.startswith(("/run/authrelay", "/var/lib/authrelay"))}


def test_image_holds_no_compiler_no_pip_and_no_secret() -> None:
    """What is not there cannot be misused, and need not be updated."""
    find = "command -v gcc cc pip pip3 make curl wget swaks || true; ls /opt/authrelay/lib/python3.13/site-packages"
    text = run_docker(["run", "--rm", "--entrypoint", "bash", IMAGE, "-c", find]).text
    words = text.split()
    assert not [word for word in words if word.startswith("/")], words
    assert "pip" not in words
    assert "setuptools" not in words
    assert {"cryptography", "entrypoint", "environs", "jinja2", "prometheus_client", "supervisor"} <= set(words)


def test_image_is_described_and_declares_what_engines_need() -> None:
    """Registries show the labels; engines act on volumes, ports, the stop signal and the health check."""
    config = json.loads(run_docker(["image", "inspect", IMAGE]).stdout)[0]["Config"]
    assert config["Labels"]["org.opencontainers.image.title"] == "authrelay"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"
    assert len(config["Labels"]["org.opencontainers.image.revision"]) == 40
    assert set(config["Volumes"]) == {"/var/spool/postfix", "/var/lib/authrelay"}
    assert set(config["ExposedPorts"]) == {"25/tcp", "587/tcp", "9154/tcp"}
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "authrelay", "health"]
    assert config["Healthcheck"]["StartInterval"] == 500_000_000
    assert config["Entrypoint"] == ["authrelay"]


def test_image_byte_code_is_complete_and_unchecked() -> None:
    """A start must neither compile nor compare: every module's byte code is there, and is not checked (PEP 552)."""
    script = (
        "import pathlib, sys\n"
        "root = pathlib.Path('/opt/authrelay/lib/python3.13/site-packages')\n"
        "for source in root.rglob('*.py'):\n"
        "    code = source.parent / '__pycache__' / (source.stem + '.cpython-313.pyc')\n"
        "    flags = code.read_bytes()[4:8] if code.exists() else b'missing'\n"
        "    if flags != b'\\x01\\0\\0\\0': print(source, flags)\n"
    )
    program = ["run", "--rm", "--entrypoint", "/opt/authrelay/bin/python3", IMAGE, "-I", "-c", script]
    assert run_docker(program).text == ""


def test_deliveries_go_before_intake(relays: Relays, upstream: Upstream, client: Client) -> None:
    """Where the processor is short, a burst must not wait in the queue until all of it is taken (nice(1))."""
    relay = relays.start()
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    # After the name in parentheses, the 17th field is the nice value (proc(5) stat).
    fields = r"s/^[0-9]+ \((.*)\) ([^ ]+ ){16}([^ ]+) .*/\1 \3/"
    lines = relay.exec(["bash", "-c", 'sed -E "$0" /proc/[0-9]*/stat 2>&1; true', fields]).text.splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines)
    expected = {"smtpd": "5", "cleanup": "5", "master": "0", "qmgr": "0", "smtp": "0", "tlsproxy": "0"}
    assert {name: found.get(name) for name in expected} == expected


def test_postfix_that_dies_once_is_started_again(relays: Relays, upstream: Upstream, client: Client) -> None:
    """A killed master is a hiccup, not the end of the container."""
    relay = relays.start(allowed=["postfix ended"])
    master = next(pid for pid, (_, _, command) in list_processes(relay).items() if "sbin/master" in command)
    relay.exec(["bash", "-c", f"kill -9 {master}"])
    wait_until(lambda: "postfix ended (terminated by SIGKILL)" in relay.logs(), 10, "the end should be told")
    relay.wait_ready()
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)


def test_postfix_that_refuses_its_configuration_never_runs(relays: Relays) -> None:
    """`postfix check` sees what only Postfix can judge, before anything is accepted."""
    relay = relays.create({"POSTFIX_default_process_limit": "many"}, allowed=["."])
    relay.start()
    assert relay.wait_exit() == 70
    assert "fatal: bad numerical configuration: default_process_limit = many" in relay.logs().splitlines()[-1]


def test_postfix_that_cannot_run_ends_the_container_with_the_reason_last(relays: Relays) -> None:
    """A live supervisor over a dead Postfix helps nobody: the engine must see the end, and a person the reason."""
    no_ports = ["--sysctl=net.ipv4.ip_unprivileged_port_start=1024", "--cap-drop=NET_BIND_SERVICE"]
    relay = relays.create(arguments=no_ports, allowed=["."])
    relay.start()
    assert relay.wait_exit(60) == 70
    last = relay.logs().splitlines()[-1]
    assert " ERROR authrelay: postfix cannot be kept running: " in last
    assert "fatal: bind 0.0.0.0 port 25: Permission denied" in last


def test_term_reaches_postfix_and_ends_the_container_in_order(relays: Relays) -> None:
    """`docker stop` must not have to wait for its KILL, and the last lines must not be lost."""
    relay = relays.start()
    assert relay.stop(10) == 0
    lines = [line.partition(" ")[2] for line in relay.logs().splitlines()]
    # No new client is let in from here on.
    assert any(re.match(r"INFO postfix/master\[\d+\]: reload -- version 3", line) for line in lines)
    assert lines[-1] == "INFO authrelay: stopped; the queue is empty"


def test_log_has_postfixs_lines_from_its_start(relays: Relays) -> None:
    """What Postfix says while it starts is what explains a start that fails."""
    relay = relays.start()
    started = r"INFO postfix/master\[\d+\]: daemon started -- version 3\.\d+"
    wait_until(lambda: re.search(started, relay.logs()), 5, "what Postfix says when it starts should be there")
    stamp = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 [A-Z]+ \S+: ")
    assert all(stamp.match(line) for line in relay.logs().splitlines())


def test_log_has_the_time_zone_that_was_asked_for(relays: Relays) -> None:
    """Operators compare logs by the clock on their wall."""
    relay = relays.start({"TZ": "Asia/Kolkata"})
    assert all("+05:30 " in line for line in relay.logs().splitlines())
