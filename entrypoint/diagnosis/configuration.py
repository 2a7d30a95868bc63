"""What Postfix reads: the directory with main.cf, and the values in it that a walk depends on. Disk, processes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from entrypoint import paths
from entrypoint.config.certificates import Certificates
from entrypoint.config.settings import Settings
from entrypoint.config.upstreams import MAIN_SERVICE, Upstream
from entrypoint.system.files import read_text
from entrypoint.system.install import File, write_configuration
from entrypoint.system.processes import finish_command, start_command

_PARAMETERS: Final = (
    "relayhost", "myhostname", "smtp_helo_name", "smtp_host_lookup",
    "smtp_tls_security_level", "smtp_tls_wrappermode", "smtp_tls_policy_maps", "smtp_tls_servername",
    "smtp_tls_CAfile", "smtp_tls_CApath", "smtp_tls_trust_anchor_file",
    "smtp_tls_secure_cert_match", "smtp_tls_verify_cert_match",
    "smtp_tls_fingerprint_cert_match", "smtp_tls_fingerprint_digest",
    "smtp_tls_protocols", "smtp_tls_mandatory_protocols", "smtp_tls_ciphers", "smtp_tls_mandatory_ciphers",
    "smtp_tls_exclude_ciphers", "smtp_tls_mandatory_exclude_ciphers",
    "tls_high_cipherlist", "tls_medium_cipherlist", "tls_null_cipherlist",
    "smtp_sasl_security_options", "smtp_sasl_tls_security_options", "smtp_sasl_mechanism_filter",
)  # fmt: skip
"""What a walk depends on."""

_ON_THE_WAY: Final = re.compile(
    r"(smtp_|tls_|sender_dependent_|dnssec_probe$|relayhost$|transport_maps$|default_transport$|relay_transport$)"
)
_NO_MATTER: Final = re.compile(r"_(timeout|time|limit|delay|loglevel|database)$")
"""Parameters that change how long, how often or how loud, and not whether."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What Postfix has: in a running relay /etc/postfix, otherwise what a start would write, in another directory."""

    directory: str
    values: Mapping[str, str]
    """As `postconf -x` prints them."""
    authorities: Certificates | None
    """Who may sign RELAYHOST's certificate, for words only; `None` for the system's bundle."""
    services: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What each smtp(8) service has of its own, as `postconf -P` prints it."""

    def find_values(self, service: str) -> Mapping[str, str]:
        """Return the values that a service has."""
        return {**self.values, **self.services.get(service, {})}

    def find_authorities(self, service: str) -> str:
        """Return the CA file of a service."""
        return self.find_values(service)["smtp_tls_CAfile"].replace(paths.POSTFIX_CONFIG, self.directory)

    def find_client_chain(self, settings: Settings, upstream: Upstream) -> tuple[str | None, str]:
        """Return the client certificate's file, if there is one yet, and what is shown, in words."""
        if upstream.client_cert is not None:
            path = self.services.get(upstream.service, {}).get("smtp_tls_chain_files", "")
            return path.replace(paths.POSTFIX_CONFIG, self.directory), f"shown client_cert of {upstream.setting}"
        if not settings.shows_client_certificate:
            return None, "CLIENT_CERT=none shows none"
        for path in (f"{self.directory}/client-chain.pem", paths.CLIENT_CHAIN):
            if os.path.exists(path):
                return path, f"shown {path}" if path == paths.CLIENT_CHAIN else "shown as Postfix shows it"
        return None, "none is made yet: the first start makes one, and Postfix will show it"


def list_unread_parameters(settings: Settings) -> tuple[str, ...]:
    """Return which `POSTFIX_<parameter>` may change the way and are not looked at by a walk."""
    read = set(_PARAMETERS) - {"relayhost"}
    return tuple(
        f"POSTFIX_{name}"
        for name, _ in settings.postfix_parameters
        if name not in read and _ON_THE_WAY.match(name) and not _NO_MATTER.search(name)
    )


def load_configuration(authorities: Certificates | None, directory: str = paths.POSTFIX_CONFIG) -> Configuration:
    """Return what Postfix has in a directory; `authorities` are the plan's. Raises CommandFailedError."""
    lines = finish_command(start_command(("postconf", "-c", directory, "-x", *_PARAMETERS)))
    pairs = (line.partition("=") for line in lines)
    values = {name.strip(): value.strip() for name, _, value in pairs}
    services: dict[str, dict[str, str]] = {}
    for line in finish_command(start_command(("postconf", "-c", directory, "-P"))):
        place, _, value = line.partition("=")
        service, _, name = place.strip().split("/")
        services.setdefault(service, {})[name] = value.strip()
    return Configuration(directory=directory, values=values, authorities=authorities, services=services)


def find_configuration(files: Sequence[File], authorities: Certificates | None, directory: str) -> Configuration:
    """Return the running relay's configuration, or, where none runs with these settings, what a start would write.

    That is written into `directory`, without the tables and so without the passwords. Other settings than the running
    relay's, as `docker exec --env` gives them, are walked by it.
    """
    write_configuration([file for file in files if not file.is_table], directory)
    planned = load_configuration(authorities, directory)
    if not read_text(f"{paths.POSTFIX_CONFIG}/main.cf"):
        return planned
    installed = load_configuration(authorities)
    if (installed.values, installed.services) != (planned.values, planned.services):
        return planned
    is_same = all(
        read_text(installed.find_authorities(service)) == read_text(planned.find_authorities(service))
        for service in (MAIN_SERVICE, *planned.services)
    )
    return installed if is_same else planned
