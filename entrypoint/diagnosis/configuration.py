"""What Postfix reads: the directory with main.cf, and the values in it that a walk depends on. Disk, processes."""

from __future__ import annotations

import os
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
    "relayhost", "myhostname", "smtp_helo_name", "smtp_tls_security_level", "smtp_tls_wrappermode", "smtp_tls_CAfile",
    "smtp_tls_servername", "smtp_tls_mandatory_protocols", "smtp_tls_secure_cert_match", "smtp_tls_verify_cert_match",
    "smtp_sasl_security_options", "smtp_sasl_tls_security_options", "smtp_sasl_mechanism_filter",
)  # fmt: skip


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


def load_configuration(authorities: Certificates | None, directory: str = paths.POSTFIX_CONFIG) -> Configuration:
    """Return what Postfix has in a directory; `authorities` are the plan's. Raises CommandFailedError."""
    lines = finish_command(start_command(("postconf", "-c", directory, "-x", *_PARAMETERS)))
    pairs = (line.partition("=") for line in lines)
    values = {name.strip(): value.strip() for name, _, value in pairs}
    return Configuration(directory=directory, values=values, authorities=authorities)


def find_configuration(
    settings: Settings, files: Sequence[File], authorities: Certificates | None, directory: str
) -> Configuration:
    """Return the running relay's configuration, or, where none runs with these settings, the plan's files.

    Those are written into `directory`. Other settings than the running relay's, as `docker exec --env` gives them, are
    walked by the plan.
    """
    if read_text(f"{paths.POSTFIX_CONFIG}/main.cf"):
        installed = load_configuration(authorities)
        if installed.values["relayhost"] == str(settings.relayhost_nexthop):
            return installed
    write_configuration(files, directory)
    return load_configuration(authorities, directory)
