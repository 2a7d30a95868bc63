"""Several upstreams: which account each mail is sent with, and that no service knows another's password."""

from __future__ import annotations

import itertools
import json
import pathlib
import re
import tomllib
from typing import Final

import pytest

from entrypoint.config.settings import Settings
from entrypoint.config.upstreams import _KEYS
from entrypoint.diagnosis.steps import name_for
from entrypoint.errors import ConfigurationError
from tests.support.schema import find_faults
from tests.unit.material import CA, KEY, LEAF
from tests.unit.reading import find_text, plan_for, read, read_main_cf

SCHEMA: Final = pathlib.Path(__file__).parents[2] / "docs" / "upstreams-schema.json"
UPSTREAMS: Final = f"""
[bulk]
nexthop = "smtp.bulk.example:465"
username = "bulk@bulk.example"
password = "bulk secret"
tls = "verify"
ca = '''
{CA}'''
concurrency = 3
rate_delay = "2s"
recipient_limit = 1
senders = ["@news.example.com", "alerts@example.com"]
domains = ["bulk.example", ".bulk.example"]

[partner]
nexthop = "[mx.partner.example]:25"
tls = "encrypt"
client_cert = '''
{LEAF}'''
client_key = '''
{KEY}'''
domains = ["partner.example"]
"""
SENDERS: Final = """
# a department, and a person
@sales.example.com  [smtp.example.com]:587  sales  sales secret
boss@sales.example.com [smtp.other.example]:587 boss boss-secret
@plain.example.com [smtp.example.com]:587
@open.example.com [smtp.other.example]:587
@more.news.example.com bulk
"""
RECIPIENTS: Final = """
internal.example [10.0.0.25]:25
gone.example error 5.1.2 this domain has gone
null.example discard
lists.example lmtp:lists:8024
.relayed.example [smtp.example.com]:587
"""
ENVIRON: Final = {
    "RELAYHOST": "smtp.example.com:587",
    "RELAYHOST_USERNAME": "main",
    "RELAYHOST_PASSWORD": "main-secret",
    "UPSTREAMS": UPSTREAMS,
    "SENDER_RELAY_TABLE": SENDERS,
    "TRANSPORT_TABLE": RECIPIENTS,
    "TLS_POLICY_TABLE": "10.0.0.25 may",
}
_SERVICE: Final = re.compile(r"(?m)^(smtp(?:-\S+)?) +unix .*\n((?:    -o .*\n)*)")


def find_services(environ: dict[str, str]) -> dict[str, dict[str, str]]:
    """What master.cf gives each smtp(8) service of its own."""
    found = {}
    for name, options in _SERVICE.findall(find_text(plan_for(environ), "master.cf")):
        pairs = (line.strip()[len("-o { ") : -len(" }")].partition(" =") for line in options.splitlines())
        found[name] = {key: value.strip() for key, _, value in pairs}
    return found


def find_routes(environ: dict[str, str], name: str) -> dict[str, str]:
    lines = find_text(plan_for(environ), name).splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


def test_each_account_is_a_service_of_its_own() -> None:
    """Two accounts at one server are two, and one account in three places is one."""
    settings, _ = read(ENVIRON)
    accounts = [(one.setting, str(one.nexthop), one.username) for one in settings.every_upstream]
    assert accounts == [
        ("RELAYHOST", "[smtp.example.com]:587", "main"),
        ("UPSTREAMS [bulk]", "[smtp.bulk.example]:465", "bulk@bulk.example"),
        ("UPSTREAMS [partner]", "[mx.partner.example]", None),
        ("SENDER_RELAY_TABLE line 3", "[smtp.example.com]:587", "sales"),
        ("SENDER_RELAY_TABLE line 4", "[smtp.other.example]:587", "boss"),
        ("SENDER_RELAY_TABLE line 6", "[smtp.other.example]:587", None),
        ("TRANSPORT_TABLE line 2", "[10.0.0.25]", None),
    ]
    services = [one.service for one in settings.every_upstream]
    assert services[:3] == ["smtp", "smtp-bulk", "smtp-partner"]
    assert len(set(services)) == len(services)
    # An account's service is the same whatever else is configured: nothing that waits changes hands.
    alone, _ = read({**ENVIRON, "SENDER_RELAY_TABLE": SENDERS.splitlines()[3], "TRANSPORT_TABLE": ""})
    assert alone.every_upstream[-1].service == services[4]


def test_password_is_in_the_table_of_its_own_service_alone() -> None:
    """Proof by construction: a process reads one table, and each table has one account."""
    plan, services = plan_for(ENVIRON), find_services(ENVIRON)
    tables = {file.path: file for file in plan.files if file.path.endswith("sasl_passwd")}
    read_by = {name: own.get("smtp_sasl_password_maps", "") for name, own in services.items()}
    named = read_main_cf(plan)["smtp_sasl_password_maps"]
    paths = [named, *(path for path in read_by.values() if path)]
    assert sorted(path.removeprefix("lmdb:") for path in paths) == sorted(tables)
    assert len(set(paths)) == len(paths)
    for file in tables.values():
        assert file.mode == 0o600
        assert file.text.count("\n") == 1
    assert all(text.count("secret") == 0 for text in (find_text(plan, "main.cf"), find_text(plan, "master.cf")))
    # Whoever has no account is told so, and does not fall back to main.cf's.
    without = {name for name, own in services.items() if own.get("smtp_sasl_auth_enable") == "no"}
    assert without == {"smtp-partner", *(one.service for one in read(ENVIRON)[0].every_upstream[-2:])}
    assert all(services[name]["smtp_sasl_password_maps"] == "" for name in without)


def test_routes_name_service_and_nexthop() -> None:
    """What Postfix looks up, word for word."""
    sales, boss, unknown, internal = (one.service for one in read(ENVIRON)[0].every_upstream[3:])
    assert find_routes(ENVIRON, "sender_routes") == {
        "@news.example.com": "smtp-bulk:[smtp.bulk.example]:465",
        "alerts@example.com": "smtp-bulk:[smtp.bulk.example]:465",
        "@sales.example.com": f"{sales}:[smtp.example.com]:587",
        "boss@sales.example.com": f"{boss}:[smtp.other.example]:587",
        # The same server as RELAYHOST is RELAYHOST, with its account; that of another sender is never guessed.
        "@plain.example.com": "smtp:[smtp.example.com]:587",
        "@open.example.com": f"{unknown}:[smtp.other.example]:587",
        "@more.news.example.com": "smtp-bulk:[smtp.bulk.example]:465",
    }
    assert find_routes(ENVIRON, "recipient_routes") == {
        "bulk.example": "smtp-bulk:[smtp.bulk.example]:465",
        ".bulk.example": "smtp-bulk:[smtp.bulk.example]:465",
        "partner.example": "smtp-partner:[mx.partner.example]",
        "internal.example": f"{internal}:[10.0.0.25]",
        "gone.example": "error:5.1.2 this domain has gone",
        "null.example": "discard:",
        "lists.example": "lmtp:inet:[lists]:8024",
        ".relayed.example": "smtp:[smtp.example.com]:587",
    }


def test_service_has_what_is_not_as_in_main_cf() -> None:
    """Level, CA, port, certificate, each for itself."""
    bulk, partner = (find_services(ENVIRON)[name] for name in ("smtp-bulk", "smtp-partner"))
    assert bulk == {
        "smtp_skip_quit_response": "no",
        "smtp_tls_security_level": "verify",
        "smtp_tls_wrappermode": "yes",
        "smtp_tls_CAfile": "/etc/postfix/smtp-bulk.upstream-ca.pem",
        "smtp_sasl_password_maps": "lmdb:/etc/postfix/smtp-bulk.sasl_passwd",
        "tlsproxy_service_name": "tlsproxy-bulk",
    }
    assert partner == {
        "smtp_tls_security_level": "encrypt",
        "smtp_tls_chain_files": "/etc/postfix/smtp-partner.client-chain.pem",
        "smtp_sasl_auth_enable": "no",
        "smtp_sasl_password_maps": "",
        "tlsproxy_service_name": "tlsproxy-partner",
    }
    plan = plan_for(ENVIRON)
    # tlsproxy(8) warns of a client with another CA or certificate than its own, and cannot read another key later.
    assert re.findall(r"(?m)^(tlsproxy\S*) .*\n((?:    -o .*\n)*)", find_text(plan, "master.cf")) == [
        ("tlsproxy", ""),
        ("tlsproxy-bulk", f"    -o {{ smtp_tls_CAfile = {bulk['smtp_tls_CAfile']} }}\n"),
        ("tlsproxy-partner", f"    -o {{ smtp_tls_chain_files = {partner['smtp_tls_chain_files']} }}\n"),
    ]
    assert find_text(plan, "smtp-bulk.upstream-ca.pem") == CA
    assert find_text(plan, "smtp-partner.client-chain.pem").startswith("-----BEGIN PRIVATE KEY-----")
    assert next(file.mode for file in plan.files if file.path.endswith("partner.client-chain.pem")) == 0o600


def test_limits_are_the_queue_managers_and_the_process_limit_holds_them() -> None:
    """With one recipient a message qmgr(8) counts by recipient, so that maxproc is what holds."""
    parameters = read_main_cf(plan_for(ENVIRON))
    assert {key: value for key, value in parameters.items() if key.startswith("smtp-")} == {
        "smtp-bulk_destination_concurrency_limit": "3",
        "smtp-bulk_initial_destination_concurrency": "3",
        "smtp-bulk_transport_rate_delay": "2s",
        "smtp-bulk_destination_recipient_limit": "1",
    }
    (line,) = (line for line in find_text(plan_for(ENVIRON), "master.cf").splitlines() if line.startswith("smtp-bulk"))
    assert line.split()[1:] == ["unix", "-", "-", "n", "-", "3", "smtp"]


def test_fallback_is_for_relayhost_alone() -> None:
    """Another account's mail at the fallback would be sent with the fallback's account."""
    environ = {**ENVIRON, "FALLBACK_RELAYHOST": "smtp2.example.com:587"}
    assert read_main_cf(plan_for(environ))["smtp_fallback_relay"] == "[smtp2.example.com]:587"
    services = find_services(environ)
    assert all(own["smtp_fallback_relay"] == "" for name, own in services.items() if name != "smtp")


_PARTS: Final = {
    "UPSTREAMS": (UPSTREAMS, ""),
    "SENDER_RELAY_TABLE": (SENDERS.replace("@more.news.example.com bulk", ""), ""),
    "TRANSPORT_TABLE": (RECIPIENTS, "a.example [smtp.other.example]:587\nb.example [smtp.bulk.example]:465", ""),
    "RELAYHOST": ("smtp.example.com:587", "smtp.other.example:587", "smtp.bulk.example:465"),
    "RELAYHOST_USERNAME": ("main", "boss"),
    "FALLBACK_RELAYHOST": ("", "smtp2.example.com:587"),
}


@pytest.mark.parametrize("values", list(itertools.product(*_PARTS.values())))
def test_however_the_tables_overlap_each_password_is_bound_to_its_own_server(values: tuple[str, ...]) -> None:
    """Every combination: what a service may send, and where its mail goes, are of one line of the configuration."""
    environ = {**ENVIRON, **dict(zip(_PARTS, values, strict=True))}
    if "smtp.bulk" in environ["RELAYHOST"] and environ["FALLBACK_RELAYHOST"]:
        environ["FALLBACK_RELAYHOST"] = "smtp2.example.com:465"
    if environ["RELAYHOST_USERNAME"] == "boss":
        environ["RELAYHOST_PASSWORD"] = "boss-secret"
    belongs = {
        ("[smtp.bulk.example]:465", "bulk@bulk.example"): "bulk secret",
        ("[smtp.example.com]:587", "sales"): "sales secret",
        ("[smtp.other.example]:587", "boss"): "boss-secret",
        (str(read(environ)[0].relayhost_nexthop), environ["RELAYHOST_USERNAME"]): environ["RELAYHOST_PASSWORD"],
    }
    plan, services = plan_for(environ), find_services(environ)
    default = read_main_cf(plan)
    targets: dict[str, set[str]] = {"smtp": {default["relayhost"], default.get("smtp_fallback_relay", "")}}
    for name in ("sender_routes", "recipient_routes"):
        if any(file.path.endswith(name) for file in plan.files):
            for value in find_routes(environ, name).values():
                service, _, nexthop = value.partition(":")
                targets.setdefault(service, set()).add(nexthop)
    for service, own in services.items():
        path = own.get("smtp_sasl_password_maps", default.get("smtp_sasl_password_maps", "")).removeprefix("lmdb:")
        if not path:
            continue
        for line in find_text(plan, path.rpartition("/")[2]).splitlines():
            key, _, login = line.partition(" ")
            username, _, password = login.partition(":")
            assert belongs[key, username] == password
            assert key in targets.get(service, {key})
    assert {service for service in targets if service.startswith("smtp")} <= set(services)


BAD_UPSTREAMS: Final = {
    "password = hunter2": "it is not TOML: Invalid value (at line 1, column 12)",
    'nexthop = "a"': "[nexthop] is not a table",
    "[Bulk]": "[Bulk] is not a name",
    "[a]": "[a] nexthop is missing",
    '[a]\nnexthop = "a:b"': "[a] nexthop: 'b' is not a port",
    "[a]\nnexthop = 1.5": "[a] nexthop: it is neither text, a number, nor a list of texts",
    '[a]\nnexthop = "a"\npasswort = "x"': "[a] passwort: there is no such key",
    '[a]\nnexthop = "a"\nusername = "x"': "[a] there is username but no password",
    '[a]\nnexthop = "a"\npassword = "x"': "[a] there is password but no username",
    '[a]\nnexthop = "a"\ntls = "secur"': "[a] tls: 'secur' is not a TLS level",
    '[a]\nnexthop = "a"\ntls = "fingerprint"': "[a] tls is fingerprint and there is none",
    f'[a]\nnexthop = "a"\nfingerprint = ["{"ab" * 32}"]': '[a] tls = "secure" never looks at fingerprint',
    f"[a]\nnexthop = \"a\"\ntls = \"encrypt\"\nca = '''{CA}'''": '[a] tls = "encrypt" never looks at ca',
    '[a]\nnexthop = "a"\nsenders = ["example.com"]': "[a] senders: 'example.com' is no address",
    '[a]\nnexthop = "a"\ndomains = ["@example.com"]': "[a] domains: '@example.com' is an address",
    '[a]\nnexthop = "a"\n[b]\nnexthop = "[a]:25"': "[b] has its account in common with [a]",
    '[a]\nnexthop = "a"\nsenders = ["@x.test"]\n[b]\nnexthop = "b"\nsenders = ["@X.test"]': (
        "[b] has the sender '@x.test' in common with [a]"
    ),
}


@pytest.mark.parametrize("text", BAD_UPSTREAMS)
def test_wrong_upstreams_are_refused(text: str) -> None:
    """The message names the upstream and the key, and no value that may be a secret."""
    with pytest.raises(ConfigurationError) as caught:
        read({"RELAYHOST": "smtp.example.com", "UPSTREAMS": text})
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"UPSTREAMS: {BAD_UPSTREAMS[text]}")
    assert "hunter2" not in str(problem)


BAD_TABLES: Final = {
    ("SENDER_RELAY_TABLE", "@a.test"): "SENDER_RELAY_TABLE: line 1: it has no nexthop",
    ("SENDER_RELAY_TABLE", "a.test [b]:25"): "SENDER_RELAY_TABLE: line 1: 'a.test' is no address",
    ("SENDER_RELAY_TABLE", '"a b"@a.test [b]:25'): "SENDER_RELAY_TABLE: line 1: '\"a' is no address",
    ("SENDER_RELAY_TABLE", "@a.test [b]:25 user"): (
        "SENDER_RELAY_TABLE: line 1: there is a user name, 'user', but no password"
    ),
    ("SENDER_RELAY_TABLE", "@a.test bulk user hunter2"): (
        "SENDER_RELAY_TABLE: line 1: the upstream 'bulk' has an account of its own"
    ),
    ("SENDER_RELAY_TABLE", "@a.test bulk"): (
        "SENDER_RELAY_TABLE line 1=bulk: there is no upstream of that name; UPSTREAMS has none"
    ),
    ("SENDER_RELAY_TABLE", "@a.test [b]:25\n@A.test [c]:25"): (
        "SENDER_RELAY_TABLE: line 2 names '@a.test' a second time, after line 1"
    ),
    ("SENDER_RELAY_TABLE", "@a.test [b]:25 u hunter2\n@b.test [b]:25 u hunter3"): (
        "SENDER_RELAY_TABLE line 2=[b] u: it has another password than SENDER_RELAY_TABLE line 1"
    ),
    ("SENDER_RELAY_TABLE", "@a.test [192.0.2.1]:25"): (
        "SENDER_RELAY_TABLE line 1=[192.0.2.1]: it is an IP address, and Postfix finds only names in a certificate"
    ),
    ("TRANSPORT_TABLE", "a.test"): "TRANSPORT_TABLE: line 1: it has no nexthop",
    ("TRANSPORT_TABLE", "u@a.test [b]:25"): "TRANSPORT_TABLE: line 1: 'u@a.test' is an address",
    ("TRANSPORT_TABLE", "a.test [b]:25 user hunter2"): "TRANSPORT_TABLE: line 1: something follows '[b]:25'",
    ("TRANSPORT_TABLE", "a.test discard now"): "TRANSPORT_TABLE: line 1: something follows 'discard'",
    ("TRANSPORT_TABLE", "a.test error nobody"): "TRANSPORT_TABLE: line 1: 'nobody' is no reply",
}


@pytest.mark.parametrize(("setting", "text"), BAD_TABLES)
def test_wrong_tables_are_refused(setting: str, text: str) -> None:
    """The message names the line, and never a password."""
    with pytest.raises(ConfigurationError) as caught:
        read({"RELAYHOST": "smtp.example.com", setting: text})
    (problem,) = caught.value.problems
    assert str(problem).startswith(BAD_TABLES[setting, text])
    assert "hunter" not in str(caught.value)


def test_table_and_upstreams_that_want_the_same_mail_are_refused() -> None:
    """Which of them would win is nothing that a person should have to know."""
    environ = {**ENVIRON, "SENDER_RELAY_TABLE": "@news.example.com [smtp.example.com]:587"}
    with pytest.raises(
        ConfigurationError, match=r"SENDER_RELAY_TABLE line 1=@news.*: UPSTREAMS \[bulk\] names it, too"
    ):
        read(environ)


def test_password_without_tls_is_refused_for_each() -> None:
    """Level `may` sends it to whoever strips STARTTLS."""
    with pytest.raises(ConfigurationError) as caught:
        read({**ENVIRON, "UPSTREAMS": UPSTREAMS.replace('tls = "verify"', 'tls = "may"').replace(CA, "system")})
    assert "UPSTREAMS [bulk]=may: the password for [smtp.bulk.example]:465 could be sent" in str(caught.value)


def test_schema_says_the_same_as_the_parser() -> None:
    """An editor that follows it accepts what we accept, and knows every key."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert set(schema["additionalProperties"]["properties"]) == set(_KEYS)
    assert find_faults(tomllib.loads(UPSTREAMS), schema) == []
    for text in (
        "[a]\nnexthop = 5",
        '[a]\nusername = "x"',
        '[a]\nnexthop = "a"\npasswort = "x"',
        '[A]\nnexthop = "a"',
        "",
    ):
        assert find_faults(tomllib.loads(text), schema) != []
        with pytest.raises(ConfigurationError):
            read({"RELAYHOST": "smtp.example.com", "UPSTREAMS": text or "#"})


REMEDIES: Final = {
    "Check RELAYHOST_USERNAME and RELAYHOST_PASSWORD": {
        "FALLBACK_RELAYHOST": "Check FALLBACK_RELAYHOST_USERNAME and FALLBACK_RELAYHOST_PASSWORD",
        "UPSTREAMS [bulk]": "Check username and password, in UPSTREAMS [bulk]",
        "SENDER_RELAY_TABLE line 3": "Check username and password, in SENDER_RELAY_TABLE line 3",
    },
    "Put its CA into RELAYHOST_CA_FILE: see docs": {
        "FALLBACK_RELAYHOST": "Put its CA into RELAYHOST_CA_FILE: see docs",
        "UPSTREAMS [bulk]": "Put its CA into ca: see docs, in UPSTREAMS [bulk]",
        "SENDER_RELAY_TABLE line 3": "Put its CA into RELAYHOST_CA_FILE: see docs",
    },
    "Write RELAYHOST=[a]:465": {
        "RELAYHOST": "Write RELAYHOST=[a]:465",
        "UPSTREAMS [bulk]": "Write nexthop=[a]:465, in UPSTREAMS [bulk]",
    },
}


def test_remedy_names_what_the_upstream_has() -> None:
    """A person mends what the sentence names."""
    for text, expected in REMEDIES.items():
        assert {setting: name_for(setting, text) for setting in expected} == expected


def test_settings_are_read_once() -> None:
    """The routes and the services are of the same upstreams, object for object."""
    settings: Settings = read(ENVIRON)[0]
    assert settings.every_upstream is settings.every_upstream
    assert all(upstream in settings.every_upstream for _, upstream in settings.sender_routes)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "!xoauth2, !oauthbearer, static:all"),
        ({"SMTP_SASL_MECHANISM_FILTER": "!plain"}, "!xoauth2, !oauthbearer, !plain, static:all"),
        ({"SMTP_SASL_MECHANISM_FILTER": "!oauthbearer"}, "!xoauth2, !oauthbearer, static:all"),
        ({"SMTP_SASL_MECHANISM_FILTER": "plain, login"}, "plain, login"),
        ({"RELAYHOST_AUTH": "password"}, "!xoauth2, !oauthbearer, static:all"),
        ({"RELAYHOST_AUTH": "xoauth2"}, "xoauth2"),
        ({"RELAYHOST_AUTH": "xoauth2", "SMTP_SASL_MECHANISM_FILTER": "!plain"}, "xoauth2"),
        ({"RELAYHOST_AUTH": "oauthbearer", "SMTP_SASL_MECHANISM_FILTER": "oauthbearer"}, "oauthbearer"),
    ],
)
def test_no_filter_lets_a_password_be_sent_as_a_token(more: dict[str, str], expected: str) -> None:
    """Without one libsasl2 takes what the server offers, and a server could offer anything."""
    environ = {"RELAYHOST": "[smtp.example.com]:587", "RELAYHOST_USERNAME": "u", "RELAYHOST_PASSWORD": "p", **more}
    assert read_main_cf(plan_for(environ))["smtp_sasl_mechanism_filter"] == expected


def test_password_in_a_table_is_none_of_relayhosts_tokens() -> None:
    """A line inherits from RELAYHOST how the server is checked; by its way to log in, the password would be a token."""
    environ = {
        "RELAYHOST": "[smtp.example.com]:587",
        "RELAYHOST_AUTH": "xoauth2",
        "RELAYHOST_USERNAME": "u",
        "RELAYHOST_PASSWORD": "ya29.token",
        "SMTP_SASL_MECHANISM_FILTER": "xoauth2",
        "SENDER_RELAY_TABLE": "@word.example [smtp.word.example]:587 word pass",
        "UPSTREAMS": '[bearer]\nnexthop = "[b.example]:25"\nusername = "u"\npassword = "t"\nauth = "oauthbearer"\n'
        '[word]\nnexthop = "[w.example]:25"\nusername = "u"\npassword = "p"\n[open]\nnexthop = "o.example"\n'
        'auth = "none"',
    }
    settings, _ = read(environ)
    services = find_services(environ)
    refusing = "!xoauth2, !oauthbearer, static:all"
    assert read_main_cf(plan_for(environ))["smtp_sasl_mechanism_filter"] == "xoauth2"
    assert services["smtp-bearer"]["smtp_sasl_mechanism_filter"] == "oauthbearer"
    assert services["smtp-word"]["smtp_sasl_mechanism_filter"] == refusing
    assert services["smtp-open"]["smtp_sasl_auth_enable"] == "no"
    assert services[settings.every_upstream[-1].service]["smtp_sasl_mechanism_filter"] == refusing
    assert [one.has_token for one in settings.every_upstream] == [True, True, False, False, False]
