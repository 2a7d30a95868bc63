"""PROVIDER: a preset that starts, gives way to every setting, and has a page that says whence it is and still works."""

from __future__ import annotations

import itertools
import pathlib
import re
import shlex
from typing import Final

import pytest

from entrypoint.config.providers import PRESETS
from entrypoint.reasons import explain
from tests.unit.reading import plan_for, read, read_main_cf

DOCS: Final = pathlib.Path(__file__).parents[2] / "docs"
INDEX: Final = (DOCS / "providers.md").read_text(encoding="utf-8")
PAGES: Final = {page.stem: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("providers/*.md"))}
NAMES: Final = [f"{name}:eu-west-1" if name == "ses" else name for name in PRESETS]
LOGIN: Final = {"RELAYHOST_USERNAME": "user", "RELAYHOST_PASSWORD": "secret"}

REFUSAL: Final = re.compile(r"^\| ([^|]+) \| `([^`]+)` \| [^|]+ \|$", re.MULTILINE)
HOST: Final = "smtp.example.com[192.0.2.25]"
WORDS: Final = {
    "greeting": f"host {HOST} refused to talk to me: %s",
    "login": f"SASL authentication failed; server {HOST} said: %s",
    "MAIL FROM": f"host {HOST} said: %s (in reply to MAIL FROM command)",
    "RCPT TO": f"host {HOST} said: %s (in reply to RCPT TO command)",
    "end of DATA": f"host {HOST} said: %s (in reply to end of DATA command)",
}
"""What Postfix makes of a refusal there, smtp(8)."""
REFUSALS: Final = [(name, at, said) for name, page in PAGES.items() for at, said in REFUSAL.findall(page)]
VAGUE: Final = {explain(words % f"{code} no").meaning for words in WORDS.values() for code in (450, 550)}
"""What is said of a refusal whose words nothing knows: only where it was, and for how long."""


def _find_command(page: str) -> list[str]:
    """Return the words of the page's `docker run`, as a shell splits them."""
    (command,) = re.findall(r"^```sh\n(docker run .*?)^```$", page, re.MULTILINE | re.DOTALL)
    return shlex.split(command)


def _find_section(page: str, heading: str) -> str:
    """Return what stands below a heading."""
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def _read_command(page: str, secrets: pathlib.Path) -> dict[str, str]:
    """Return the environment of the page's container, each secret of it being a file in that directory."""
    words = _find_command(page)
    options = list(itertools.pairwise(words))
    environ = dict(value.split("=", 1) for option, value in options if option == "--env")
    volumes = [value.split(":") for option, value in options if option == "--volume"]
    for _, target, *mode in (volume for volume in volumes if volume[0].startswith("$PWD/")):
        assert mode == ["ro"]
        file = secrets / pathlib.PurePath(target).name
        file.write_text("a secret\n", encoding="ascii")
        file.chmod(0o600)
        assert target in environ.values(), "mounted, and no setting reads it"
        environ = {name: str(file) if value == target else value for name, value in environ.items()}
    return environ


@pytest.mark.parametrize("name", NAMES)
def test_preset_is_all_that_an_account_needs(name: str) -> None:
    """Host, port and limits are there, and TLS is verified."""
    settings, warnings = read({"PROVIDER": name, **LOGIN})
    assert warnings == ()
    assert settings.relayhost_tls.value == "secure"
    assert settings.relayhost_nexthop.port in (465, 587)
    parameters = read_main_cf(plan_for({"PROVIDER": name.upper(), **LOGIN}))
    assert parameters["relayhost"] == PRESETS[name.partition(":")[0]]["RELAYHOST"].replace("{region}", "eu-west-1")


def test_every_setting_goes_before_the_preset() -> None:
    """Whoever has an agreement with the provider knows better."""
    own = {"RELAYHOST": "[smtp.example.com]:2525", "RELAYHOST_CONCURRENCY": "10", "RELAYHOST_RATE_DELAY": "0s"}
    settings, _ = read({"PROVIDER": "microsoft365", **LOGIN, **own})
    assert str(settings.relayhost_nexthop) == "[smtp.example.com]:2525"
    assert (settings.relayhost_concurrency, settings.relayhost_rate_delay) == (10, 0)
    assert read({"PROVIDER": "sendgrid", **LOGIN})[0].relayhost_username == "user"
    assert read({"PROVIDER": "sendgrid", "RELAYHOST_PASSWORD": "x"})[0].relayhost_username == "apikey"


@pytest.mark.parametrize("name", PRESETS)
def test_index_says_the_same_and_whence(name: str) -> None:
    """A number without a source is a rumour; and the row leads to the page that has the preset."""
    (row,) = (line for line in INDEX.splitlines() if re.match(rf"\| \[.*`{name}(:<region>)?`", line))
    assert f"`{PRESETS[name]['RELAYHOST'].replace('{region}', '<region>')}`" in row
    assert "](https://" in row
    (page,) = re.findall(r"\(providers/([a-z0-9-]+)\.md\)", row)
    assert re.search(rf"PROVIDER={name}\b(?!-)", PAGES[page])
    for setting, said in (
        ("RELAYHOST_RECIPIENT_LIMIT", "{} recipients a message"),
        ("RELAYHOST_CONCURRENCY", "{} connections"),
        ("MESSAGE_SIZE_LIMIT", "{}"),
    ):
        limit = PRESETS[name].get(setting)
        assert limit is None or said.format(limit) in row.split("|")[3]


@pytest.mark.parametrize("name", PRESETS)
def test_page_has_every_limit_of_the_preset(name: str) -> None:
    """Whoever wonders why mail is slow, or refused for its size, finds the number and its source."""
    (page,) = (page for page in PAGES.values() if re.search(rf"PROVIDER={name}\b(?!-)", page))
    limits = _find_section(page, "Limits")
    for setting, value in PRESETS[name].items():
        assert setting in ("RELAYHOST", "RELAYHOST_USERNAME") or f"the preset: `{setting}={value}`" in limits


@pytest.mark.parametrize("name", PAGES)
def test_command_of_the_page_is_accepted(name: str, tmp_path: pathlib.Path) -> None:
    """It is copied as it stands: 'authrelay check' has nothing against it, and every secret is mounted."""
    environ = _read_command(PAGES[name], tmp_path)
    assert not [value for value in environ.values() if value.startswith("/run/secrets/")], "read, and not mounted"
    settings, warnings = read(environ)
    assert warnings == ()
    assert settings.relayhost_tls.value == "secure"
    assert settings.relayhost_password is not None
    preset, _, region = environ["PROVIDER"].partition(":")
    assert str(settings.relayhost_nexthop) == PRESETS[preset]["RELAYHOST"].replace("{region}", region)


@pytest.mark.parametrize("name", PAGES)
def test_page_has_what_each_page_has(name: str) -> None:
    """A reader who knows one page finds the way in the next; no page limits without a source."""
    assert re.findall(r"^## (.*)", PAGES[name], re.MULTILINE) == [
        "What you need there",
        "Settings",
        "Which senders it takes",
        "Limits",
        "What its refusals mean",
        "Does it work?",
        "SPF and DKIM",
    ]
    assert "](https://" in _find_section(PAGES[name], "Limits")


@pytest.mark.parametrize(("name", "at", "said"), REFUSALS)
def test_refusal_of_the_page_is_explained_by_the_relay_too(name: str, at: str, said: str) -> None:
    """What the page says at length, doctor, the status page and the log say in a sentence, and not in a vague one."""
    del name
    assert explain(WORDS[at] % said).meaning not in VAGUE


def test_each_refusal_is_read() -> None:
    """A row that the expression misses would never be tested."""
    rows = [line for page in PAGES.values() for line in _find_section(page, "What its refusals mean").splitlines()]
    assert len(REFUSALS) == sum(line.startswith("| ") for line in rows) - sum(
        line.startswith("| At |") for line in rows
    )
