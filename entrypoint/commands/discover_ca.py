"""`authrelay discover-ca HOST[:PORT]`: which CA signed a mail server's certificate, and what to set.

Reads no settings and sends no login: it works before there are any.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import ipaddress
import json
import os
import sys
from typing import TYPE_CHECKING, Final

from entrypoint import paths
from entrypoint.command_line import Parser
from entrypoint.config.chain import Link, Origin, build_path, load_fetched, load_sent, load_system
from entrypoint.config.declaration import InvalidValue
from entrypoint.config.discovery import Saved, Session, make_json, render_text
from entrypoint.config.nexthop import parse_nexthop
from entrypoint.config.verdict import Verdict, judge
from entrypoint.errors import BadCertificateError, CannotWriteError, UsageError, quote_value
from entrypoint.system.files import read_text, write_file
from entrypoint.system.issuers import IssuerError, fetch_issuer
from entrypoint.system.mail_server import MODE_BY_PORT, MODES, fetch_chain

if TYPE_CHECKING:
    from cryptography import x509

_DEFAULT_PORT: Final = 587
"""Submission, which most providers offer (RFC 6409)."""
_TIMEOUT_SECONDS: Final = 20.0
_MOST_FETCHES: Final = 8
"""A chain has two or three certificates above the server's."""
_BAD_STATUS: Final = BadCertificateError.exit_status
_STATE: Final = ""

_EPILOG: Final = """\
Ports 25 and 587 are SMTP with STARTTLS, 110 is POP3 with STLS, 143 IMAP with STARTTLS; on 465, 993 and 995 TLS begins
at once. Any other port needs --starttls.

Exit status: 0 a relay with these settings trusts the server; 65 it would not, or there is no CA to be had: the report
says why; 69 the server cannot be asked; 73 FILE cannot be written; 64 wrong usage.
"""


def main(arguments: list[str]) -> int:
    """Print what a server shows and what follows from it; return 0, or 65 when a relay would not trust it."""
    options = _parse_arguments(arguments)
    host, port, mode = _parse_server(options.server, options.starttls)
    presented = fetch_chain(host, port, mode, options.timeout)
    moment = datetime.datetime.now(datetime.UTC)
    try:
        sent = load_sent(presented.chain)
    except (ValueError, IndexError) as error:
        raise BadCertificateError(
            f"{host}:{port}: what the server shows is no certificate that can be read ({error}). Ask its operator."
        ) from error
    system = load_system(read_text(paths.SYSTEM_AUTHORITIES) or "")
    fetched, remarks = _fetch_missing(sent, system, moment, options.timeout)
    verdict = judge(sent, fetched, system, host, moment)
    saved, problem = (None, "") if options.save is None else _save(verdict, options.save)
    session = Session(
        host=host,
        port=port,
        mode=mode,
        address=presented.address,
        protocol=presented.protocol,
        cipher=presented.cipher,
        asks_for_certificate=presented.asks_for_certificate,
        refusal=presented.refusal,
    )
    if options.json:
        sys.stdout.write(json.dumps(make_json(verdict, session, remarks, saved, problem), indent=2) + "\n")
    else:
        sys.stdout.write(render_text(verdict, session, remarks, saved, problem))
    # In one file, too, the report comes before what was wrong with it.
    sys.stdout.flush()
    if problem and verdict.authority:
        raise CannotWriteError(problem)
    if problem:
        sys.stderr.write(f"authrelay: no CA file was written: {problem}.\n")
    return _BAD_STATUS if verdict.problems else 0


def _parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="authrelay discover-ca",
        description="Show which CA signed a mail server's certificate, and what to set so that the relay trusts it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "server", metavar="HOST[:PORT]", help=f"the server; no port is {_DEFAULT_PORT}; an IPv6 address in brackets"
    )
    parser.add_argument("--starttls", choices=MODES, help="how TLS begins there; none: at once")
    parser.add_argument(
        "--save",
        metavar="FILE",
        nargs="?",
        const=_STATE,
        help=f"write the CA file; without FILE into the state volume, {paths.DISCOVERED_AUTHORITIES}",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=_TIMEOUT_SECONDS,
        help=f"for the server, and for each CA certificate that has to be fetched; {_TIMEOUT_SECONDS:g}",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (docs/trust.md)")
    return parser.parse_args(arguments)


def seconds(text: str) -> float:
    """Return a number of seconds, at most an hour; argparse shows this function's name."""
    number = float(text)
    if not 0 < number <= 3600:
        raise ValueError
    return number


def _parse_server(text: str, starttls: str | None) -> tuple[str, int, str]:
    """Return host, port and mode of `HOST`, `HOST:PORT` or `[HOST]:PORT`."""
    if text.endswith("]:") or (text.endswith(":") and text.count(":") == 1):
        raise UsageError(f"'{quote_value(text)}': no port follows the colon. Write {quote_value(text)}{_DEFAULT_PORT}.")
    try:
        nexthop = parse_nexthop(text)
    except InvalidValue as problem:
        remedy = _find_spelling(text) or problem.remedy.replace("<setting>=", "")
        raise UsageError(f"'{quote_value(text)}': {problem.what}. {remedy}.") from problem
    # A nexthop without a port is port 25, which many networks block and no provider wants logins on.
    has_port = text.rpartition("]")[2].count(":") == 1
    port = nexthop.port if has_port else _DEFAULT_PORT
    mode = starttls or MODE_BY_PORT.get(port)
    if mode is None:
        raise UsageError(
            f"{text}: how TLS begins on port {port} is not known. Add --starttls smtp, pop3 or imap, or --starttls "
            "none if it begins at once."
        )
    return nexthop.host, port, mode


def _find_spelling(text: str) -> str:
    """Return how to write what we know how to: an IPv6 address, and a name as DNS has it (RFC 5891); else empty."""
    if ":" in text and "%" not in text:
        with contextlib.suppress(ValueError):
            return f"Write [{ipaddress.IPv6Address(text)}]:{_DEFAULT_PORT}"
    host, colon, port = text.replace("[", "").replace("]", "").partition(":")
    with contextlib.suppress(UnicodeError):
        found = host.encode("idna")
        # Where the codec's older rules (RFC 3490) name another host than today's, a person must decide.
        if not host.isascii() and found.decode("idna") == host.lower():
            return f"Write it as DNS has it: {found.decode()}{colon}{port}"
    return ""


def _fetch_missing(
    sent: list[Link], system: list[x509.Certificate], moment: datetime.datetime, timeout_seconds: float
) -> tuple[list[Link], tuple[str, ...]]:
    """Return what the certificates themselves say where to fetch, and a remark for each address that was no help."""
    fetched: list[Link] = []
    remarks: list[str] = []
    asked: set[str] = set()
    while len(asked) < _MOST_FETCHES:
        top = build_path(sent, fetched, system, moment)[-1]
        if top.is_self_signed or top.origin is Origin.SYSTEM:
            break
        urls = [url for url in top.issuer_urls if url not in asked]
        if not urls:
            break
        url = urls[0]
        asked.add(url)
        shown = quote_value(url)
        try:
            found = load_fetched(fetch_issuer(url, timeout_seconds), url)
        except IssuerError as error:
            remarks.append(f"{shown}, where the issuer of '{top.subject}' should be, was no help: {error}")
            continue
        fetched += found
        if build_path(sent, fetched, system, moment)[-1].sha256 == top.sha256:
            remarks.append(f"{shown} does not hold the certificate whose key signed '{top.subject}'")
    return fetched, tuple(remarks)


def _save(verdict: Verdict, file: str) -> tuple[Saved | None, str]:
    """Write the CA file; return where, or why not."""
    if verdict.authority is None:
        return None, "this server shows no CA that can be used"
    # An absolute path is one that a person finds again.
    saved = Saved(path=os.path.abspath(file or paths.DISCOVERED_AUTHORITIES), is_in_state=file == _STATE)
    try:
        write_file(saved.path, verdict.ca_pem, 0o644, is_durable=True)
    except CannotWriteError as error:
        return None, str(error)
    return saved, ""
