"""Every path in the container, once. Pure.

What is written lies under RUN (a tmpfs on a read-only container), STATE or QUEUE (volumes).
"""

from __future__ import annotations

from typing import Final

# Read-only: part of the image.
TEMPLATES: Final = "/usr/share/authrelay/templates"
COMPILED_TEMPLATES: Final = "/usr/share/authrelay/compiled-templates"
POSTFIX_PARAMETERS: Final = "/usr/share/authrelay/postfix-parameters"
"""The names that `postconf -d` knows, one a line, written when the image is built."""
POSTFIX_META: Final = "/usr/share/authrelay/postfix"
"""Postfix's meta_directory: its own files that are not configuration (postconf(5))."""
POSTFIX_DAEMONS: Final = "/usr/lib/postfix/sbin"
SYSTEM_AUTHORITIES: Final = "/etc/ssl/certs/ca-certificates.crt"
PYTHON: Final = "/opt/authrelay/bin/python3"

# The container engine's.
RESOLV_CONF: Final = "/etc/resolv.conf"
"""Which name servers are asked (resolv.conf(5))."""

# Written on every start.
RUN: Final = "/run/authrelay"
POSTFIX_CONFIG: Final = "/etc/postfix"
"""A symbolic link to RUN/postfix, so that mailq and postconf in the container need no option."""
POSTFIX_CONFIG_TARGET: Final = f"{RUN}/postfix"
POSTFIX_DATA: Final = f"{RUN}/postfix-data"
UPSTREAM_AUTHORITIES: Final = f"{POSTFIX_CONFIG}/upstream-ca.pem"
"""The CA in force, where it is not the system's bundle."""
SUPERVISORD_CONF: Final = f"{RUN}/supervisord.conf"
LISTENERS: Final = f"{RUN}/listeners.json"
"""What `health` has to reach, and from where: a list of [address, port, source address], written by the plan."""
SERVICES: Final = f"{RUN}/services.json"
"""What supervisor runs just now: {name: {"state": ..., "pid": ...}}, written on every change."""
UPKEEP: Final = f"{RUN}/upkeep.json"
"""What the upkeep has to remember until its next run, and what it has found wrong."""
VERDICT: Final = f"{RUN}/verdict.json"
"""What the last probe of the upstreams found."""
UNTRUSTED: Final = f"{RUN}/untrusted"
"""Written when a delivery found a CA that is not trusted: a new one may have been published."""
TROUBLE: Final = f"{RUN}/trouble"
"""Written when a delivery did not come as far as its sender: the last reason that Postfix gave."""
LAST_SENT: Final = f"{RUN}/last-sent"
"""Written, at most once a second, when an upstream has taken a message."""
LAST_FATAL_LINE: Final = f"{RUN}/last-fatal-line"
"""The last line that a Postfix daemon logged as fatal or panic, kept for the container's last words."""
LOG_SOCKET: Final = "/dev/log"
LOG_TAP: Final = f"{RUN}/log-tap"
"""Where processes of root's read along with the log (`services.tap`); the forwarder makes it anew when it starts."""

# Volumes.
STATE: Final = "/var/lib/authrelay"
CLIENT_CHAIN: Final = f"{STATE}/client.pem"
"""The key and certificate that were made here, root only, behind a line that says how they were made."""
CLIENT_CERTIFICATE: Final = f"{STATE}/client-certificate.pem"
"""The certificate alone, for people who have to give it to the upstream."""
FETCHED_AUTHORITIES: Final = f"{STATE}/fetched-ca.pem"
"""The last good CA from RELAYHOST_CA_URL, behind a line that says where it is from."""
DISCOVERED_AUTHORITIES: Final = f"{STATE}/discovered-ca.pem"
"""What `discover-ca --save` writes; nothing reads it unless a setting names it."""
QUEUE: Final = "/var/spool/postfix"
