"""Any text in any setting: either it is refused in words, or the files differ only where that setting has a say.

The environment is the way in for whoever can influence a deployment; one line break that gets through would be a new
Postfix parameter. Examples are few and the same on every run, so that the whole file takes seconds.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrypoint.config.names import find_close_parameter, measure_edits
from entrypoint.config.nexthop import Nexthop, parse_nexthop
from entrypoint.config.settings import DECLARATIONS
from entrypoint.errors import ConfigurationError, StartupError
from entrypoint.plan.files import Plan
from entrypoint.plan.networks import choose_excluded_gateways, render_networks
from tests.unit.material import CA, DKIM_KEY, KEY, LEAF
from tests.unit.reading import FACTS, find_text, plan_for, read, read_main_cf

BASE: Final = {"RELAYHOST": "[smtp.example.com]:587"}

CLIENT_TLS: Final = (
    "smtpd_tls_security_level smtpd_tls_chain_files smtpd_tls_mandatory_protocols smtpd_tls_protocols "
    "smtpd_tls_mandatory_ciphers"
)

ACCOUNT: Final = json.dumps(
    {
        "type": "service_account",
        "client_email": "robot@project.example",
        "private_key": KEY,
        "token_uri": "https://login.example.com/token",
    }
)
_LOGIN: Final = (
    "smtp_sasl_auth_enable smtp_sasl_password_maps smtp_sasl_security_options smtp_sasl_tls_security_options "
    "smtp_sasl_mechanism_filter"
)
_OAUTH2: Final = {
    "RELAYHOST_USERNAME": "user@example.com",
    "OAUTH2_TOKEN_URL": "https://login.example.com/token",
    "OAUTH2_CLIENT_ID": "application",
    "OAUTH2_CLIENT_SECRET": "secret~3",
}


def _without(name: str) -> dict[str, str]:
    """Return the settings of OAuth 2.0 but one."""
    return {key: value for key, value in _OAUTH2.items() if key != name}


# Setting -> a value that is accepted beside BASE (and NEEDED), to be damaged; the parameters that it may change.
VALID: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    name: (value, frozenset(parameters.split()))
    for name, value, parameters in (
        ("RELAYHOST", "[smtp2.example.com]:465", "relayhost smtp_tls_wrappermode smtp_tls_servername"),
        ("RELAYHOST_MX", "yes", "relayhost"),
        (
            "PROVIDER",
            "ses:eu-west-1",
            "smtp_destination_recipient_limit smtp_destination_concurrency_limit smtp_initial_destination_concurrency "
            "smtp_transport_rate_delay smtp_skip_quit_response message_size_limit",
        ),
        ("RELAYHOST_USERNAME", "user@example.com", ""),
        ("RELAYHOST_PASSWORD", "secret", ""),
        ("RELAYHOST_AUTH", "none", ""),
        ("SMTP_SASL_MECHANISM_FILTER", "plain, !login", "smtp_sasl_mechanism_filter"),
        ("RELAYHOST_TLS", "dane-only", "smtp_tls_security_level smtp_dns_support_level smtp_host_lookup"),
        ("RELAYHOST_CLEARTEXT_AUTH", "yes", "smtp_sasl_security_options"),
        ("RELAYHOST_CA", CA, "smtp_tls_CAfile"),
        ("RELAYHOST_CA_URL", "https://ca.example.com/ca.pem?token=x", "smtp_tls_CAfile"),
        ("RELAYHOST_CA_SHA256", "ab" * 32, ""),
        ("RELAYHOST_FINGERPRINT", "ab" * 32, "smtp_tls_fingerprint_cert_match smtp_tls_fingerprint_digest"),
        (
            "TLS_POLICY_TABLE",
            "smtp.example.com secure match=a.example:b.example",
            "smtp_tls_policy_maps smtp_dns_support_level smtp_host_lookup",
        ),
        ("FALLBACK_RELAYHOST", "[smtp2.example.com]:587", "smtp_fallback_relay smtp_tls_servername"),
        ("FALLBACK_RELAYHOST_USERNAME", "other", ""),
        ("FALLBACK_RELAYHOST_PASSWORD", "secret2", ""),
        (
            "RELAYHOST_CONCURRENCY",
            "3",
            "smtp_destination_concurrency_limit smtp_initial_destination_concurrency smtp_skip_quit_response",
        ),
        ("RELAYHOST_RATE_DELAY", "2s", "smtp_transport_rate_delay"),
        ("RELAYHOST_RECIPIENT_LIMIT", "10", "smtp_destination_recipient_limit"),
        (
            "UPSTREAMS",
            '[a]\nnexthop = "[a.example]:465"\nusername = "u"\npassword = "p"\nsenders = ["@a.example"]\n'
            'tls = "verify"\nconcurrency = 3\nrate_delay = "2s"\nmechanisms = "plain"\ndomains = ["b.example"]',
            "transport_maps sender_dependent_default_transport_maps",
        ),
        ("SENDER_RELAY_TABLE", "@a.example [a.example]:587 user password", "sender_dependent_default_transport_maps"),
        ("TRANSPORT_TABLE", "a.example error 5.1.2 no such domain\nb.example [b.example]:25", "transport_maps"),
        ("OAUTH2_TOKEN_URL", "https://login.example.com/tenant/token", _LOGIN),
        ("OAUTH2_GRANT", "refresh_token", _LOGIN),
        ("OAUTH2_CLIENT_ID", "11111111-2222", _LOGIN),
        ("OAUTH2_CLIENT_SECRET", "secret~3", _LOGIN),
        ("OAUTH2_REFRESH_TOKEN", "1//0abc", _LOGIN),
        ("OAUTH2_SCOPE", "https://mail.example.com/.default offline_access", _LOGIN),
        ("OAUTH2_SERVICE_ACCOUNT", ACCOUNT, _LOGIN),
        ("OAUTH2_CLIENT_CERT", LEAF, _LOGIN),
        ("OAUTH2_CLIENT_KEY", KEY, _LOGIN),
        ("OAUTH2_CA", CA, _LOGIN),
        ("CLIENT_CERT", LEAF, ""),
        ("CLIENT_KEY", KEY, ""),
        ("CLIENT_CERT_SUBJECT", "CN=relay,O=Example", ""),
        ("CLIENT_CERT_DAYS", "365", ""),
        ("CLIENT_KEY_TYPE", "rsa", ""),
        ("MYHOSTNAME", "relay.example.com", "myhostname"),
        ("MYNETWORKS", "10.0.0.0/8 2001:db8::/32 172.18.0.0/16", "mynetworks smtpd_relay_restrictions"),
        ("INET_INTERFACES", "192.0.2.1, [2001:db8::1]", "inet_interfaces"),
        ("INET_PROTOCOLS", "ipv4", "inet_protocols"),
        ("PROXY_INTERFACES", "192.0.2.1 proxy.example.com", ""),
        ("LISTEN_PORTS", "25 2525", ""),
        (
            "ALLOWED_SENDER_DOMAINS",
            "example.com, .example.org",
            "smtpd_sender_restrictions parent_domain_matches_subdomains",
        ),
        (
            "ALLOWED_RECIPIENT_DOMAINS",
            "example.com",
            "smtpd_recipient_restrictions parent_domain_matches_subdomains",
        ),
        (
            "SMTPD_MILTERS",
            "inet:[2001:db8::5]:11332, unix:/run/milter",
            "smtpd_milters milter_default_action smtpd_milter_maps",
        ),
        ("MILTER_DEFAULT_ACTION", "quarantine", "milter_default_action"),
        (
            "SMTPD_USERS_TABLE",
            "ann:pass:word\nbob:{PLAIN}x",
            "smtpd_relay_restrictions smtpd_sasl_auth_enable smtpd_sasl_type smtpd_sasl_path "
            "smtpd_sasl_security_options smtpd_tls_auth_only",
        ),
        ("SENDER_LOGIN_TABLE", "@a.example ann, bob", "smtpd_sender_login_maps smtpd_sender_restrictions"),
        ("SMTPD_TLS_CERT", LEAF, CLIENT_TLS),
        ("SMTPD_TLS_KEY", KEY, CLIENT_TLS),
        ("SMTPD_TLS_SECURITY_LEVEL", "encrypt", "smtpd_tls_security_level"),
        (
            "SMTPD_CLIENT_CERTS_TABLE",
            f"{'ab' * 32} app",
            "smtpd_relay_restrictions smtpd_tls_ask_ccert smtpd_tls_fingerprint_digest relay_clientcerts",
        ),
        (
            "SMTPD_CLIENT_CONNECTION_RATE_LIMIT",
            "30",
            "smtpd_client_connection_rate_limit smtpd_client_event_limit_exceptions",
        ),
        ("SMTPD_CLIENT_MESSAGE_RATE_LIMIT", "30", "smtpd_client_message_rate_limit"),
        ("SMTPD_CLIENT_RECIPIENT_RATE_LIMIT", "30", "smtpd_client_recipient_rate_limit"),
        ("SMTPD_CLIENT_AUTH_RATE_LIMIT", "30", "smtpd_client_auth_rate_limit"),
        ("MESSAGE_SIZE_LIMIT", "25M", "message_size_limit"),
        (
            "SENDER_REWRITE_TABLE",
            "user@example.com relay@example.org\n@example.net @example.org\n* $x/^@example.org",
            "sender_canonical_maps sender_canonical_classes message_drop_headers remote_header_rewrite_domain "
            "header_checks mime_header_checks nested_header_checks",
        ),
        ("SENDER_REWRITE_REPLY_TO", "author", ""),
        (
            "MASQUERADE_DOMAINS",
            "!host.example.com, example.com",
            "masquerade_domains masquerade_classes remote_header_rewrite_domain",
        ),
        (
            "ALIAS_TABLE",
            "postmaster: root\nroot: a@example.com, b@example.com\n*: c@example.com\nd@example.com e@example.com",
            "virtual_alias_maps virtual_alias_domains",
        ),
        ("HEADER_CHECKS_TABLE", "if /^Subject:/\n/x$/i REJECT no\nendif\n!/^[a-z]/ REPLACE X: $1", "header_checks"),
        ("HIDE_RECEIVED", "yes", "header_checks mime_header_checks nested_header_checks"),
        (
            "DKIM_DOMAINS",
            "example.com:s1, .example.org",
            "smtpd_milters non_smtpd_milters internal_mail_filter_classes disable_mime_output_conversion "
            "milter_default_action smtpd_milter_maps",
        ),
        ("DKIM_SELECTOR", "2027-01.a", ""),
        ("DKIM_KEY", DKIM_KEY, ""),
        ("DKIM_KEY_TYPE", "both", ""),
        ("LOG_FORMAT", "plain", ""),
        ("LOG_ADDRESSES", "domain", ""),
        ("LOG_ADDRESSES_KEY", "0123456789abcdef", ""),
        ("PROBE", "no-login", ""),
        ("SYSLOG_URL", "tls://[2001:db8::5]:6514", ""),
        ("SYSLOG_CA", CA, ""),
        ("LIST_DOMAINS", "lists.example.com, Other.example.org", "relay_domains"),
        ("LIST_LMTP", "lmtp:[mailman]:8025", "relay_transport"),
        ("LIST_MAPS_DIR", "/var/lib/mailman3/data", ""),
        ("DNSBL_SITES", "zen.dnsbl.example", "smtpd_client_restrictions"),
        ("DRAIN_TIMEOUT", "30s", ""),
        ("RELAYHOST_CA_REFRESH", "1h", ""),
        ("STATUS_LISTEN", "[::]:9155", ""),
        ("TLS_LOG_LEVEL", "2", "smtp_tls_loglevel"),
        ("TZ", "UTC", ""),
        ("UNKNOWN_SETTINGS", "warn", ""),
    )
}
NEEDED: Final[Mapping[str, Mapping[str, str]]] = {
    "RELAYHOST_USERNAME": {"RELAYHOST_PASSWORD": "secret"},
    "RELAYHOST_PASSWORD": {"RELAYHOST_USERNAME": "user"},
    "SMTP_SASL_MECHANISM_FILTER": {"RELAYHOST_USERNAME": "user", "RELAYHOST_PASSWORD": "secret"},
    "RELAYHOST_CLEARTEXT_AUTH": {"RELAYHOST_USERNAME": "user", "RELAYHOST_PASSWORD": "secret"},
    "RELAYHOST_FINGERPRINT": {"RELAYHOST_TLS": "fingerprint"},
    "RELAYHOST_CA_SHA256": {"RELAYHOST_CA_URL": "http://ca.example.com/ca.pem"},
    "LOG_ADDRESSES_KEY": {"LOG_ADDRESSES": "hash"},
    "DKIM_SELECTOR": {"DKIM_DOMAINS": "example.com"},
    "DKIM_KEY": {"DKIM_DOMAINS": "example.com"},
    "DKIM_KEY_TYPE": {"DKIM_DOMAINS": "example.com"},
    "RELAYHOST_MX": {"RELAYHOST": "smtp.example.com:587"},
    "FALLBACK_RELAYHOST_USERNAME": {"FALLBACK_RELAYHOST": "b.example", "FALLBACK_RELAYHOST_PASSWORD": "secret"},
    "FALLBACK_RELAYHOST_PASSWORD": {"FALLBACK_RELAYHOST": "b.example", "FALLBACK_RELAYHOST_USERNAME": "user"},
    "SENDER_REWRITE_REPLY_TO": {"SENDER_REWRITE_TABLE": "* relay@example.com"},
    "SYSLOG_CA": {"SYSLOG_URL": "tls://logs.example.com"},
    "MILTER_DEFAULT_ACTION": {"SMTPD_MILTERS": "inet:milter:11332"},
    "OAUTH2_TOKEN_URL": _without("OAUTH2_TOKEN_URL"),
    "OAUTH2_GRANT": _without("OAUTH2_CLIENT_SECRET") | {"OAUTH2_REFRESH_TOKEN": "1//0abc"},
    "OAUTH2_CLIENT_ID": _without("OAUTH2_CLIENT_ID"),
    "OAUTH2_CLIENT_SECRET": _without("OAUTH2_CLIENT_SECRET"),
    "OAUTH2_REFRESH_TOKEN": _without("OAUTH2_CLIENT_SECRET"),
    "OAUTH2_SCOPE": _without("OAUTH2_SCOPE"),
    "OAUTH2_SERVICE_ACCOUNT": {"RELAYHOST_USERNAME": "user@example.com"},
    "OAUTH2_CLIENT_CERT": _without("OAUTH2_CLIENT_SECRET") | {"OAUTH2_CLIENT_KEY": KEY},
    "OAUTH2_CLIENT_KEY": _without("OAUTH2_CLIENT_SECRET") | {"OAUTH2_CLIENT_CERT": LEAF},
    "OAUTH2_CA": _without("OAUTH2_CA"),
    "CLIENT_CERT": {"CLIENT_KEY": KEY},
    "SMTPD_TLS_CERT": {"SMTPD_TLS_KEY": KEY},
    "SMTPD_TLS_KEY": {"SMTPD_TLS_CERT": LEAF},
    "SMTPD_TLS_SECURITY_LEVEL": {"SMTPD_TLS_CERT": LEAF, "SMTPD_TLS_KEY": KEY},
    "SMTPD_CLIENT_CERTS_TABLE": {"SMTPD_TLS_CERT": LEAF, "SMTPD_TLS_KEY": KEY},
    "SMTPD_USERS_TABLE": {"SMTPD_TLS_CERT": LEAF, "SMTPD_TLS_KEY": KEY},
    "SENDER_LOGIN_TABLE": {"SMTPD_TLS_CERT": LEAF, "SMTPD_TLS_KEY": KEY, "SMTPD_USERS_TABLE": "ann:x\nbob:y"},
    "CLIENT_KEY": {"CLIENT_CERT": LEAF},
    "LIST_DOMAINS": {"LIST_LMTP": "mailman", "LIST_MAPS_DIR": "/lists"},
    "LIST_LMTP": {"LIST_DOMAINS": "lists.example.com", "LIST_MAPS_DIR": "/lists"},
    "LIST_MAPS_DIR": {"LIST_DOMAINS": "lists.example.com", "LIST_LMTP": "mailman"},
    "DNSBL_SITES": {"LIST_DOMAINS": "lists.example.com", "LIST_LMTP": "mailman", "LIST_MAPS_DIR": "/lists"},
}
# What the plan's view switches on and off; every other parameter is always there.
SWITCHED: Final = frozenset(
    """
    smtp_fallback_relay smtp_dns_support_level smtp_host_lookup smtp_destination_concurrency_limit
    smtp_initial_destination_concurrency
    smtp_transport_rate_delay smtp_destination_recipient_limit transport_maps
    smtp_skip_quit_response sender_dependent_default_transport_maps
    smtpd_sender_restrictions smtpd_recipient_restrictions smtpd_milters milter_default_action smtpd_milter_maps
    parent_domain_matches_subdomains smtp_tls_wrappermode smtp_tls_policy_maps smtp_tls_fingerprint_digest
    smtp_tls_fingerprint_cert_match smtp_tls_servername smtp_tls_chain_files smtp_sasl_password_maps
    smtp_sasl_security_options smtp_sasl_tls_security_options
    sender_canonical_maps sender_canonical_classes message_drop_headers remote_header_rewrite_domain header_checks
    mime_header_checks nested_header_checks masquerade_domains masquerade_classes virtual_alias_maps
    virtual_alias_domains
    smtpd_sasl_type smtpd_sasl_path smtpd_sasl_security_options smtpd_tls_auth_only smtpd_sender_login_maps
    smtpd_tls_security_level smtpd_tls_chain_files smtpd_tls_mandatory_protocols smtpd_tls_protocols
    smtpd_tls_mandatory_ciphers smtpd_tls_ask_ccert smtpd_tls_fingerprint_digest relay_clientcerts
    smtpd_client_connection_rate_limit smtpd_client_message_rate_limit smtpd_client_recipient_rate_limit
    smtpd_client_auth_rate_limit
    relay_domains relay_transport relay_recipient_maps lists_destination_recipient_limit
    lists_destination_concurrency_failed_cohort_limit smtpd_helo_required smtpd_client_restrictions smtpd_command_filter
    postscreen_access_list postscreen_greet_wait postscreen_greet_action postscreen_greet_ttl
    postscreen_discard_ehlo_keywords smtpd_etrn_restrictions
    smtpd_milters non_smtpd_milters internal_mail_filter_classes disable_mime_output_conversion
    """.split()
)
BASELINE: Final = plan_for(BASE)
ALWAYS: Final = frozenset(read_main_cf(BASELINE)) - SWITCHED
_PARAMETER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]* =( .*)?")
_LISTENER: Final = re.compile(
    r"[0-9]+ +inet  n       -      n      -      (100     nice-smtpd|1       postscreen)"
    r"|smtpd +pass  -       -      n      -      100     nice-smtpd"
    r"|    -o \{ postscreen_cache_map = lmdb:\$data_directory/postscreen-[0-9]+ \}"
)
_UPSTREAMS_OWN: Final = re.compile(
    r"smtp(-[a-z0-9-]+)? +unix  -       -      n      -      [-\d]+ +smtp|(lmtp|tlsproxy-\S+) +unix .*"
    r"|    -o \{ (smtp|tlsproxy)_\w+ =( [^{}]*)? \}"
    r"|lists +unix  -       -      n      -      10      lmtp|    -o \{ lmtp_\w+ = [^{}]* \}|# LIST_LMTP"
    r"|# (UPSTREAMS \[[a-z0-9-]+\]|(SENDER_RELAY|TRANSPORT)_TABLE line \d+)"
)
_SERVICES_OWN: Final = re.compile(
    rf"{_LISTENER.pattern}|{_UPSTREAMS_OWN.pattern}|    -o \{{ smtpd_tls_wrappermode = yes \}}"
)
_LIMIT: Final = re.compile(
    r"smtp-[a-z0-9-]+_(destination_(concurrency|recipient)_limit|initial_destination_concurrency|transport_rate_delay)"
)

# Surrogates as os.environ has them for bytes that are not UTF-8 (PEP 383).
_odd_characters: Final = st.sampled_from(
    "\n\r\t \v\f\x01\x1b\x7f\x80\x85\xa0\u2028\ufeff\udc80\udcff$#%[]{}():;,.=!@/\\'\"|aZ09-_éﬀ٣"
)
_odd_text: Final = st.text(
    st.one_of(_odd_characters, st.characters(codec="utf-8", exclude_characters="\0")), max_size=40
)
_few: Final = settings(
    max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@st.composite
def _damaged(draw: st.DrawFn, name: str) -> str:
    """A value that was right, with a few odd characters in it, or any text at all."""
    valid = VALID[name][0]
    if draw(st.booleans()):
        return draw(_odd_text)
    if draw(st.integers(0, 9)) == 0:
        return valid
    at = draw(st.integers(0, len(valid)))
    return valid[:at] + draw(st.text(_odd_characters, min_size=1, max_size=3)) + valid[at:]


_USERS_OWN: Final = re.compile(
    r"(?m)^stopwaitsecs = \d+$|(?<=status\.service )[\d.]+:\d+$|(?<=status\.service )\[[\da-f:.]+\]:\d+$"
)
_LOGIN_PROGRAM: Final = re.compile(r"\n; Says whether a login.*?(?=\n; (It goes before|Run now))", re.DOTALL)
_STATUS_PROGRAM: Final = re.compile(r"; It goes before.*?(?=\n; Run now and then)", re.DOTALL)

_DKIM_PROGRAM: Final = re.compile(r"\n; The milter that signs\..*?\nstartretries = 10\n\n", re.DOTALL)


def _plan_or_refuse(environ: Mapping[str, str]) -> Plan | None:
    """Return the plan, or `None` if the environment is refused properly; any other exception is the test's failure."""
    try:
        return plan_for(environ)
    except ConfigurationError as error:
        refusal = error
    assert refusal.problems
    assert all(line.isprintable() for line in str(refusal).split("\n"))
    return None


def _check_plan(plan: Plan, overridden: frozenset[str] = frozenset()) -> None:
    """Fail if a file has a line that no setting owns."""
    for file in plan.files:
        file.text.encode()
        # What stands between a pattern and its action is the user's own.
        text = file.text.replace("\t", "") if file.path.endswith("/header_checks") else file.text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text), file.path
        assert file.text.endswith("\n")
    lines = [line for line in find_text(plan, "main.cf").split("\n") if line and not line.startswith("#")]
    for line in lines:
        assert _PARAMETER.fullmatch(line), line
    names = [name for line in lines if not _LIMIT.fullmatch(name := line.partition(" ")[0])]
    assert len(names) == len(set(names))
    assert frozenset(names) >= ALWAYS
    assert frozenset(names) <= ALWAYS | SWITCHED | overridden
    own, baseline = (
        [line for line in find_text(one, "master.cf").split("\n") if not _SERVICES_OWN.fullmatch(line)]
        for one in (plan, BASELINE)
    )
    assert own == baseline
    # DRAIN_TIMEOUT and STATUS_LISTEN are all in it that is the user's; the signer is there or not.
    services, usual = (_USERS_OWN.sub("", find_text(one, "supervisord.conf")) for one in (plan, BASELINE))
    services = _LOGIN_PROGRAM.sub("", services)
    services = _DKIM_PROGRAM.sub("", services)
    assert services in (usual, _STATUS_PROGRAM.sub("", usual))


def test_valid_examples_are_valid() -> None:
    """Damaging something that is refused anyway would test nothing."""
    for name, (value, _) in VALID.items():
        needed = NEEDED.get(name, {})
        if name == "FALLBACK_RELAYHOST_PASSWORD":
            assert needed
        read({**BASE, **needed, name: value})


def test_valid_examples_cover_every_setting() -> None:
    """A new setting is thrown at like the others, or this fails."""
    assert set(VALID) == {declaration.name for declaration in DECLARATIONS}


@pytest.mark.parametrize("name", VALID)
def test_any_text_in_one_setting_changes_only_its_own_parameters(name: str) -> None:
    """Injection: a value must never become a parameter, a table line or a service of its own."""
    before = {**BASE, **NEEDED.get(name, {})}
    # Where the setting needs another one to exist, the comparison is with a valid value of the setting itself.
    reference = read_main_cf(plan_for({**before, name: VALID[name][0]} if name in NEEDED else before))

    @_few
    @given(_damaged(name))
    def check(value: str) -> None:
        plan = _plan_or_refuse({**before, name: value})
        if plan is None:
            return
        _check_plan(plan)
        if value:
            found = read_main_cf(plan)
            names = {key for key in found.keys() | reference.keys() if not _LIMIT.fullmatch(key)}
            changed = {key for key in names if found.get(key) != reference.get(key)}
            assert changed <= VALID[name][1] | ({"smtp_tls_chain_files"} if name == "CLIENT_CERT" else set())

    check()


@pytest.mark.parametrize("name", VALID)
def test_control_character_in_any_place_reaches_no_file(name: str) -> None:
    """Chance finds most places; these are the ones that must never depend on it."""
    valid = VALID[name][0]
    places = {0, 1, len(valid) // 2, valid.rfind("=") + 1, len(valid)}
    for character in ("\n", "\r", "\x01", "\x7f", "\udcff"):
        for at in places:
            value = valid[:at] + character + valid[at:]
            plan = _plan_or_refuse({**BASE, **NEEDED.get(name, {}), name: value})
            if plan is not None:
                _check_plan(plan)


@settings(_few, max_examples=150)
@given(
    st.sets(st.sampled_from(sorted(VALID)), max_size=8),
    st.sets(st.sampled_from(sorted(VALID)), max_size=2).flatmap(
        lambda names: st.fixed_dictionaries({name: _damaged(name) for name in sorted(names)})
    ),
)
def test_any_combination_is_refused_in_words_or_rendered_whole(valid: set[str], damaged: dict[str, str]) -> None:
    """Two settings that are harmless alone must not add up to a traceback or to a broken file."""
    plan = _plan_or_refuse({**BASE, **{name: VALID[name][0] for name in valid}, **damaged})
    if plan is not None:
        _check_plan(plan)


@_few
@given(st.sampled_from(["smtp_helo_name", "mynetworks", "relayhost", "mydestination"]), _odd_text)
def test_any_postfix_parameter_value_stays_one_line(parameter: str, value: str) -> None:
    """POSTFIX_<parameter> passes text through; the text must not bring a second parameter along."""
    plan = _plan_or_refuse({**BASE, f"POSTFIX_{parameter}": value})
    if plan is None:
        return
    _check_plan(plan, frozenset({parameter}))
    if value:
        expected = "" if value.strip().lower() == "none" else value.strip()
        assert find_text(plan, "main.cf").split("\n").count(f"{parameter} = {expected}".rstrip()) == 1
        ours = {line.partition(" ")[0] for line in find_text(BASELINE, "main.cf").split("\n") if line[:1] != "#"}
        assert set(read_main_cf(plan)) - {""} == (ours | {parameter}) - {""}


_LINE: Final = "2525 inet n - n - 10 smtpd -o { smtpd_banner = hello you } -o smtpd_recipient_limit=7"


@_few
@given(st.integers(0, len(_LINE)), st.text(_odd_characters, min_size=1, max_size=3))
def test_any_text_in_a_line_of_master_cf_stays_one_service(at: int, text: str) -> None:
    """A line break, a brace or a # must not bring a second service along, or another option."""
    plan = _plan_or_refuse({**BASE, "POSTFIX_MASTER_2525__inet": _LINE[:at] + text + _LINE[at:]})
    if plan is not None:
        lines = [line for line in find_text(plan, "master.cf").split("\n") if line and not line.startswith("#")]
        usual = [line for line in find_text(BASELINE, "master.cf").split("\n") if line and not line.startswith("#")]
        assert lines[: len(usual)] == usual
        service, *options = lines[len(usual) :]
        assert re.fullmatch(r"2525             inet +n +[y-] +n +(-|\d+\??) +(-|\d+) +smtpd", service)
        assert [line.split()[2] for line in options] == ["smtpd_banner", "smtpd_recipient_limit"]
        assert all(line.startswith("    -o { ") and line.endswith(" }") for line in options)


@_few
@given(st.text(st.characters(exclude_characters="\0="), min_size=1, max_size=20), _odd_text)
def test_any_variable_name_is_survived(name: str, value: str) -> None:
    """The environment belongs to the platform; no name in it may end the start with a traceback."""
    environ = {**BASE, f"RELAYHOST_{name}": value, f"POSTFIX_{name}": value, name: value}
    said = ""
    try:
        read(environ)
    except StartupError as error:
        said = str(error)
    assert all(line.isprintable() for line in said.split("\n"))


_typed_text: Final = st.text(
    st.characters(exclude_characters="\0", exclude_categories=("Cs", "Cc")), min_size=1, max_size=60
)


_typed_with_blanks: Final = st.one_of(
    _typed_text, _typed_text, _typed_text.map(" {}".format), _typed_text.map("{} ".format)
)


@settings(_few, max_examples=150)
@given(_typed_with_blanks.filter(lambda text: ":" not in text), _typed_with_blanks)
def test_accepted_credentials_stand_unchanged_behind_their_nexthop(username: str, password: str) -> None:
    """A password that is changed on its way gives "authentication failed" and nothing to see."""
    environ = {**BASE, "RELAYHOST_USERNAME": username, "RELAYHOST_PASSWORD": password}
    has_blank_ends = any(text != text.strip(" ") for text in (username, password))
    try:
        plan = plan_for(environ)
    except ConfigurationError:
        assert has_blank_ends
        return
    assert not has_blank_ends
    file = next(file for file in plan.files if file.path.endswith("/sasl_passwd"))
    assert file.text == f"[smtp.example.com]:587 {username}:{password}\n"
    assert file.mode == 0o600
    assert all(password not in other.text or len(password) < 8 for other in plan.files if other is not file)


_hosts: Final = st.one_of(
    st.from_regex(r"[a-z][a-z0-9_]{0,8}(\.[a-z][a-z0-9]{0,8}){0,3}", fullmatch=True),
    st.ip_addresses(v=4).map(str),
)
_ports: Final = st.one_of(
    st.integers(1, 65535).map(str), st.sampled_from(["smtp", "SUBMISSION", "submissions", "smtps"])
)
_nexthops: Final = st.one_of(
    _hosts,
    st.builds("[{}]".format, _hosts),
    st.builds("{}:{}".format, _hosts, _ports),
    st.builds("[{}]:{}".format, _hosts, _ports),
    st.builds("[{}]:{}".format, st.ip_addresses(v=6), _ports),
    st.builds("[IPv6:{}]".format, st.ip_addresses(v=6)),
)


@settings(_few, max_examples=150)
@given(_nexthops, st.booleans())
def test_nexthop_reads_its_own_form_back(text: str, uses_mx: bool) -> None:
    """The text is the key of the password and policy tables: two forms of one nexthop would be two keys."""
    first = parse_nexthop(text)
    final = Nexthop(
        host=first.host,
        port=first.port,
        is_bracketed=first.is_bracketed,
        uses_mx=uses_mx and not first.is_bracketed and not first.is_address,
    )
    again = parse_nexthop(str(final))
    assert (again.host, again.port) == (first.host, first.port)
    assert again.is_bracketed is not final.uses_mx
    assert str(Nexthop(host=again.host, port=again.port, is_bracketed=True, uses_mx=final.uses_mx)) == str(final)


_short: Final = st.text("ABC_", max_size=6)


@settings(_few, max_examples=200)
@given(_short, _short)
def test_edit_distance_is_symmetric_and_zero_only_for_equal_texts(left: str, right: str) -> None:
    """Otherwise "did you mean" would depend on which of two names was typed."""
    edits = measure_edits(left, right)
    assert edits == measure_edits(right, left)
    assert (edits == 0) == (left == right)
    assert abs(len(left) - len(right)) <= edits <= max(len(left), len(right))


@settings(_few, max_examples=200)
@given(_short, st.integers(0, 5), st.sampled_from("ABC"))
def test_edit_distance_counts_one_for_each_kind_of_slip(text: str, at: int, letter: str) -> None:
    """The usual slips of a typing hand are one edit each, so that all of them get a hint."""
    at = min(at, len(text))
    assert measure_edits(text, text[:at] + letter + text[at:]) == 1
    if at < len(text):
        assert measure_edits(text, text[:at] + text[at + 1 :]) == 1
    if at + 1 < len(text):
        swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        assert measure_edits(text, swapped) == (text != swapped)


@_few
@given(st.text("abcdefst_", max_size=12))
def test_close_parameter_is_one_of_the_known(name: str) -> None:
    """A hint that names nothing real sends the user round in circles."""
    known = ("smtp_tls_CAfile", "mynetworks", "myhostname")
    assert find_close_parameter(name, known) in (None, *known)


_networks: Final = st.one_of(
    st.ip_addresses(v=4).flatmap(lambda a: st.integers(8, 32).map(lambda p: ipaddress.ip_network((int(a), p), False))),
    st.ip_addresses(v=6).flatmap(lambda a: st.integers(16, 128).map(lambda p: ipaddress.ip_network((a, p), False))),
)


@settings(_few, max_examples=200)
@given(st.lists(_networks, max_size=4), st.data())
def test_gateway_is_left_out_before_any_network_can_match_it(
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network], data: st.DataObject
) -> None:
    """Postfix takes the first match; a gateway that matched its network first would be an open relay."""
    inside = [network[data.draw(st.integers(0, network.num_addresses - 1))] for network in networks]
    gateways = tuple(dict.fromkeys(inside))
    excluded = choose_excluded_gateways(tuple(networks), gateways)
    items = render_networks(tuple(networks), excluded).split()
    parsed = [(item[:1] == "!", ipaddress.ip_network(re.sub(r"[!\[\]]", "", item))) for item in items]
    for gateway in gateways:
        is_refused, _ = next(entry for entry in parsed if gateway in entry[1])
        assert is_refused is (ipaddress.ip_network(gateway) not in networks)


def test_secret_shows_itself_nowhere() -> None:
    """A repr in a traceback, an f-string in a log line: the usual ways in which passwords leak."""
    found, _ = read({**BASE, "RELAYHOST_USERNAME": "user", "RELAYHOST_PASSWORD": "Zq9-secret-text"})
    password = found.relayhost_password
    for text in (repr(found), str(password), f"{password}", f"{password:>20}", f"{password!r}", "%s" % password):  # noqa: UP031
        assert "Zq9-secret-text" not in text
    plan = plan_for({**BASE, "RELAYHOST_USERNAME": "user", "RELAYHOST_PASSWORD": "Zq9-secret-text"}, FACTS)
    assert "Zq9-secret-text" not in repr(plan)
