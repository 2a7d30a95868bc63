"""Wrong configurations: what each is told, word by word. Every message names the setting and how to mend it.

A user reads these lines when nothing works; they are the product as much as the mail is.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pytest

from entrypoint.config.settings import DECLARATIONS
from entrypoint.errors import ConfigurationError, escape_odd
from tests.unit.material import CA, DKIM_KEY, ENCRYPTED_KEY, KEY, LEAF, OTHER_KEY, RSA_KEY, SMALL_RSA_KEY, make_zip
from tests.unit.reading import read

SECRET: Final = "Zq9-secret-text"
BASE: Final = {"RELAYHOST": "smtp.example.com"}
SERVER: Final = {"SMTPD_TLS_CERT": LEAF, "SMTPD_TLS_KEY": KEY}
OAUTH2: Final = {
    "RELAYHOST_USERNAME": "user@example.com",
    "OAUTH2_TOKEN_URL": "https://login.example.com/token",
    "OAUTH2_CLIENT_ID": "application",
}
LOGIN: Final = {"RELAYHOST_USERNAME": "user@example.com", "RELAYHOST_PASSWORD": SECRET}


@dataclass(frozen=True)
class Case:
    """An environment on top of BASE, the files beside it, and all that is said."""

    name: str
    environ: Mapping[str, str]
    messages: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)


LISTS: Final = {"LIST_DOMAINS": "lists.example.com", "LIST_LMTP": "mailman", "LIST_MAPS_DIR": "/lists"}
CASES: Final = (
    Case(
        "list_domains_alone",
        {"LIST_DOMAINS": "lists.example.com"},
        (
            "LIST_DOMAINS: the list server needs LIST_LMTP and LIST_MAPS_DIR as well. Set LIST_LMTP=mailman:8024 and "
            "LIST_MAPS_DIR=/var/lib/mailman3/data, or none of the three.",
        ),
    ),
    Case(
        "list_lmtp_alone",
        {"LIST_LMTP": "mailman"},
        (
            "LIST_LMTP: the list server needs LIST_DOMAINS and LIST_MAPS_DIR as well. Set "
            "LIST_DOMAINS=lists.example.com and LIST_MAPS_DIR=/var/lib/mailman3/data, or none of the three.",
        ),
    ),
    Case(
        "list_domains_wildcard",
        {**LISTS, "LIST_DOMAINS": ".example.com"},
        (
            "LIST_DOMAINS=.example.com: '.example.com' is not one domain. Name each domain of lists by itself: "
            "LIST_DOMAINS=example.com.",
        ),
    ),
    Case(
        "list_domains_address",
        {**LISTS, "LIST_DOMAINS": "ant@lists.example.com"},
        (
            "LIST_DOMAINS=ant@lists.example.com: 'ant@lists.example.com' is not one domain. Name each domain of lists "
            "by itself: LIST_DOMAINS=lists.example.com.",
        ),
    ),
    Case(
        "list_domains_without_dot",
        {**LISTS, "LIST_DOMAINS": "lists"},
        ("LIST_DOMAINS=lists: 'lists' has no dot, and nobody outside could send there. Write lists.example.com.",),
    ),
    Case(
        "list_lmtp_socket",
        {**LISTS, "LIST_LMTP": "lmtp:unix:/run/mailman/lmtp"},
        ("LIST_LMTP=lmtp:unix:/run/mailman/lmtp: it is a socket in a file system. Write LIST_LMTP=mailman:8024.",),
    ),
    Case(
        "list_maps_dir_relative",
        {**LISTS, "LIST_MAPS_DIR": "lists"},
        ("LIST_MAPS_DIR=lists: 'lists' is no absolute path. Write LIST_MAPS_DIR=/var/lib/mailman3/data.",),
    ),
    Case(
        "list_domains_in_transport_table",
        {**LISTS, "TRANSPORT_TABLE": "lists.example.com discard"},
        ("LIST_DOMAINS=lists.example.com: TRANSPORT_TABLE sends that domain elsewhere. Name it in one of them.",),
    ),
    Case(
        "list_domains_masqueraded",
        {**LISTS, "MASQUERADE_DOMAINS": "example.com"},
        (
            "MASQUERADE_DOMAINS=example.com: bounces to the lists at lists.example.com would go to example.com. Write "
            "MASQUERADE_DOMAINS=!lists.example.com example.com.",
        ),
    ),
    Case(
        "list_domains_rewritten",
        {**LISTS, "SENDER_REWRITE_TABLE": "* relay@example.com"},
        (
            "SENDER_REWRITE_TABLE: '*' would change the senders of the lists at lists.example.com, by which Mailman "
            "knows whose mail bounced, and of what comes in for them. Name the domains of your applications alone: "
            "'@app.example.com relay@example.com'.",
        ),
    ),
    Case(
        "list_domain_is_myhostname_with_every_alias",
        {**LISTS, "MYHOSTNAME": "lists.example.com", "ALIAS_TABLE": "*: ann@example.com"},
        (
            "ALIAS_TABLE: line 1: lists.example.com is MYHOSTNAME and one of LIST_DOMAINS, so that mail to its lists "
            "would go to ann@example.com. Set MYHOSTNAME to a name of the relay's own, for example "
            "relay.lists.example.com, or remove the line.",
        ),
    ),
    Case(
        "dnsbl_sites_alone",
        {"DNSBL_SITES": "zen.dnsbl.example"},
        (
            "DNSBL_SITES: it is asked about who sends to lists, and there are no LIST_DOMAINS. Set "
            "LIST_DOMAINS=lists.example.com and what it needs, or remove it.",
        ),
    ),
    Case(
        "oauth2_without_everything_else",
        {"OAUTH2_CLIENT_ID": "application"},
        (
            "OAUTH2_TOKEN_URL: it is not known where access tokens come from. Set OAUTH2_TOKEN_URL="
            "https://login.example.com/oauth2/token, or a PROVIDER that has one: gmail, microsoft365:<tenant>.",
            "RELAYHOST_USERNAME: it is not set, and OAuth 2.0 gives access to a mailbox. Set "
            "RELAYHOST_USERNAME=relay@example.com, the mailbox that mail is sent as.",
        ),
    ),
    Case(
        "oauth2_beside_a_password",
        {**LOGIN, "OAUTH2_TOKEN_URL": "https://login.example.com/", "OAUTH2_CLIENT_ID": "application"},
        (
            "RELAYHOST_PASSWORD: there is OAUTH2_TOKEN_URL as well, and an access token takes the place of a password. "
            "Remove RELAYHOST_PASSWORD, or what begins with OAUTH2_.",
        ),
    ),
    Case(
        "oauth2_never_used",
        {**OAUTH2, "RELAYHOST_AUTH": "password"},
        ("RELAYHOST_AUTH=password: it never uses OAUTH2_TOKEN_URL. Remove it: with OAUTH2_ settings it is xoauth2.",),
    ),
    Case(
        "oauth2_of_google_without_a_person",
        {"PROVIDER": "gmail", "RELAYHOST": "", "RELAYHOST_USERNAME": "u@example.com", "OAUTH2_CLIENT_ID": "a"},
        (
            "OAUTH2_GRANT: Google gives no access to a mailbox to an application of its own. Set "
            "OAUTH2_SERVICE_ACCOUNT (Workspace), or get a OAUTH2_REFRESH_TOKEN: authrelay oauth2 login --provider "
            "gmail.",
        ),
    ),
    Case(
        "oauth2_without_a_tenant",
        {**OAUTH2, "OAUTH2_TOKEN_URL": "https://login.microsoftonline.com/common/oauth2/v2.0/token"},
        (
            "OAUTH2_TOKEN_URL: an application of its own belongs to one tenant, and this URL names none. Set "
            "OAUTH2_TOKEN_URL=https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token.",
        ),
    ),
    Case(
        "oauth2_tenant_left_as_in_the_page",
        {**OAUTH2, "OAUTH2_TOKEN_URL": "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"},
        (
            "OAUTH2_TOKEN_URL=https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token: '{tenant}' stands for the "
            "tenant. Write its id or domain there: "
            "OAUTH2_TOKEN_URL=https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token.",
        ),
    ),
    Case(
        "oauth2_over_http",
        {**OAUTH2, "OAUTH2_TOKEN_URL": "http://login.example.com/token"},
        (
            "OAUTH2_TOKEN_URL=http://login.example.com/token: whoever is on the way could read the secrets that "
            "http:// sends. Write OAUTH2_TOKEN_URL=https://login.example.com/oauth2/token.",
        ),
    ),
    Case(
        "oauth2_grant_without_its_token",
        {**OAUTH2, "OAUTH2_GRANT": "refresh_token"},
        (
            "OAUTH2_REFRESH_TOKEN: the grant refresh_token needs it. Set OAUTH2_REFRESH_TOKEN: docs/oauth2.md says "
            "where it comes from.",
        ),
    ),
    Case(
        "oauth2_grant_that_never_uses_a_token",
        {**OAUTH2, "OAUTH2_GRANT": "client_credentials", "OAUTH2_REFRESH_TOKEN": SECRET},
        ("OAUTH2_REFRESH_TOKEN: the grant client_credentials never uses it. Remove it, or OAUTH2_GRANT.",),
    ),
    Case(
        "oauth2_secret_and_certificate",
        {**OAUTH2, "OAUTH2_CLIENT_SECRET": SECRET, "OAUTH2_CLIENT_CERT": LEAF, "OAUTH2_CLIENT_KEY": OTHER_KEY},
        (
            "OAUTH2_CLIENT_KEY: it is not the key of OAUTH2_CLIENT_CERT. Give the pair that belongs together.",
            "OAUTH2_CLIENT_SECRET: there is a OAUTH2_CLIENT_KEY as well. Give the secret or the certificate.",
        ),
    ),
    Case(
        "oauth2_service_account_of_another_kind",
        {"RELAYHOST_USERNAME": "u@example.com", "OAUTH2_SERVICE_ACCOUNT": '{"type": "authorized_user"}'},
        (
            "OAUTH2_SERVICE_ACCOUNT: it is not the key of a service account. Give the file that Google Cloud's console "
            "made: IAM, Service accounts, Keys, Add key, JSON.",
        ),
    ),
    Case(
        "oauth2_scope_quoted",
        {**OAUTH2, "OAUTH2_SCOPE": '"mail"'},
        (
            'OAUTH2_SCOPE="mail": it has a character that no scope has (RFC 6749 section 3.3). Write '
            "OAUTH2_SCOPE=https://mail.google.com/.",
        ),
    ),
    Case(
        "oauth2_ca_not_pem",
        {**OAUTH2, "OAUTH2_CA": "mine"},
        (
            "OAUTH2_CA=mine: it is neither the word system nor PEM text. Write system, or give the path of a CA file "
            "in OAUTH2_CA_FILE.",
        ),
    ),
    Case(
        "oauth2_name_misspelt",
        {"OAUTH2_CLIENTID": "a"},
        (
            "OAUTH2_CLIENTID: there is no such setting. Did you mean OAUTH2_CLIENT_ID? If it belongs to another "
            "program, set UNKNOWN_SETTINGS=warn.",
        ),
    ),
    Case(
        "oauth2_of_an_upstream_beside_its_password",
        {
            "UPSTREAMS": '[bulk]\nnexthop = "a.example"\nusername = "u"\npassword = "p"\n'
            'oauth2_token_url = "https://login.example.com/"\noauth2_client_id = "a"'
        },
        ("UPSTREAMS: [bulk] there is a password, and OAuth 2.0 needs none. Remove password, or the oauth2_ keys.",),
    ),
    Case(
        "oauth2_of_an_upstream_without_its_endpoint",
        {"UPSTREAMS": '[bulk]\nnexthop = "a.example"\nusername = "u"\noauth2_client_id = "a"'},
        (
            "UPSTREAMS: [bulk] oauth2_token_url: it is not known where access tokens come from. Set "
            "oauth2_token_url=https://login.example.com/oauth2/token, or a PROVIDER that has one: gmail, "
            "microsoft365:<tenant>.",
        ),
    ),
    Case(
        "provider_with_a_tenant_that_is_none",
        {"PROVIDER": "microsoft365:a b"},
        (
            "PROVIDER=microsoft365:a b: 'a b' is neither the id of a tenant nor one of its domains. Write "
            "PROVIDER=microsoft365:contoso.com.",
        ),
    ),
    Case(
        "dkim_key_small",
        {"DKIM_DOMAINS": "example.com", "DKIM_KEY": SMALL_RSA_KEY},
        (
            (
                "DKIM_KEY: the RSA key has 1024 bits, fewer than 2048 (RFC 8301). Make one with 'openssl genrsa -out "
                "dkim.pem 2048', or leave DKIM_KEY out to have one made."
            ),
        ),
    ),
    Case(
        "dkim_key_of_a_certificate",
        {"DKIM_DOMAINS": "example.com", "DKIM_KEY_FILE": "dkim.pem"},
        (
            (
                "DKIM_KEY_FILE: DKIM has no keys of this kind, only RSA and Ed25519. Make one with 'openssl genrsa "
                "-out dkim.pem 2048', or leave DKIM_KEY out to have one made."
            ),
        ),
        {"dkim.pem": KEY.encode()},
    ),
    Case(
        "dkim_key_twice",
        {"DKIM_DOMAINS": "example.com", "DKIM_KEY": DKIM_KEY + DKIM_KEY},
        (
            (
                "DKIM_KEY: it holds two keys of the same kind. Give one RSA key, one Ed25519 key, or one of each; "
                "docs/dkim.md shows how to change to a new one."
            ),
        ),
    ),
    Case(
        "dkim_key_no_key",
        {"DKIM_DOMAINS": "example.com", "DKIM_KEY": SECRET},
        (("DKIM_KEY: it is not a private key in PEM. Give the file that begins with -----BEGIN PRIVATE KEY-----."),),
    ),
    Case(
        "dkim_without_domains",
        {"DKIM_KEY": DKIM_KEY, "DKIM_SELECTOR": "2027", "DKIM_KEY_TYPE": "rsa"},
        (
            (
                "DKIM_KEY: nothing is signed, for there is no DKIM_DOMAINS. Set DKIM_DOMAINS=example.com as well, or "
                "remove it."
            ),
            (
                "DKIM_KEY_TYPE=rsa: nothing is signed, for there is no DKIM_DOMAINS. Set DKIM_DOMAINS=example.com as "
                "well, or remove it."
            ),
            (
                "DKIM_SELECTOR=2027: nothing is signed, for there is no DKIM_DOMAINS. Set DKIM_DOMAINS=example.com as "
                "well, or remove it."
            ),
        ),
    ),
    Case(
        "dkim_key_type_beside_key",
        {"DKIM_DOMAINS": "example.com", "DKIM_KEY": RSA_KEY, "DKIM_KEY_TYPE": "both"},
        (
            (
                "DKIM_KEY_TYPE=both: DKIM_KEY is there already; this is for keys that are made here. Remove one of "
                "the two."
            ),
        ),
    ),
    Case(
        "dkim_domains_twice",
        {"DKIM_DOMAINS": "example.com, Example.com:s2"},
        ("DKIM_DOMAINS=example.com, Example.com:s2: 'example.com' is there twice. Keep one of them.",),
    ),
    Case(
        "dkim_domains_address",
        {"DKIM_DOMAINS": "user@example.com"},
        (("DKIM_DOMAINS=user@example.com: 'user@example.com' is an address. Write the domain alone: example.com."),),
    ),
    Case(
        "dkim_selector_path",
        {"DKIM_DOMAINS": "example.com:../x", "DKIM_SELECTOR": "a_b"},
        (
            (
                "DKIM_DOMAINS=example.com:../x: '../x' is not a selector: letters, digits, hyphens, and dots between "
                "them. Write a name such as authrelay or 2027-01."
            ),
            (
                "DKIM_SELECTOR=a_b: 'a_b' is not a selector: letters, digits, hyphens, and dots between them. Write a "
                "name such as authrelay or 2027-01."
            ),
        ),
    ),
    Case(
        "dkim_beside_milters_of_ones_own",
        {"DKIM_DOMAINS": "example.com", "POSTFIX_smtpd_milters": "inet:filter:8891"},
        (
            (
                "POSTFIX_smtpd_milters=inet:filter:8891: it takes the place of the milter that signs, and mail of "
                "DKIM_DOMAINS would leave unsigned. Give the others in SMTPD_MILTERS, or remove one of the two."
            ),
        ),
    ),
    Case(
        "sender_rewrite_table_without_target",
        {"SENDER_REWRITE_TABLE": "# x\n@example.com"},
        (
            (
                "SENDER_REWRITE_TABLE: line 2: it has no new sender. Write '@example.com @example.org' or '* "
                "relay@example.com'."
            ),
        ),
    ),
    Case(
        "sender_rewrite_table_too_many",
        {"SENDER_REWRITE_TABLE": "@example.com @example.org x"},
        (
            (
                "SENDER_REWRITE_TABLE: line 1: something follows '@example.org'. Write '@example.com "
                "@example.org' or '* relay@example.com'."
            ),
        ),
    ),
    Case(
        "sender_rewrite_table_no_address",
        {"SENDER_REWRITE_TABLE": "example.com @example.org"},
        (
            (
                "SENDER_REWRITE_TABLE: line 1: 'example.com' is no address. Write user@example.com, or "
                "@example.com for the whole domain."
            ),
        ),
    ),
    Case(
        "sender_rewrite_table_target_everyone",
        {"SENDER_REWRITE_TABLE": "@example.com *"},
        (
            (
                "SENDER_REWRITE_TABLE: line 1: '*' is no new sender. Write '@example.com @example.org' or '* "
                "relay@example.com'."
            ),
        ),
    ),
    Case(
        "sender_rewrite_table_twice",
        {"SENDER_REWRITE_TABLE": "@example.com @a.example\n@Example.com @b.example"},
        (("SENDER_REWRITE_TABLE: line 2 names '@example.com' a second time, after line 1. Keep one line for each."),),
    ),
    Case(
        "sender_rewrite_table_circle",
        {"SENDER_REWRITE_TABLE": "@a.example @b.example\n@b.example @a.example"},
        (
            (
                "SENDER_REWRITE_TABLE: line 1: '@a.example' becomes '@b.example', and line 2 leads back. Remove "
                "one of the two lines."
            ),
        ),
    ),
    Case(
        "sender_rewrite_table_route",
        {"SENDER_REWRITE_TABLE": "* relay@example.com", "SENDER_RELAY_TABLE": "@news.example.com [a.example]:587 u p"},
        (
            (
                "SENDER_REWRITE_TABLE: mail goes by the new sender, so that none has '@news.example.com' any "
                "more, for which there is SENDER_RELAY_TABLE line 1. Add a line '@news.example.com "
                "@news.example.com', which leaves it as it is, or send mail from '@example.com' there."
            ),
        ),
    ),
    Case(
        "sender_rewrite_reply_to_word",
        {"SENDER_REWRITE_TABLE": "* relay@example.com", "SENDER_REWRITE_REPLY_TO": "sender"},
        (
            (
                "SENDER_REWRITE_REPLY_TO=sender: it is not one of the words that this setting knows. Write kept "
                "or author."
            ),
        ),
    ),
    Case(
        "sender_rewrite_reply_to_without_everyone",
        {"SENDER_REWRITE_TABLE": "@a.example relay@example.com", "SENDER_REWRITE_REPLY_TO": "author"},
        (
            (
                "SENDER_REWRITE_REPLY_TO=author: it takes the Reply-To from every message, also from one whose "
                "From stays, and SENDER_REWRITE_TABLE has no line for every sender. Add a line '* "
                "relay@example.com' to it, or remove SENDER_REWRITE_REPLY_TO."
            ),
        ),
    ),
    Case(
        "masquerade_domains_shadowed",
        {"MASQUERADE_DOMAINS": "example.com !host.example.com"},
        (
            (
                "MASQUERADE_DOMAINS=example.com !host.example.com: '!host.example.com' has no effect behind "
                "'example.com', which it lies below. Write it before: !host.example.com example.com."
            ),
        ),
    ),
    Case(
        "masquerade_domains_address",
        {"MASQUERADE_DOMAINS": "user@example.com"},
        (
            (
                "MASQUERADE_DOMAINS=user@example.com: 'user@example.com' is not a host name. Write a name such "
                "as smtp.example.com."
            ),
        ),
    ),
    Case(
        "alias_table_no_target",
        {"ALIAS_TABLE": "root:"},
        (("ALIAS_TABLE: line 1: it is not a name and an address. Write 'root: person@example.com'."),),
    ),
    Case(
        "alias_table_program",
        {"ALIAS_TABLE": 'root: "|/bin/mail"'},
        (
            (
                "ALIAS_TABLE: line 1: '\"|/bin/mail\"' is a file or a program, and nothing is delivered here. "
                "Write 'root: person@example.com'."
            ),
        ),
    ),
    Case(
        "alias_table_unknown",
        {"ALIAS_TABLE": "root: admin"},
        (
            (
                "ALIAS_TABLE: line 1: 'admin' is no address, and there is no line for that name. Write "
                "admin@example.com, or add a line 'admin: person@example.com'."
            ),
        ),
    ),
    Case(
        "alias_table_itself",
        {"ALIAS_TABLE": "root: root"},
        (
            (
                "ALIAS_TABLE: line 1: 'root: root' leads back to 'root'. Name an address in the end: 'root: "
                "person@example.com'."
            ),
        ),
    ),
    Case(
        "alias_table_circle",
        {"ALIAS_TABLE": "a: b\nb: c, x@example.com\nc: a@localhost"},
        (("ALIAS_TABLE: line 3: 'c: a' leads back to 'a'. Name an address in the end: 'c: person@example.com'."),),
    ),
    Case(
        "alias_table_circle_at_own_name",
        {"ALIAS_TABLE": "a: b@relay.example.com\nb: a", "MYHOSTNAME": "relay.example.com"},
        (("ALIAS_TABLE: line 2: 'b: a' leads back to 'a'. Name an address in the end: 'b: person@example.com'."),),
    ),
    Case(
        "alias_table_everyone_of_the_domain",
        {"ALIAS_TABLE": "*: person@example.com", "MYHOSTNAME": "example.com"},
        (
            (
                "ALIAS_TABLE: line 1: example.com is MYHOSTNAME, so that mail to everyone there would go to "
                "person@example.com. Set MYHOSTNAME to a name of the relay's own, for example relay.example.com,"
                " or remove the line."
            ),
        ),
    ),
    Case(
        "alias_table_address_at_own_name",
        {
            "ALIAS_TABLE": "root: a@example.com\nroot@Relay.example.com: b@example.com",
            "MYHOSTNAME": "relay.example.com",
        },
        (
            "ALIAS_TABLE: line 2: 'root@relay.example.com' is 'root', for relay.example.com is MYHOSTNAME. Write "
            "'root: b@example.com'.",
        ),
    ),
    Case(
        "alias_table_domain",
        {"ALIAS_TABLE": "@example.com: person@example.com"},
        (
            (
                "ALIAS_TABLE: line 1: '@example.com' is a whole domain. Write 'root: person@example.com', or one"
                " address, 'root@host.example.com: ...'."
            ),
        ),
    ),
    Case(
        "alias_table_twice",
        {"ALIAS_TABLE": "root: a@example.com\nRoot: b@example.com"},
        (("ALIAS_TABLE: line 2 names 'root' a second time, after line 1. Keep one line for each."),),
    ),
    Case(
        "header_checks_no_pattern",
        {"HEADER_CHECKS_TABLE": "Subject: REJECT"},
        (
            (
                "HEADER_CHECKS_TABLE: line 1: it is no pattern between slashes and an action. Write '/^Subject: "
                "test/ REJECT no tests, please'."
            ),
        ),
    ),
    Case(
        "header_checks_no_action",
        {"HEADER_CHECKS_TABLE": "/^Subject:/"},
        (
            (
                "HEADER_CHECKS_TABLE: line 1: it has no action. Write one of BCC, DISCARD, DUNNO, HOLD, IGNORE, "
                "INFO, PASS, PREPEND, REDIRECT, REJECT, REPLACE, STRIP, WARN."
            ),
        ),
    ),
    Case(
        "header_checks_unknown_action",
        {"HEADER_CHECKS_TABLE": "/^A:/ IGNORE\n\n/^Subject:/ REFUSE"},
        (
            (
                "HEADER_CHECKS_TABLE: line 3: 'REFUSE' is no action. Write one of BCC, DISCARD, DUNNO, HOLD, "
                "IGNORE, INFO, PASS, PREPEND, REDIRECT, REJECT, REPLACE, STRIP, WARN."
            ),
        ),
    ),
    Case(
        "header_checks_filter",
        {"HEADER_CHECKS_TABLE": "/^Subject:/ FILTER smtp:[a.example]:25"},
        (
            (
                "HEADER_CHECKS_TABLE: line 1: FILTER would take the message past its upstream, its account and "
                "its limits. Name the upstream in SENDER_RELAY_TABLE or TRANSPORT_TABLE."
            ),
        ),
    ),
    Case(
        "header_checks_prepend",
        {"HEADER_CHECKS_TABLE": "/^Subject:/ PREPEND hello"},
        (("HEADER_CHECKS_TABLE: line 1: PREPEND needs a whole header. Write 'PREPEND X-Name: text'."),),
    ),
    Case(
        "header_checks_redirect",
        {"HEADER_CHECKS_TABLE": "/^Subject:/ REDIRECT nobody"},
        (("HEADER_CHECKS_TABLE: line 1: REDIRECT needs one address. Write 'REDIRECT person@example.com'."),),
    ),
    Case(
        "header_checks_flag",
        {"HEADER_CHECKS_TABLE": "/^Subject:/g IGNORE"},
        (
            (
                "HEADER_CHECKS_TABLE: line 1: there is no flag 'g'. Write i, m, x or none: all letters are the "
                "same unless i is there."
            ),
        ),
    ),
    Case(
        "header_checks_if",
        {"HEADER_CHECKS_TABLE": "if /^Subject:/\n/x/ IGNORE"},
        (("HEADER_CHECKS_TABLE: an 'if' has no 'endif'. Add a line 'endif' behind what depends on it."),),
    ),
    Case(
        "header_checks_endif",
        {"HEADER_CHECKS_TABLE": "/x/ IGNORE\nendif"},
        (("HEADER_CHECKS_TABLE: line 2: there is no 'if' before this 'endif'. Remove it."),),
    ),
    Case(
        "header_checks_twice",
        {"HEADER_CHECKS_TABLE": "/x/ IGNORE\n/x/ REJECT"},
        (("HEADER_CHECKS_TABLE: line 2 has the pattern of line 1, which comes first. Keep one of them."),),
    ),
    Case(
        "header_checks_blank",
        {"HEADER_CHECKS_TABLE": " /x/ IGNORE"},
        (
            (
                "HEADER_CHECKS_TABLE: line 1: it begins with a blank, as only what continues a line does. Remove"
                " the blank."
            ),
        ),
    ),
    Case(
        "header_checks_control",
        {"HEADER_CHECKS_TABLE": "/x/ REJECT \x01"},
        (("HEADER_CHECKS_TABLE: it contains a character that cannot be printed. Remove it."),),
    ),
    Case(
        "hide_received_word",
        {"HIDE_RECEIVED": "maybe"},
        (("HIDE_RECEIVED=maybe: it is neither yes nor no. Write yes or no."),),
    ),
    Case(
        "users_table_lines",
        {"SMTPD_USERS_TABLE": f"# who\nann {SECRET}", **SERVER},
        ("SMTPD_USERS_TABLE: line 2: it has no colon. Write 'user:password'.",),
    ),
    Case(
        "users_table_same_user",
        {"SMTPD_USERS_TABLE": f"ann:{SECRET}\nAnn:{SECRET}", **SERVER},
        (
            "SMTPD_USERS_TABLE: line 2: the user 'Ann' is there already, in line 1; upper and lower case are the same. "
            "Keep one line for each user.",
        ),
    ),
    Case(
        "users_table_blank_at_the_end",
        {"SMTPD_USERS_TABLE": f"ann:{SECRET} ", **SERVER},
        (
            "SMTPD_USERS_TABLE: line 1: the password of 'ann' begins or ends with a blank, or has a control character. "
            "Choose another one, or give its hash: docker run --rm -i authrelay hash-password.",
        ),
    ),
    Case(
        "users_table_no_password",
        {"SMTPD_USERS_TABLE": "ann:", **SERVER},
        ("SMTPD_USERS_TABLE: line 1: the user 'ann' has no password. Write 'user:password', or remove the line.",),
    ),
    Case(
        "users_table_user_with_blank",
        {"SMTPD_USERS_TABLE": f"ann :{SECRET}", **SERVER},
        (
            "SMTPD_USERS_TABLE: line 1: the user name is empty, begins or ends with a blank, or has a control "
            "character. "
            "Write 'user:password'.",
        ),
    ),
    Case(
        "users_table_too_long",
        {"SMTPD_USERS_TABLE": f"ann:{SECRET * 60}\n", **SERVER},
        (
            "SMTPD_USERS_TABLE: line 1: the password of 'ann' has more than 768 bytes, which no line of SMTP can "
            "carry. "
            "Choose a shorter one.",
        ),
    ),
    Case(
        "users_table_foreign_scheme",
        {"SMTPD_USERS_TABLE": f"ann:{{SHA512-CRYPT}}$6${SECRET}", **SERVER},
        (
            "SMTPD_USERS_TABLE: line 1: '{SHA512-CRYPT}' is a kind of hash that cannot be verified here. "
            "Make one: docker run --rm -i authrelay hash-password. A password that begins like that is written behind "
            "{PLAIN}.",
        ),
    ),
    Case(
        "users_table_hash_without_dollars",
        {"SMTPD_USERS_TABLE": f"ann:{{scrypt}}=14,r=8,p=5{SECRET}", **SERVER},
        (
            "SMTPD_USERS_TABLE: line 1: the scrypt hash is damaged: perhaps a shell or Compose took its $ signs. "
            "Make one: docker run --rm -i authrelay hash-password.",
        ),
    ),
    Case(
        "users_table_hash_too_dear",
        {"SMTPD_USERS_TABLE": "ann:{SCRYPT}$scrypt$ln=20,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", **SERVER},
        (
            "SMTPD_USERS_TABLE: line 1: the scrypt hash was made with ln=20, r=8, p=1, and here ln is 13 to 16, r 8 "
            "and p "
            "1 to 10. Make one: docker run --rm -i authrelay hash-password.",
        ),
    ),
    Case(
        "users_table_hash_too_cheap",
        {"SMTPD_USERS_TABLE": "ann:{PBKDF2-SHA256}$pbkdf2-sha256$1000$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", **SERVER},
        (
            "SMTPD_USERS_TABLE: line 1: the pbkdf2-sha256 hash has 1000 rounds, and here they are 100000 to 2000000. "
            "Make one: docker run --rm -i authrelay hash-password.",
        ),
    ),
    Case(
        "users_table_hash_cut",
        {"SMTPD_USERS_TABLE": "ann:{SCRYPT}$scrypt$ln=14,r=8,p=1$c2FsdHNhbHQ$aGFz", **SERVER},
        (
            "SMTPD_USERS_TABLE: line 1: its salt or hash is too short or too long. "
            "Make one: docker run --rm -i authrelay hash-password.",
        ),
    ),
    Case(
        "users_table_without_certificate",
        {"SMTPD_USERS_TABLE": f"ann:{SECRET}"},
        (
            "SMTPD_USERS_TABLE: there is no SMTPD_TLS_CERT, and a password must not cross the network in the clear. "
            "Set "
            "SMTPD_TLS_CERT_FILE=/run/secrets/tls.crt and SMTPD_TLS_KEY_FILE=/run/secrets/tls.key. To try it out: "
            "openssl "
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=relay -addext "
            "subjectAltName=DNS:relay -keyout tls.key -out tls.crt, and let clients trust tls.crt.",
        ),
    ),
    Case(
        "sender_login_table_lines",
        {"SENDER_LOGIN_TABLE": "@example.com", "SMTPD_USERS_TABLE": "ann:x", **SERVER},
        ("SENDER_LOGIN_TABLE: line 1: it has no user. Write 'app@example.com user' or '@example.com user, other'.",),
    ),
    Case(
        "sender_login_table_same_sender",
        {"SENDER_LOGIN_TABLE": "@example.com ann\n@EXAMPLE.com bob", "SMTPD_USERS_TABLE": "ann:x", **SERVER},
        ("SENDER_LOGIN_TABLE: line 2: '@example.com' is there already. Name all its users in one line.",),
    ),
    Case(
        "sender_login_table_without_users",
        {"SENDER_LOGIN_TABLE": "@example.com ann"},
        (
            "SENDER_LOGIN_TABLE: nobody can log in without SMTPD_USERS_TABLE, and so nobody could use these senders. "
            "Set SMTPD_USERS_TABLE_FILE=/run/secrets/users, or remove it.",
        ),
    ),
    Case(
        "users_table_unreadable_says_nothing_of_senders",
        {"SENDER_LOGIN_TABLE": "@example.com ann", "SMTPD_USERS_TABLE": "ann", **SERVER},
        ("SMTPD_USERS_TABLE: line 1: it has no colon. Write 'user:password'.",),
    ),
    Case(
        "server_certificate_without_key",
        {"SMTPD_TLS_CERT": LEAF},
        (
            "SMTPD_TLS_CERT: there is a certificate but no SMTPD_TLS_KEY. Set SMTPD_TLS_KEY_FILE=/run/secrets/tls.key "
            "as "
            "well, or neither.",
        ),
    ),
    Case(
        "server_key_without_certificate",
        {"SMTPD_TLS_KEY": KEY, "SMTPD_USERS_TABLE": "ann:x"},
        (
            "SMTPD_TLS_KEY: there is a key but no SMTPD_TLS_CERT. Set SMTPD_TLS_CERT_FILE=/run/secrets/tls.crt as "
            "well, or "
            "neither.",
        ),
    ),
    Case(
        "server_key_of_another_certificate",
        {"SMTPD_TLS_CERT": LEAF, "SMTPD_TLS_KEY": OTHER_KEY},
        (
            "SMTPD_TLS_KEY: it is not the key of the first certificate in SMTPD_TLS_CERT. Give the pair that belongs "
            "together, the relay's own certificate before its intermediates.",
        ),
    ),
    Case(
        "tls_for_clients_without_certificate",
        {
            "SMTPD_TLS_SECURITY_LEVEL": "encrypt",
            "SMTPD_CLIENT_CERTS_TABLE": f"{'ab' * 32} printer",
            "LISTEN_PORTS": "465 587",
        },
        (
            "LISTEN_PORTS=465 587: port 465 begins with TLS (RFC 8314), and there is no SMTPD_TLS_CERT. Set "
            "SMTPD_TLS_CERT_FILE=/run/secrets/tls.crt and SMTPD_TLS_KEY_FILE=/run/secrets/tls.key, or remove 465.",
            "SMTPD_CLIENT_CERTS_TABLE: there is no SMTPD_TLS_CERT, and without TLS no client shows a certificate. Set "
            "SMTPD_TLS_CERT_FILE=/run/secrets/tls.crt and SMTPD_TLS_KEY_FILE=/run/secrets/tls.key.",
            "SMTPD_TLS_SECURITY_LEVEL=encrypt: there is no SMTPD_TLS_CERT, and so no TLS for clients. Set "
            "SMTPD_TLS_CERT_FILE=/run/secrets/tls.crt and SMTPD_TLS_KEY_FILE=/run/secrets/tls.key, or remove it.",
        ),
    ),
    Case(
        "implicit_tls_alone",
        {"LISTEN_PORTS": "465", **SERVER},
        (
            "LISTEN_PORTS=465: health checks and send-test inside the container need a port that does not begin with "
            "TLS. "
            "Set LISTEN_PORTS=465 587, and publish 465 alone.",
        ),
    ),
    Case(
        "client_tls_level_unknown",
        {"SMTPD_TLS_SECURITY_LEVEL": "none", **SERVER},
        ("SMTPD_TLS_SECURITY_LEVEL=none: it is not one of the words that this setting knows. Write may or encrypt.",),
    ),
    Case(
        "client_certs_table_lines",
        {"SMTPD_CLIENT_CERTS_TABLE": "ab:cd printer", **SERVER},
        (
            "SMTPD_CLIENT_CERTS_TABLE: line 1: 'ab:cd' is not a SHA-256 fingerprint. Write 64 hexadecimal digits as "
            "'openssl x509 -noout -fingerprint -sha256' prints them.",
        ),
    ),
    Case(
        "client_certs_table_without_name",
        {"SMTPD_CLIENT_CERTS_TABLE": "ab" * 32, **SERVER},
        ("SMTPD_CLIENT_CERTS_TABLE: line 1: it is not a fingerprint and a name. Write 'AB:CD:... name'.",),
    ),
    Case(
        "client_connection_rate_limit_zero",
        {"SMTPD_CLIENT_CONNECTION_RATE_LIMIT": "0"},
        ("SMTPD_CLIENT_CONNECTION_RATE_LIMIT=0: '0' is not a whole number from 1 to 1000000. Write, for example, 1.",),
    ),
    Case(
        "client_message_rate_limit_zero",
        {"SMTPD_CLIENT_MESSAGE_RATE_LIMIT": "0"},
        ("SMTPD_CLIENT_MESSAGE_RATE_LIMIT=0: '0' is not a whole number from 1 to 1000000. Write, for example, 1.",),
    ),
    Case(
        "client_recipient_rate_limit_zero",
        {"SMTPD_CLIENT_RECIPIENT_RATE_LIMIT": "0"},
        ("SMTPD_CLIENT_RECIPIENT_RATE_LIMIT=0: '0' is not a whole number from 1 to 1000000. Write, for example, 1.",),
    ),
    Case(
        "client_auth_rate_limit_zero",
        {"SMTPD_CLIENT_AUTH_RATE_LIMIT": "0"},
        ("SMTPD_CLIENT_AUTH_RATE_LIMIT=0: '0' is not a whole number from 1 to 1000000. Write, for example, 1.",),
    ),
    Case(
        "upstreams_key_unknown",
        {"UPSTREAMS": '[bulk]\nnexthop = "[smtp.bulk.example]:587"\nlogin = "x"'},
        (
            (
                "UPSTREAMS: [bulk] login: there is no such key. Write nexthop, username, password, auth, tls, "
                "cleartext_auth, ca, fingerprint, client_cert, client_key, mechanisms, concurrency, rate_delay, "
                "recipient_limit, senders, domains, oauth2_token_url, oauth2_client_id, oauth2_client_secret, "
                "oauth2_refresh_token, oauth2_scope, oauth2_grant, oauth2_service_account, oauth2_client_cert, "
                "oauth2_client_key or oauth2_ca."
            ),
        ),
    ),
    Case(
        "sender_relay_table_without_password",
        {"SENDER_RELAY_TABLE": "@example.com [smtp.example.com]:587 user"},
        (
            (
                "SENDER_RELAY_TABLE: line 1: there is a user name, 'user', but no password. Write '@example.com "
                "[smtp.example.com]:587 user password'."
            ),
        ),
    ),
    Case(
        "transport_table_with_account",
        {"TRANSPORT_TABLE": f"example.com [smtp.example.com]:587 user {SECRET}"},
        (
            (
                "TRANSPORT_TABLE: line 1: something follows '[smtp.example.com]:587'. Write 'example.com "
                "[mail.example.com]:25'; an account belongs into UPSTREAMS, whose name can stand here."
            ),
        ),
    ),
    Case(
        "allowed_sender_domains_address",
        {"ALLOWED_SENDER_DOMAINS": "user@example.com"},
        (
            (
                "ALLOWED_SENDER_DOMAINS=user@example.com: 'user@example.com' is an address. Write the domain alone: "
                "example.com."
            ),
        ),
    ),
    Case(
        "allowed_recipient_domains_wrong",
        {"ALLOWED_RECIPIENT_DOMAINS": "exa mple.com, b_$.com"},
        (
            (
                "ALLOWED_RECIPIENT_DOMAINS=exa mple.com, b_$.com: 'b_$.com' is not a host name. Write a name such as "
                "smtp.example.com."
            ),
        ),
    ),
    Case(
        "provider_unknown",
        {"PROVIDER": "gmial"},
        (
            (
                "PROVIDER=gmial: 'gmial' is no provider that is known. Write gmail, google-workspace, microsoft365, "
                "ses:<region>, sendgrid, mailgun, mailgun-eu, postmark, mailjet, brevo, fastmail, icloud, infomaniak, "
                "proton, resend, scaleway, smtp2go, sparkpost or sparkpost-eu; or set RELAYHOST itself."
            ),
        ),
    ),
    Case(
        "provider_without_region",
        {"PROVIDER": "ses"},
        (("PROVIDER=ses: Amazon SES has a host for each region. Write PROVIDER=ses:eu-west-1."),),
    ),
    Case(
        "provider_with_region",
        {"PROVIDER": "gmail:eu"},
        (("PROVIDER=gmail:eu: 'eu' follows the name. Write PROVIDER=gmail."),),
    ),
    Case(
        "relayhost_recipient_limit_none",
        {"RELAYHOST_RECIPIENT_LIMIT": "0"},
        (("RELAYHOST_RECIPIENT_LIMIT=0: '0' is not a whole number from 1 to 1000. Write, for example, 1."),),
    ),
    Case(
        "relayhost_missing",
        {"RELAYHOST": ""},
        (
            (
                "RELAYHOST: it is not set. Name the server that takes your mail, for example "
                "RELAYHOST=[smtp.example.com]:587."
            ),
        ),
    ),
    Case(
        "relayhost_bracket_open",
        {"RELAYHOST": "[smtp.example.com:587"},
        (("RELAYHOST=[smtp.example.com:587: the bracket is not closed. Write RELAYHOST=[smtp.example.com]:587."),),
    ),
    Case(
        "relayhost_bracket_closed_only",
        {"RELAYHOST": "smtp.example.com]:587"},
        (("RELAYHOST=smtp.example.com]:587: the bracket is not opened. Write RELAYHOST=[smtp.example.com]:587."),),
    ),
    Case(
        "relayhost_text_after_bracket",
        {"RELAYHOST": "[smtp.example.com]587"},
        (("RELAYHOST=[smtp.example.com]587: '587' follows the bracket. Write RELAYHOST=[smtp.example.com]:587."),),
    ),
    Case(
        "relayhost_url",
        {"RELAYHOST": "smtp://smtp.example.com:587"},
        (
            (
                "RELAYHOST=smtp://smtp.example.com:587: it is a URL. Write the host and the port alone: "
                "RELAYHOST=[smtp.example.com]:587."
            ),
        ),
    ),
    Case(
        "relayhost_url_with_login",
        {"RELAYHOST": f"smtps://user:{SECRET}@smtp.example.com"},
        ("RELAYHOST: it is a URL. Write the host and the port alone: RELAYHOST=[smtp.example.com]:587.",),
    ),
    Case(
        "relayhost_with_login",
        {"RELAYHOST": f"user:{SECRET}@smtp.example.com"},
        (
            (
                "RELAYHOST: it contains an @ sign. The user name goes into RELAYHOST_USERNAME; here write only "
                "RELAYHOST=[smtp.example.com]:587."
            ),
        ),
    ),
    Case(
        "relayhost_line_of_sasl_passwd",
        {"RELAYHOST": f"[smtp.example.com]:587 user:{SECRET}"},
        ("RELAYHOST: it contains a blank. Write one host and one port: RELAYHOST=[smtp.example.com]:587.",),
    ),
    Case(
        "relayhost_no_host",
        {"RELAYHOST": ":587"},
        ("RELAYHOST=:587: the host is missing. Write RELAYHOST=[smtp.example.com]:587.",),
    ),
    Case(
        "relayhost_port_word",
        {"RELAYHOST": "smtp.example.com:smtpz"},
        (
            (
                "RELAYHOST=smtp.example.com:smtpz: 'smtpz' is not a port. Write a number from 1 to 65535, or "
                "smtp, submission or submissions."
            ),
        ),
    ),
    Case(
        "relayhost_port_zero",
        {"RELAYHOST": "smtp.example.com:0"},
        (
            (
                "RELAYHOST=smtp.example.com:0: '0' is not a port. Write a number from 1 to 65535, or smtp, "
                "submission or submissions."
            ),
        ),
    ),
    Case(
        "relayhost_port_too_high",
        {"RELAYHOST": "smtp.example.com:65536"},
        (
            (
                "RELAYHOST=smtp.example.com:65536: '65536' is not a port. Write a number from 1 to 65535, or "
                "smtp, submission or submissions."
            ),
        ),
    ),
    Case(
        "relayhost_bare_ipv6",
        {"RELAYHOST": "2001:db8::25"},
        ("RELAYHOST=2001:db8::25: an IPv6 address needs brackets. Write RELAYHOST=[2001:db8::25]:587.",),
    ),
    Case(
        "relayhost_zone",
        {"RELAYHOST": "[fe80::25%eth0]"},
        (
            (
                "RELAYHOST=[fe80::25%eth0]: 'fe80::25%eth0' has a zone. Write the address without what follows "
                "the % sign."
            ),
        ),
    ),
    Case(
        "relayhost_label",
        {"RELAYHOST": "-smtp.example.com"},
        (
            (
                "RELAYHOST=-smtp.example.com: '-smtp.example.com' is not a host name. Write a name such as "
                "smtp.example.com."
            ),
        ),
    ),
    Case(
        "relayhost_unicode",
        {"RELAYHOST": "bücher.example"},
        (
            (
                "RELAYHOST=bücher.example: 'bücher.example' is not an ASCII host name. Write its A-label, for "
                "example xn--bcher-kva.example."
            ),
        ),
    ),
    Case(
        "relayhost_half_address",
        {"RELAYHOST": "192.0.2"},
        (
            (
                "RELAYHOST=192.0.2: '192.0.2' is neither a host name nor an address. Write a name such as "
                "smtp.example.com."
            ),
        ),
    ),
    Case(
        "relayhost_address_with_secure",
        {"RELAYHOST": "[192.0.2.25]:587"},
        (
            (
                "RELAYHOST=[192.0.2.25]:587: it is an IP address, and Postfix finds only names in a certificate. "
                "Write the host's name; or name it in TLS_POLICY_TABLE: '[192.0.2.25]:587 secure "
                "match=smtp.example.com'; or set RELAYHOST_TLS=fingerprint."
            ),
        ),
    ),
    Case(
        "relayhost_not_utf8",
        {"RELAYHOST": "smtp\udcff.example.com"},
        ("RELAYHOST=smtp\\udcff.example.com: it is not UTF-8 text. Write it in UTF-8.",),
    ),
    Case(
        "relayhost_mx_word",
        {"RELAYHOST_MX": "maybe"},
        ("RELAYHOST_MX=maybe: it is neither yes nor no. Write yes or no.",),
    ),
    Case(
        "relayhost_mx_with_brackets",
        {"RELAYHOST": "[example.com]", "RELAYHOST_MX": "yes"},
        (
            (
                "RELAYHOST_MX=yes: RELAYHOST is in brackets, which forbid an MX lookup. Write "
                "RELAYHOST=example.com without brackets, or remove RELAYHOST_MX."
            ),
        ),
    ),
    Case(
        "username_colon",
        {"RELAYHOST_USERNAME": f"user:{SECRET}", "RELAYHOST_PASSWORD": SECRET},
        (
            (
                "RELAYHOST_USERNAME: it contains a colon, and Postfix would take what follows for the password. "
                "Use a user name without a colon, for example user@example.com."
            ),
        ),
    ),
    Case(
        "username_line_break",
        {"RELAYHOST_USERNAME": "user\nother", "RELAYHOST_PASSWORD": SECRET},
        (
            (
                "RELAYHOST_USERNAME: it contains a line break, which a Postfix table cannot carry. Remove it; a "
                "file may end with one line break, which is not counted."
            ),
        ),
    ),
    Case(
        "username_alone",
        {"RELAYHOST_USERNAME": "user@example.com"},
        (
            (
                "RELAYHOST_USERNAME=user@example.com: there is a user name but no RELAYHOST_PASSWORD. Set "
                "RELAYHOST_PASSWORD_FILE=/run/secrets/password as well, or neither."
            ),
        ),
    ),
    Case(
        "password_alone",
        {"RELAYHOST_PASSWORD": SECRET},
        (
            (
                "RELAYHOST_PASSWORD: there is a password but no RELAYHOST_USERNAME. Set "
                "RELAYHOST_USERNAME=user@example.com as well, or neither."
            ),
        ),
    ),
    Case(
        "password_line_break",
        {**LOGIN, "RELAYHOST_PASSWORD": f"{SECRET}\nmore"},
        (
            (
                "RELAYHOST_PASSWORD: it contains a line break, which a Postfix table cannot carry. Remove it; a "
                "file may end with one line break, which is not counted."
            ),
        ),
    ),
    Case(
        "password_carriage_return",
        {**LOGIN, "RELAYHOST_PASSWORD": f"{SECRET}\r"},
        (
            (
                "RELAYHOST_PASSWORD: it contains a carriage return, which a Postfix table cannot carry. Remove "
                "it; a file may end with one line break, which is not counted."
            ),
        ),
    ),
    Case(
        "password_leading_blank",
        {**LOGIN, "RELAYHOST_PASSWORD": f" {SECRET}"},
        (
            (
                "RELAYHOST_PASSWORD: it begins or ends with a blank, which a Postfix table would drop. Remove the"
                " blank, or choose another value at the upstream."
            ),
        ),
    ),
    Case(
        "password_trailing_tab",
        {**LOGIN, "RELAYHOST_PASSWORD": f"{SECRET}\t"},
        (
            (
                "RELAYHOST_PASSWORD: it begins or ends with a blank, which a Postfix table would drop. Remove the"
                " blank, or choose another value at the upstream."
            ),
        ),
    ),
    Case(
        "password_control_character",
        {**LOGIN, "RELAYHOST_PASSWORD": f"{SECRET}\x1b"},
        (("RELAYHOST_PASSWORD: it contains a control character. Remove it, or choose another value at the upstream."),),
    ),
    Case(
        "password_delete_character",
        {**LOGIN, "RELAYHOST_PASSWORD": f"\x7f{SECRET}"},
        (("RELAYHOST_PASSWORD: it contains a control character. Remove it, or choose another value at the upstream."),),
    ),
    Case(
        "password_not_utf8",
        {**LOGIN, "RELAYHOST_PASSWORD": f"{SECRET}\udcff"},
        ("RELAYHOST_PASSWORD: it is not UTF-8 text. Write it in UTF-8.",),
    ),
    Case(
        "password_file_line_breaks",
        {"RELAYHOST_USERNAME": "user", "RELAYHOST_PASSWORD_FILE": "./secret"},
        (
            (
                "RELAYHOST_PASSWORD_FILE: it contains a line break, which a Postfix table cannot carry. Remove "
                "it; a file may end with one line break, which is not counted."
            ),
        ),
        files={"secret": f"{SECRET}\n\n".encode()},
    ),
    Case(
        "password_file_carriage_return",
        {"RELAYHOST_USERNAME": "user", "RELAYHOST_PASSWORD_FILE": "./secret"},
        (
            (
                "RELAYHOST_PASSWORD_FILE: it contains a carriage return, which a Postfix table cannot carry. "
                "Remove it; a file may end with one line break, which is not counted."
            ),
        ),
        files={"secret": f"{SECRET}\r".encode()},
    ),
    Case(
        "password_file_missing",
        {"RELAYHOST_USERNAME": "user", "RELAYHOST_PASSWORD_FILE": "./missing"},
        (
            (
                "RELAYHOST_PASSWORD_FILE=./missing: the file cannot be read (No such file or directory). Mount the "
                "secret at that path, readable for root; docs/secrets.md shows how."
            ),
        ),
    ),
    Case(
        "password_file_empty",
        {"RELAYHOST_USERNAME": "user", "RELAYHOST_PASSWORD_FILE": "./secret"},
        (("RELAYHOST_PASSWORD_FILE=./secret: the file is empty. Write the value into it, or remove the variable."),),
        files={"secret": b"\n"},
    ),
    Case(
        "password_file_not_utf8",
        {"RELAYHOST_USERNAME": "user", "RELAYHOST_PASSWORD_FILE": "./secret"},
        ("RELAYHOST_PASSWORD_FILE: the file is not UTF-8 text. Save it as UTF-8.",),
        files={"secret": b"\xff\xfe"},
    ),
    Case(
        "password_file_too_big",
        {"RELAYHOST_USERNAME": "user", "RELAYHOST_PASSWORD_FILE": "./secret"},
        (("RELAYHOST_PASSWORD_FILE=./secret: the file is larger than 8 MiB. Give the path of the secret itself."),),
        files={"secret": b"x" * (8 * 2**20 + 1)},
    ),
    Case(
        "password_file_is_directory",
        {"RELAYHOST_USERNAME": "user", "RELAYHOST_PASSWORD_FILE": "."},
        (
            (
                "RELAYHOST_PASSWORD_FILE: the file cannot be read (Is a directory). Mount the secret at that "
                "path, readable for root; docs/secrets.md shows how."
            ),
        ),
    ),
    Case(
        "password_and_file",
        {**LOGIN, "RELAYHOST_PASSWORD_FILE": "./secret"},
        (
            (
                "RELAYHOST_PASSWORD: RELAYHOST_PASSWORD and RELAYHOST_PASSWORD_FILE are both set, and only one "
                "can be meant. Remove one of them; RELAYHOST_PASSWORD_FILE keeps a secret out of the container's "
                "description."
            ),
        ),
        files={"secret": SECRET.encode()},
    ),
    Case(
        "relayhost_and_file",
        {"RELAYHOST_FILE": "host"},
        (
            (
                "RELAYHOST: RELAYHOST and RELAYHOST_FILE are both set, and only one can be meant. Remove one of "
                "them; RELAYHOST_FILE keeps a secret out of the container's description."
            ),
        ),
        files={"host": b"smtp.example.com"},
    ),
    Case(
        "auth_word",
        {"RELAYHOST_AUTH": "kerberos"},
        (
            (
                "RELAYHOST_AUTH=kerberos: it is not one of the words that this setting knows. Write password, xoauth2, "
                "oauthbearer or none."
            ),
        ),
    ),
    Case(
        "auth_token_without_credentials",
        {"RELAYHOST_AUTH": "oauthbearer"},
        (
            (
                "RELAYHOST_AUTH=oauthbearer: there are no credentials to log in with. Set RELAYHOST_USERNAME and "
                "RELAYHOST_PASSWORD_FILE, or RELAYHOST_AUTH=none."
            ),
        ),
    ),
    Case(
        "auth_token_that_is_a_password",
        {**LOGIN, "RELAYHOST_PASSWORD": "my secret", "RELAYHOST_AUTH": "xoauth2"},
        (
            (
                "RELAYHOST_PASSWORD: it is no access token: those have no blanks and nothing that is not ASCII "
                "(RFC 6750). Give the token that is sent as 'Bearer', or set RELAYHOST_AUTH=password."
            ),
        ),
    ),
    Case(
        "auth_token_with_other_mechanisms",
        {**LOGIN, "RELAYHOST_AUTH": "xoauth2", "SMTP_SASL_MECHANISM_FILTER": "xoauth2, plain"},
        (
            (
                "SMTP_SASL_MECHANISM_FILTER=xoauth2, plain: RELAYHOST_AUTH=xoauth2 logs in by that mechanism alone; "
                "another would take the access token for a password. Remove it, or write xoauth2."
            ),
        ),
    ),
    Case(
        "auth_token_with_its_mechanism_refused",
        {**LOGIN, "RELAYHOST_AUTH": "oauthbearer", "SMTP_SASL_MECHANISM_FILTER": "!oauthbearer"},
        (
            (
                "SMTP_SASL_MECHANISM_FILTER=!oauthbearer: RELAYHOST_AUTH=oauthbearer logs in by that mechanism alone; "
                "another would take the access token for a password. Remove it, or write oauthbearer."
            ),
        ),
    ),
    Case(
        "auth_password_with_a_token_mechanism",
        {**LOGIN, "SMTP_SASL_MECHANISM_FILTER": "plain, xoauth2"},
        (
            (
                "SMTP_SASL_MECHANISM_FILTER=plain, xoauth2: by xoauth2 a password would be sent as an access token. "
                "Remove xoauth2; or, if it is an access token, set RELAYHOST_AUTH=xoauth2."
            ),
        ),
    ),
    Case(
        "upstream_auth_with_a_token_that_is_a_password",
        {
            "UPSTREAMS": '[bulk]\nnexthop = "[smtp.bulk.example]:587"\nusername = "u"\npassword = "pässword"\n'
            'auth = "xoauth2"\nmechanisms = ["login"]'
        },
        (
            (
                "UPSTREAMS: [bulk] mechanisms: auth=xoauth2 logs in by that mechanism alone; another would take "
                "the access token for a password. Remove it, or write xoauth2."
            ),
            (
                "UPSTREAMS: [bulk] password: it is no access token: those have no blanks and nothing that is not ASCII "
                "(RFC 6750). Give the token that is sent as 'Bearer', or set auth=password."
            ),
        ),
    ),
    Case(
        "upstream_auth_without_a_user",
        {"UPSTREAMS": '[bulk]\nnexthop = "[smtp.bulk.example]:587"\nauth = "xoauth2"'},
        (('UPSTREAMS: [bulk] auth = "xoauth2" and there is no username. Write username and password as well.'),),
    ),
    Case(
        "upstream_auth_none_with_a_user",
        {"UPSTREAMS": '[bulk]\nnexthop = "[smtp.bulk.example]:587"\nusername = "u"\npassword = "p"\nauth = "none"'},
        (('UPSTREAMS: [bulk] auth = "none" never uses username. Remove username and password, or auth.'),),
    ),
    Case(
        "parameter_owned_mechanisms",
        {"POSTFIX_smtp_sasl_mechanism_filter": "xoauth2"},
        (
            (
                "POSTFIX_smtp_sasl_mechanism_filter: it cannot be changed, because a password could be sent as an "
                "access token; SMTP_SASL_MECHANISM_FILTER is for that. Remove it."
            ),
        ),
    ),
    Case(
        "auth_password_without_credentials",
        {"RELAYHOST_AUTH": "password"},
        (
            (
                "RELAYHOST_AUTH=password: there are no credentials to log in with. Set RELAYHOST_USERNAME and "
                "RELAYHOST_PASSWORD_FILE, or RELAYHOST_AUTH=none."
            ),
        ),
    ),
    Case(
        "auth_none_with_credentials",
        {**LOGIN, "RELAYHOST_AUTH": "none"},
        (
            (
                "RELAYHOST_AUTH=none: there is a user name that would never be used. Remove RELAYHOST_USERNAME "
                "and RELAYHOST_PASSWORD, or RELAYHOST_AUTH."
            ),
        ),
    ),
    Case(
        "mechanism",
        {"SMTP_SASL_MECHANISM_FILTER": "plain, lo/gin"},
        (
            (
                "SMTP_SASL_MECHANISM_FILTER=plain, lo/gin: 'lo/gin' is not a SASL mechanism. Write, for example, "
                "'plain, login' or '!plain'."
            ),
        ),
    ),
    Case(
        "mechanism_empty_list",
        {"SMTP_SASL_MECHANISM_FILTER": " , "},
        ("SMTP_SASL_MECHANISM_FILTER= , : the list has no items. Leave it unset, or name at least one.",),
    ),
    Case(
        "tls_word",
        {"RELAYHOST_TLS": "strict"},
        (
            (
                "RELAYHOST_TLS=strict: 'strict' is not a TLS level. Write secure, verify, fingerprint, dane-only,"
                " dane, encrypt, may or none."
            ),
        ),
    ),
    Case(
        "tls_line_break",
        {"RELAYHOST_TLS": "secure\nsmtpd_relay_restrictions = permit"},
        (
            (
                "RELAYHOST_TLS: 'secure\\nsmtpd_relay_restrictions = permit' is not a TLS level. Write secure, "
                "verify, fingerprint, dane-only, dane, encrypt, may or none."
            ),
        ),
    ),
    Case(
        "tls_fingerprint_without_one",
        {"RELAYHOST_TLS": "fingerprint"},
        (
            (
                "RELAYHOST_TLS=fingerprint: there is no fingerprint to compare with. Set RELAYHOST_FINGERPRINT to"
                " the SHA-256 of the upstream's certificate, AB:CD:..."
            ),
        ),
    ),
    Case(
        "tls_may_with_credentials",
        {**LOGIN, "RELAYHOST_TLS": "may"},
        (
            (
                "RELAYHOST_TLS=may: the password for [smtp.example.com] could be sent without TLS. Write secure, "
                "or verify, or remove the credentials. To send it in the clear over a network that nobody else "
                "can reach: RELAYHOST_CLEARTEXT_AUTH=yes."
            ),
        ),
    ),
    Case(
        "tls_none_with_credentials",
        {**LOGIN, "RELAYHOST_TLS": "NONE"},
        (
            (
                "RELAYHOST_TLS=none: the password for [smtp.example.com] could be sent without TLS. Write secure,"
                " or verify, or remove the credentials. To send it in the clear over a network that nobody else "
                "can reach: RELAYHOST_CLEARTEXT_AUTH=yes."
            ),
        ),
    ),
    Case(
        "tls_dane_with_credentials",
        {**LOGIN, "RELAYHOST_TLS": "dane"},
        (
            (
                "RELAYHOST_TLS=dane: the password for [smtp.example.com] could be sent without TLS. Write secure,"
                " or verify, or remove the credentials. To send it in the clear over a network that nobody else "
                "can reach: RELAYHOST_CLEARTEXT_AUTH=yes."
            ),
        ),
    ),
    Case(
        "tls_none_on_465",
        {"RELAYHOST": "smtp.example.com:465", "RELAYHOST_TLS": "none"},
        (
            (
                "RELAYHOST=[smtp.example.com]:465: port 465 is TLS from the first byte, and its level is none. "
                "Write port 587 or 25, or a level of encrypt or better."
            ),
        ),
    ),
    Case(
        "cleartext_auth_word",
        {"RELAYHOST_CLEARTEXT_AUTH": "sure"},
        ("RELAYHOST_CLEARTEXT_AUTH=sure: it is neither yes nor no. Write yes or no.",),
    ),
    Case(
        "fingerprint_short",
        {"RELAYHOST_TLS": "fingerprint", "RELAYHOST_FINGERPRINT": "AB:CD"},
        (
            (
                "RELAYHOST_FINGERPRINT=AB:CD: 'AB:CD' is not a SHA-256 fingerprint. Write 64 hexadecimal digits "
                "as 'openssl x509 -noout -fingerprint -sha256' prints them."
            ),
        ),
    ),
    Case(
        "fingerprint_never_used",
        {"RELAYHOST_FINGERPRINT": "ab" * 32},
        (
            (
                "RELAYHOST_FINGERPRINT: RELAYHOST_TLS=secure never looks at it. Set RELAYHOST_TLS=fingerprint, or"
                " remove the fingerprint."
            ),
        ),
    ),
    Case(
        "ca_word",
        {"RELAYHOST_CA": "debian"},
        (
            (
                "RELAYHOST_CA=debian: it is neither the word system nor PEM text. Write system, or give the path "
                "of a CA file in RELAYHOST_CA_FILE."
            ),
        ),
    ),
    Case(
        "ca_leaf",
        {"RELAYHOST_CA": LEAF},
        (
            (
                "RELAYHOST_CA: 'CN=smtp.example.com' is not a CA but a server's or client's certificate. Give the"
                " certificate of the CA that issued it, or pin an upstream's with RELAYHOST_TLS=fingerprint."
            ),
        ),
    ),
    Case(
        "ca_leaf_file",
        {"RELAYHOST_CA_FILE": "ca.pem"},
        (
            (
                "RELAYHOST_CA_FILE: 'CN=smtp.example.com' is not a CA but a server's or client's certificate. "
                "Give the certificate of the CA that issued it, or pin an upstream's with RELAYHOST_TLS=fingerprint."
            ),
        ),
        files={"ca.pem": LEAF.encode()},
    ),
    Case(
        "ca_with_private_key",
        {"RELAYHOST_CA_FILE": "ca.pem"},
        (
            (
                "RELAYHOST_CA_FILE: it holds a private key, which does not belong here. Remove everything but the"
                " certificates, and replace that key: it was shared."
            ),
        ),
        files={"ca.pem": (CA + KEY).encode()},
    ),
    Case(
        "ca_with_private_key_on_one_line",
        {"RELAYHOST_CA": f"-----BEGIN PRIVATE KEY----- {SECRET}"},
        (
            (
                "RELAYHOST_CA: it holds a private key, which does not belong here. Remove everything but the "
                "certificates, and replace that key: it was shared."
            ),
        ),
    ),
    Case(
        "syslog_scheme",
        {"SYSLOG_URL": "logs.example.com:514"},
        (
            (
                "SYSLOG_URL=logs.example.com:514: it does not begin with udp://, tcp:// or tls://. Write "
                "SYSLOG_URL=tls://logs.example.com:6514."
            ),
        ),
    ),
    Case(
        "syslog_other_scheme",
        {"SYSLOG_URL": "syslog+tls://logs.example.com"},
        (
            (
                "SYSLOG_URL=syslog+tls://logs.example.com: it does not begin with udp://, tcp:// or tls://. Write "
                "SYSLOG_URL=tls://logs.example.com:6514."
            ),
        ),
    ),
    Case(
        "syslog_no_host",
        {"SYSLOG_URL": "udp://:514"},
        (("SYSLOG_URL=udp://:514: it names no host. Write SYSLOG_URL=tls://logs.example.com:6514."),),
    ),
    Case(
        "syslog_login",
        {"SYSLOG_URL": f"tls://user:{SECRET}@logs.example.com"},
        (
            (
                "SYSLOG_URL: it has an @ sign, as before a host stands a user name or a password, and syslog knows "
                "neither. Write SYSLOG_URL=tls://logs.example.com:6514."
            ),
        ),
    ),
    Case(
        "syslog_port",
        {"SYSLOG_URL": "tcp://logs.example.com:66666"},
        (
            (
                "SYSLOG_URL=tcp://logs.example.com:66666: '66666' is not a port. Write a number from 1 to 65535, or "
                "none for 601."
            ),
        ),
    ),
    Case(
        "syslog_path",
        {"SYSLOG_URL": "tcp://logs.example.com:601/mail"},
        (
            (
                "SYSLOG_URL=tcp://logs.example.com:601/mail: something follows the port. Write the host and the port "
                "alone: SYSLOG_URL=tls://logs.example.com:6514."
            ),
        ),
    ),
    Case(
        "syslog_bare_ipv6",
        {"SYSLOG_URL": "udp://2001:db8::5"},
        (("SYSLOG_URL=udp://2001:db8::5: an IPv6 address needs brackets. Write SYSLOG_URL=udp://[2001:db8::5]:514."),),
    ),
    Case(
        "syslog_open_bracket",
        {"SYSLOG_URL": "tls://[2001:db8::5"},
        (("SYSLOG_URL=tls://[2001:db8::5: the bracket is not closed. Write SYSLOG_URL=tls://[2001:db8::5]:6514."),),
    ),
    Case(
        "syslog_after_bracket",
        {"SYSLOG_URL": "tls://[2001:db8::5]6514"},
        (
            (
                "SYSLOG_URL=tls://[2001:db8::5]6514: its host or port cannot be read. Write "
                "SYSLOG_URL=tls://logs.example.com:6514."
            ),
        ),
    ),
    Case(
        "syslog_host",
        {"SYSLOG_URL": "tls://logs example.com"},
        (
            (
                "SYSLOG_URL=tls://logs example.com: 'logs example.com' is not a host name. Write a name such as "
                "smtp.example.com."
            ),
        ),
    ),
    Case(
        "syslog_ca_alone",
        {"SYSLOG_CA": CA},
        (("SYSLOG_CA: there is no SYSLOG_URL. Set SYSLOG_URL=tls://logs.example.com as well, or remove the CA."),),
    ),
    Case(
        "syslog_ca_without_tls",
        {"SYSLOG_CA": CA, "SYSLOG_URL": "tcp://10.0.0.5"},
        (
            (
                "SYSLOG_CA: there is no TLS in which it would be looked at. Set SYSLOG_URL=tls://10.0.0.5 as well, "
                "or remove the CA."
            ),
        ),
    ),
    Case(
        "syslog_ca_word",
        {"SYSLOG_CA": "debian", "SYSLOG_URL": "tls://logs.example.com"},
        (
            (
                "SYSLOG_CA=debian: it is neither the word system nor PEM text. Write system, or give the path of a "
                "CA file in SYSLOG_CA_FILE."
            ),
        ),
    ),
    Case(
        "ca_garbage",
        {"RELAYHOST_CA_FILE": "ca.der"},
        (
            (
                "RELAYHOST_CA_FILE: it holds no certificate in PEM, DER, PKCS #7 or ZIP. Give the PEM file that "
                "begins with -----BEGIN CERTIFICATE-----."
            ),
        ),
        files={"ca.der": b"\x30\x82garbage"},
    ),
    Case(
        "ca_broken_pem",
        {"RELAYHOST_CA_FILE": "ca.pem"},
        (
            (
                "RELAYHOST_CA_FILE: its PEM text cannot be read as a certificate. Check it with 'openssl x509 -in"
                " file.pem -noout -text'."
            ),
        ),
        files={"ca.pem": CA.replace("M", "#").encode()},
    ),
    Case(
        "ca_zip_without_certificates",
        {"RELAYHOST_CA_FILE": "ca.zip"},
        (
            (
                "RELAYHOST_CA_FILE: the ZIP holds no certificate. Give the PEM file that begins with -----BEGIN "
                "CERTIFICATE-----."
            ),
        ),
        files={"ca.zip": make_zip({"readme.txt": b"nothing"})},
    ),
    Case(
        "ca_zip_with_private_key",
        {"RELAYHOST_CA_FILE": "ca.zip"},
        (
            (
                "RELAYHOST_CA_FILE: it holds a private key, which does not belong here. Remove everything but the"
                " certificates, and replace that key: it was shared."
            ),
        ),
        files={"ca.zip": make_zip({"ca.pem": CA.encode(), "key.pem": KEY.encode()})},
    ),
    Case(
        "ca_zip_broken",
        {"RELAYHOST_CA_FILE": "ca.zip"},
        (
            (
                "RELAYHOST_CA_FILE: the ZIP cannot be read. Give the PEM file that begins with -----BEGIN "
                "CERTIFICATE-----."
            ),
        ),
        files={"ca.zip": make_zip({"ca.pem": CA.encode()})[:60]},
    ),
    Case(
        "ca_zip_bomb",
        {"RELAYHOST_CA_FILE": "ca.zip"},
        (
            (
                "RELAYHOST_CA_FILE: the ZIP unpacks to more than 4 MiB. Give the PEM file that begins with "
                "-----BEGIN CERTIFICATE-----."
            ),
        ),
        files={"ca.zip": make_zip({"ca.pem": b"0" * (5 * 2**20)})},
    ),
    Case(
        "ca_too_big",
        {"RELAYHOST_CA_FILE": "ca.pem"},
        (
            (
                "RELAYHOST_CA_FILE: it is larger than 4 MiB, so it is not a CA file. Give the PEM file that "
                "begins with -----BEGIN CERTIFICATE-----."
            ),
        ),
        files={"ca.pem": b"x" * (5 * 2**20)},
    ),
    Case(
        "ca_never_used",
        {"RELAYHOST_CA": CA, "RELAYHOST_TLS": "encrypt"},
        (("RELAYHOST_CA: RELAYHOST_TLS=encrypt never looks at a CA. Set RELAYHOST_TLS=secure, or remove the CA."),),
    ),
    Case(
        "ca_url_and_ca",
        {"RELAYHOST_CA_URL": "https://ca.example.com/ca.pem?token=x", "RELAYHOST_CA": CA},
        (
            (
                "RELAYHOST_CA_URL=https://ca.example.com/ca.pem?...: RELAYHOST_CA is set as well, and only one of them "
                "can be meant. Remove RELAYHOST_CA or RELAYHOST_CA_FILE to have the CA fetched, or remove the URL."
            ),
        ),
    ),
    Case(
        "ca_url_and_ca_file",
        {"RELAYHOST_CA_URL": "https://ca.example.com/ca.pem", "RELAYHOST_CA_FILE": "ca.pem"},
        (
            (
                "RELAYHOST_CA_URL=https://ca.example.com/ca.pem: RELAYHOST_CA is set as well, and only one of them can "
                "be meant. Remove RELAYHOST_CA or RELAYHOST_CA_FILE to have the CA fetched, or remove the URL."
            ),
        ),
        files={"ca.pem": CA.encode()},
    ),
    Case(
        "ca_url_http_without_fingerprint",
        {"RELAYHOST_CA_URL": "http://ca.example.com/ca.pem"},
        (
            (
                "RELAYHOST_CA_URL=http://ca.example.com/ca.pem: whoever is on the way could put a CA of their own in "
                "place of what http:// fetches. Write https://, or set RELAYHOST_CA_SHA256=AB:CD:... to the "
                "fingerprint that the CA's owner publishes."
            ),
        ),
    ),
    Case(
        "ca_url_http_in_capitals_without_fingerprint",
        {"RELAYHOST_CA_URL": "HTTP://ca.example.com/"},
        (
            (
                "RELAYHOST_CA_URL=HTTP://ca.example.com/: whoever is on the way could put a CA of their own in place "
                "of what http:// fetches. Write https://, or set RELAYHOST_CA_SHA256=AB:CD:... to the fingerprint "
                "that the CA's owner publishes."
            ),
        ),
    ),
    Case(
        "ca_url_scheme",
        {"RELAYHOST_CA_URL": "ftp://ca.example.com/ca.pem"},
        (
            (
                "RELAYHOST_CA_URL=ftp://ca.example.com/ca.pem: it does not begin with https:// or http://. Write "
                "RELAYHOST_CA_URL=https://ca.example.com/ca.pem."
            ),
        ),
    ),
    Case(
        "ca_url_path",
        {"RELAYHOST_CA_URL": "/run/secrets/ca.pem"},
        (
            (
                "RELAYHOST_CA_URL=/run/secrets/ca.pem: it does not begin with https:// or http://. Write "
                "RELAYHOST_CA_URL=https://ca.example.com/ca.pem."
            ),
        ),
    ),
    Case(
        "ca_url_login",
        {"RELAYHOST_CA_URL": f"https://user:{SECRET}@ca.example.com/ca.pem"},
        (
            (
                "RELAYHOST_CA_URL: it has an @ sign, as before a host stands a user name or a password, and a CA needs "
                "neither. Write RELAYHOST_CA_URL=https://ca.example.com/ca.pem; an @ sign in a path is written %40."
            ),
        ),
    ),
    Case(
        "ca_url_token_and_a_bad_port",
        {"RELAYHOST_CA_URL": f"https://ca.example.com:https/ca.pem?token={SECRET}"},
        (("RELAYHOST_CA_URL: its host or port cannot be read. Write RELAYHOST_CA_URL=https://ca.example.com/ca.pem."),),
    ),
    Case(
        "ca_url_port_zero",
        {"RELAYHOST_CA_URL": "https://ca.example.com:0/"},
        (
            (
                "RELAYHOST_CA_URL=https://ca.example.com:0/: '0' is not a port. Write "
                "RELAYHOST_CA_URL=https://ca.example.com/ca.pem."
            ),
        ),
    ),
    Case(
        "ca_url_no_host",
        {"RELAYHOST_CA_URL": "https:///ca.pem"},
        (
            (
                "RELAYHOST_CA_URL=https:///ca.pem: it names no host. Write "
                "RELAYHOST_CA_URL=https://ca.example.com/ca.pem."
            ),
        ),
    ),
    Case(
        "ca_url_odd_host",
        {"RELAYHOST_CA_URL": "https://ca..example.com/ca.pem"},
        (
            (
                "RELAYHOST_CA_URL=https://ca..example.com/ca.pem: 'ca..example.com' is not a host name. Write a name "
                "such as smtp.example.com."
            ),
        ),
    ),
    Case(
        "ca_url_blank",
        {"RELAYHOST_CA_URL": "https://ca.example.com/the ca.pem"},
        (
            (
                "RELAYHOST_CA_URL=https://ca.example.com/the ca.pem: it contains a blank, a control character or a "
                "letter that is not ASCII. Write it as a browser copies it, for example "
                "RELAYHOST_CA_URL=https://ca.example.com/ca.pem."
            ),
        ),
    ),
    Case(
        "ca_url_never_used",
        {"RELAYHOST_CA_URL": "https://ca.example.com/ca.pem", "RELAYHOST_TLS": "encrypt"},
        (("RELAYHOST_CA_URL: RELAYHOST_TLS=encrypt never looks at a CA. Set RELAYHOST_TLS=secure, or remove the CA."),),
    ),
    Case(
        "ca_sha256_without_url",
        {"RELAYHOST_CA_SHA256": "ab" * 32, "RELAYHOST_CA": CA},
        (
            (
                "RELAYHOST_CA_SHA256: there is no RELAYHOST_CA_URL whose CA it would be compared with. Set "
                "RELAYHOST_CA_URL=https://ca.example.com/ca.pem as well, or remove it."
            ),
        ),
    ),
    Case(
        "ca_sha256_short",
        {"RELAYHOST_CA_SHA256": "ab:cd", "RELAYHOST_CA_URL": "https://ca.example.com/ca.pem"},
        (
            (
                "RELAYHOST_CA_SHA256=ab:cd: 'ab:cd' is not a SHA-256 fingerprint. Write 64 hexadecimal digits as "
                "'openssl x509 -noout -fingerprint -sha256' prints them."
            ),
        ),
    ),
    Case(
        "policy_no_level",
        {"TLS_POLICY_TABLE": "smtp.example.com"},
        (
            (
                "TLS_POLICY_TABLE=smtp.example.com: line 1 names 'smtp.example.com' but no level. Write, for "
                "example, 'smtp.example.com secure'."
            ),
        ),
    ),
    Case(
        "policy_level",
        {"TLS_POLICY_TABLE": "# old\nsmtp.example.com MUSTN"},
        (
            (
                "TLS_POLICY_TABLE: line 2: 'MUSTN' is not a TLS level. Write secure, verify, fingerprint, "
                "dane-only, dane, encrypt, may or none."
            ),
        ),
    ),
    Case(
        "policy_attribute",
        {"TLS_POLICY_TABLE": "smtp.example.com secure matches=x"},
        (
            (
                "TLS_POLICY_TABLE=smtp.example.com secure matches=x: line 1: 'matches=x' is not an attribute of a"
                " TLS policy. Write name=value, the name being ciphers, exclude, match, protocols, servername or "
                "tafile (postconf(5) smtp_tls_policy_maps)."
            ),
        ),
    ),
    Case(
        "policy_attribute_control_character",
        {"TLS_POLICY_TABLE": "smtp.example.com secure match=\x01"},
        (
            (
                "TLS_POLICY_TABLE=smtp.example.com secure match=\\x01: line 1: 'match=\\x01' contains a control "
                "character. Remove it."
            ),
        ),
    ),
    Case(
        "policy_destination",
        {"TLS_POLICY_TABLE": "[smtp.example.com secure"},
        (("TLS_POLICY_TABLE=[smtp.example.com secure: line 1: the bracket is not closed. Write [smtp.example.com]."),),
    ),
    Case(
        "policy_twice",
        {"TLS_POLICY_TABLE": "smtp.example.com secure\nSMTP.example.com may"},
        (("TLS_POLICY_TABLE: line 2 names 'SMTP.example.com' a second time. Keep one line for each destination."),),
    ),
    Case(
        "policy_fingerprint_without_match",
        {"TLS_POLICY_TABLE": "smtp.example.com fingerprint"},
        (
            (
                "TLS_POLICY_TABLE=smtp.example.com fingerprint: line 1: the level fingerprint has no fingerprint "
                "to match. Write 'smtp.example.com fingerprint match=AB:CD:...'."
            ),
        ),
    ),
    Case(
        "policy_weaker_than_credentials",
        {**LOGIN, "TLS_POLICY_TABLE": "smtp.example.com MAY"},
        (
            (
                "TLS_POLICY_TABLE=[smtp.example.com] may: the password for [smtp.example.com] could be sent "
                "without TLS. Write secure, or verify, or remove the credentials. To send it in the clear over a "
                "network that nobody else can reach: RELAYHOST_CLEARTEXT_AUTH=yes."
            ),
        ),
    ),
    Case(
        "fallback_bad",
        {"FALLBACK_RELAYHOST": "[smtp2.example.com"},
        (
            (
                "FALLBACK_RELAYHOST=[smtp2.example.com: the bracket is not closed. Write "
                "FALLBACK_RELAYHOST=[smtp2.example.com]."
            ),
        ),
    ),
    Case(
        "fallback_same",
        {"FALLBACK_RELAYHOST": "[smtp.example.com]:25"},
        ("FALLBACK_RELAYHOST=[smtp.example.com]: it is RELAYHOST itself. Name another host, or remove it.",),
    ),
    Case(
        "fallback_other_kind_of_port",
        {"RELAYHOST": "smtp.example.com:465", "FALLBACK_RELAYHOST": "smtp2.example.com:587"},
        (
            (
                "FALLBACK_RELAYHOST=[smtp2.example.com]:587: one of RELAYHOST and FALLBACK_RELAYHOST has port 465"
                " and the other has not, and Postfix cannot change between implicit TLS and STARTTLS within a "
                "delivery. Give both the same kind of port, for example [smtp2.example.com]:465."
            ),
        ),
    ),
    Case(
        "fallback_credentials_without_host",
        {"FALLBACK_RELAYHOST_USERNAME": "user", "FALLBACK_RELAYHOST_PASSWORD": SECRET},
        (
            (
                "FALLBACK_RELAYHOST_USERNAME: there is no FALLBACK_RELAYHOST to log in to. Set "
                "FALLBACK_RELAYHOST=[smtp2.example.com]:587, or remove its credentials."
            ),
        ),
    ),
    Case(
        "fallback_username_alone",
        {"FALLBACK_RELAYHOST": "smtp2.example.com", "FALLBACK_RELAYHOST_USERNAME": "user"},
        (
            (
                "FALLBACK_RELAYHOST_USERNAME=user: there is a user name but no FALLBACK_RELAYHOST_PASSWORD. Set "
                "FALLBACK_RELAYHOST_PASSWORD_FILE=/run/secrets/password as well, or neither."
            ),
        ),
    ),
    Case(
        "fallback_password_alone",
        {"FALLBACK_RELAYHOST": "smtp2.example.com", "FALLBACK_RELAYHOST_PASSWORD": SECRET},
        (
            (
                "FALLBACK_RELAYHOST_PASSWORD: there is a password but no FALLBACK_RELAYHOST_USERNAME. Set "
                "FALLBACK_RELAYHOST_USERNAME=user@example.com as well, or neither."
            ),
        ),
    ),
    Case(
        "fallback_mx_with_brackets",
        {"RELAYHOST_MX": "yes", "FALLBACK_RELAYHOST": "[smtp2.example.com]"},
        (
            (
                "RELAYHOST_MX=yes: FALLBACK_RELAYHOST is in brackets, which forbid an MX lookup. Write "
                "FALLBACK_RELAYHOST=smtp2.example.com without brackets, or remove RELAYHOST_MX."
            ),
        ),
    ),
    Case(
        "concurrency_zero",
        {"RELAYHOST_CONCURRENCY": "0"},
        ("RELAYHOST_CONCURRENCY=0: '0' is not a whole number from 1 to 1000. Write, for example, 1.",),
    ),
    Case(
        "concurrency_sign",
        {"RELAYHOST_CONCURRENCY": "-1"},
        ("RELAYHOST_CONCURRENCY=-1: '-1' is not a whole number from 1 to 1000. Write, for example, 1.",),
    ),
    Case(
        "rate_delay",
        {"RELAYHOST_RATE_DELAY": "2 seconds"},
        (("RELAYHOST_RATE_DELAY=2 seconds: it is not a duration. Write a number with s, m, h or d, for example 20s."),),
    ),
    Case(
        "client_cert_garbage",
        {"CLIENT_CERT": "certificate", "CLIENT_KEY": KEY},
        (
            (
                "CLIENT_CERT=certificate: its PEM text cannot be read as a certificate. Check it with 'openssl "
                "x509 -in file.pem -noout -text'."
            ),
        ),
    ),
    Case(
        "client_cert_alone",
        {"CLIENT_CERT": LEAF},
        (
            (
                "CLIENT_CERT: there is a certificate but no CLIENT_KEY. Set "
                "CLIENT_KEY_FILE=/run/secrets/client-key.pem as well, or neither."
            ),
        ),
    ),
    Case(
        "client_key_alone",
        {"CLIENT_KEY": KEY},
        (
            (
                "CLIENT_KEY: there is a key but no CLIENT_CERT. Set CLIENT_CERT_FILE=/run/secrets/client-cert.pem"
                " as well, or neither."
            ),
        ),
    ),
    Case(
        "client_key_is_certificate",
        {"CLIENT_CERT": LEAF, "CLIENT_KEY": LEAF},
        (("CLIENT_KEY: it is not a private key in PEM. Give the file that begins with -----BEGIN PRIVATE KEY-----."),),
    ),
    Case(
        "client_key_encrypted",
        {"CLIENT_CERT": LEAF, "CLIENT_KEY_FILE": "key.pem"},
        (
            (
                "CLIENT_KEY_FILE: the private key is encrypted, and nobody is there to type its passphrase. "
                "Decrypt it with 'openssl pkey -in key.pem -out plain.pem' and give plain.pem as a secret file."
            ),
        ),
        files={"key.pem": ENCRYPTED_KEY.encode()},
    ),
    Case(
        "client_key_damaged",
        {"CLIENT_CERT": LEAF, "CLIENT_KEY": KEY.replace("M", "#")},
        ("CLIENT_KEY: the private key cannot be read. Check it with 'openssl pkey -in key.pem -noout'.",),
    ),
    Case(
        "client_key_of_another",
        {"CLIENT_CERT": LEAF, "CLIENT_KEY": OTHER_KEY},
        (
            (
                "CLIENT_KEY: it is not the key of the first certificate in CLIENT_CERT. Give the pair that "
                "belongs together, the client's own certificate before its intermediates."
            ),
        ),
    ),
    Case(
        "client_key_with_cert_none",
        {"CLIENT_CERT": "none", "CLIENT_KEY": KEY},
        (
            (
                "CLIENT_CERT=none: there is a CLIENT_KEY that would never be used. Remove CLIENT_KEY, or give its"
                " certificate in CLIENT_CERT_FILE."
            ),
        ),
    ),
    Case(
        "client_cert_is_private_key_on_one_line",
        {"CLIENT_CERT": f"-----BEGIN PRIVATE KEY----- {SECRET}", "CLIENT_KEY": KEY},
        (
            (
                "CLIENT_CERT: it holds a private key, which does not belong here. Remove everything but the "
                "certificates, and replace that key: it was shared."
            ),
        ),
    ),
    Case(
        "client_cert_subject",
        {"CLIENT_CERT_SUBJECT": "relay"},
        (
            (
                "CLIENT_CERT_SUBJECT=relay: it is not a distinguished name (RFC 4514). Write, for example, "
                "CN=relay.example.com,O=Example."
            ),
        ),
    ),
    Case(
        "client_cert_subject_without_use",
        {"CLIENT_CERT": LEAF, "CLIENT_KEY": KEY, "CLIENT_CERT_SUBJECT": "CN=relay"},
        (
            (
                "CLIENT_CERT_SUBJECT=CN=relay: CLIENT_CERT already has a subject; this one is for a certificate "
                "that is made here. Remove one of the two."
            ),
        ),
    ),
    Case(
        "client_cert_days",
        {"CLIENT_CERT_DAYS": "30"},
        ("CLIENT_CERT_DAYS=30: '30' is not a whole number from 31 to 36500. Write, for example, 31.",),
    ),
    Case(
        "client_key_type",
        {"CLIENT_KEY_TYPE": "ed25519"},
        ("CLIENT_KEY_TYPE=ed25519: it is not one of the words that this setting knows. Write ecdsa or rsa.",),
    ),
    Case(
        "myhostname",
        {"MYHOSTNAME": "my host"},
        ("MYHOSTNAME=my host: 'my host' is not a host name. Write a name such as smtp.example.com.",),
    ),
    Case(
        "mynetworks_everyone",
        {"MYNETWORKS": "0.0.0.0/0"},
        (
            (
                "MYNETWORKS=0.0.0.0/0: '0.0.0.0/0' trusts more of the Internet than any site owns and would make "
                "this an open relay. Name your own networks, each /8 or narrower, for example 10.0.0.0/8."
            ),
        ),
    ),
    Case(
        "mynetworks_everyone_ipv6",
        {"MYNETWORKS": "[::]/0"},
        (
            (
                "MYNETWORKS=[::]/0: '[::]/0' trusts more of the Internet than any site owns and would make this "
                "an open relay. Name your own networks, each /16 or narrower, for example 2001:db8::/32."
            ),
        ),
    ),
    Case(
        "mynetworks_half_the_internet",
        {"MYNETWORKS": "10.0.0.0/8 0.0.0.0/1"},
        (
            (
                "MYNETWORKS=10.0.0.0/8 0.0.0.0/1: '0.0.0.0/1' trusts more of the Internet than any site owns and "
                "would make this an open relay. Name your own networks, each /8 or narrower, for example "
                "10.0.0.0/8."
            ),
        ),
    ),
    Case(
        "mynetworks_seven",
        {"MYNETWORKS": "10.0.0.0/7"},
        (
            (
                "MYNETWORKS=10.0.0.0/7: '10.0.0.0/7' trusts more of the Internet than any site owns and would "
                "make this an open relay. Name your own networks, each /8 or narrower, for example 10.0.0.0/8."
            ),
        ),
    ),
    Case(
        "mynetworks_fifteen_ipv6",
        {"MYNETWORKS": "2000::/15"},
        (
            (
                "MYNETWORKS=2000::/15: '2000::/15' trusts more of the Internet than any site owns and would make "
                "this an open relay. Name your own networks, each /16 or narrower, for example 2001:db8::/32."
            ),
        ),
    ),
    Case(
        "mynetworks_host_bits",
        {"MYNETWORKS": "192.0.2.7/24"},
        (
            (
                "MYNETWORKS=192.0.2.7/24: '192.0.2.7/24' has bits set beyond its prefix length. Write "
                "192.0.2.0/24 for the network, or 192.0.2.7 for the one address."
            ),
        ),
    ),
    Case(
        "mynetworks_name",
        {"MYNETWORKS": "localnet"},
        (
            (
                "MYNETWORKS=localnet: 'localnet' is not a network. Write networks in CIDR form, for example "
                "192.0.2.0/24 or [2001:db8::]/32."
            ),
        ),
    ),
    Case(
        "mynetworks_zone",
        {"MYNETWORKS": "fe80::%eth0/64"},
        (
            (
                "MYNETWORKS=fe80::%eth0/64: 'fe80::%eth0/64' has a zone. Write the network without what follows "
                "the % sign."
            ),
        ),
    ),
    Case(
        "mynetworks_negated",
        {"MYNETWORKS": "!192.0.2.1"},
        (
            (
                "MYNETWORKS=!192.0.2.1: '!192.0.2.1' is not a network. Write networks in CIDR form, for example "
                "192.0.2.0/24 or [2001:db8::]/32."
            ),
        ),
    ),
    Case(
        "inet_interfaces_mixed",
        {"INET_INTERFACES": "all, 192.0.2.1"},
        (
            (
                "INET_INTERFACES=all, 192.0.2.1: a word and addresses are mixed. Write all, loopback-only, or "
                "addresses of this container."
            ),
        ),
    ),
    Case(
        "inet_interfaces_name",
        {"INET_INTERFACES": "eth0"},
        (("INET_INTERFACES=eth0: 'eth0' is not an IP address. Write an address such as 192.0.2.10 or 2001:db8::10."),),
    ),
    Case(
        "inet_protocols",
        {"INET_PROTOCOLS": "ipv5"},
        (("INET_PROTOCOLS=ipv5: it is not one of the words that this setting knows. Write all, ipv4 or ipv6."),),
    ),
    Case(
        "inet_interfaces_of_other_family",
        {"INET_PROTOCOLS": "ipv4", "INET_INTERFACES": "192.0.2.1 2001:db8::1"},
        (
            (
                "INET_INTERFACES=2001:db8::1: INET_PROTOCOLS=ipv4 does not listen on it. Remove the address, or "
                "set INET_PROTOCOLS=all."
            ),
        ),
    ),
    Case(
        "proxy_interfaces",
        {"PROXY_INTERFACES": "192.0.2.300"},
        (
            (
                "PROXY_INTERFACES=192.0.2.300: '192.0.2.300' is neither a host name nor an address. Write a name "
                "such as smtp.example.com."
            ),
        ),
    ),
    Case(
        "listen_ports",
        {"LISTEN_PORTS": "25 70000"},
        ("LISTEN_PORTS=25 70000: '70000' is not a whole number from 1 to 65535. Write, for example, 1.",),
    ),
    Case(
        "status_listen_port_alone",
        {"STATUS_LISTEN": "9154"},
        (
            (
                "STATUS_LISTEN=9154: '9154' is not an address and a port. Write an address of this container and a "
                "port, for example 0.0.0.0:9154 or [::]:9154, or none."
            ),
        ),
    ),
    Case(
        "status_listen_port_missing",
        {"STATUS_LISTEN": "0.0.0.0"},
        (
            (
                "STATUS_LISTEN=0.0.0.0: '0.0.0.0' is not an address and a port. Write an address of this container "
                "and a port, for example 0.0.0.0:9154 or [::]:9154, or none."
            ),
        ),
    ),
    Case(
        "status_listen_ipv6_without_brackets",
        {"STATUS_LISTEN": "::1:9154"},
        (
            (
                "STATUS_LISTEN=::1:9154: '::1:9154' is not an address and a port. Write an address of this container "
                "and a port, for example 0.0.0.0:9154 or [::]:9154, or none."
            ),
        ),
    ),
    Case(
        "status_listen_name",
        {"STATUS_LISTEN": "localhost:9154"},
        (
            (
                "STATUS_LISTEN=localhost:9154: 'localhost' is not an IP address. Write an address of this container "
                "and a port, for example 0.0.0.0:9154 or [::]:9154, or none."
            ),
        ),
    ),
    Case(
        "status_listen_port_too_large",
        {"STATUS_LISTEN": "0.0.0.0:70000"},
        (
            (
                "STATUS_LISTEN=0.0.0.0:70000: '70000' is not a port from 1 to 65535. Write an address of this "
                "container and a port, for example 0.0.0.0:9154 or [::]:9154, or none."
            ),
        ),
    ),
    Case(
        "status_listen_port_of_mail",
        {"STATUS_LISTEN": "127.0.0.1:587"},
        (
            (
                "STATUS_LISTEN=127.0.0.1:587: port 587 is one of LISTEN_PORTS, where mail comes in. Give it a port of "
                "its own, for example STATUS_LISTEN=0.0.0.0:9154."
            ),
        ),
    ),
    Case(
        "message_size_limit",
        {"MESSAGE_SIZE_LIMIT": "25 MB"},
        (("MESSAGE_SIZE_LIMIT=25 MB: it is not a size. Write bytes, or a number with k, M or G, for example 25M."),),
    ),
    Case(
        "drain_timeout",
        {"DRAIN_TIMEOUT": "soon"},
        ("DRAIN_TIMEOUT=soon: it is not a duration. Write a number with s, m, h or d, for example 20s.",),
    ),
    Case(
        "probe",
        {"PROBE": "maybe"},
        ("PROBE=maybe: it is not one of the words that this setting knows. Write yes, no-login or no.",),
    ),
    Case(
        "ca_refresh_hammers",
        {"RELAYHOST_CA_REFRESH": "1s"},
        ("RELAYHOST_CA_REFRESH=1s: it is less than 10 seconds. Write a number with m, h or d, for example 6h.",),
    ),
    Case(
        "log_format",
        {"LOG_FORMAT": "xml"},
        ("LOG_FORMAT=xml: it is not one of the words that this setting knows. Write plain or json.",),
    ),
    Case(
        "log_addresses",
        {"LOG_ADDRESSES": "none"},
        ("LOG_ADDRESSES=none: it is not one of the words that this setting knows. Write full, domain or hash.",),
    ),
    Case(
        "log_addresses_key_short",
        {"LOG_ADDRESSES": "hash", "LOG_ADDRESSES_KEY": "0123456789abcde"},
        (
            "LOG_ADDRESSES_KEY: it has fewer than 16 characters, and a short key is found by trying. Make one: openssl "
            "rand -hex 32.",
        ),
    ),
    Case(
        "log_addresses_key_for_nothing",
        {"LOG_ADDRESSES_KEY": "0123456789abcdef"},
        (
            "LOG_ADDRESSES_KEY: LOG_ADDRESSES=full makes no codes, and needs no key. Set LOG_ADDRESSES=hash, or remove "
            "the key.",
        ),
    ),
    Case(
        "tls_log_level",
        {"TLS_LOG_LEVEL": "5"},
        ("TLS_LOG_LEVEL=5: '5' is not a whole number from 0 to 4. Write, for example, 0.",),
    ),
    Case(
        "tz",
        {"TZ": "Mars/Olympus"},
        ("TZ=Mars/Olympus: it is not a time zone. Write a name such as Europe/Berlin or UTC.",),
    ),
    Case(
        "unknown_settings",
        {"UNKNOWN_SETTINGS": "ignore"},
        (("UNKNOWN_SETTINGS=ignore: it is not one of the words that this setting knows. Write error or warn."),),
    ),
    Case(
        "name_relay_host",
        {"RELAY_HOST": "smtp.example.com"},
        (
            (
                "RELAY_HOST: there is no such setting. Did you mean RELAYHOST? If it belongs to another program, "
                "set UNKNOWN_SETTINGS=warn."
            ),
        ),
    ),
    Case(
        "name_relayhost_pasword",
        {"RELAYHOST_PASWORD": SECRET},
        (
            (
                "RELAYHOST_PASWORD: there is no such setting. Did you mean RELAYHOST_PASSWORD? If it belongs to "
                "another program, set UNKNOWN_SETTINGS=warn."
            ),
        ),
    ),
    Case(
        "name_relayhost_pasword_file",
        {"RELAYHOST_PASWORD_FILE": "/run/secrets/password"},
        (
            (
                "RELAYHOST_PASWORD_FILE: there is no such setting. Did you mean RELAYHOST_PASSWORD_FILE? If it "
                "belongs to another program, set UNKNOWN_SETTINGS=warn."
            ),
        ),
    ),
    Case(
        "name_relayhostpassword",
        {"RELAYHOSTPASSWORD": SECRET},
        (
            (
                "RELAYHOSTPASSWORD: there is no such setting. Did you mean RELAYHOST_PASSWORD? If it belongs to "
                "another program, set UNKNOWN_SETTINGS=warn."
            ),
        ),
    ),
    Case(
        "name_relayhost_passwd",
        {"RELAYHOST_PASSWD": SECRET},
        (
            (
                "RELAYHOST_PASSWD: there is no such setting. Did you mean RELAYHOST_PASSWORD? If it belongs to "
                "another program, set UNKNOWN_SETTINGS=warn."
            ),
        ),
    ),
    Case(
        "name_relayhost_port",
        {"RELAYHOST_PORT": "587"},
        (
            (
                "RELAYHOST_PORT=587: there is no such setting. Put the port into RELAYHOST, for example "
                "RELAYHOST=[smtp.example.com]:587."
            ),
        ),
    ),
    Case(
        "name_mynetwork",
        {"MYNETWORK": "10.0.0.0/8"},
        (
            (
                "MYNETWORK: there is no such setting. Did you mean MYNETWORKS? If it belongs to another program, "
                "set UNKNOWN_SETTINGS=warn."
            ),
        ),
    ),
    Case(
        "name_listen_port",
        {"LISTEN_PORT": "25"},
        (
            (
                "LISTEN_PORT: there is no such setting. Did you mean LISTEN_PORTS? If it belongs to another "
                "program, set UNKNOWN_SETTINGS=warn."
            ),
        ),
    ),
    Case(
        "name_lower_case",
        {"relayhost": "smtp.example.com"},
        (
            (
                "relayhost: there is no such setting. Did you mean RELAYHOST? If it belongs to another program, "
                "set UNKNOWN_SETTINGS=warn."
            ),
        ),
    ),
    Case(
        "name_swapped_letters",
        {"MYHOSTNMAE": "relay.example.com"},
        (
            (
                "MYHOSTNMAE: there is no such setting. Did you mean MYHOSTNAME? If it belongs to another program,"
                " set UNKNOWN_SETTINGS=warn."
            ),
        ),
    ),
    Case(
        "name_prefix",
        {"RELAYHOST_TLS_LEVEL": "secure"},
        (
            (
                "RELAYHOST_TLS_LEVEL: there is no such setting. Did you mean RELAYHOST_TLS? If it belongs to "
                "another program, set UNKNOWN_SETTINGS=warn."
            ),
        ),
    ),
    Case(
        "name_line_break",
        {"RELAYHOST_\x1bX": "1"},
        (
            (
                "RELAYHOST_\\x1bX: there is no such setting. Did you mean RELAYHOST_MX? If it belongs to another "
                "program, set UNKNOWN_SETTINGS=warn."
            ),
        ),
    ),
    Case(
        "parameter_typo",
        {"POSTFIX_smtp_helo_nam": "relay"},
        ("POSTFIX_smtp_helo_nam: Postfix has no such parameter. Did you mean POSTFIX_smtp_helo_name?",),
    ),
    Case(
        "parameter_case",
        {"POSTFIX_smtp_tls_cafile": "/ca.pem"},
        ("POSTFIX_smtp_tls_cafile: Postfix has no such parameter. Did you mean POSTFIX_smtp_tls_CAfile?",),
    ),
    Case(
        "parameter_unlike_any",
        {"POSTFIX_zzz": "1"},
        ("POSTFIX_zzz: Postfix has no such parameter. See postconf(5) for the names, or remove it.",),
    ),
    Case(
        "parameter_owned",
        {"POSTFIX_queue_directory": "/queue"},
        (
            (
                "POSTFIX_queue_directory: it cannot be changed, because the image has its files, volumes and "
                "users there. Remove it."
            ),
        ),
    ),
    Case(
        "parameter_owned_log",
        {"POSTFIX_maillog_file": "/dev/stdout"},
        (
            (
                "POSTFIX_maillog_file: it cannot be changed, because the log forwarder would no longer see "
                "Postfix's lines. Remove it."
            ),
        ),
    ),
    Case(
        "parameter_owned_instance",
        {"POSTFIX_multi_instance_enable": "yes"},
        (("POSTFIX_multi_instance_enable: it cannot be changed, because one container runs one Postfix. Remove it."),),
    ),
    Case(
        "parameter_line_break",
        {"POSTFIX_smtpd_banner": "hello\nrelay_domains = example.com"},
        (
            (
                "POSTFIX_smtpd_banner=hello\\nrelay_domains = example.com: it contains a line break or another "
                "control character, which would start a new parameter. Write it on one line."
            ),
        ),
    ),
    Case(
        "parameter_password_map",
        {"POSTFIX_smtp_sasl_password_maps": f"static:user:{SECRET}"},
        (
            (
                "POSTFIX_smtp_sasl_password_maps: a password would end up in main.cf, which everyone in the "
                "container can read. Use RELAYHOST_USERNAME and RELAYHOST_PASSWORD_FILE."
            ),
        ),
    ),
    Case(
        "parameter_password_map_second",
        {"POSTFIX_smtp_sasl_password_maps": f"lmdb:/x, static:user:{SECRET}"},
        (
            (
                "POSTFIX_smtp_sasl_password_maps: a password would end up in main.cf, which everyone in the "
                "container can read. Use RELAYHOST_USERNAME and RELAYHOST_PASSWORD_FILE."
            ),
        ),
    ),
    Case(
        "parameter_password_map_line_break",
        {"POSTFIX_smtp_sasl_password_maps": f"static:user:{SECRET}\n"},
        (
            (
                "POSTFIX_smtp_sasl_password_maps: it contains a line break or another control character, which "
                "would start a new parameter. Write it on one line."
            ),
        ),
    ),
    Case(
        "parameter_and_file",
        {"POSTFIX_smtp_helo_name": "relay", "POSTFIX_smtp_helo_name_FILE": "name"},
        (
            (
                "POSTFIX_smtp_helo_name: POSTFIX_smtp_helo_name and POSTFIX_smtp_helo_name_FILE are both set, and"
                " only one can be meant. Remove one of them; POSTFIX_smtp_helo_name_FILE keeps a secret out of "
                "the container's description."
            ),
        ),
    ),
    Case(
        "parameter_file_not_utf8",
        {"POSTFIX_smtp_helo_name_FILE": "name"},
        ("POSTFIX_smtp_helo_name: the file is not UTF-8 text. Save it as UTF-8.",),
        files={"name": b"\xff"},
    ),
    Case(
        "parameter_not_utf8",
        {"POSTFIX_smtp_helo_name": "relay\udcff"},
        ("POSTFIX_smtp_helo_name: it is not UTF-8 text. Write it in UTF-8.",),
    ),
    Case(
        "parameter_port_of_a_person",
        {"POSTFIX_PORT": "25"},
        ("POSTFIX_PORT: Postfix has no such parameter. See postconf(5) for the names, or remove it.",),
    ),
    Case(
        "milter_without_a_type",
        {"SMTPD_MILTERS": "rspamd:11332"},
        (
            (
                "SMTPD_MILTERS=rspamd:11332: 'rspamd:11332' does not say how the milter is reached. Write "
                "SMTPD_MILTERS=inet:rspamd:11332, or SMTPD_MILTERS=unix:/run/milter/socket."
            ),
        ),
    ),
    Case(
        "milter_as_sendmail_writes_it",
        {"SMTPD_MILTERS": "inet:11332@rspamd"},
        (("SMTPD_MILTERS=inet:11332@rspamd: 'inet:11332@rspamd' is as sendmail writes it. Write inet:rspamd:11332."),),
    ),
    Case(
        "milter_without_a_port",
        {"SMTPD_MILTERS": "inet:rspamd"},
        (
            (
                "SMTPD_MILTERS=inet:rspamd: 'inet:rspamd' has no port from 1 to 65535. Write "
                "SMTPD_MILTERS=inet:rspamd:11332, or SMTPD_MILTERS=unix:/run/milter/socket."
            ),
        ),
    ),
    Case(
        "milter_path_relative",
        {"SMTPD_MILTERS": "unix:milter/socket"},
        (
            (
                "SMTPD_MILTERS=unix:milter/socket: the path in 'unix:milter/socket' is not absolute. Write "
                "SMTPD_MILTERS=inet:rspamd:11332, or SMTPD_MILTERS=unix:/run/milter/socket."
            ),
        ),
    ),
    Case(
        "milter_action_unknown",
        {"MILTER_DEFAULT_ACTION": "pass"},
        (
            (
                "MILTER_DEFAULT_ACTION=pass: it is not one of the words that this setting knows. Write tempfail, "
                "accept, reject or quarantine."
            ),
        ),
    ),
    Case(
        "all_at_once",
        {
            "RELAYHOST": "[smtp.example.com",
            "TZ": "Mars",
            "LISTEN_PORTS": "0",
            "MYNETWORK": "10.0.0.0/8",
            "POSTFIX_mynetwork": "x",
            "RELAYHOST_PASSWORD_FILE": "./missing",
        },
        (
            "LISTEN_PORTS=0: '0' is not a whole number from 1 to 65535. Write, for example, 1.",
            (
                "MYNETWORK: there is no such setting. Did you mean MYNETWORKS? If it belongs to another program, "
                "set UNKNOWN_SETTINGS=warn."
            ),
            "POSTFIX_mynetwork: Postfix has no such parameter. Did you mean POSTFIX_mynetworks?",
            "RELAYHOST=[smtp.example.com: the bracket is not closed. Write RELAYHOST=[smtp.example.com].",
            (
                "RELAYHOST_PASSWORD_FILE=./missing: the file cannot be read (No such file or directory). Mount the "
                "secret at that path, readable for root; docs/secrets.md shows how."
            ),
            "TZ=Mars: it is not a time zone. Write a name such as Europe/Berlin or UTC.",
        ),
    ),
    Case(
        "several_contradictions",
        {
            "RELAYHOST": "[192.0.2.25]:465",
            "RELAYHOST_USERNAME": "user",
            "RELAYHOST_FINGERPRINT": "ab" * 32,
            "CLIENT_KEY": KEY,
            "FALLBACK_RELAYHOST": "smtp2.example.com",
        },
        (
            (
                "CLIENT_KEY: there is a key but no CLIENT_CERT. Set CLIENT_CERT_FILE=/run/secrets/client-cert.pem"
                " as well, or neither."
            ),
            (
                "FALLBACK_RELAYHOST=[smtp2.example.com]: one of RELAYHOST and FALLBACK_RELAYHOST has port 465 and"
                " the other has not, and Postfix cannot change between implicit TLS and STARTTLS within a "
                "delivery. Give both the same kind of port, for example [smtp2.example.com]:465."
            ),
            (
                "RELAYHOST=[192.0.2.25]:465: it is an IP address, and Postfix finds only names in a certificate. "
                "Write the host's name; or name it in TLS_POLICY_TABLE: '[192.0.2.25]:465 secure "
                "match=smtp.example.com'; or set RELAYHOST_TLS=fingerprint."
            ),
            (
                "RELAYHOST_FINGERPRINT: RELAYHOST_TLS=secure never looks at it. Set RELAYHOST_TLS=fingerprint, or"
                " remove the fingerprint."
            ),
            (
                "RELAYHOST_USERNAME=user: there is a user name but no RELAYHOST_PASSWORD. Set "
                "RELAYHOST_PASSWORD_FILE=/run/secrets/password as well, or neither."
            ),
        ),
    ),
)


def _refuse(environ: Mapping[str, str]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        read({**BASE, **environ})
    return caught.value


def _lay_out(case: Case, directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)
    for name, content in case.files.items():
        (directory / name).write_bytes(content)


def _name(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_wrong_configuration_is_told_what_is_wrong_and_how_to_mend_it(
    case: Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong or missing message leaves the user with a container that does not start and no idea why."""
    _lay_out(case, tmp_path, monkeypatch)
    error = _refuse(case.environ)
    assert tuple(str(error).split("\n")) == case.messages
    assert error.exit_status == 78


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_wrong_configuration_never_shows_a_secret(
    case: Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Container logs are kept, shipped and pasted into tickets; a password in them has to be changed."""
    _lay_out(case, tmp_path, monkeypatch)
    secrets = {d.name: f"{SECRET}-{i}" for i, d in enumerate(DECLARATIONS) if d.is_secret}
    given = {name: value for name, value in secrets.items() if f"{name}_FILE" not in case.environ}
    spoken = str(_refuse({**given, **case.environ}))
    assert SECRET not in spoken
    key_lines = {line for key in (KEY, OTHER_KEY) for line in key.splitlines() if not line.startswith("-")}
    assert not any(line in spoken for line in key_lines)


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_wrong_configuration_names_its_setting_and_a_remedy_on_one_line(
    case: Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that does not say which variable to change helps nobody; a line break would forge another line."""
    _lay_out(case, tmp_path, monkeypatch)
    error = _refuse(case.environ)
    names = {d.name for d in DECLARATIONS} | {escape_odd(name.removesuffix("_FILE")) for name in case.environ}
    for problem in error.problems:
        line = str(problem)
        assert escape_odd(problem.setting.removesuffix("_FILE")) in names
        assert re.fullmatch(r"[^:=]+(=.*)?: .+[.?]", line), line
        assert problem.what
        assert problem.remedy
        assert line.isprintable()
    assert list(error.problems) == sorted(error.problems, key=str)


def test_cases_are_many_and_have_names_of_their_own() -> None:
    """The table is the contract; a name that is there twice hides a case from whoever looks for it."""
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 55


def test_cases_touch_every_setting() -> None:
    """A setting that nobody has ever given a bad value is one whose message nobody has ever read."""
    touched = {name.removesuffix("_FILE") for case in CASES for name in case.environ}
    assert {declaration.name for declaration in DECLARATIONS} - touched == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOSTNAME", "3f2a"),
        ("HOME", "/root"),
        ("PATH", "/usr/bin"),
        ("RELAYHOST_SERVICE_HOST", "10.0.0.1"),
        ("RELAYHOST_SERVICE_PORT", "25"),
        ("RELAYHOST_SERVICE_PORT_SMTP", "25"),
        ("RELAYHOST_PORT", "tcp://10.0.0.1:25"),
        ("RELAYHOST_PORT_25_TCP", "tcp://10.0.0.1:25"),
        ("RELAYHOST_PORT_25_TCP_ADDR", "10.0.0.1"),
        ("RELAYHOST_PORT_25_TCP_PORT", "25"),
        ("RELAYHOST_PORT_25_TCP_PROTO", "tcp"),
        ("RELAYHOST_PORT_53_UDP", "udp://10.0.0.1:53"),
        ("POSTFIX_SERVICE_HOST", "10.0.0.2"),
        ("POSTFIX_SERVICE_PORT", "25"),
        ("POSTFIX_PORT", "tcp://10.0.0.2:25"),
        ("POSTFIX_PORT_25_TCP", "tcp://10.0.0.2:25"),
        ("POSTFIX_PORT_25_TCP_ADDR", "10.0.0.2"),
        ("POSTFIX_MASTER_SERVICE_HOST", "10.0.0.2"),
        ("POSTFIX_MASTER_SERVICE_PORT", "25"),
        ("POSTFIX_MASTER_SERVICE_PORT_SMTP", "25"),
        ("POSTFIX_MASTER_PORT", "tcp://10.0.0.2:25"),
        ("POSTFIX_MASTER_PORT_25_TCP", "tcp://10.0.0.2:25"),
        ("POSTFIX_MASTER_PORT_25_TCP_PROTO", "tcp"),
        ("POSTFIX_MASTER_PORT_25_TCP_ADDR", "10.0.0.2"),
        ("POSTFIX_MASTER_NAME", "/app/postfix-master"),
        ("MYHOSTNAME_SERVICE_HOST", "10.0.0.3"),
        ("MYHOSTNAME_PORT", "tcp://10.0.0.3:25"),
        ("MYNETWORKS_PORT", "tcp://10.0.0.3:25"),
        ("RELAYHOST_NAME", "/app/relayhost"),
        ("POSTFIX_NAME", "/app/postfix"),
        ("RELAYHOST_ENV_LANG", "C"),
        ("POSTFIX_ENV_LANG", "C"),
        ("SMTP_HOST", "mail"),
        ("SMTP_PORT", "25"),
        ("DATABASE_URL", "postgres://db"),
        ("TZDIR", "/usr/share/zoneinfo"),
        ("CLIENT_ID", "7"),
        ("LIST_ID", "7"),
        ("TLS_CERT", "/cert.pem"),
        ("KUBERNETES_PORT", "tcp://10.0.0.1:443"),
        ("RELAYHOST_USERNAME", ""),
        ("RELAY_HOST", ""),
    ],
)
def test_variable_of_somebody_else_is_left_alone(name: str, value: str) -> None:
    """Kubernetes and Docker inject variables by the names of neighbours; none of them may keep mail from flowing."""
    _, warnings = read({**BASE, name: value})
    assert warnings == ()


def test_unknown_settings_warn_says_the_same_and_goes_on() -> None:
    """Somebody whose program has such a variable must be able to run without renaming it."""
    environ = {"RELAY_HOST": "x", "RELAYHOST_PASWORD": SECRET}
    refusal = _refuse(environ)
    settings, warnings = read({**BASE, **environ, "UNKNOWN_SETTINGS": "warn"})
    assert sorted(warnings) == str(refusal).split("\n")
    assert str(settings.relayhost_nexthop) == "[smtp.example.com]"


def test_unknown_settings_warn_still_refuses_a_value_that_is_wrong() -> None:
    """`warn` is about names; a bad value must not slip through beside them."""
    assert "TZ=Mars" in str(_refuse({"UNKNOWN_SETTINGS": "warn", "RELAY_HOST": "x", "TZ": "Mars"}))


@pytest.mark.parametrize("level", ["may", "dane", "none"])
def test_cleartext_auth_allows_and_warns(level: str) -> None:
    """The one way to send a password in the clear is asked for by name, and is said on every start."""
    _, warnings = read({**BASE, **LOGIN, "RELAYHOST_TLS": level, "RELAYHOST_CLEARTEXT_AUTH": "yes"})
    assert warnings == (
        "RELAYHOST_CLEARTEXT_AUTH=yes: the password for [smtp.example.com] may cross the network unprotected",
    )


def test_encrypt_with_credentials_warns_of_an_unchecked_certificate() -> None:
    """MUST_NOPEERMATCH of old configurations gives the password to whoever answers."""
    _, warnings = read({**BASE, **LOGIN, "RELAYHOST_TLS": "MUST_NOPEERMATCH"})
    assert warnings == (
        "[smtp.example.com] is used at level encrypt: its certificate is not checked, so whoever answers in its place "
        "gets the password",
    )


def test_policy_line_for_an_unused_host_warns() -> None:
    """A typing error in the table would silently leave the upstream at another level."""
    _, warnings = read({**BASE, "TLS_POLICY_TABLE": "smtq.example.com verify"})
    assert warnings == (
        "TLS_POLICY_TABLE: the line for 'smtq.example.com' has no effect: mail goes to [smtp.example.com] only",
    )


@pytest.mark.parametrize(
    ("name", "value", "is_weaker"),
    [
        ("smtp_tls_security_level", "may", True),
        ("smtp_tls_security_level", "secure", False),
        ("smtp_tls_protocols", ">=TLSv1", True),
        ("smtp_tls_protocols", ">=TLSv1.3", False),
        ("smtp_sasl_security_options", "noanonymous", True),
        ("smtp_sasl_security_options", "noplaintext, noanonymous", False),
        ("smtpd_relay_restrictions", "permit", True),
        ("smtpd_relay_restrictions", "permit_mynetworks, reject", False),
        ("smtpd_relay_restrictions", "permit, reject", True),
        ("smtpd_relay_restrictions", "permit_mynetworks", True),
        ("smtpd_relay_restrictions", "permit_mynetworks, check_sender_access lmdb:/senders, reject", True),
        ("smtpd_relay_restrictions", "permit_mynetworks check_client_access static:OK reject", True),
        ("smtpd_relay_restrictions", "reject_unknown_helo_hostname,check_client_access cidr:/clients,reject", False),
        ("smtpd_authorized_xclient_hosts", "0.0.0.0/0", True),
        ("mynetworks", "10.0.0.0/8", True),
        ("relay_domains", "example.com", True),
        ("smtpd_forbid_bare_newline", "no", True),
        ("smtpd_tls_auth_only", "no", True),
        ("smtpd_tls_auth_only", "yes", False),
        ("maximal_queue_lifetime", "1d", False),
    ],
)
def test_postfix_parameter_warns_only_where_it_weakens_a_default(name: str, value: str, is_weaker: bool) -> None:
    """Overrides are for experts; the one that opens the relay must not look like the others."""
    _, warnings = read({**BASE, f"POSTFIX_{name}": value})
    assert [warning.startswith(f"POSTFIX_{name}={value} weakens") for warning in warnings] == [True] * is_weaker


def test_file_and_variable_give_the_same_value(tmp_path: pathlib.Path) -> None:
    """One line break at the end of a secret file is an editor's; every other character is the password's."""
    password = " ".join(["$a", "#b", "c:d", "'e\"", "ü\\"])
    for ending in ("", "\n", "\r\n"):
        (tmp_path / "secret").write_bytes((password + ending).encode())
        settings, _ = read({**BASE, "RELAYHOST_USERNAME": "u", "RELAYHOST_PASSWORD_FILE": str(tmp_path / "secret")})
        assert settings.relayhost_password is not None
        assert settings.relayhost_password.reveal() == password
