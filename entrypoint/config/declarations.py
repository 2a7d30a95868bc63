"""Every setting, declared once: name, type, default, help, and the Postfix parameter that it feeds. Pure.

The README's table and `authrelay settings` are generated from this file. The names are the field's own in capitals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from entrypoint.config.certificates import (
    Certificates,
    parse_authorities,
    parse_authorities_text,
    parse_certificate_chain,
    parse_private_key,
    parse_subject,
)
from entrypoint.config.declaration import defaulted, list_declarations, optional, required
from entrypoint.config.dkim import (
    BOTH,
    DEFAULT_SELECTOR,
    ED25519,
    RSA,
    SignedDomain,
    parse_dkim_keys,
    parse_selector,
    parse_signed_domains,
)
from entrypoint.config.fragments import OwnTable
from entrypoint.config.lists import parse_list_domain, parse_lmtp_server, parse_maps_directory
from entrypoint.config.logins import (
    KnownCertificate,
    SenderOwners,
    User,
    parse_certificates_table,
    parse_sender_login_table,
    parse_users_table,
)
from entrypoint.config.master import MasterEntry
from entrypoint.config.milters import parse_milter
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
from entrypoint.config.rewriting import (
    parse_alias_table,
    parse_header_checks_table,
    parse_masquerade_domains,
    parse_sender_rewrite_table,
)
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

if TYPE_CHECKING:
    from entrypoint.config.aliases import Alias
    from entrypoint.config.dkim_key import DkimKey
    from entrypoint.config.sender_rewriting import SenderRewrite

UPSTREAM: Final = "Upstream"
OAUTH2: Final = "OAuth 2.0 at the upstream"
CERTIFICATE: Final = "Client certificate"
CLIENTS: Final = "Who may send, and how"
LISTS: Final = "Mail for lists"
REWRITING: Final = "Addresses and headers"
SIGNING: Final = "DKIM"
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
        "A provider whose host, port and limits are known, for example gmail, `microsoft365:<tenant>` (OAuth 2.0) or "
        "`ses:<region>`: docs/providers.md has all of them. Every other setting goes before it.",
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
    smtpd_users_table: tuple[User, ...] | None = optional(
        parse_users_table,
        "Who may send from anywhere after logging in, one a line: `user:password`, or `user:{SCRYPT}...` as "
        "`authrelay hash-password` prints it. Needs SMTPD_TLS_CERT. Better as SMTPD_USERS_TABLE_FILE.",
        group=CLIENTS,
        default_help="nobody",
        is_secret=True,
    )
    sender_login_table: tuple[SenderOwners, ...] | None = optional(
        parse_sender_login_table,
        "Whose an envelope sender is, one a line: `app@example.com` or `@example.com`, and users. Nobody else may use "
        "it, and these users no other.",
        group=CLIENTS,
        default_help="users may send as anybody",
        parameter="smtpd_sender_login_maps",
    )
    smtpd_tls_cert: Certificates | None = optional(
        parse_certificate_chain,
        "PEM of the certificate that clients are shown, with its intermediates. With it they can speak TLS, on port "
        "465 from the beginning.",
        group=CLIENTS,
        default_help="no TLS for clients",
    )
    smtpd_tls_key: Secret | None = optional(parse_private_key, "PEM of its private key.", group=CLIENTS, is_secret=True)
    smtpd_tls_security_level: str | None = optional(
        parse_choice("may", "encrypt"),
        "Whether clients may do without TLS: may, or encrypt, which refuses their mail.",
        group=CLIENTS,
        default_help="may, with SMTPD_TLS_CERT",
        parameter="smtpd_tls_security_level",
    )
    smtpd_client_certs_table: tuple[KnownCertificate, ...] | None = optional(
        parse_certificates_table,
        "Clients that may send from anywhere by their certificate, one a line: the SHA-256 fingerprint of it or of its "
        "public key, and a name.",
        group=CLIENTS,
        default_help="none is asked for",
        parameter="relay_clientcerts",
    )
    smtpd_client_connection_rate_limit: int | None = optional(
        parse_integer(1, 1_000_000),
        "The most connections of one client's address in a minute.",
        group=CLIENTS,
        default_help="no limit",
        parameter="smtpd_client_connection_rate_limit",
    )
    smtpd_client_message_rate_limit: int | None = optional(
        parse_integer(1, 1_000_000),
        "The most messages of one client's address in a minute.",
        group=CLIENTS,
        default_help="no limit",
        parameter="smtpd_client_message_rate_limit",
    )
    smtpd_client_recipient_rate_limit: int | None = optional(
        parse_integer(1, 1_000_000),
        "The most recipients of one client's address in a minute.",
        group=CLIENTS,
        default_help="no limit",
        parameter="smtpd_client_recipient_rate_limit",
    )
    smtpd_client_auth_rate_limit: int | None = optional(
        parse_integer(1, 1_000_000),
        "The most logins, good and bad, of one client's address in a minute.",
        group=CLIENTS,
        default_help="no limit",
        parameter="smtpd_client_auth_rate_limit",
    )
    message_size_limit: int = defaulted(
        parse_size_bytes,
        "The largest message that is accepted: bytes, or with k, M, G; `none` for no limit.",
        default="50M",
        group=CLIENTS,
        parameter="message_size_limit",
        cleared=0,
    )

    smtpd_milters: tuple[str, ...] | None = optional(
        parse_list(parse_milter),
        "Filters that see every message before it is accepted, in this order: `inet:rspamd:11332`, "
        "`unix:/run/milter/socket`. Names are looked up for each session.",
        group=CLIENTS,
        default_help="none",
        parameter="smtpd_milters",
        cleared=(),
    )
    milter_default_action: str = defaulted(
        parse_choice("tempfail", "accept", "reject", "quarantine"),
        "What happens to a message while a milter does not answer: tempfail (451, the client tries again), accept (it "
        "goes out unseen), reject, or quarantine (it is held).",
        default="tempfail",
        group=CLIENTS,
        parameter="milter_default_action",
    )

    list_domains: tuple[str, ...] | None = optional(
        parse_list(parse_list_domain),
        "The domains of a list server, for whose lists mail is accepted from everywhere: docs/inbound.md. Needs the "
        "other two.",
        group=LISTS,
        default_help="none",
        parameter="relay_domains",
    )
    list_lmtp: Nexthop | None = optional(
        parse_lmtp_server,
        "Where the list server takes it, by LMTP: `mailman`, `mailman:8024`; no port is 8024, GNU Mailman's.",
        group=LISTS,
    )
    list_maps_dir: str | None = optional(
        parse_maps_directory,
        "The directory in which Mailman writes `postfix_lmtp`, which is followed as lists come and go; read-only will "
        "do.",
        group=LISTS,
    )
    dnsbl_sites: tuple[str, ...] | None = optional(
        parse_list(parse_host_name),
        "Block lists of the DNS: whoever is on one of them, `zen.spamhaus.org` for example, may not send to lists.",
        group=LISTS,
        default_help="none is asked",
        cleared=(),
    )

    sender_rewrite_table: tuple[SenderRewrite, ...] | None = optional(
        parse_sender_rewrite_table,
        "Which sender, in the envelope and in From, becomes which, one a line: `user@example.com`, `@example.com` or "
        "`*`, and `user@example.org`, or `@example.org`, which keeps the name before it: docs/rewriting.md.",
        group=REWRITING,
    )
    sender_rewrite_reply_to: str = defaulted(
        parse_choice("kept", "author"),
        "Where answers to such messages go: kept, where the message itself says, or author, to the From that it had, "
        "in place of a Reply-To of its own.",
        default="kept",
        group=REWRITING,
    )
    masquerade_domains: tuple[str, ...] | None = optional(
        parse_masquerade_domains,
        "Domains whose hosts are left out of senders: with `example.com`, user@host.example.com becomes "
        "user@example.com. `!host.example.com`, before it, stays.",
        group=REWRITING,
        parameter="masquerade_domains",
    )
    alias_table: tuple[Alias, ...] | None = optional(
        parse_alias_table,
        "Who gets mail to names of this relay's own, one a line: `root: person@example.com`, several separated by "
        "commas; `*` for every other name.",
        group=REWRITING,
        parameter="virtual_alias_maps",
    )
    header_checks_table: str | None = optional(
        parse_header_checks_table,
        "What is done about headers, one rule a line: `/^Subject: test/ REJECT`, as in header_checks(5), with regular "
        "expressions of regexp_table(5).",
        group=REWRITING,
        parameter="header_checks",
    )
    hide_received: bool = defaulted(
        parse_boolean,
        "Leave out of every Received header, also of the one that this relay adds, which host the message came from.",
        default="no",
        group=REWRITING,
    )

    dkim_domains: tuple[SignedDomain, ...] | None = optional(
        parse_signed_domains,
        "The domains whose mail is signed, by the From field: `example.com`, `.example.com` for all below it; with its "
        "own selector, `example.org:2027`.",
        group=SIGNING,
        default_help="nothing is signed",
    )
    dkim_selector: str | None = optional(
        parse_selector,
        "Where the public key is published: `authrelay._domainkey.example.com`. Of two keys the Ed25519 key is at "
        "`authrelay-ed25519`.",
        group=SIGNING,
        default_help=f"`{DEFAULT_SELECTOR}`",
    )
    dkim_key: tuple[DkimKey, ...] | None = optional(
        parse_dkim_keys,
        "PEM of the private key of all these domains: RSA of 2048 to 4096 bits, or Ed25519; or one of each, which both "
        "sign. Better as DKIM_KEY_FILE.",
        group=SIGNING,
        default_help="one is made for each domain and kept",
        is_secret=True,
    )
    dkim_key_type: str | None = optional(
        parse_choice(RSA, ED25519, BOTH),
        "The keys that are made: rsa (2048 bits), ed25519, which many receivers cannot check yet, or both.",
        group=SIGNING,
        default_help=RSA,
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
    """From `POSTFIX_<parameter>` and main.cf.d, sorted by name; `$` in a value is Postfix's own."""
    master_entries: tuple[MasterEntry, ...] = ()
    """From `POSTFIX_MASTER_<service>__<type>`."""
    own_tables: tuple[OwnTable, ...] = ()
    """The files of /etc/authrelay/tables that those name."""


DECLARATIONS: Final = list_declarations(Declared)
