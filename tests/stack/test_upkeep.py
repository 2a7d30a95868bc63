"""What is kept: over a stop and a start, and in a backup that brings an empty machine back. Each ends a server."""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.engine import Engine
from tests.support.stack import DOMAIN, OWNER, ROOT, Stack
from tests.support.wait import wait_until

LIST = f"kept@{DOMAIN}"
# As its owner does with `mailman shell`; the archive learns of a list with its first post.
_FILL = f"""
mailman create --owner {OWNER} {LIST} && printf 'Ann <ann@example.com>\\n' | mailman addmembers - {LIST}
"""
_POST = (
    f"From: ann@example.com\r\nTo: {LIST}\r\nSubject: Keep this\r\nMessage-ID: <kept@example.com>\r\n\r\nA text.\r\n"
)
_COUNT = "from hyperkitty.models import Email; print(list(Email.objects.values_list('subject', flat=True)))"


@pytest.fixture(scope="module")
def filled(engine: Engine) -> Iterator[Stack]:
    """A list server of its own, with a list, a member and a post."""
    made = Stack(engine)
    try:
        made.up()
        made.compose("exec", "--no-TTY", "core", "sh", "-ec", _FILL)
        made.deliver("ann@example.com", LIST, _POST.encode())
        wait_archived(made)
        yield made
    finally:
        made.down("--volumes", "--remove-orphans")


def wait_archived(stack: Stack) -> None:
    """Wait until the archive has the post."""
    wait_until(lambda: "Keep this" in ask_archive(stack), 60, "the archive should have the post")


def ask_archive(stack: Stack) -> str:
    """The subjects in the archive."""
    return stack.compose("exec", "--no-TTY", "web", "python3", "manage.py", "shell", "-c", _COUNT).text


def describe(stack: Stack) -> dict[str, str]:
    """What must be the same afterwards."""
    return {
        "members": stack.compose("exec", "--no-TTY", "core", "mailman", "members", LIST).text,
        "archive": ask_archive(stack),
        "authority": stack.authority_pem,
        "client certificate": stack.container("relay").read("/var/lib/authrelay/client-certificate.pem").decode(),
        "addresses": "".join(
            line.split()[0] + "\n"
            for line in stack.container("core").read("/var/lib/mailman3/data/postfix_lmtp").decode().splitlines()
            if line.startswith("kept")
        ),
    }


def run_script(stack: Stack, name: str, file: str) -> subprocess.CompletedProcess[str]:
    """Run one of the two commands as the documentation has it."""
    environment = {**os.environ, "COMPOSE": "docker " + " ".join(stack.command)}
    command = (str(ROOT / "scripts" / name), file)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_first_steps_are_those_that_are_left(filled: Stack) -> None:
    """There is a list already; the fingerprint is that of the CA which is served."""
    said = filled.compose("run", "--rm", "--no-deps", "first-steps").text
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(filled.authority_pem)).hexdigest().upper()
    assert digest in said.replace(":", "")
    assert f"Lists: {LIST}" in said
    assert "Add the domain" not in said


def test_lists_and_archives_outlive_a_down_and_an_up(filled: Stack) -> None:
    """Nothing that matters is in a container."""
    before = describe(filled)
    assert "ann@example.com" in before["members"]
    filled.down()
    filled.up()
    assert describe(filled) == before


def test_backup_brings_everything_back_where_nothing_is_left(filled: Stack) -> None:
    """The volumes and the secrets are gone; a file that is no backup, and a server that runs, are refused before."""
    before = describe(filled)
    file = filled.directory / "lists.tar"
    done = run_script(filled, "lists-backup", str(file))
    assert done.returncode == 0, done.stderr
    assert (file.stat().st_mode & 0o777) == 0o600
    running = run_script(filled, "lists-restore", str(file))
    assert (running.returncode, "the server is running. Stop it first" in running.stderr) == (1, True)

    filled.down("--volumes")
    for secret in (filled.directory / "secrets").iterdir():
        if secret.is_file():
            secret.unlink()
    broken = filled.directory / "broken.tar"
    broken.write_bytes(file.read_bytes()[:5000])
    refused = run_script(filled, "lists-restore", str(broken))
    assert (refused.returncode, "lists-restore:" in refused.stderr) == (1, True), refused.stderr
    done = run_script(filled, "lists-restore", str(file))
    assert done.returncode == 0, done.stderr + done.stdout
    assert describe(filled) == before
