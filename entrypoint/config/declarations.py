"""Every setting, declared once: name, type, default, help, and the Postfix parameter that it feeds. Pure.

The README's table and `authrelay settings` are generated from this file. The names are the field's own in capitals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from entrypoint.config.certificates import (
    Certificates,
    parse_authorities,
    parse_authorities_text,
    parse_certificate_chain,
    parse_private_key,
    parse_subject,
)
from entrypoint.config.declaration import defaulted, list_declarations, optional, required
from entrypoint.config.nexthop import Nexthop, parse_nexthop
from entrypoint.config.oauth2 import (
    GRANTS,
    ServiceAccount,
    parse_client_id,
    parse_scope,
    parse_service_account,
    parse_token_url,
)
from entrypoint.config.providers import parse_provider
from entrypoint.config.routes import Route, parse_recipient_pattern, parse_sender_table, parse_transport_table
from entrypoint.config.secret import Secret
from entrypoint.config.syslog_url import SyslogUrl, parse_syslog_url
from entrypoint.config.tls import (
    TlsLevel,
    TlsRule,
    parse_fingerprint,
    parse_level,
    parse_policy_table,
)
from entrypoint.config.upstreams import (
    AUTHS,
    MOST_RECIPIENTS,
    Upstream,
    parse_upstreams,
)
from entrypoint.config.values import (
    ALL_INTERFACES,
    Endpoint,
    IPAddress,
    IPNetwork,
    parse_address_or_name,
    parse_boolean,
    parse_choice,
    parse_duration_seconds,
    parse_endpoint,
    parse_host_name,
    parse_integer,
    parse_interfaces,
    parse_key,
    parse_list,
    parse_mechanism,
    parse_network,
    parse_password,
    parse_refresh_seconds,
    parse_size_bytes,
    parse_time_zone,
    parse_username,
)
from entrypoint.config.web_url import parse_web_url

UPSTREAM: Final = "Upstream"
OAUTH2: Final = "OAuth 2.0 at the upstream"
CERTIFICATE: Final = "Client certificate"
CLIENTS: Final = "Who may send, and how"
RUNNING: Final = "Running"


@dataclass(frozen=True, kw_only=True)
class Declared:
    """Each setting and its value; times in seconds, sizes in bytes."""

    relayhost: Nexthop = required(
        parse_nexthop,
        "The upstream: `smtp.example.com`, `[smtp.example.com]:587`, `smtp.example.com:submission`; IPv6 in brackets. "
        "No port is port 25. Port 465 means implicit TLS (RFC 8314); every other port STARTTLS.",
        group=UPSTREAM,
        parameter="relayhost",
    )
    provider: str | None = optional(
        parse_provider,
        "A provider whose host, port and limits are known: gmail, google-workspace, microsoft365, "
        "`microsoft365:<tenant>` (OAuth 2.0), `ses:<region>`, sendgrid, mailgun, mailgun-eu, postmark, mailjet, brevo "
        "or fastmail. Every other setting goes before it.",
        group=UPSTREAM,
    )
    relayhost_mx: bool = defaulted(
        parse_boolean,
        "Ask for the MX hosts of RELAYHOST instead of connecting to the host itself.",
        default="no",
        group=UPSTREAM,
    )
    relayhost_username: str | None = optional(
        parse_username, "The account at the upstream.", group=UPSTREAM, default_help="no authentication"
    )
    relayhost_password: Secret | None = optional(
        parse_password, "Its password; better as RELAYHOST_PASSWORD_FILE.", group=UPSTREAM, is_secret=True
    )
    relayhost_auth: str | None = optional(
        parse_choice(*AUTHS),
        "How to log in: password; xoauth2 or oauthbearer, in which an access token stands for the password; or none.",
        group=UPSTREAM,
        default_help="password when there are credentials",
    )
    smtp_sasl_mechanism_filter: tuple[str, ...] | None = optional(
        parse_list(parse_mechanism),
        "The SASL mechanisms that may be used, for example `plain, login` or `!plain`.",
        group=UPSTREAM,
        default_help="every mechanism that is installed and takes a password",
        parameter="smtp_sasl_mechanism_filter",
    )
    relayhost_tls: TlsLevel = defaulted(
        parse_level,
        "How the upstream is checked: secure, verify, dane, dane-only, fingerprint, encrypt, may, none, or an old word "
        "(MUST, MUST_NOPEERMATCH, MAY, NONE).",
        default="secure",
        group=UPSTREAM,
        parameter="smtp_tls_security_level",
    )
    relayhost_cleartext_auth: bool = defaulted(
        parse_boolean,
        "Allow the password to be sent without TLS. Never over a network that others can reach.",
        default="no",
        group=UPSTREAM,
    )
    relayhost_ca: Certificates | None = defaulted(
        parse_authorities_text,
        "Who may sign the upstream's certificate: `system` (Debian's bundle) or PEM text. RELAYHOST_CA_FILE may be a "
        "PEM bundle, DER, PKCS #7 or a ZIP of those.",
        default="system",
        group=UPSTREAM,
        parse_file=parse_authorities,
    )
    relayhost_ca_url: str | None = optional(
        parse_web_url,
        "Where that CA is fetched instead, in any of those forms: `https://`, whose server must be one that Debian's "
        "bundle trusts, or `http://` with RELAYHOST_CA_SHA256. If a fetch fails, the last good copy serves.",
        group=UPSTREAM,
    )
    relayhost_ca_refresh: int = defaulted(
        parse_refresh_seconds,
        "How often it is fetched again while the relay runs, give or take a tenth: 10s and more.",
        default="6h",
        group=UPSTREAM,
    )
    relayhost_ca_sha256: tuple[str, ...] | None = optional(
        parse_list(parse_fingerprint),
        "SHA-256 of the CA certificate at RELAYHOST_CA_URL; several in a rollover. No other is trusted.",
        group=UPSTREAM,
        default_help="every CA that is fetched over https",
    )
    relayhost_fingerprint: tuple[str, ...] | None = optional(
        parse_list(parse_fingerprint),
        "For RELAYHOST_TLS=fingerprint: SHA-256 of the upstream's certificate or public key; several in a rollover.",
        group=UPSTREAM,
        parameter="smtp_tls_fingerprint_cert_match",
    )
    tls_policy_table: tuple[TlsRule, ...] | None = optional(
        parse_policy_table,
        "TLS by destination, one a line: `host LEVEL [match=... protocols=... servername=... ciphers=...]`.",
        group=UPSTREAM,
    )
    fallback_relayhost: Nexthop | None = optional(
        parse_nexthop,
        "Where mail goes while RELAYHOST cannot be reached.",
        group=UPSTREAM,
        parameter="smtp_fallback_relay",
    )
    fallback_relayhost_username: str | None = optional(
        parse_username,
        "The account at FALLBACK_RELAYHOST; RELAYHOST's account is never sent there.",
        group=UPSTREAM,
        default_help="no authentication",
    )
    fallback_relayhost_password: Secret | None = optional(
        parse_password, "Its password.", group=UPSTREAM, is_secret=True
    )
    relayhost_concurrency: int | None = optional(
        parse_integer(1, 1000),
        "The most connections to the upstream at one time.",
        group=UPSTREAM,
        default_help="Postfix's 20",
        parameter="smtp_destination_concurrency_limit",
    )
    relayhost_rate_delay: int | None = optional(
        parse_duration_seconds,
        "The least time between two messages; not 0 means one connection at a time.",
        group=UPSTREAM,
        default_help="none",
        parameter="smtp_transport_rate_delay",
    )
    relayhost_recipient_limit: int | None = optional(
        parse_integer(1, MOST_RECIPIENTS),
        "The most recipients of one message; what has more is sent in several.",
        group=UPSTREAM,
        default_help="Postfix's 50",
        parameter="smtp_destination_recipient_limit",
    )
    upstreams: tuple[Upstream, ...] | None = optional(
        parse_upstreams,
        "More upstreams, each with its own account, CA, limits and senders, in TOML: docs/upstreams.md. Better as "
        "UPSTREAMS_FILE, for it holds passwords.",
        group=UPSTREAM,
        is_secret=True,
    )
    sender_relay_table: tuple[Route, ...] | None = optional(
        parse_sender_table,
        "Where mail goes by its envelope sender, one a line: `user@example.com` or `@example.com`, the nexthop or the "
        "name of an upstream, and user name and password.",
        group=UPSTREAM,
        is_secret=True,
    )
    transport_table: tuple[Route, ...] | None = optional(
        parse_transport_table,
        "Where mail goes by its recipient's domain, whoever sent it, one a line: `example.com` or `.example.com`, and "
        "a nexthop, the name of an upstream, `discard`, `error CODE TEXT` or `lmtp:host:port`.",
        group=UPSTREAM,
        parameter="transport_maps",
    )

    oauth2_token_url: str | None = optional(
        parse_token_url,
        "The token endpoint, https; docs/oauth2.md. OAuth 2.0 is used as soon as one of these settings is there.",
        group=OAUTH2,
        default_help="PROVIDER's, or that of OAUTH2_SERVICE_ACCOUNT",
    )
    oauth2_grant: str | None = optional(
        parse_choice(*GRANTS),
        "How a token is asked for: client_credentials, refresh_token or service_account.",
        group=OAUTH2,
        default_help="by what is given: a service account, a refresh token, or else client_credentials",
    )
    oauth2_client_id: str | None = optional(parse_client_id, "The application's id at the provider.", group=OAUTH2)
    oauth2_client_secret: Secret | None = optional(
        parse_password,
        "The application's secret.",
        group=OAUTH2,
        default_help="with client_credentials a certificate in its place",
        is_secret=True,
    )
    oauth2_refresh_token: Secret | None = optional(
        parse_password,
        "What `authrelay oauth2 login` gives. Those that the provider gives in its place later are kept.",
        group=OAUTH2,
        is_secret=True,
    )
    oauth2_scope: str | None = optional(
        parse_scope,
        "What the token is to be good for.",
        group=OAUTH2,
        default_help="PROVIDER's; for a service account `https://mail.google.com/`",
    )
    oauth2_service_account: ServiceAccount | None = optional(
        parse_service_account,
        "The JSON key file of a Google service account, which acts for the mailbox RELAYHOST_USERNAME.",
        group=OAUTH2,
        is_secret=True,
    )
    oauth2_client_cert: Certificates | None = optional(
        parse_certificate_chain,
        "PEM of the certificate by which the application proves who it is (private_key_jwt).",
        group=OAUTH2,
        default_help="one is made and kept where neither it nor a secret is given: `authrelay oauth2 certificate`",
    )
    oauth2_client_key: Secret | None = optional(
        parse_private_key, "PEM of its private key.", group=OAUTH2, is_secret=True
    )
    oauth2_ca: Certificates | None = defaulted(
        parse_authorities_text,
        "Who may sign the token endpoint's certificate: `system` or PEM text. OAUTH2_CA_FILE may be what "
        "RELAYHOST_CA_FILE may be.",
        default="system",
        group=OAUTH2,
        parse_file=parse_authorities,
    )

    client_cert: Certificates | None = optional(
        parse_certificate_chain,
        "PEM of the certificate to show to the upstream, with its intermediates; `none` shows none.",
        group=CERTIFICATE,
        default_help="one is made and kept",
        cleared=Certificates(pem="", members=()),
    )
    client_key: Secret | None = optional(
        parse_private_key, "PEM of its private key.", group=CERTIFICATE, is_secret=True
    )
    client_cert_subject: str | None = optional(
        parse_subject,
        "The subject of the certificate that is made (RFC 4514).",
        group=CERTIFICATE,
        default_help="`CN=<MYHOSTNAME>`",
    )
    client_cert_days: int = defaulted(
        parse_integer(31, 36500), "How many days it is valid.", default="10000", group=CERTIFICATE
    )
    client_key_type: str = defaulted(
        parse_choice("ecdsa", "rsa"),
        "Its key: ecdsa (P-256) or rsa (3072 bits).",
        default="ecdsa",
        group=CERTIFICATE,
    )

    myhostname: str | None = optional(
        parse_host_name,
        "The name that this relay gives itself, in EHLO and Received.",
        group=CLIENTS,
        default_help="the container's host name",
        parameter="myhostname",
    )
    mynetworks: tuple[IPNetwork, ...] | None = optional(
        parse_list(parse_network),
        "Who may send: networks in CIDR form. A gateway of the container is left out unless it is named itself. "
        "`none` lets nobody but the container itself.",
        group=CLIENTS,
        default_help="loopback and the attached private subnets, without their gateways",
        parameter="mynetworks",
        cleared=(),
    )
    inet_interfaces: tuple[IPAddress, ...] | str = defaulted(
        parse_interfaces,
        "Where to listen: all, loopback-only (a sidecar), or addresses of this container.",
        default=ALL_INTERFACES,
        group=CLIENTS,
        parameter="inet_interfaces",
    )
    inet_protocols: str = defaulted(
        parse_choice("all", "ipv4", "ipv6"),
        "The address families in use: all, ipv4 or ipv6.",
        default="all",
        group=CLIENTS,
        parameter="inet_protocols",
    )
    proxy_interfaces: tuple[IPAddress | str, ...] | None = optional(
        parse_list(parse_address_or_name),
        "Addresses, or names that are looked up every five minutes, under which a NAT or proxy reaches this relay from "
        "outside.",
        group=CLIENTS,
        default_help="none",
        parameter="proxy_interfaces",
        cleared=(),
    )
    listen_ports: tuple[int, ...] = defaulted(
        parse_list(parse_integer(1, 65535)), "The ports to listen on.", default="25 587", group=CLIENTS
    )
    allowed_sender_domains: tuple[str, ...] | None = optional(
        parse_list(parse_recipient_pattern),
        "The domains of envelope senders that may send: `example.com`, `.example.com` for all below it. Bounces, which "
        "have no sender, may in any case.",
        group=CLIENTS,
        default_help="all",
    )
    allowed_recipient_domains: tuple[str, ...] | None = optional(
        parse_list(parse_recipient_pattern),
        "The domains of recipients that mail may go to, in the same form.",
        group=CLIENTS,
        default_help="all",
    )
    message_size_limit: int = defaulted(
        parse_size_bytes,
        "The largest message that is accepted: bytes, or with k, M, G; `none` for no limit.",
        default="50M",
        group=CLIENTS,
        parameter="message_size_limit",
        cleared=0,
    )

    drain_timeout: int = defaulted(
        parse_duration_seconds,
        "How long, after a signal to stop, what is queued still goes out. Deliveries under way are waited for in any "
        "case: let the engine's own patience be at least 6 seconds more.",
        default="4s",
        group=RUNNING,
    )
    probe: str = defaulted(
        parse_choice("yes", "no-login", "no"),
        "Whether the relay walks to the upstream itself when it starts and when mail begins to wait, and says what is "
        "broken: yes, no-login (everything but the login), or no.",
        default="yes",
        group=RUNNING,
    )
    log_format: str = defaulted(
        parse_choice("plain", "json"),
        "The form of the log: plain, or json, with an event for each recipient whose delivery has ended.",
        default="plain",
        group=RUNNING,
    )
    log_addresses: str = defaulted(
        parse_choice("full", "domain", "hash"),
        "What the log shows of mail addresses: full, domain (`*@example.com`), or hash: a code in place of the name, "
        "the same for the same address.",
        default="full",
        group=RUNNING,
    )
    log_addresses_key: Secret | None = optional(
        parse_key,
        "The key of these codes, 16 characters or more, so that several relays have the same.",
        group=RUNNING,
        default_help="one is made and kept",
        is_secret=True,
    )
    syslog_url: SyslogUrl | None = optional(
        parse_syslog_url,
        "Where every line of the log goes as well (RFC 5424): `udp://host`, `tcp://host` or `tls://host`, each with an "
        "optional `:port` (514, 601, 6514); IPv6 in brackets.",
        group=RUNNING,
        default_help="standard output alone",
        cleared=None,
    )
    syslog_ca: Certificates | None = defaulted(
        parse_authorities_text,
        "Who may sign the certificate of a `tls://` server: `system` (Debian's bundle) or PEM text. SYSLOG_CA_FILE may "
        "be a PEM bundle, DER, PKCS #7 or a ZIP of those.",
        default="system",
        group=RUNNING,
        parse_file=parse_authorities,
    )
    status_listen: Endpoint | None = defaulted(
        parse_endpoint,
        "Where the status service answers over HTTP: metrics, health and a page for people. Whoever reaches it can "
        "read it: `127.0.0.1:9154` lets nobody but the container itself, `none` leaves it out.",
        default="0.0.0.0:9154",
        group=RUNNING,
        cleared=None,
    )
    tls_log_level: int = defaulted(
        parse_integer(0, 4),
        "What Postfix logs of TLS beside the verdict: 1 a certificate's faults, 0 nothing, 2 and more for debugging.",
        default="1",
        group=RUNNING,
        parameter="smtp_tls_loglevel",
    )
    tz: str = defaulted(parse_time_zone, "The time zone of the log.", default="UTC", group=RUNNING)
    unknown_settings: str = defaulted(
        parse_choice("error", "warn"),
        "What to do about a variable that looks like a misspelt setting: error or warn.",
        default="error",
        group=RUNNING,
    )

    relayhost_token: Secret | None = None
    """RELAYHOST's access token, in the place of a password; empty while there is none."""
    postfix_parameters: tuple[tuple[str, str], ...] = ()
    """From `POSTFIX_<parameter>`, sorted by name; `$` in a value is Postfix's own."""


DECLARATIONS: Final = list_declarations(Declared)
