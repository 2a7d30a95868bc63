"""The plan's own types: files to write, and what the plan must be told of the world. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from entrypoint.config.certificates import Certificates
from entrypoint.config.secret import Secret
from entrypoint.config.values import IPAddress, IPNetwork

if TYPE_CHECKING:
    from entrypoint.config.dkim_key import SigningKey


@dataclass(frozen=True, kw_only=True)
class PlannedFile:
    """A file that must exist, whole, owned by root unless it names a user."""

    path: str
    text: str = field(repr=False)
    mode: int = 0o644
    group: str = ""
    """A group of the image's that it belongs to; root's otherwise."""
    is_table: bool = False
    """Whether postmap(1) makes an LMDB table from it."""
    text_type: str = ""
    """The type of a table of the user's that Postfix reads as it is: `regexp`. It is tried before it is used."""
    user: str = "root"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What lies outside the settings and decides something."""

    host_name: str
    subnets: tuple[IPNetwork, ...] = ()
    """The subnets that the container's own interfaces are attached to."""
    gateways: tuple[IPAddress, ...] = ()
    proxy_addresses: tuple[IPAddress, ...] = ()
    """PROXY_INTERFACES with its names resolved."""
    client_chain: Secret | None = None
    """PEM of the client's private key and its certificate chain, in this order."""
    memory_bytes: int | None = None
    """The limit of the container's memory; `None` for no limit."""
    logins: Secret | None = None
    """SMTPD_USERS_TABLE with every password hashed."""
    fetched_authorities: Certificates | None = None
    """What RELAYHOST_CA_URL gave, checked."""
    dkim_keys: Mapping[str, tuple[SigningKey, ...]] = field(default_factory=dict)
    """Who signs, by the patterns of DKIM_DOMAINS."""
    lists: tuple[str, ...] | None = None
    """Every address of the list server's; `None` while they are not known."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a start makes true."""

    files: tuple[PlannedFile, ...]
    warnings: tuple[str, ...] = ()
    authorities: Certificates | None = None
    """Who may sign the upstream's certificate; `None` for the system's bundle."""
