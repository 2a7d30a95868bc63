"""`authrelay import`: old configurations as people have them, each converted, started, and relaying."""

from __future__ import annotations

import pathlib

import pytest

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.engine import Result, run_docker
from tests.support.old_configurations import OLD, Old
from tests.support.relay import IMAGE
from tests.support.upstream import Upstream


def run_import(directory: pathlib.Path, *words: str) -> Result:
    """Convert what lies there; /out is beside it."""
    for name in ("old", "out"):
        (directory / name).mkdir(exist_ok=True)
    mounts = (f"--volume={directory}/old:/old:ro", f"--volume={directory}/out:/out")
    return run_docker(["run", "--rm", "--network", "none", *mounts, IMAGE, "import", *words], check=False)


def lay_down(old: Old, directory: pathlib.Path) -> str:
    """Write the old files; the path of what is to be converted."""
    for name, text in old.files.items():
        path = directory / "old" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return f"/old/{old.source}".rstrip("/")


def read_env(path: pathlib.Path) -> dict[str, str]:
    lines = (line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@pytest.mark.parametrize("name", OLD)
def test_old_configuration_comes_to_settings_with_which_mail_flows(
    name: str, tmp_path: pathlib.Path, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """Nothing is to be guessed by the person, and nothing that changes is kept from them."""
    old = OLD[name]
    result = run_import(tmp_path, lay_down(old, tmp_path), "--write", "/out")
    assert (result.status, result.stderr) == (0, b"")
    env, out = read_env(tmp_path / "out" / "relay.env"), tmp_path / "out"
    secrets = {path.name: path.read_text(encoding="utf-8") for path in out.glob("secrets/*")}
    found = {key: value for key, value in env.items() if not key.endswith("_FILE")}
    for key, path in env.items():
        setting = key.removesuffix("_FILE")
        if key.endswith("_FILE") and setting not in old.given:
            found[setting] = secrets.pop(path.rpartition("/")[2])
    assert secrets == {}
    assert found == old.settings
    assert {key: env[f"{key}_FILE"] for key in old.given} == old.given
    text = " ".join((out / "relay.env").read_text(encoding="utf-8").replace("\n# ", " ").split())
    assert "secret" not in text.replace("/run/secrets", "")
    for remark in old.remarks:
        assert remark in text
    assert "MEND THIS" not in text

    files = {"/run/secrets/ca.pem": upstream.authority.pem.encode(), "/run/secrets/password": b"secret\n"}
    relay = relays.start(
        {
            **found,
            "RELAYHOST_CA_FILE": "/run/secrets/ca.pem",
            **{f"{key}_FILE": path for key, path in old.given.items()},
        },
        secrets=files,
        has_defaults=False,
        allowed=[
            "POSTFIX_",
            "the DKIM keys lie on a volume without a name",
            "is limited to",
            "bounce_queue_lifetime is larger",
        ],
    )
    if found.get("INET_INTERFACES") == "loopback-only":
        script = "import smtplib; smtplib.SMTP('127.0.0.1').sendmail('a@example.test', ['b@example.com'], 'Subject: x')"
        relay.exec(["/opt/authrelay/bin/python3", "-c", script])
    else:
        client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], b"Subject: x\r\n\r\nx\r\n")
    (seen,) = upstream.wait_messages(1)
    assert seen.login == "relay@example.test"
    assert "Verified TLS connection established to mail.example.test" in relay.logs()


def test_without_write_no_password_is_shown(tmp_path: pathlib.Path) -> None:
    """A terminal is copied into tickets."""
    result = run_import(tmp_path, lay_down(OLD["sender-dependent"], tmp_path))
    assert result.status == 0
    assert "SENDER_RELAY_TABLE_FILE=/run/secrets/sender-relay-table\n" in result.text
    assert "secret" not in (result.text + result.stderr.decode()).replace("/run/secrets", "")
    assert b"--write DIRECTORY makes them" in result.stderr


@pytest.mark.parametrize(
    ("files", "source", "words"),
    [
        ({}, "/old", "/old has neither main.cf nor mailserver.env"),
        ({}, "/old/x", "/old/x cannot be read"),
        (
            {"x": "A=b\n"},
            "/old/x",
            "/old/x has neither a parameter of Postfix nor a variable of a relay image that is known",
        ),
    ],
)
def test_what_cannot_be_converted_is_refused(
    files: dict[str, str], source: str, words: str, tmp_path: pathlib.Path
) -> None:
    """With what to give instead."""
    (tmp_path / "old").mkdir()
    for name, text in files.items():
        (tmp_path / "old" / name).write_text(text, encoding="utf-8")
    result = run_import(tmp_path, source)
    assert result.status == 64
    assert words in result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()
