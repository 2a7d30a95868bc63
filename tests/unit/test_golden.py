"""What is rendered for twenty-one ways of using authrelay, file by file, as a person has read and approved it.

`tests/unit/golden/<case>/` holds every planned file but the client's key; `files.txt` says which path, mode and kind.
After a change that is meant: `AUTHRELAY_UPDATE_GOLDEN=1 pytest tests/unit/test_golden.py`, and read the diff in git.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import os
import pathlib
from collections.abc import Mapping
from typing import Final

import pytest

from entrypoint.config.certificates import parse_authorities
from entrypoint.config.dkim_key import DkimKey, SigningKey
from entrypoint.config.secret import Secret
from entrypoint.plan.files import Facts, Plan
from tests.unit.material import KEY, LEAF
from tests.unit.reading import FACTS, plan_for


def _make_signing(domain: str, selector: str) -> SigningKey:
    key = DkimKey(algorithm="rsa", bits=2048, pem=Secret(f"(the key of {selector})\n"), public="")
    return SigningKey(domain=domain, selector=selector, key=key)


GOLDEN: Final = pathlib.Path(__file__).with_name("golden")
CA: Final = pathlib.Path(__file__).with_name("golden-ca.pem").read_text(encoding="utf-8")
LOGIN: Final = {"RELAYHOST_USERNAME": "user@example.com", "RELAYHOST_PASSWORD": 'p$a#s:s "w" ö'}
UPSTREAMS: Final = f"""
[bulk]
nexthop = "smtp.bulk.example:465"
username = "bulk"
password = "secret3"
tls = "verify"
ca = '''
{CA}'''
concurrency = 3
rate_delay = "2s"
senders = ["@news.example.com"]
domains = ["bulk.example", ".bulk.example"]
"""
DKIM_KEYS: Final = {
    "example.com": (_make_signing("example.com", "authrelay"), _make_signing("example.com", "authrelay-ed25519")),
    ".example.org": (_make_signing("example.org", "2027"),),
}
WITHOUT_CHAIN: Final = Facts(host_name="relay")
_LEFT_OUT: Final = ("client-chain.pem", "server-chain.pem")
"""Keys, which are made for each run."""

CASES: Final[Mapping[str, tuple[Mapping[str, str], Facts]]] = {
    "minimal": ({"RELAYHOST": "smtp.example.com"}, FACTS),
    "password-587": ({"RELAYHOST": "[smtp.example.com]:587", **LOGIN}, FACTS),
    "mx": ({"RELAYHOST": "example.com", "RELAYHOST_MX": "yes", **LOGIN}, FACTS),
    "implicit-tls-465": ({"RELAYHOST": "smtp.example.com:submissions", **LOGIN}, FACTS),
    "port-25": ({"RELAYHOST": "[smtp.example.com]:25", **LOGIN}, FACTS),
    "ipv6-fingerprint": (
        {
            "RELAYHOST": "[2001:db8::25]:587",
            "RELAYHOST_TLS": "fingerprint",
            "RELAYHOST_FINGERPRINT": f"{'ab' * 32}, {'cd' * 32}",
            **LOGIN,
        },
        FACTS,
    ),
    "private-ca": ({"RELAYHOST": "smtp.example.com:587", "RELAYHOST_CA": CA, **LOGIN}, FACTS),
    "ca-url": (
        {"RELAYHOST": "smtp.example.com:587", "RELAYHOST_CA_URL": "https://ca.example.com/ca.pem", **LOGIN},
        dataclasses.replace(FACTS, fetched_authorities=parse_authorities(CA.encode())),
    ),
    "oauth2": (
        {
            "PROVIDER": "microsoft365:contoso.com",
            "RELAYHOST_USERNAME": "relay@contoso.com",
            "OAUTH2_CLIENT_ID": "11111111-2222-3333-4444-555555555555",
            "OAUTH2_CLIENT_SECRET": "secret~4",
        },
        FACTS,
    ),
    "dane-only": ({"RELAYHOST": "smtp.example.com", "RELAYHOST_TLS": "dane-only", **LOGIN}, FACTS),
    "policy-table": (
        {
            "RELAYHOST": "smtp.example.com:587",
            "FALLBACK_RELAYHOST": "smtp2.example.com:2525",
            "TLS_POLICY_TABLE": (
                "# as an old configuration has it\n"
                "smtp.example.com MUST match=mail.example.com:smtp.example.com ciphers=high\n"
                ".example.com NONE\n"
                "[smtp2.example.com]:2525 MUST_NOPEERMATCH\n"
            ),
            **LOGIN,
        },
        FACTS,
    ),
    "fallback": (
        {
            "RELAYHOST": "smtp.example.com:587",
            "FALLBACK_RELAYHOST": "smtp2.example.net:587",
            "FALLBACK_RELAYHOST_USERNAME": "other",
            "FALLBACK_RELAYHOST_PASSWORD": "secret2",
            **LOGIN,
        },
        FACTS,
    ),
    "cleartext-auth": (
        {"RELAYHOST": "[192.0.2.25]:2525", "RELAYHOST_TLS": "NONE", "RELAYHOST_CLEARTEXT_AUTH": "yes", **LOGIN},
        FACTS,
    ),
    "sidecar": (
        {"RELAYHOST": "smtp.example.com:587", "INET_INTERFACES": "loopback-only", "INET_PROTOCOLS": "ipv4", **LOGIN},
        FACTS,
    ),
    "interfaces-and-proxy": (
        {
            "RELAYHOST": "smtp.example.com:587",
            "INET_INTERFACES": "172.18.0.5, [fd00:18::5]",
            "PROXY_INTERFACES": "198.51.100.7 relay.example.com",
            "MYNETWORKS": "172.18.0.0/16, 172.18.0.1, [fd00:18::]/64",
            "LISTEN_PORTS": "2525",
        },
        Facts(
            host_name="relay",
            subnets=FACTS.subnets,
            gateways=FACTS.gateways,
            proxy_addresses=(ipaddress.ip_address("198.51.100.7"), ipaddress.ip_address("2001:db8::7")),
            client_chain=FACTS.client_chain,
        ),
    ),
    "client-cert-none": ({"RELAYHOST": "smtp.example.com:587", "CLIENT_CERT": "none", **LOGIN}, WITHOUT_CHAIN),
    "postfix-overrides": (
        {
            "RELAYHOST": "smtp.example.com:587",
            "POSTFIX_smtp_helo_name": "$myhostname",
            "POSTFIX_message_size_limit": "1000000",
            "POSTFIX_mydestination": "none",
            "POSTFIX_maximal_queue_lifetime": "2d",
        },
        FACTS,
    ),
    "own-services": (
        {
            "RELAYHOST": "smtp.example.com:587",
            "SMTPD_MILTERS": "inet:rspamd:11332, unix:/run/milter/socket",
            "MILTER_DEFAULT_ACTION": "accept",
            "POSTFIX_MASTER_submission__inet": "submission inet n - n - 10 nice-smtpd -o { smtpd_banner = hello you }",
            "POSTFIX_MASTER_127_0_0_1_10025__inet": "127.0.0.1:10025 inet n - - - - smtpd -o smtpd_milters=",
            "POSTFIX_MASTER_pickup__unix": "pickup unix n - n 30 1 pickup",
            "POSTFIX_MASTER_slow__unix": "slow unix - - n - 2 smtp",
            "POSTFIX_slow_transport_rate_delay": "2s",
        },
        FACTS,
    ),
    "dkim": (
        {"RELAYHOST": "smtp.example.com:587", "DKIM_DOMAINS": "example.com .example.org:2027"},
        dataclasses.replace(FACTS, dkim_keys=DKIM_KEYS),
    ),
    "syslog": (
        {
            "RELAYHOST": "smtp.example.com:587",
            "MYHOSTNAME": "relay.example.com",
            "SYSLOG_URL": "tls://logs.example.com",
            "SYSLOG_CA": CA,
        },
        FACTS,
    ),
    "access-token": (
        {
            "RELAYHOST": "smtp.example.com:587",
            "RELAYHOST_AUTH": "xoauth2",
            "UPSTREAMS": '[bulk]\nnexthop = "[smtp.bulk.example]:587"\nusername = "a,b"\npassword = "ya29.x/y+z=="\n'
            'auth = "oauthbearer"\nsenders = ["@bulk.example"]\n',
            "SENDER_RELAY_TABLE": "@word.example [smtp.word.example]:587 word pass\n",
            "RELAYHOST_USERNAME": "user@example.com",
            "RELAYHOST_PASSWORD": "ya29.a0-token",
        },
        FACTS,
    ),
    "several-upstreams": (
        {
            "RELAYHOST": "smtp.example.com:587",
            "UPSTREAMS": UPSTREAMS,
            "SENDER_RELAY_TABLE": '@sales.example.com [smtp.example.com]:587 sales p$a#s:s "w" ö\n@it.example bulk\n',
            "ALLOWED_SENDER_DOMAINS": "example.com .example.org",
            "ALLOWED_RECIPIENT_DOMAINS": "example.net",
            "TRANSPORT_TABLE": "lists.example lmtp:lists:8024\ngone.example error 5.1.2 gone\nnull.example discard\n",
            **LOGIN,
        },
        FACTS,
    ),
    "logins": (
        {
            "RELAYHOST": "smtp.example.com:587",
            "LISTEN_PORTS": "25 465 587",
            "SMTPD_USERS_TABLE": 'ann:pa:ss "w"\nbob:{PLAIN}{x}',
            "SENDER_LOGIN_TABLE": "@example.com ann, bob\nbob@example.org bob",
            "SMTPD_TLS_CERT": LEAF,
            "SMTPD_TLS_KEY": KEY,
            "SMTPD_TLS_SECURITY_LEVEL": "encrypt",
            "SMTPD_CLIENT_CERTS_TABLE": f"{'ab' * 32} printer",
            "SMTPD_CLIENT_CONNECTION_RATE_LIMIT": "60",
            "SMTPD_CLIENT_AUTH_RATE_LIMIT": "20",
            "ALLOWED_SENDER_DOMAINS": "example.com example.org",
            **LOGIN,
        },
        dataclasses.replace(FACTS, logins=Secret("ann:{SCRYPT}$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA\n")),
    ),
    "everything": (
        {
            "RELAYHOST": "smtp.example.com:465",
            "RELAYHOST_TLS": "verify",
            "RELAYHOST_CA": CA,
            "RELAYHOST_AUTH": "password",
            "RELAYHOST_CONCURRENCY": "2",
            "RELAYHOST_RATE_DELAY": "1m",
            "SMTP_SASL_MECHANISM_FILTER": "plain, !login",
            "TLS_POLICY_TABLE": "smtp.example.com secure servername=smtp.example.com\nsmtp2.example.com dane-only",
            "FALLBACK_RELAYHOST": "smtp2.example.com:465",
            "FALLBACK_RELAYHOST_USERNAME": "other",
            "FALLBACK_RELAYHOST_PASSWORD": "secret2",
            "MYHOSTNAME": "relay.example.com",
            "MYNETWORKS": "172.18.0.0/16 2001:db8::/32",
            "INET_INTERFACES": "all",
            "INET_PROTOCOLS": "all",
            "LISTEN_PORTS": "25 587 2525",
            "MESSAGE_SIZE_LIMIT": "none",
            "TLS_LOG_LEVEL": "2",
            "POSTFIX_always_bcc": "archive@example.com",
            **LOGIN,
        },
        FACTS,
    ),
    "rewriting": (
        {
            "RELAYHOST": "smtp.example.com:587",
            "MYHOSTNAME": "relay.example.com",
            "SENDER_REWRITE_TABLE": "app@example.com Relay@example.org\n@old.example @new.example\n* $x/^@example.org",
            "SENDER_REWRITE_REPLY_TO": "author",
            "MASQUERADE_DOMAINS": "!host.example.com, example.com",
            "ALIAS_TABLE": "postmaster: root\nroot: Person@example.com, b@example.com\n*: c@example.com\n"
            "root@web1.example.com: root",
            "HEADER_CHECKS_TABLE": "/^X-Mailer:/ IGNORE\nif /^Subject:/\n/\\[SPAM\\]/ REJECT\n  no spam, please\nendif",
            "HIDE_RECEIVED": "yes",
            "ALLOWED_RECIPIENT_DOMAINS": "example.com",
        },
        FACTS,
    ),
    "lists": (
        {
            "RELAYHOST": "smtp.example.com:587",
            "MYHOSTNAME": "relay.example.com",
            "LIST_DOMAINS": "lists.example.com lists.example.org",
            "LIST_LMTP": "mailman",
            "LIST_MAPS_DIR": "/lists",
            "DNSBL_SITES": "dnsbl.example.net",
            "ALIAS_TABLE": "postmaster@lists.example.com: person@example.com",
            "TRANSPORT_TABLE": ".example.com [smtp2.example.com]:587",
            "ALLOWED_SENDER_DOMAINS": "lists.example.com",
            "ALLOWED_RECIPIENT_DOMAINS": "example.com",
        },
        dataclasses.replace(
            FACTS, lists=("ant@lists.example.com", "ant-bounces@lists.example.com", "x@elsewhere.test")
        ),
    ),
    "lists-not-known-yet": (
        {
            "RELAYHOST": "smtp.example.com:587",
            "LIST_DOMAINS": "lists.example.com",
            "LIST_LMTP": "[2001:db8::24]:24",
            "LIST_MAPS_DIR": "/lists",
        },
        FACTS,
    ),
}


def _render_case(name: str) -> dict[str, str]:
    """Return the golden files of a case by base name."""
    environ, facts = CASES[name]
    plan = plan_for(environ, facts)
    files = {file.path.rpartition("/")[2]: file.text for file in plan.files}
    assert len(files) == len(plan.files)
    for name in _LEFT_OUT:
        files.pop(name, None)
    return {**files, "files.txt": _list_files(plan)}


def _list_files(plan: Plan) -> str:
    return "".join(
        f"{file.mode:04o} {'table' if file.is_table else 'file '} {file.path}\n"
        for file in sorted(plan.files, key=lambda file: file.path)
    )


def _describe_difference(name: str, expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    lines: list[str] = []
    for file in sorted(expected.keys() | found.keys()):
        before, after = expected.get(file, "").splitlines(), found.get(file, "").splitlines()
        lines += difflib.unified_diff(before, after, f"golden/{name}/{file}", f"rendered {file}", lineterm="", n=1)
    return "\n".join(lines)


@pytest.mark.parametrize("name", CASES)
def test_rendered_configuration_is_the_one_that_was_approved(name: str) -> None:
    """A template's change shows its whole effect here, on every kind of use, before it reaches a queue."""
    found = _render_case(name)
    directory = GOLDEN / name
    if os.environ.get("AUTHRELAY_UPDATE_GOLDEN"):
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            path.unlink()
        for file, text in found.items():
            (directory / file).write_text(text, encoding="utf-8")
    expected = {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*")}
    if found != expected:
        remedy = "If this is meant: AUTHRELAY_UPDATE_GOLDEN=1 pytest tests/unit/test_golden.py"
        pytest.fail(f"{_describe_difference(name, expected, found)}\n\n{remedy}", pytrace=False)


def test_golden_directories_are_those_of_the_cases() -> None:
    """A directory that no case renders would be given to Postfix by the image test for ever."""
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_every_table_and_file_that_main_cf_names_is_planned(name: str) -> None:
    """A table that is named and not there stops the delivery of every message."""
    environ, facts = CASES[name]
    plan = plan_for(environ, facts)
    planned = {file.path for file in plan.files}
    main_cf = next(file.text for file in plan.files if file.path.endswith("/main.cf"))
    words = {
        word.rpartition(":")[2].strip(",{}")
        for line in main_cf.splitlines()
        if not line.startswith("#")
        for word in line.split()
    }
    assert {word for word in words if word.startswith("/etc/postfix/")} <= planned


@pytest.mark.parametrize("name", CASES)
def test_passwords_stand_in_their_table_only_which_root_alone_reads(name: str) -> None:
    """main.cf is readable for every user in the container, and `render` writes it for people."""
    environ, facts = CASES[name]
    secrets = ["secret3", 'pa:ss "w"', *(value for key, value in environ.items() if key.endswith("_PASSWORD"))]
    for file in plan_for(environ, facts).files:
        is_secret = file.path.endswith(("sasl_passwd", "client-chain.pem", "server-chain.pem", "dkim-signers.json"))
        is_of_the_service = file.path.endswith("/logins")
        assert file.mode == (0o600 if is_secret else 0o640 if is_of_the_service else 0o644)
        assert file.group == ("logins" if is_of_the_service else "")
        assert is_secret or not any(secret in file.text for secret in secrets)
