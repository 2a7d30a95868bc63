"""The settings as users see them: in the README, in a terminal, for programs. All from the declarations."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
from typing import Final

import pytest

from entrypoint.commands import settings as command
from entrypoint.config.declaration import MISSING, Declaration
from entrypoint.config.names import NAMES
from entrypoint.config.settings import DECLARATIONS, Settings

README: Final = pathlib.Path(__file__).parents[2] / "README.md"
BEGIN: Final = "<!-- settings:begin -->"
END: Final = "<!-- settings:end -->"


def _name(declaration: Declaration) -> str:
    return declaration.name


def test_readme_table_is_what_the_command_prints() -> None:
    """A README that lags behind sends people to settings that are gone and hides those that are new."""
    text = README.read_text(encoding="utf-8") if README.exists() else ""
    assert BEGIN in text, f"README.md has no line {BEGIN}"
    assert END in text, f"README.md has no line {END}"
    shown = text.split(BEGIN)[1].split(END)[0].strip()
    if os.environ.get("AUTHRELAY_UPDATE_GOLDEN"):
        README.write_text(
            text.replace(
                shown or BEGIN, command.render_markdown().strip() if shown else f"{BEGIN}\n{command.render_markdown()}"
            ),
            encoding="utf-8",
        )
    assert shown == command.render_markdown().strip(), "AUTHRELAY_UPDATE_GOLDEN=1 writes it anew"


@pytest.mark.parametrize("declaration", DECLARATIONS, ids=_name)
def test_setting_says_what_it_is_for(declaration: Declaration) -> None:
    """The table is all that many users ever read."""
    assert declaration.help.endswith(".")
    assert declaration.help[0].isupper()
    assert declaration.group
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*", declaration.name)
    assert not declaration.name.endswith("_FILE")


@pytest.mark.parametrize("declaration", DECLARATIONS, ids=_name)
def test_default_is_a_value_that_the_setting_accepts(declaration: Declaration) -> None:
    """A default that could not be written would be a lie in the table."""
    if declaration.default is not None:
        declaration.parse(declaration.default)


def test_names_are_those_of_the_fields_and_each_is_there_once() -> None:
    """One name, one setting: everything else is found by name."""
    names = [declaration.name for declaration in DECLARATIONS]
    assert len(names) == len(set(names))
    own = {"POSTFIX_PARAMETERS", "MASTER_ENTRIES", "OWN_TABLES", "RELAYHOST_TOKEN"}
    assert set(names) == NAMES == {f.upper() for f in Settings.__dataclass_fields__} - own


def test_settings_of_one_group_stand_together() -> None:
    """The table begins a new part at each change of group; a group must not come twice."""
    groups = [declaration.group for declaration in DECLARATIONS]
    changes = [group for before, group in zip(["", *groups], groups, strict=False) if group != before]
    assert len(changes) == len(set(changes))


def test_passwords_and_keys_are_secret() -> None:
    """What is not marked is quoted in messages."""
    secret = {declaration.name for declaration in DECLARATIONS if declaration.is_secret}
    holders = {"UPSTREAMS", "SENDER_RELAY_TABLE", "SMTPD_USERS_TABLE", "OAUTH2_SERVICE_ACCOUNT"}
    assert secret == holders | {n for n in NAMES if n.endswith(("_PASSWORD", "_SECRET", "_TOKEN", "_KEY"))}


def test_json_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    """Charts and editors are generated from it."""
    assert command.main(["--json"]) == 0
    rows = {row.pop("name"): row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == [declaration.name for declaration in DECLARATIONS]
    for declaration in DECLARATIONS:
        assert rows[declaration.name] == {
            "group": declaration.group,
            "default": declaration.default,
            "default_help": declaration.default_help or None,
            "help": declaration.help,
            "is_required": declaration.is_required,
            "is_secret": declaration.is_secret,
            "is_cleared_by_none": declaration.cleared is not MISSING,
            "postfix_parameter": declaration.parameter or None,
        }


def test_markdown_has_a_well_formed_row_for_each_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A | in a help text would move every cell behind it."""
    odd = dataclasses.replace(DECLARATIONS[0], help="One | two.")
    monkeypatch.setattr(command, "DECLARATIONS", (odd, *DECLARATIONS[1:]))
    rows = [line for line in command.render_markdown().splitlines() if line.startswith("| `")]
    assert len(rows) == len(DECLARATIONS) + 2
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)


def test_text_names_every_setting_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    """`authrelay settings` is the manual inside the container."""
    assert command.main([]) == 0
    text = capsys.readouterr().out
    for declaration in DECLARATIONS:
        assert f"{declaration.name}  (default: {command.describe_default(declaration).replace('`', '')})\n" in text


def test_settings_command_refuses_a_form_that_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    """EX_USAGE, so that a script notices."""
    assert command.main(["--yaml"]) == 64
    assert capsys.readouterr().err == "usage: authrelay settings [--markdown | --json]\n"
