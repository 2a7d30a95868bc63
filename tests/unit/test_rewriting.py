"""SENDER_REWRITE_TABLE and ALIAS_TABLE: what is rendered means what the lines mean, whichever lines they are."""

from __future__ import annotations

import re
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrypoint.config.declaration import InvalidValue
from entrypoint.config.sender_rewriting import parse_table, rewrite
from entrypoint.plan.rewriting_tables import render_sender_rewrites
from tests.unit.reading import find_text, plan_for, read_main_cf

BASE: Final = {"RELAYHOST": "smtp.example.com", "MYHOSTNAME": "relay.example.com"}
_few: Final = settings(max_examples=200, deadline=None, database=None, derandomize=True)
_domains: Final = st.sampled_from(["a.test", "b.test", "c.test", "x.a.test"])
_names: Final = st.sampled_from(["u", "v", "x/^$'+", "u.v"])
_addresses: Final = st.builds("{}@{}".format, _names, _domains)
_targets: Final = st.one_of(_addresses, _domains.map("@{}".format))
_tables: Final = st.dictionaries(st.one_of(_targets, st.just("*")), _targets, min_size=1, max_size=6)


def look_up(rules: str, address: str) -> str:
    """What cleanup(8) makes of an address with a regexp table: again, until nothing changes (canonical(5))."""
    for _ in range(10):
        for rule in rules.splitlines():
            pattern, result = re.fullmatch(r"/((?:[^/\\]|\\.)*)/ (.*)", rule).groups()  # type: ignore[union-attr]
            if re.search(pattern, address, re.IGNORECASE):
                result = result.replace("$$", "$")
                found = address.rpartition("@")[0] + result if result.startswith("@") else result
                break
        else:
            return address
        if found == address:
            return address
        address = found
    raise AssertionError("it goes round")


@_few
@given(_tables, _addresses)
def test_rendered_rewriting_is_what_the_lines_say(table: dict[str, str], sender: str) -> None:
    """The checks at the start reason about lines; Postfix has regular expressions, and its own order."""
    text = "\n".join(f"{pattern} {target}" for pattern, target in table.items())
    try:
        lines = parse_table(text)
    except InvalidValue:
        return  # a circle; test_misconfigurations.py has the words
    found = look_up(render_sender_rewrites(lines), sender)
    assert found == rewrite(lines, sender)
    direct = table.get(sender) or table.get("@" + sender.rpartition("@")[2])
    if direct in (sender, "@" + sender.rpartition("@")[2]) or (direct is None and "*" not in table):
        assert found == sender


@pytest.mark.parametrize("sender", ["", "a@b", "@"])
def test_a_catch_all_needs_a_whole_address(sender: str) -> None:
    """The null sender is looked up as well: a bounce that has a sender can bounce."""
    rules = find_text(plan_for({**BASE, "SENDER_REWRITE_TABLE": "* relay@example.org"}), "sender_rewrites")
    assert look_up(rules, sender) == ("relay@example.org" if sender == "a@b" else sender)


def test_aliases_lead_to_addresses_under_every_name_of_the_relay() -> None:
    """However deep they are, and wherever a line stands."""
    table = (
        "postmaster: root\n*: c@a.test\nroot: Ann@a.test, admin, ann@relay.example.com\n"
        "admin b@a.test,Ann@a.test\nann: x@a.test"
    )
    plan = plan_for({**BASE, "ALIAS_TABLE": table})
    records = dict(line.split(" ", 1) for line in find_text(plan, "aliases").splitlines())
    for domain in ("relay.example.com", "localhost", "localhost.localdomain"):
        assert records[f"postmaster@{domain}"] == records[f"root@{domain}"] == "Ann@a.test, b@a.test, x@a.test"
        assert records[f"@{domain}"] == "c@a.test"
    assert len(records) == 15
    assert read_main_cf(plan)["virtual_alias_domains"] == ""


def test_an_alias_may_have_the_name_of_the_relay() -> None:
    """A host is called after what runs there."""
    plan = plan_for(
        {**BASE, "MYHOSTNAME": "admin", "ALIAS_TABLE": "root: admin\nadmin: a@a.test, b@admin\nb: c@admin.localdomain"}
    )
    records = dict(line.split(" ", 1) for line in find_text(plan, "aliases").splitlines())
    assert records["root@admin.localdomain"] == records["admin@localhost"] == "a@a.test, c@admin.localdomain"


def test_no_table_has_a_key_twice() -> None:
    """postmap(1) warns of a second one, and a start ends with what it says."""
    environ = {"ALIAS_TABLE": "root: a@a.test\n*: b@a.test\nroot@relay.localdomain: c@a.test"}
    allowed = {"ALLOWED_RECIPIENT_DOMAINS": "relay.localdomain localhost a.test"}
    plan = plan_for({"RELAYHOST": "smtp.example.com", **environ, **allowed})
    for name in ("aliases", "allowed_recipients"):
        keys = [line.split()[0] for line in find_text(plan, name).splitlines()]
        assert len(keys) == len(set(keys)) > 5


def test_nothing_is_rendered_where_nothing_is_set() -> None:
    """A relay without these settings has not one parameter of theirs."""
    names = {file.path.rpartition("/")[2] for file in plan_for(BASE).files}
    assert names & {"sender_rewrites", "aliases", "own_header_checks", "header_checks"} == set()
    assert not {
        name for name in read_main_cf(plan_for(BASE)) if re.search("canonical|header_checks|masq|virtual", name)
    }
