"""Old configurations as people have them, written from the images' documentation and from well-known guides. Pure.

Each relays through `mail.example.test` at 587, or 465, with the account `relay@example.test`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

_SASL: Final = "[mail.example.test]:587 relay@example.test:secret\n"


@dataclass(frozen=True, kw_only=True)
class Old:
    """The files, and what they come to."""

    files: dict[str, str]
    settings: dict[str, str]
    """All that is set, with the passwords."""
    remarks: tuple[str, ...] = ()
    """What must be said, among other things."""
    source: str = ""
    """The file that is named; otherwise the directory."""
    given: dict[str, str] = field(default_factory=dict)
    """Files that are to be mounted, by setting."""


_LOGIN: Final = {"RELAYHOST_USERNAME": "relay@example.test", "RELAYHOST_PASSWORD": "secret"}
_PLAIN: Final = {"RELAYHOST": "[mail.example.test]:587", **_LOGIN}

OLD: Final = {
    "classic": Old(
        files={
            "main.cf": """\
# The relay that most guides describe
relayhost = [mail.example.test]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
smtp_sasl_security_options = noanonymous
smtp_use_tls = yes
smtp_tls_note_starttls_offer = yes
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
""",
            "sasl_passwd": f"# host account\n{_SASL}",
        },
        settings=_PLAIN,
        remarks=("CHANGED: the upstream's certificate is verified", "smtp_use_tls = yes took any"),
    ),
    "debian-satellite": Old(
        files={
            "main.cf": """\
# See /usr/share/postfix/main.cf.dist for a commented, more complete version
smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)
biff = no
append_dot_mydomain = no
readme_directory = no
compatibility_level = 3.6
smtpd_tls_cert_file=/etc/ssl/certs/ssl-cert-snakeoil.pem
smtpd_tls_key_file=/etc/ssl/private/ssl-cert-snakeoil.key
smtpd_tls_security_level=may
smtp_tls_CApath=/etc/ssl/certs
smtp_tls_security_level=may
smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
myhostname = web1.example.test
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
mydestination = web1.example.test, localhost.example.test, localhost
relayhost = [mail.example.test]:587
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = loopback-only
inet_protocols = all
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl/sasl_passwd
smtp_sasl_security_options = noanonymous
""",
            "sasl/sasl_passwd": _SASL,
        },
        settings={
            **_PLAIN,
            "MYHOSTNAME": "web1.example.test",
            "INET_INTERFACES": "loopback-only",
            "INET_PROTOCOLS": "all",
        },
        remarks=(
            "smtp_tls_security_level = may took any",
            "LEFT OUT: mydestination = web1.example.test, localhost.example.test, localhost",
            "NOT TAKEN: how clients log in, and speak TLS",
        ),
    ),
    "per-site": Old(
        files={
            "main.cf": """\
relayhost = [mail.example.test]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
smtp_tls_per_site = hash:/etc/postfix/tls_sites
""",
            "sasl_passwd": "mail.example.test relay@example.test:secret\n",
            "tls_sites": "mail.example.test MUST\n",
        },
        settings={**_PLAIN, "TLS_POLICY_TABLE": "mail.example.test verify"},
    ),
    "wrappermode": Old(
        files={
            "main.cf": """\
relayhost = [mail.example.test]:465
smtp_tls_wrappermode = yes
smtp_tls_security_level = encrypt
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:/etc/postfix/sasl_passwd
smtp_sasl_tls_security_options = noanonymous
""",
            "sasl_passwd": "[mail.example.test]:465\trelay@example.test:secret\n",
        },
        settings={"RELAYHOST": "[mail.example.test]:465", **_LOGIN},
        remarks=("smtp_tls_security_level = encrypt took any",),
    ),
    "mail-host-of-a-provider": Old(
        files={
            "main.cf": """\
relayhost = [mail.example.test]:587
smtp_use_tls = yes
smtp_sasl_auth_enable = yes
smtp_sasl_security_options =
smtp_sasl_password_maps = lmdb:/etc/postfix/sasl_passwd
smtp_sasl_mechanism_filter = plain
smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt
smtp_tls_security_level = secure
default_destination_concurrency_limit = 4
smtp_destination_rate_delay = 1s
smtp_destination_recipient_limit = 20
message_size_limit = 26214400
header_checks = regexp:/etc/postfix/header_checks, pcre:/etc/postfix/others
sender_canonical_maps = hash:/etc/postfix/canonical
alias_maps = hash:/etc/postfix/aliases
masquerade_domains = inside.test
smtp_header_checks = regexp:/etc/postfix/header_checks
""",
            "sasl_passwd": _SASL,
            "header_checks": "# what nobody outside should see\n/^X-Internal:/ IGNORE\n",
            "canonical": "root@host.test relay@example.test\n@old.test @example.test\nwww relay@example.test\n",
            "aliases": (
                "postmaster: root\nroot: ann@example.test, /var/mail/root\nnews: |/usr/bin/news\nnobody: nobody\n"
            ),
        },
        settings={
            **_PLAIN,
            "SMTP_SASL_MECHANISM_FILTER": "plain",
            "RELAYHOST_CONCURRENCY": "4",
            "RELAYHOST_RATE_DELAY": "1s",
            "RELAYHOST_RECIPIENT_LIMIT": "20",
            "MESSAGE_SIZE_LIMIT": "26214400",
            "HEADER_CHECKS_TABLE": "# what nobody outside should see\n/^X-Internal:/ IGNORE",
            "SENDER_REWRITE_TABLE": "root@host.test relay@example.test\n@old.test @example.test",
            "ALIAS_TABLE": "postmaster: root\nroot: ann@example.test",
            "MASQUERADE_DOMAINS": "inside.test",
        },
        remarks=(
            "NOT READ: header_checks has pcre:/etc/postfix/others: HEADER_CHECKS_TABLE has regexp:",
            "NOT TAKEN: sender_canonical_maps has 'www relay@example.test'",
            "NO EQUIVALENT: smtp_header_checks = regexp:/etc/postfix/header_checks",
        ),
    ),
    "sender-dependent": Old(
        files={
            "main.cf": """\
relayhost = [mail.example.test]:587
smtp_sender_dependent_authentication = yes
sender_dependent_relayhost_maps = hash:/etc/postfix/relayhost_map
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
smtp_tls_security_level = encrypt
""",
            "relayhost_map": "@other.example.test [other.example.test]:587\n",
            "sasl_passwd": (
                f"{_SASL}boss@example.test boss@example.test:boss secret\n@other.example.test other:other-secret\n"
            ),
        },
        settings={
            **_PLAIN,
            "SENDER_RELAY_TABLE": (
                "@other.example.test [other.example.test]:587 other other-secret\n"
                "boss@example.test [mail.example.test]:587 boss@example.test boss secret"
            ),
        },
    ),
    "transport": Old(
        files={
            "main.cf": """\
relayhost = [mail.example.test]:587
transport_maps = hash:/etc/postfix/transport
smtp_fallback_relay = [second.example.test]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
""",
            "transport": (
                "internal.test smtp:[mail.example.test]:587\n.gone.test error:5.1.2 gone\nnull.test discard:\n"
                "lists.test lmtp:[lists]:8024\nuser@a.test smtp:[b.test]\n"
            ),
            "sasl_passwd": f"{_SASL}[second.example.test]:587 second:second-secret\nold.example.test a:b\n",
        },
        settings={
            **_PLAIN,
            "FALLBACK_RELAYHOST": "[second.example.test]:587",
            "FALLBACK_RELAYHOST_USERNAME": "second",
            "FALLBACK_RELAYHOST_PASSWORD": "second-secret",
            "TRANSPORT_TABLE": (
                "internal.test [mail.example.test]:587\n.gone.test error 5.1.2 gone\nnull.test discard\n"
                "lists.test lmtp:[lists]:8024"
            ),
        },
        remarks=(
            "NOT TAKEN: transport_maps has 'user@a.test smtp:[b.test]'",
            "LEFT OUT: smtp_sasl_password_maps has an account for old.example.test",
        ),
    ),
    "private-ca": Old(
        files={
            "main.cf": """\
myhostname = relay.example.test
relayhost = [mail.example.test]:587
smtp_tls_security_level = verify
smtp_tls_CAfile = /etc/postfix/ca.pem
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = static:relay@example.test:secret
mynetworks = 0.0.0.0/0
inet_interfaces = all
maximal_queue_lifetime = 2d
""",
        },
        settings={
            **_PLAIN,
            "MYHOSTNAME": "relay.example.test",
            "RELAYHOST_TLS": "verify",
            "POSTFIX_maximal_queue_lifetime": "2d",
        },
        given={"RELAYHOST_CA": "/run/secrets/ca.pem"},
        remarks=("CHANGED: mynetworks had 0.0.0.0/0, with which everybody may send",),
    ),
    "boky": Old(
        files={
            "boky.env": """\
ALLOWED_SENDER_DOMAINS=example.test example.org
RELAYHOST=[mail.example.test]:587
RELAYHOST_USERNAME=relay@example.test
RELAYHOST_PASSWORD=secret
POSTFIX_myhostname=relay.example.test
POSTFIX_message_size_limit=0
MASQUERADED_DOMAINS=example.test
ANONYMIZE_EMAILS=smart
DKIM_AUTOGENERATE=1
TZ=UTC
"""
        },
        source="boky.env",
        settings={
            **_PLAIN,
            "ALLOWED_SENDER_DOMAINS": "example.test example.org",
            "MYHOSTNAME": "relay.example.test",
            "MESSAGE_SIZE_LIMIT": "none",
            "MASQUERADE_DOMAINS": "example.test",
            "LOG_ADDRESSES": "hash",
            "TZ": "UTC",
            "DKIM_DOMAINS": "example.test example.org",
            "DKIM_SELECTOR": "mail",
        },
        remarks=(
            "MASQUERADE_DOMAINS",
            "CHANGED: a new key is made for each, and its record is in the log",
            "boky/postfix takes mail for allowed sender domains alone",
        ),
    ),
    "boky-compose": Old(
        files={
            "compose-part.yaml": """\
environment:
  ALLOW_EMPTY_SENDER_DOMAINS: "true"
  RELAYHOST: "[mail.example.test]:587"
  RELAYHOST_USERNAME: relay@example.test
  RELAYHOST_PASSWORD_FILE: /run/secrets/password
  POSTFIX_smtp_tls_security_level: encrypt
  POSTFIX_mynetworks: 127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16
"""
        },
        source="compose-part.yaml",
        settings={
            "RELAYHOST": "[mail.example.test]:587",
            "RELAYHOST_USERNAME": "relay@example.test",
        },
        given={"RELAYHOST_PASSWORD": "/run/secrets/password"},
        remarks=("smtp_tls_security_level = encrypt took any", "CHANGED: mynetworks had 10.0.0.0/8, 172.16.0.0/12"),
    ),
    "wader": Old(
        files={
            "relay.env": """\
POSTFIX_myhostname=relay.example.test
POSTFIX_relayhost=[mail.example.test]:587
POSTFIX_smtp_sasl_auth_enable=yes
POSTFIX_smtp_sasl_password_maps=hash:/etc/postfix/sasl_passwd
POSTFIX_smtp_sasl_security_options=noanonymous
POSTFIX_smtp_tls_security_level=encrypt
POSTMAP_sasl_passwd=[mail.example.test]:587 relay@example.test:secret
OPENDKIM_DOMAINS=example.test
"""
        },
        source="relay.env",
        settings={**_PLAIN, "MYHOSTNAME": "relay.example.test"},
        remarks=("mwader/postfix-relay relays for everybody", "NO EQUIVALENT: OPENDKIM_DOMAINS"),
    ),
    "baptiste": Old(
        files={
            "postfix.env": """\
SMTP_SERVER=mail.example.test
SMTP_PORT=587
SMTP_USERNAME=relay@example.test
SMTP_PASSWORD=secret
SERVER_HOSTNAME=relay.example.test
MESSAGE_SIZE_LIMIT=20480000
SMTP_HEADER_TAG=shop
OVERWRITE_FROM="Shop" <shop@example.test>
"""
        },
        source="postfix.env",
        settings={**_PLAIN, "MYHOSTNAME": "relay.example.test", "MESSAGE_SIZE_LIMIT": "20480000"},
        remarks=("NO EQUIVALENT: OVERWRITE_FROM", "juanluisbaptiste/postfix does not verify TLS"),
    ),
    "docker-mailserver": Old(
        files={
            "mailserver.env": """\
OVERRIDE_HOSTNAME=relay.example.test
ENABLE_SPAMASSASSIN=1
ENABLE_CLAMAV=0
RELAY_HOST=mail.example.test
RELAY_PORT=587
RELAY_USER=relay@example.test
RELAY_PASSWORD=secret
PERMIT_DOCKER=none
"""
        },
        settings={**_PLAIN, "MYHOSTNAME": "relay.example.test"},
        remarks=("LEFT OUT: ENABLE_CLAMAV, ENABLE_SPAMASSASSIN", "docker-mailserver does not verify TLS"),
    ),
    "docker-mailserver-default": Old(
        files={
            "mailserver.env": """\
DEFAULT_RELAY_HOST=[mail.example.test]:587
RELAY_USER=relay@example.test
RELAY_PASSWORD=secret
"""
        },
        settings=_PLAIN,
    ),
    "mailu": Old(
        files={"mailu.env": "RELAYHOST=[mail.example.test]:587\nRELAYUSER=relay@example.test\nRELAYPASSWORD=secret\n"},
        source="mailu.env",
        settings=_PLAIN,
        remarks=("Mailu does not verify TLS",),
    ),
}
