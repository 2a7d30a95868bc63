"""Mail for the lists behind this relay: its files, and what main.cf says of whom and what it is taken from. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from entrypoint import paths
from entrypoint.config.settings import Settings
from entrypoint.plan.files import Facts, PlannedFile

SERVICE: Final = "lists"
"""The lmtp(8) that delivers to the list server; and what stands behind each address in the table."""
MAILMANS_LIMIT: Final = 32 * 2**20 - 64 * 2**10
"""aiosmtpd, Mailman's LMTP server, takes 32 MiB, what is added to a message on the way included."""
_DOMAINS: Final = f"{paths.POSTFIX_CONFIG}/list_domains"
_EXTENSIONS: Final = f"{paths.POSTFIX_CONFIG}/list_extensions"
_UNKNOWN: Final = f"{paths.POSTFIX_CONFIG}/list_unknown"
_OWN_NAMES: Final = f"{paths.POSTFIX_CONFIG}/list_own_names"
_SCREENED: Final = f"{paths.POSTFIX_CONFIG}/list_unscreened"
_STATUS: Final = f"{paths.POSTFIX_CONFIG}/list_status"
_COMMANDS: Final = f"{paths.POSTFIX_CONFIG}/list_commands"

_STATUS_RULES: Final = """\
/^(5[.][0-9.]+) (host [^ ]+ said: 5.*in reply to (RCPT TO|DATA|end of DATA) command.*)$/ $1 list server: $2
/^(5[.]3[.]4) (message size .*)$/ $1 list server: $2
/^[45]([.][0-9.]+) (.*)$/ 4$1 list server: $2
"""
"""What the list server says of a recipient or a message counts. Everything else is for later: a container that is away
has no address either, for which lmtp(8) would return the mail (postconf(5) lmtp_delivery_status_filter). `list server`
is what `reasons` knows these words by."""


def plan_lists(settings: Settings, facts: Facts, own_name: str, probe_sources: Iterable[str]) -> Iterator[PlannedFile]:
    """Yield the files that smtpd(8) and lmtp(8) read."""
    domains = settings.list_domains
    if not domains:
        return
    yield PlannedFile(path=_DOMAINS, text="".join(f"{domain} OK\n" for domain in domains), is_table=True)
    if facts.lists is None:
        answer = "450 4.3.0 the list server has not told yet which lists there are, try again later"
        yield PlannedFile(path=_UNKNOWN, text="".join(f"{domain} {answer}\n" for domain in domains), is_table=True)
    else:
        addresses = [one for one in facts.lists if one.rpartition("@")[2] in domains]
        text = "".join(f"{address} {SERVICE}\n" for address in addresses)
        yield PlannedFile(path=paths.LIST_RECIPIENTS, text=text, is_table=True)
    # `ant-bounces+bob=example.com@lists.example.com` is looked up as ant-bounces@lists.example.com.
    yield PlannedFile(path=_EXTENSIONS, text="/^([^+@]+)[+].*(@[^@]+)$/ ${1}${2}\n")
    names = dict.fromkeys((own_name.lower(), *domains))
    answer = "550 5.7.1 that is a name of this server's own"
    yield PlannedFile(path=_OWN_NAMES, text="".join(f"{name} {answer}\n" for name in names), is_table=True)
    # The container itself: health checks, and send-test, whatever MYNETWORKS is.
    local = dict.fromkeys(("127.0.0.0/8", "::1", *(one for one in probe_sources if ":" in one)))
    yield PlannedFile(path=_SCREENED, text="".join(f"{network} permit\n" for network in local))
    yield PlannedFile(path=_STATUS, text=_STATUS_RULES)
    yield PlannedFile(path=_COMMANDS, text=_render_commands(own_name))


def _render_commands(own_name: str) -> str:
    """Return a table that completes a recipient without a domain before smtpd(8) looks at it, as it would itself.

    To `<postmaster>`, in whatever spelling, it says yes to everyone, without another question (RFC 5321 section 4.5.1);
    with the domain it is an address as any other. `%` and `!` make a route, which is none of these.
    """
    route = "(@[^<>]*:)?"
    return (
        f"/^(RCPT[[:blank:]]+TO:[[:blank:]]*<{route}[^@%!<>]+)(>.*)$/ ${{1}}@{own_name}${{3}}\n"
        f"/^(RCPT[[:blank:]]+TO:[[:blank:]]*{route}[^@%!<>[:blank:]]+)([[:blank:]].*)?$/ ${{1}}@{own_name}${{3}}\n"
    )


def list_list_routes(settings: Settings) -> str:
    """Return lines for transport_maps: one of its others, `.example.com`, may be about a list domain, too."""
    if not settings.list_domains:
        return ""
    return "".join(f"{domain} {_find_transport(settings)}\n" for domain in settings.list_domains)


def choose_message_limit(settings: Settings) -> int:
    """Return MESSAGE_SIZE_LIMIT, or the list server's where that is less: what it refuses goes back to whom it claims
    to be from, and a spammer claims anything.
    """
    limit = settings.message_size_limit
    return min(limit or MAILMANS_LIMIT, MAILMANS_LIMIT) if settings.list_domains else limit


def _find_transport(settings: Settings) -> str:
    server = settings.list_lmtp
    return f"{SERVICE}:inet:[{server.host}]:{server.port}" if server else ""


def view_lists(settings: Settings, facts: Facts, permits: Sequence[str]) -> dict[str, Any]:
    """Return what main.cf has to say of it. `permits`: who may send to everyone, as restrictions."""
    if not settings.list_domains:
        return {"lists": None}
    checks = [
        *permits,
        *(f"reject_rbl_client {site}" for site in settings.dnsbl_sites or ()),
        "reject_invalid_helo_hostname",
        f"check_helo_access lmdb:{_OWN_NAMES}",
        "reject_non_fqdn_sender",
        "reject_unknown_sender_domain",
    ]
    return {
        "lists": {
            "domains": ", ".join(settings.list_domains),
            "transport": _find_transport(settings),
            # The other one has no address: its being there says that there was none that could be read.
            "recipients": _UNKNOWN if facts.lists is None else paths.LIST_RECIPIENTS,
            "extensions": _EXTENSIONS,
            "commands": _COMMANDS,
            "screened": _SCREENED,
            "client_checks": ", ".join(checks),
            "data_checks": ", ".join([*permits, "reject_unauth_destination"]),
        },
    }


def list_list_permits(settings: Settings) -> Iterator[str]:
    """Yield what is asked of a recipient before a stranger is refused: is it in a list domain, and no route?

    Of clients behind a gateway, too, who may be anyone; so that what refuses them comes after this.
    """
    if settings.list_domains:
        yield "permit_auth_destination"


def list_sender_exceptions(settings: Settings) -> Iterator[str]:
    """Yield what goes before ALLOWED_SENDER_DOMAINS: it is about mail for the upstream."""
    if settings.list_domains:
        yield f"check_recipient_access lmdb:{_DOMAINS}"


def list_recipient_checks(settings: Settings, facts: Facts) -> Iterator[str]:
    """Yield what is asked of every recipient first."""
    if settings.list_domains and facts.lists is None:
        yield f"check_recipient_access lmdb:{_UNKNOWN}"


def view_list_service(settings: Settings) -> dict[str, Any] | None:
    """Return the service of master.cf, if there is one."""
    if not settings.list_domains:
        return None
    return {
        "columns": f"{SERVICE:<16} unix  -       -      n      -      10      lmtp",
        "own": ["lmtp_host_lookup = native", f"lmtp_delivery_status_filter = regexp:{_STATUS}"],
    }
