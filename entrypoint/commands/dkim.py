"""`authrelay dkim`: the records to publish for the keys that sign, as lines of a zone file, and whether they are there.

With `--selector` keys for another selector than the one in force: those are made where there are none, to be published
before they are used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from entrypoint import paths
from entrypoint.command_line import Parser, parse_seconds
from entrypoint.commands.prepare import find_dkim_keys
from entrypoint.config.declaration import InvalidValue
from entrypoint.config.dkim import RSA, parse_selector
from entrypoint.config.dkim_key import SigningKey, read_record, render_record
from entrypoint.config.environment import read_settings
from entrypoint.errors import ConfigurationError, Problem, UnavailableError, UsageError
from entrypoint.system.dns_text import DnsError, look_up_texts
from entrypoint.system.files import read_text
from entrypoint.system.queue import describe_place

_PATIENCE: Final = "5"
_PUBLISHED: Final = "published"


def main(arguments: list[str]) -> int:
    """Print the records; return 0 when all of them are published, EX_UNAVAILABLE (69) otherwise."""
    parser = Parser(prog="authrelay dkim", description=(__doc__ or "").partition(":")[2].strip())
    parser.add_argument("--selector", help="make keys for this selector, and show its records")
    parser.add_argument("--no-dns", action="store_true", help="do not look whether the records are published")
    parser.add_argument("--timeout", type=parse_seconds, default=_PATIENCE, help=f"for each record ({_PATIENCE} s)")
    options = parser.parse_args(arguments)
    is_well = True
    for signing in _find_keys(options.selector):
        verdict = "" if options.no_dns else _check(signing, options.timeout)
        is_well = is_well and verdict in ("", _PUBLISHED)
        sys.stdout.write(f"; {signing.domain}, {signing.key}{verdict and ': '}{verdict}\n{render_record(signing)}\n")
    return 0 if is_well else UnavailableError.exit_status


def _find_keys(selector: str | None) -> list[SigningKey]:
    settings, _ = read_settings()
    if not settings.signs:
        raise ConfigurationError(
            [
                Problem(
                    setting="DKIM_DOMAINS",
                    what="it is not set, and nothing is signed",
                    remedy="Name the domains, for example DKIM_DOMAINS=example.com",
                )
            ]
        )
    if selector is not None:
        try:
            selector = parse_selector(selector)
        except InvalidValue as invalid:
            raise UsageError(f"--selector: {invalid.what}. {invalid.remedy}.") from invalid
    kept = find_dkim_keys(settings, may_make=True, selector=selector)
    fault = describe_place(read_text("/proc/self/mountinfo") or "", paths.STATE)
    if fault and any(one.made for one in kept):
        text = f"the keys were made now and lie {fault}: they are lost with this container"
        sys.stderr.write(f"authrelay: WARNING: {text}. Give them a volume: --volume state:{paths.STATE}\n")
    # .example.com and example.com have the same records.
    return list({signing.name: signing for one in kept for signing in one.keys}.values())


def _check(signing: SigningKey, timeout_seconds: float) -> str:
    """Return what is published under the name of a key's record."""
    try:
        return judge_records(signing, look_up_texts(signing.name, timeout_seconds))
    except DnsError as error:
        return f"it is not known whether it is published: {error}"


def judge_records(signing: SigningKey, texts: Sequence[str]) -> str:
    """Return whether the TXT records of its name are the one of a key (RFC 6376 section 3.6.2.2: there may be one)."""
    if not texts:
        return "NOT PUBLISHED: there is no such TXT record yet"
    if len(texts) > 1:
        return f"NOT USABLE: there are {len(texts)} TXT records of this name, and there may be one"
    tags = read_record(texts[0])
    if tags.get("v", "DKIM1") != "DKIM1" or "p" not in tags:
        return "NOT USABLE: what is published is no DKIM record"
    if not tags["p"]:
        return "REVOKED: what is published has an empty p="
    if tags["p"] != signing.key.public or tags.get("k", RSA) != signing.key.algorithm:
        return "ANOTHER KEY is published, and what is signed with this one fails"
    if "y" in tags.get("t", "").split(":"):
        return "published for testing (t=y): receivers treat a failure as if there were no signature"
    return _PUBLISHED
