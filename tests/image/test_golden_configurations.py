"""Postfix itself accepts every golden configuration without a word."""

from __future__ import annotations

import io
import pathlib
import tarfile

import pytest

from tests.support.engine import run_docker
from tests.support.relay import IMAGE

GOLDEN = pathlib.Path(__file__).parents[1] / "unit" / "golden"
CASES = sorted(path for path in GOLDEN.iterdir() if path.is_dir())

# In the container: put the files where a start puts them, build the tables, and let Postfix look.
SCRIPT = r"""
set -e
mkdir -p /run/authrelay/postfix /run/authrelay/postfix-data
chown postfix:postfix /run/authrelay/postfix-data && chmod 700 /run/authrelay/postfix-data
tar -xf - -C /run/authrelay/postfix --no-same-owner
cd /etc/postfix
chmod 755 . && chmod 644 ./* && touch -d '1 minute ago' ./*
for table in sasl_passwd tls_policy; do [ ! -e $table ] || { chmod 600 $table; postmap lmdb:/etc/postfix/$table; }; done
{ postfix check; postconf >/dev/null; postconf -M >/dev/null; } 2>&1
"""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden_configuration_is_accepted_in_silence(case: pathlib.Path) -> None:
    """A deprecated or misspelt parameter is a warning that nobody reads, until the next release drops it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in sorted(case.iterdir()):
            # Postfix wants addresses of its own interfaces, and the container has loopback only.
            content = file.read_bytes().replace(b"172.18.0.5", b"127.0.0.1").replace(b"fd00:18::5", b"::1")
            entry = tarfile.TarInfo(file.name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    command = ["run", "--rm", "--interactive", "--network", "none", "--entrypoint", "bash", IMAGE, "-c", SCRIPT]
    result = run_docker(command, stdin=buffer.getvalue(), check=False)
    assert (result.status, result.text, result.stderr.decode()) == (0, "", "")
