"""`authrelay oauth2 login` and `authrelay oauth2 certificate`: what a person does once, before a relay uses OAuth 2.0.

Needs no upstream. What is asked of a person goes to standard error, and what is to be used to standard output.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any, Final

from entrypoint import paths
from entrypoint.command_line import Parser
from entrypoint.config.declaration import InvalidValue
from entrypoint.config.environment import read_chosen, read_environment
from entrypoint.config.oauth2 import parse_client_id, parse_token_url
from entrypoint.config.providers import LoginEndpoints, find_login_endpoints, parse_provider
from entrypoint.errors import CommandFailedError, UsageError
from entrypoint.system.files import write_file

_NAMES: Final = ("OAUTH2_TOKEN_URL", "OAUTH2_CLIENT_ID", "OAUTH2_CLIENT_SECRET", "OAUTH2_SCOPE", "OAUTH2_CA")
_PORT: Final = 8765
_SECONDS: Final = 600.0
_ANY_TENANT: Final = "organizations"
_EPILOG: Final = """\
The application's secret, where it has one, is read from OAUTH2_CLIENT_SECRET or OAUTH2_CLIENT_SECRET_FILE;
docs/oauth2.md says where the application's id comes from.
"""


def main(arguments: list[str]) -> int:
    """Do one of both; return 0, or raise."""
    options = _parse_arguments(arguments)
    if options.what == "certificate":
        return _print_certificate()
    return _log_in(options)


def _parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="authrelay oauth2", description="Get the settings of OAuth 2.0.", allow_abbrev=False)
    actions = parser.add_subparsers(dest="what", required=True, metavar="login | certificate", parser_class=Parser)
    login = actions.add_parser(
        "login",
        description="Log in to a mailbox once, as a person, and print the settings with the refresh token.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    login.add_argument("--provider", type=_check(parse_provider), help="gmail, google-workspace, microsoft365[:TENANT]")
    login.add_argument("--client-id", metavar="ID", type=_check(parse_client_id), help="the application's id")
    login.add_argument("--flow", choices=("device", "loopback"), help="a code for another device, or a browser here")
    login.add_argument("--port", type=int, default=_PORT, help=f"where the browser comes back to ({_PORT})")
    login.add_argument("--save", metavar="PATH", help="write the refresh token there, mode 600, and do not print it")
    login.add_argument("--authorize-url", metavar="URL", type=_check(parse_token_url), help="of another provider")
    login.add_argument("--device-url", metavar="URL", type=_check(parse_token_url), help="of another provider")
    login.add_argument("--timeout", metavar="SECONDS", type=float, default=_SECONDS, help="how long a browser may take")
    actions.add_parser(
        "certificate",
        description="Print the certificate to upload to the application; it is made if there is none yet.",
        allow_abbrev=False,
    )
    return parser.parse_args(arguments)


def _check(parse: Any) -> Any:
    """Return a setting's parser in the form that argparse collects errors from."""

    def check(text: str) -> str:
        try:
            return str(parse(text))
        except InvalidValue as invalid:
            raise argparse.ArgumentTypeError(f"{invalid.what}. {invalid.remedy}") from None

    return check


def _print_certificate() -> int:
    # Imported here: `login` signs nothing.
    from entrypoint.oauth2.certificate import load_or_make_certificate

    made = load_or_make_certificate()
    sys.stderr.write(
        f"authrelay: upload this certificate to the application (Entra: App registrations, Certificates & secrets).\n"
        f"SHA-256: {made.sha256}\nThumbprint (SHA-1): {made.sha1.replace(':', '')}\n"
        f"Its key stays in {paths.TOKEN_CHAIN}: use the same volume for the relay.\n"
    )
    sys.stdout.write(made.chain[made.chain.index("-----BEGIN CERTIFICATE") :])
    return 0


def _log_in(options: argparse.Namespace) -> int:
    from entrypoint.oauth2.login import Application, log_in_by_browser, log_in_by_device

    environ = read_environment()
    provider = options.provider or environ.get("PROVIDER", "")
    if provider.lower() == "microsoft365":
        provider = f"microsoft365:{_ANY_TENANT}"
    given = read_chosen(_NAMES, {**environ, "PROVIDER": provider})
    endpoints = _choose_endpoints(options, provider)
    client_id = options.client_id or given.get("OAUTH2_CLIENT_ID")
    if not client_id:
        raise UsageError("whose login is it? Give the application's id: --client-id, or OAUTH2_CLIENT_ID")
    if "OAUTH2_TOKEN_URL" not in given:
        raise UsageError("of which provider? Give --provider gmail, or OAUTH2_TOKEN_URL")
    secret, authorities = given.get("OAUTH2_CLIENT_SECRET"), given.get("OAUTH2_CA")
    application = Application(
        client_id=client_id,
        client_secret=secret.reveal() if secret else "",
        token_url=given["OAUTH2_TOKEN_URL"],
        endpoints=endpoints,
        scope=given.get("OAUTH2_SCOPE") or endpoints.scope,
        authorities=authorities.pem if authorities else None,
    )
    is_device = options.flow == "device" or (options.flow is None and bool(endpoints.device_url))
    if is_device and not endpoints.device_url:
        raise UsageError(
            f"{provider or 'this provider'} gives devices no access to mail: use --flow loopback, or give --device-url"
        )
    if not is_device and not endpoints.authorize_url:
        raise UsageError("where does the browser log in? Give --authorize-url")
    if is_device:
        grant = log_in_by_device(application, _say)
    else:
        grant = log_in_by_browser(application, options.port, options.timeout, _say)
    _print_settings(application, provider, grant.refresh_token, options.save)
    return 0


def _choose_endpoints(options: argparse.Namespace, provider: str) -> LoginEndpoints:
    found = find_login_endpoints(provider) if provider else LoginEndpoints(authorize_url="", scope="")
    if found is None:
        raise CommandFailedError(f"{provider} has no OAuth 2.0 for mail that is known; it has passwords")
    return replace(
        found,
        authorize_url=options.authorize_url or found.authorize_url,
        device_url=options.device_url or found.device_url,
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _print_settings(application: Any, provider: str, refresh_token: str, path: str | None) -> None:
    """Print what to set: the refresh token itself is what this command is for."""
    if path:
        write_file(path, f"{refresh_token}\n", 0o600, is_durable=True)
    where = f"PROVIDER={provider}" if provider else f"OAUTH2_TOKEN_URL={application.token_url}"
    rows = [where, "RELAYHOST_USERNAME=<the mailbox that you have just logged in to>"]
    rows.append(f"OAUTH2_CLIENT_ID={application.client_id}")
    if application.client_secret:
        rows.append("OAUTH2_CLIENT_SECRET_FILE=/run/secrets/oauth2-client-secret")
    rows.append(f"OAUTH2_REFRESH_TOKEN_FILE={path}" if path else f"OAUTH2_REFRESH_TOKEN={refresh_token}")
    _say("\nDone. Give the relay these settings:\n")
    sys.stdout.write("".join(f"{row}\n" for row in rows))
    if not path:
        _say("\nThe last one is a secret: put it into a file, and name it in OAUTH2_REFRESH_TOKEN_FILE.")
