"""The image itself: how large it is, and that what was left out of it is not missed."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess

import pytest

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.engine import run_docker
from tests.support.relay import IMAGE

ROOT = pathlib.Path(__file__).parents[2]
MOST_BYTES = 150_000_000
# Prints which templates there are, and whether each is what its source is compiled to.
_COMPARE = """
import glob, json, marshal
from entrypoint import paths
from entrypoint.plan.templates import compile_template
names = sorted(path.split("/")[-1].removesuffix(".j2") for path in glob.glob(paths.TEMPLATES + "/*.j2"))
names.remove("status.html")
told = {}
for name in names:
    with open(f"{paths.TEMPLATES}/{name}.code", "rb") as file:
        told[name] = marshal.load(file) == marshal.loads(compile_template(paths.TEMPLATES, name))
print(json.dumps(told))
"""
_ROW = re.compile(r"^\| ([\w.-]+) \| ([\d.]+) \|", re.MULTILINE)


def test_image_is_small() -> None:
    """What is in it is pulled to every machine, scanned every night, and attacked. docs/image.md has the parts."""
    assert int(run_docker(["image", "inspect", "--format", "{{.Size}}", IMAGE]).text) < MOST_BYTES


@pytest.mark.parametrize(("domain", "code"), [("bücher.example", 250), ("bücher⒈example", 501)])
def test_postfix_knows_which_domains_beyond_ascii_there_are(
    domain: str, code: int, relays: Relays, client: Client
) -> None:
    """ICU computes A-labels (UTS 46) from a table, of which the image has a part."""
    env = {"POSTFIX_smtpd_recipient_restrictions": "reject_non_fqdn_recipient"}
    relay = relays.start(env, allowed=["midna_domain_to_ascii", "Illegal address syntax"])
    host = relay.container.name
    recipients = [f"ann@{domain}", "ann@example.com"]
    replies, _ = client.converse(host, 25, "a@example.test", recipients, b"x\r\n", parameters=["SMTPUTF8"])
    assert [reply.code for reply in replies if reply.command == "RCPT"] == [code, 250]


def test_templates_are_compiled_from_their_sources() -> None:
    """A start reads what was compiled, and people the sources."""
    python = "--entrypoint=/opt/authrelay/bin/python3"
    told = json.loads(run_docker(["run", "--rm", "--network=none", python, IMAGE, "-I", "-c", _COMPARE]).text)
    assert told == dict.fromkeys(("main.cf", "master.cf", "not_about_the_message", "supervisord.conf"), True)


def test_postfix_brings_no_kerberos_along_for_nis() -> None:
    """Debian's libnsl would: eight libraries and 130 KiB in each process. Its place is filled in whole."""
    programs = "/usr/lib/postfix/sbin/{smtp,smtpd,cleanup}"
    linked = run_docker(["run", "--rm", "--entrypoint=bash", IMAGE, "-c", f"ldd -r {programs} 2>&1"]).text
    assert linked.count("libnsl.so.2 => ") == 3
    assert not re.search("krb5|tirpc|undefined symbol|not found", linked)


def test_page_about_the_image_names_its_largest_parts() -> None:
    """Who asks why something is there finds the answer, and of what is there now."""
    shown = subprocess.run([ROOT / "scripts" / "image-parts"], stdout=subprocess.PIPE, text=True, check=True).stdout
    measured = dict(_ROW.findall(shown))
    total = measured.pop("all")
    page = (ROOT / "docs" / "image.md").read_text(encoding="utf-8")
    told = dict(_ROW.findall(page))
    assert list(told) == list(measured)
    assert {name: float(size) for name, size in told.items()} == pytest.approx(
        {name: float(size) for name, size in measured.items()}, abs=0.3
    )
    assert f"{float(total):.0f} MB, uncompressed" in page
