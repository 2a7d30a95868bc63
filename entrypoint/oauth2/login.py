"""A person's first login: by a code on another device (RFC 8628), or a browser and PKCE (RFC 8252, RFC 7636). Network.

Both end with a refresh token. Uses oauthlib for the forms and addresses.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from oauthlib.oauth2 import DeviceClient, WebApplicationClient

from entrypoint.config.providers import LoginEndpoints
from entrypoint.errors import CommandFailedError, quote_value
from entrypoint.oauth2.endpoint import Grant, ask, take_grant
from entrypoint.oauth2.errors import TokenError, hide
from entrypoint.system.redirect_listener import RedirectListener

_FIRST_INTERVAL_SECONDS: Final = 5.0
_SLOW_DOWN_SECONDS: Final = 5.0
"""RFC 8628 section 3.2 and 3.5."""
_MOST_SECONDS: Final = 1800.0
_VERIFIER_LENGTH: Final = 64
"""RFC 7636 section 4.1: 43 to 128 characters."""
_AGAIN: Final = "Begin again: authrelay oauth2 login"
_ENDS: Final = {
    "access_denied": "the login was declined. If it was not you, ask the administrator of the provider's account to "
    "allow the application",
    "expired_token": f"nobody entered the code in time. {_AGAIN}",
    "invalid_client": "the endpoint does not know the application. Check OAUTH2_CLIENT_ID, and OAUTH2_CLIENT_SECRET if "
    "it has one",
    "unauthorized_client": "the application may not log in like this. Allow it at the provider (Entra: Authentication, "
    "Allow public client flows), or try the other --flow",
    "invalid_scope": "the application may not ask for this. Check its permissions, or OAUTH2_SCOPE",
    "invalid_grant": f"the code is no longer good. {_AGAIN}",
}
"""What ends a login: RFC 6749 sections 4.1.2.1 and 5.2, RFC 8628 section 3.5."""


@dataclass(frozen=True, kw_only=True)
class Application:
    """Who asks for the login, and where."""

    client_id: str
    client_secret: str = field(default="", repr=False)
    token_url: str
    endpoints: LoginEndpoints
    scope: str
    authorities: str | None = None
    """PEM of who may sign the endpoints' certificates; `None` is the system's bundle."""

    @property
    def secret_fields(self) -> dict[str, str]:
        """What proves who asks, where there is a secret."""
        return {"client_secret": self.client_secret} if self.client_secret else {}


def log_in_by_device(application: Application, say: Callable[[str], None]) -> Grant:
    """Return what is given once a person has entered the code that is said; raise CommandFailedError."""
    form = urlencode({"client_id": application.client_id, "scope": application.scope, **application.secret_fields})
    values = _ask(application, application.endpoints.device_url, form)
    code, user_code = values.get("device_code"), values.get("user_code")
    place = values.get("verification_uri") or values.get("verification_url")
    if not (isinstance(code, str) and isinstance(user_code, str) and isinstance(place, str)):
        raise CommandFailedError("the device endpoint gave no code. Check --device-url.")
    seconds = _read_seconds(values.get("expires_in"), _MOST_SECONDS)
    say(f"Open {quote_value(place)} in any browser, and enter the code {quote_value(user_code)}")
    say(f"It is good for {seconds / 60:.0f} minutes. Waiting ...")
    client = DeviceClient(application.client_id)
    form = client.prepare_request_body(code, include_client_id=True, **application.secret_fields)
    interval = _read_seconds(values.get("interval"), _FIRST_INTERVAL_SECONDS)
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        time.sleep(interval)
        try:
            status, values = ask(application.token_url, form, application.authorities)
        except TokenError as error:
            if error.is_for_person:
                raise _explain(error) from error
            interval = min(interval * 2, 60.0)  # RFC 8628 section 3.5: of a connection that times out
            continue
        error_code = values.get("error")
        if error_code == "slow_down":
            interval += _SLOW_DOWN_SECONDS
        elif error_code != "authorization_pending":
            return _take(application, status, values)
    raise CommandFailedError(_ENDS["expired_token"])


def log_in_by_browser(application: Application, port: int, seconds: float, say: Callable[[str], None]) -> Grant:
    """Return what is given once a person's browser came back, here or by what was pasted; raise CommandFailedError."""
    try:
        listener = RedirectListener(port)
    except OSError as error:
        raise CommandFailedError(
            f"port {port} cannot be listened on: {error.strerror}. Choose another: --port"
        ) from error
    client = WebApplicationClient(application.client_id)
    verifier, state = client.create_code_verifier(_VERIFIER_LENGTH), secrets.token_urlsafe(24)
    redirect_uri = f"http://{application.endpoints.loopback}:{listener.port}/"
    address = client.prepare_request_uri(
        application.endpoints.authorize_url,
        redirect_uri=redirect_uri,
        scope=application.scope,
        state=state,
        code_challenge=client.create_code_challenge(verifier, "S256"),
        code_challenge_method="S256",
        **application.endpoints.parameters,
    )
    say(f"Open this address in a browser, and log in to the mailbox:\n\n{address}\n")
    say(f"Afterwards the browser goes to {redirect_uri}. If it finds nothing there, paste its address here.")
    try:
        answer = listener.wait(seconds, lambda text: _read_query(text).get("state") == state)
    finally:
        listener.close()
    if answer is None:
        raise CommandFailedError(f"nobody came back within {seconds / 60:.0f} minutes. {_AGAIN}")
    query = _read_query(answer)
    if "code" not in query:
        raise _refuse(application, query.get("error", "no code"), query.get("error_description", ""))
    form = client.prepare_request_body(
        code=query["code"], redirect_uri=redirect_uri, code_verifier=verifier, **application.secret_fields
    )
    try:
        return _take(application, *ask(application.token_url, form, application.authorities))
    except TokenError as error:
        raise _explain(error) from error


def _read_query(text: str) -> dict[str, str]:
    try:
        return {name: values[0] for name, values in parse_qs(urlsplit(text).query).items()}
    except ValueError:
        return {}


def _ask(application: Application, url: str, form: str) -> dict[str, Any]:
    try:
        _, values = ask(url, form, application.authorities)
    except TokenError as error:
        raise _explain(error) from error
    if "error" in values:
        raise _refuse(application, str(values["error"]), str(values.get("error_description", "")))
    return values


def _take(application: Application, status: int, values: dict[str, Any]) -> Grant:
    if "error" in values or status != 200:
        raise _refuse(application, str(values.get("error", status)), str(values.get("error_description", "")))
    try:
        grant = take_grant(values)
    except TokenError as error:
        raise _explain(error) from error
    if not grant.refresh_token:
        raise CommandFailedError(
            "the provider gave an access token and no refresh token, so that all would end with it. Ask for "
            "offline access: OAUTH2_SCOPE with offline_access, where the provider knows that"
        )
    return grant


def _refuse(application: Application, error: str, description: str) -> CommandFailedError:
    said = quote_value(hide(f"{error}: {description}" if description else error, (application.client_secret,)))
    meaning = _ENDS.get(error)
    return CommandFailedError(f"{meaning} ({said})" if meaning else f"the provider refuses: {said}")


def _explain(error: TokenError) -> CommandFailedError:
    return CommandFailedError(f"the endpoint cannot be used: {error.what}. {error.remedy}")


def _read_seconds(value: object, fallback: float) -> float:
    try:
        seconds = float(str(value))
    except ValueError:
        return fallback
    return min(seconds, _MOST_SECONDS) if seconds > 0 else fallback
