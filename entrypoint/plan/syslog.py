"""What tells the log forwarder of SYSLOG_URL. Pure."""

from __future__ import annotations

import json

from entrypoint import paths
from entrypoint.config.settings import Settings
from entrypoint.plan.files import PlannedFile


def plan_syslog(settings: Settings, own_name: str) -> list[PlannedFile]:
    """Return what tells the log forwarder of SYSLOG_URL, if it is set."""
    if settings.syslog_url is None:
        return []
    server = {
        "url": str(settings.syslog_url),
        "transport": settings.syslog_url.transport,
        "host": settings.syslog_url.host,
        "port": settings.syslog_url.port,
        "authorities": paths.SYSTEM_AUTHORITIES if settings.syslog_ca is None else paths.SYSLOG_AUTHORITIES,
        "own_name": own_name,
    }
    files = [PlannedFile(path=paths.SYSLOG, text=json.dumps(server) + "\n")]
    if settings.syslog_ca is not None:
        # The CA first: whoever finds the other file changed reads both.
        files.insert(0, PlannedFile(path=paths.SYSLOG_AUTHORITIES, text=settings.syslog_ca.pem))
    return files
