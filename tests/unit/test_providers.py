"""PROVIDER: a preset that starts, gives way to every setting, and is documented with its source."""

from __future__ import annotations

import pathlib
import re
from typing import Final

import pytest

from entrypoint.config.providers import PRESETS
from tests.unit.reading import plan_for, read, read_main_cf

PAGE: Final = (pathlib.Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")
NAMES: Final = [f"{name}:eu-west-1" if name == "ses" else name for name in PRESETS]
LOGIN: Final = {"RELAYHOST_USERNAME": "user", "RELAYHOST_PASSWORD": "secret"}


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
def test_page_says_the_same_and_whence(name: str) -> None:
    """A number without a source is a rumour."""
    (row,) = (line for line in PAGE.splitlines() if re.match(rf"\| .*`{name}(:<region>)?`", line))
    assert f"`{PRESETS[name]['RELAYHOST'].replace('{region}', '<region>')}`" in row
    assert "](https://" in row
    limit = PRESETS[name].get("RELAYHOST_RECIPIENT_LIMIT")
    assert limit is None or f"{limit} recipients a message" in row
