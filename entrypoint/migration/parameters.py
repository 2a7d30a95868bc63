"""What becomes of each parameter of an old main.cf that is not looked at by itself. Pure."""

from __future__ import annotations

import re
from typing import Final

SAME: Final = {
    "myhostname": "MYHOSTNAME",
    "inet_protocols": "INET_PROTOCOLS",
    "proxy_interfaces": "PROXY_INTERFACES",
    "message_size_limit": "MESSAGE_SIZE_LIMIT",
    "smtp_sasl_mechanism_filter": "SMTP_SASL_MECHANISM_FILTER",
    "smtp_tls_fingerprint_cert_match": "RELAYHOST_FINGERPRINT",
    "smtp_destination_concurrency_limit": "RELAYHOST_CONCURRENCY",
    "default_destination_concurrency_limit": "RELAYHOST_CONCURRENCY",
    "smtp_destination_rate_delay": "RELAYHOST_RATE_DELAY",
    "default_destination_rate_delay": "RELAYHOST_RATE_DELAY",
    "smtp_destination_recipient_limit": "RELAYHOST_RECIPIENT_LIMIT",
    "default_destination_recipient_limit": "RELAYHOST_RECIPIENT_LIMIT",
}
ALREADY_SO: Final = re.compile(
    r"compatibility_level|queue_directory|command_directory|daemon_directory|data_directory|meta_directory|shlib_directory"
    r"|mail_owner|setgid_group|default_privs|(html|manpage|readme|sample)_directory|(sendmail|newaliases|mailq)_path"
    r"|biff|append_dot_mydomain|maillog_file.*|debug(ger_command|_peer_level)|smtpd_banner|mail_name"
    r"|default_database_type|smtp_tls_session_cache_\w+|smtp_sasl_auth_enable|smtp_sasl_(tls_)?security_options"
    r"|smtp_tls_note_starttls_offer|smtp_tls_(mandatory_)?(protocols|ciphers)|smtp_use_tls|smtp_enforce_tls"
    r"|smtp_tls_security_level|smtp_tls_wrappermode|smtp_tls_loglevel|smtp_sender_dependent_authentication"
    r"|smtp_host_lookup|smtp_tls_connection_reuse|smtp_connection_cache_\w+|in_flow_delay|myorigin|mydomain|smtp_tls_CApath"
    r"|smtpd_(relay|client|helo|recipient|data|sender)_restrictions|smtpd_peername_lookup|notify_classes|unknown_\w+"
    r"|process_id_directory|mynetworks_style|disable_vrfy_command|smtpd_helo_required|strict_rfc821_envelopes"
    r"|default_process_limit|import_environment|smtputf8_enable|local_transport|local_recipient_maps|always_add_missing_headers"
)
"""What follows by itself, or what a relay has no use for."""
FOR_MAILBOXES: Final = re.compile(
    r"mydestination|home_mailbox|mailbox_\w+|local_\w+|luser_relay|recipient_delimiter|virtual_\w+"
    r"|relay_recipient_maps|mail_spool_directory"
)
FOR_LOGINS: Final = re.compile(
    r"smtpd_sasl_\w+|smtpd_tls_\w+|smtpd_use_tls|smtpd_enforce_tls|broken_sasl_auth_clients|cyrus_sasl_\w+"
)
REWRITES: Final = re.compile(
    r"(sender_|recipient_)?canonical_(maps|classes)|smtp_generic_maps|masquerade_\w+|(smtp_|mime_|nested_)?header_checks"
    r"|(smtp_)?body_checks|rewrite_\w+|remote_header_rewrite_domain|(always|sender|recipient)_bcc(_maps)?"
)
