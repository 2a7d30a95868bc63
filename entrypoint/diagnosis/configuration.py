"""What Postfix reads: the directory with main.cf, and the values in it that a walk depends on. Disk, processes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from entrypoint import paths
from entrypoint.config.certificates import Certificates
from entrypoint.config.settings import Settings
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
    """Who may sign the upstream's certificate, for words only; `None` for the system's bundle."""

    @property
    def authorities_file(self) -> str:
        """The CA file."""
        return self.values["smtp_tls_CAfile"].replace(paths.POSTFIX_CONFIG, self.directory)

    def find_client_chain(self, settings: Settings) -> tuple[str | None, str]:
        """Return the client certificate's file, if there is one yet, and what is shown, in words."""
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
    return Configuration(directory=directory, values=values, authorities=authorities)


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
    if installed.values != planned.values:
        return planned
    is_same = read_text(installed.authorities_file) == read_text(planned.authorities_file)
    return installed if is_same else planned
