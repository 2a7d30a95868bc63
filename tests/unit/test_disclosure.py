"""The settings as the status page shows them: whole, as a user could have written them, and never a secret."""

from __future__ import annotations

from typing import Any

import pytest

from entrypoint.config.disclosure import HIDDEN, list_settings
from entrypoint.config.settings import DECLARATIONS
from tests.unit.material import CA, KEY, LEAF
from tests.unit.reading import read

SECRET = "Zq9-secret-text"
BASE = {"RELAYHOST": "smtp.example.com"}


def disclose(environ: dict[str, str]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in list_settings(read({**BASE, **environ})[0])}


def test_every_setting_is_there_with_its_default() -> None:
    """What is unset decides as much as what is set."""
    rows = disclose({})
    assert list(rows) == [declaration.name for declaration in DECLARATIONS]
    assert rows["RELAYHOST"] == {"name": "RELAYHOST", "value": "[smtp.example.com]", "is_default": False}
    assert {name for name, row in rows.items() if not row["is_default"]} == {"RELAYHOST"}
    assert rows["STATUS_LISTEN"]["value"] == "0.0.0.0:9154"
    assert rows["RELAYHOST_USERNAME"]["value"] == ""


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("RELAYHOST_MX", "true", "yes"),
        ("DRAIN_TIMEOUT", "1m", "60s"),
        ("MESSAGE_SIZE_LIMIT", "none", "none"),
        ("MYNETWORKS", "10.0.0.0/8, 192.0.2.1", "10.0.0.0/8 192.0.2.1/32"),
        ("RELAYHOST_TLS", "MUST", "verify"),
        ("STATUS_LISTEN", "none", "none"),
        ("STATUS_LISTEN", "[::]:9155", "[::]:9155"),
        (
            "TRANSPORT_TABLE",
            "a.test [b.test]:25\nc.test discard\nd.test error 5.1.2 gone",
            "a.test [b.test]; c.test discard; d.test error 5.1.2 gone",
        ),
        ("TLS_POLICY_TABLE", "smtp.example.com encrypt\nb.example.com secure match=x", None),
        ("RELAYHOST_CA_URL", "https://ca.example.com/x?token=Zq9-secret-text", "https://ca.example.com/x?..."),
    ],
)
def test_value_is_shown_as_it_holds(name: str, value: str, shown: str | None) -> None:
    """Whoever compares two relays reads values, not objects of ours."""
    row = disclose({name: value})[name]
    assert not row["is_default"]
    assert "object at" not in row["value"]
    assert "(" not in row["value"]
    assert SECRET not in row["value"]
    assert shown is None or row["value"] == shown


def test_no_secret_is_shown() -> None:
    """The file with these rows is readable for everybody in the container, and the page for everybody near it."""
    rows = disclose(
        {
            "RELAYHOST_USERNAME": "user",
            "RELAYHOST_PASSWORD": SECRET,
            "RELAYHOST_CA": CA,
            "CLIENT_CERT": LEAF,
            "CLIENT_KEY": KEY,
            "POSTFIX_smtp_connect_timeout": "5s",
        }
    )
    text = str(rows)
    assert SECRET not in text
    assert "PRIVATE" not in text
    assert "BEGIN" not in text
    assert rows["RELAYHOST_PASSWORD"]["value"] == rows["CLIENT_KEY"]["value"] == HIDDEN
    assert "SHA-256" in rows["RELAYHOST_CA"]["value"]
    assert rows["POSTFIX_smtp_connect_timeout"]["value"] == "5s"
