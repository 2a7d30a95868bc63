"""What an old configuration comes to, without Postfix: whatever stands in it, nothing breaks and nothing is silent."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from entrypoint.config.foreign import FOREIGN
from entrypoint.config.names import NAMES, find_unknown_names
from entrypoint.errors import ConfigurationError
from entrypoint.migration.draft import Draft
from entrypoint.migration.images import convert_variables, find_image, parse_variables
from entrypoint.migration.main_cf import convert
from entrypoint.migration.tables import parse_source, read_maps
from tests.support.old_configurations import OLD
from tests.unit.reading import read

_MAPS: Final = (
    *("smtp_sasl_password_maps", "smtp_tls_policy_maps", "smtp_tls_per_site", "transport_maps"),
    "sender_dependent_relayhost_maps",
)


def migrate(parameters: dict[str, str], tables: dict[str, str] | None = None) -> Draft:
    return convert(parameters, (tables or {}).get, "main.cf", lambda path: f"/run/secrets/{path.rpartition('/')[2]}")


@pytest.mark.parametrize("name", [name for name, old in OLD.items() if old.source or "mailserver.env" in old.files])
def test_variables_come_to_settings(name: str) -> None:
    """Without a container, so that an editor's run sees them; test_import.py has the whole way."""
    old = OLD[name]
    (text,) = old.files.values()
    variables = parse_variables(text)
    draft = convert_variables(variables, find_image(variables), "x", lambda _: None, lambda path: path)
    assert draft.values == old.settings
    assert draft.files == old.given
    shown = " ".join(draft.render().replace("\n# ", " ").split())
    assert [remark for remark in old.remarks if remark not in shown] == []
    assert "secret" not in shown.replace("/run/secrets", "")


def test_records_are_read_as_postmap_reads_them() -> None:
    """A line that begins with a blank goes on; a comment may stand anywhere."""
    text = "# c\na  b c\n  d\n\n\t# e\nf\tg\n"
    assert list(parse_source(text)) == [("a", "b c d"), ("f", "g")]
    maps = "hash:/a, proxy:btree:/b inline:{ x=y, z = w } static:u:p pcre:/c ldap:/d"
    records, unread = read_maps(maps, {"/a": "k v\n"}.get)
    assert records == [("k", "v"), ("x", "y"), ("z", "w"), ("*", "u:p")]
    assert unread == ["proxy:btree:/b", "pcre:/c", "ldap:/d"]


@pytest.mark.parametrize(
    ("parameters", "remark"),
    [
        ({}, "MISSING: there is no relayhost"),
        ({"relayhost": "a b"}, "NOT TAKEN: relayhost names 'a b': it contains a blank"),
        ({"relayhost": "example.com"}, "so that Postfix asks for MX hosts of example.com"),
        (
            {"relayhost": "[a]:587", "smtp_sasl_password_maps": "ldap:/x"},
            "NOT READ: smtp_sasl_password_maps has ldap:/x",
        ),
        ({"relayhost": "[a]:25", "smtp_tls_wrappermode": "yes"}, "TLS begins before the greeting at port 465 alone"),
        (
            {
                "relayhost": "[a]:25",
                "smtpd_milters": "inet:a:1, inet:localhost:8891",
                "milter_default_action": "accept",
            },
            "CHANGED: inet:localhost:8891 was on the same host; in the container that is the container itself "
            "SMTPD_MILTERS=inet:a:1 inet:localhost:8891 MILTER_DEFAULT_ACTION=accept",
        ),
        (
            {"relayhost": "[a]:25", "smtpd_milters": "opendkim"},
            "NOT TAKEN: smtpd_milters has opendkim: 'opendkim' does",
        ),
        ({"relayhost": "[a]:25", "milter_default_action": "x"}, "NOT TAKEN: milter_default_action = x: tempfail is"),
        ({"relayhost": "[a]:25", "content_filter": "scan:[a]:1"}, "POSTFIX_content_filter=scan:[a]:1"),
        ({"relayhost": "[a]:25", "smtp_generic_maps": "hash:/x"}, "NOT READ: smtp_generic_maps has hash:/x, which is"),
        (
            {"relayhost": "[a]:25", "header_checks": "regexp:/x"},
            "NOT READ: header_checks has regexp:/x: it is not here",
        ),
        ({"relayhost": "[a]:25", "recipient_canonical_maps": "hash:/x"}, "NO EQUIVALENT: recipient_canonical_maps"),
        ({"relayhost": "[a]:25", "mynetworks": "hash:/x"}, "NOT TAKEN: mynetworks = hash:/x names a table"),
        ({"relayhost": "[a]:25", "mynetworks": "10.2.0.0/16"}, "MYNETWORKS=127.0.0.0/8 [::1]/128 10.2.0.0/16"),
        ({"relayhost": "[a]:25", "inet_interfaces": "192.0.2.1"}, "NOT TAKEN: inet_interfaces = 192.0.2.1"),
        ({"relayhost": "[a]:25", "relay_domains": "lists.a.test"}, "If there is one, set LIST_DOMAINS, LIST_LMTP and"),
        ({"relayhost": "[a]:25", "smtp_fallback_relay": "[b], [c]"}, "left out: [c]"),
    ],
)
def test_what_is_not_the_same_is_said(parameters: dict[str, str], remark: str) -> None:
    """A silent difference is found by the mail that does not come."""
    assert remark in " ".join(migrate(parameters).render().replace("\n# ", " ").split())


def test_access_tokens_of_an_image_are_fetched_here() -> None:
    """boky/postfix's own names for the same grant; its password was none."""
    variables = {
        "ALLOWED_SENDER_DOMAINS": "example.test",
        "RELAYHOST": "[smtp.gmail.com]:587",
        "RELAYHOST_USERNAME": "a@example.test",
        "RELAYHOST_PASSWORD": "secret",
        "XOAUTH2_CLIENT_ID": "application",
        "XOAUTH2_SECRET": "hidden-1",
        "XOAUTH2_INITIAL_REFRESH_TOKEN": "hidden-2",
        "XOAUTH2_TOKEN_ENDPOINT": "https://oauth2.googleapis.com/token",
    }
    draft = convert_variables(variables, find_image(variables), "x", lambda _: None, lambda path: path)
    settings, _ = read(draft.values)
    assert [upstream.auth for upstream, _ in settings.token_upstreams] == ["xoauth2"]
    assert settings.relayhost_password is None
    assert "hidden" not in draft.render()


def test_lines_of_master_cf_are_taken_from_an_image_that_has_them() -> None:
    """mwader/postfix-relay has them as variables, with Debian's chroot."""
    variables = {
        "POSTFIX_relayhost": "[a]:25",
        "POSTFIXMASTER_2525__inet": "2525 inet n - y - - smtpd -o smtpd_banner=x",
        "POSTFIXMASTER_x__unix": "x unix - - n - - master",
    }
    draft = convert_variables(variables, find_image(variables), "x", lambda _: None, lambda path: path)
    assert draft.values["POSTFIX_MASTER_2525__inet"] == "2525 inet n - n - - smtpd -o smtpd_banner=x"
    shown = " ".join(draft.render().replace("\n# ", " ").split())
    assert "CHANGED: nothing is chrooted in the container" in shown
    assert "NOT TAKEN: master.cf has 'x unix - - n - - master': there is no program 'master'" in shown


_texts = st.text(st.characters(codec="utf-8"), max_size=40)


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["relayhost", "mynetworks", "smtp_fallback_relay", "x_y", *_MAPS]), _texts),
    st.dictionaries(st.just("/t"), _texts),
)
def test_any_text_is_converted_or_told(parameters: dict[str, str], tables: dict[str, str]) -> None:
    """What stands in an old file is whatever somebody wrote into it."""
    parameters = {name: f"hash:/t {value}" if name in _MAPS else value for name, value in parameters.items()}
    draft = migrate(parameters, tables)
    assert {name for name in draft.values if not name.startswith("POSTFIX_")} <= NAMES
    assert "relayhost" not in parameters or "RELAYHOST" in draft.values or draft.remarks


@pytest.mark.parametrize("name", FOREIGN)
def test_name_of_another_image_is_recognised(name: str) -> None:
    """Whoever comes from there has it in the fingers."""
    image, ours = FOREIGN[name]
    with pytest.raises(ConfigurationError) as caught:
        read({name: "x"})
    problems = [str(problem) for problem in caught.value.problems if problem.setting == name]
    assert any(image in problem and ours in problem for problem in problems)
    # Beside our own name it may be an application's.
    said = find_unknown_names({"RELAYHOST": "smtp.example.com", name: "x"})
    assert [problem for problem in said if image in str(problem)] == []
