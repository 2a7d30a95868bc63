"""The image's commands as a user types them."""

from __future__ import annotations

import json

import pytest

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.engine import run_docker
from tests.support.relay import IMAGE
from tests.support.upstream import Upstream, reply
from tests.support.wait import wait_until


def run(*command: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run the image once: status, standard output, standard error."""
    options = [word for name, value in (env or {}).items() for word in ("--env", f"{name}={value}")]
    result = run_docker(["run", "--rm", "--network", "none", *options, IMAGE, *command], check=False)
    return result.status, result.text, result.stderr.decode()


def test_start_without_settings_says_what_is_missing() -> None:
    """The first thing that anybody tries."""
    assert run() == (
        78,
        "",
        "authrelay: RELAYHOST: it is not set. "
        "Name the server that takes your mail, for example RELAYHOST=[smtp.example.com]:587.\n",
    )


def test_start_reports_every_problem_at_once() -> None:
    """Mending one mistake a restart is how an evening is lost."""
    status, output, errors = run(
        env={
            "RELAYHOST": "[smtp.example.com:587",
            "RELAY_PASSWORD_FILE": "x",
            "RELAYHOST_PASWORD": "hidden-text",
            "POSTFIX_smtp_tls_cafile": "/x",
            "MYNETWORKS": "0.0.0.0/0",
        }
    )
    lines = errors.splitlines()
    assert (status, output) == (78, "")
    assert len(lines) == 4
    assert (
        "authrelay: POSTFIX_smtp_tls_cafile: Postfix has no such parameter. Did you mean POSTFIX_smtp_tls_CAfile?"
        in lines
    )
    assert "hidden-text" not in errors
    assert "Traceback" not in errors


def test_check_says_what_would_run_and_hides_the_password() -> None:
    """Reviewing a change must not need a running relay, nor show a secret."""
    status, output, errors = run(
        "check",
        env={
            "RELAYHOST": "smtp.example.com:465",
            "RELAYHOST_USERNAME": "user@example.com",
            "RELAYHOST_PASSWORD": "hidden-text",
            "POSTFIX_soft_bounce": "yes",
            "MYHOSTNAME": "relay.example.com",
        },
    )
    assert (status, errors) == (0, "")
    assert "hidden-text" not in output
    assert output.splitlines() == [
        "upstream:           [smtp.example.com]:465, implicit TLS, level secure, "
        "login as user@example.com with a password (hidden)",
        "trusted CAs:        the system's bundle",
        "client certificate: made here and kept (ecdsa)",
        "host name:          relay.example.com",
        "listens on:         all, ports 25 587",
        "may send:           127.0.0.0/8 [::1]/128",
        "one client:         50 sessions at a time on each port",
        "largest message:    52428800 bytes",
        "main.cf:            soft_bounce = yes",
    ]


def test_check_has_postfix_look_at_what_would_be_written() -> None:
    """A value that only Postfix can judge must not come to light after the roll-out."""
    status, _, errors = run("check", env={"RELAYHOST": "smtp.example.com", "POSTFIX_smtp_use_tls": "yes"})
    assert status == 70
    assert "smtp_use_tls" in errors
    assert "Traceback" not in errors


def test_check_warns_where_a_setting_weakens_a_safe_default() -> None:
    """It is allowed, and it must not go unseen."""
    status, _, errors = run("check", env={"RELAYHOST": "smtp.example.com", "POSTFIX_smtp_tls_security_level": "may"})
    assert status == 0
    assert errors == (
        "authrelay: WARNING: POSTFIX_smtp_tls_security_level=may weakens a safe default: "
        "the upstream's certificate may go unchecked\n"
    )


@pytest.mark.parametrize("user", ["root", "authrelay"])
def test_commands_of_tests_have_the_rights_of_an_exec(user: str, relays: Relays) -> None:
    """Tests enter containers by themselves; with more rights than people have they would not see what people meet."""
    relay = relays.start()
    command = [
        *("sh", "-c"),
        "grep -E '^(Uid|Gid|Groups|Cap[A-Z][a-z]+|NoNewPrivs):' /proc/self/status; readlink /proc/self/ns/*; pwd;"
        " env | grep -vE '^(HOME|_)=' | sort; cat; exit 3",
    ]
    options = ["--interactive", "--user", user, "--env", "A=b c"]
    theirs = run_docker(["exec", *options, relay.container.name, *command], stdin=b"in", check=False)
    ours = relay.container.exec(command, user=user, env={"A": "b c"}, stdin=b"in", check=False)
    assert ours.text.splitlines() == theirs.text.splitlines()
    assert (ours.status, ours.stderr) == (theirs.status, theirs.stderr) == (3, b"")
    shown = run_docker(["exec", relay.container.name, "authrelay", "queue"]).text
    assert shown == relay.exec(["authrelay", "queue"]).text == "The queue is empty.\n"


def test_render_writes_what_a_start_would_write(relays: Relays) -> None:
    """A person reads the rendered files to trust the image: they must be the very same."""
    relay = relays.start()
    relay.exec(["authrelay", "render", "/tmp/out"])
    difference = relay.exec(
        ["bash", "-c", "for f in main.cf master.cf sasl_passwd; do diff /etc/postfix/$f /tmp/out/$f; done"], check=False
    )
    lines = [line for line in difference.text.splitlines() if line.startswith(("<", ">"))]
    # The client certificate is made only by a start.
    assert [line for line in lines if "smtp_tls_chain_files" not in line and not line.startswith("< #")] == []
    assert relay.exec(["stat", "-c", "%a", "/tmp/out/sasl_passwd"]).text == "600\n"


def test_settings_are_listed_in_three_forms() -> None:
    """People read the table, programs the JSON, and the README has the Markdown."""
    assert "RELAYHOST  (default: required)" in run("settings")[1]
    assert "| `RELAYHOST` | required |" in run("settings", "--markdown")[1]
    assert any(row["name"] == "RELAYHOST" for row in json.loads(run("settings", "--json")[1]))


@pytest.mark.parametrize("command", [["frobnicate"], ["render"], ["settings", "--xml"]])
def test_wrong_usage_is_told_with_status_64(command: list[str]) -> None:
    """EX_USAGE of sysexits(3)."""
    status, _, errors = run(*command, env={"RELAYHOST": "smtp.example.com"})
    assert status == 64
    assert "usage: authrelay" in errors


def test_help_lists_the_commands() -> None:
    """What `docker run authrelay --help` should do."""
    status, output, _ = run("--help")
    assert status == 0
    assert all(f"\n  {verb}" in output for verb in ("run", "check", "render", "settings", "health"))


def test_read_only_container_without_tmpfs_says_what_to_add() -> None:
    """--read-only alone is the first thing that a careful person tries."""
    options = ["run", "--rm", "--network", "none", "--read-only", "--env", "RELAYHOST=smtp.example.com"]
    result = run_docker([*options, IMAGE], check=False)
    assert result.status == 73
    assert "--tmpfs /run --tmpfs /tmp" in result.stderr.decode()


def test_expired_authority_ends_the_start(relays: Relays) -> None:
    """A CA that has ended would leave every message in the queue; the start says so instead."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string("CN=old CA")
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    old = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - 3 * day)
        .not_valid_after(now - day)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    relay = relays.create(secrets={"/run/secrets/ca.pem": old.public_bytes(serialization.Encoding.PEM)}, allowed=["."])
    relay.start()
    assert relay.wait_exit() == 65
    assert f"authrelay: RELAYHOST_CA: 'CN=old CA' expired on {(now - day).date()}." in relay.logs()


def test_queue_says_why_mail_waits_and_what_to_do(relays: Relays, upstream: Upstream, client: Client) -> None:
    """`mailq` shows Postfix's words; a person needs to know which setting to change."""
    upstream.behave(faults={"auth": reply(535, "5.7.8 Authentication credentials invalid")})
    relay = relays.start()
    assert relay.exec(["authrelay", "queue"]).text == "The queue is empty.\n"
    client.send(
        relay.container.name, 25, "a@example.test", ["b@example.com", "c@example.com"], b"Subject: x\r\n\r\nx\r\n"
    )
    wait_until(lambda: "535 5.7.8" in relay.exec(["authrelay", "queue"]).text, 20, "the reason should be listed")
    shown = relay.exec(["authrelay", "queue"]).text
    assert "a@example.test  example.com (2 recipients)" in shown
    assert "1 waiting: the upstream refuses the user name or the password (as 'relay@example.test')." in shown
    assert "Check RELAYHOST_USERNAME and RELAYHOST_PASSWORD" in shown
    assert "the password file last changed " in shown
    listed = json.loads(relay.exec(["authrelay", "queue", "--json"]).text)
    assert [reason["step"] for reason in listed["reasons"]] == ["auth"]
    assert listed["messages"][0]["recipient_domains"] == {"example.com": 2}
