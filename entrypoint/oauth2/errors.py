"""What went wrong with an access token, who can mend it, and how. Pure."""

from __future__ import annotations

import re
from typing import Final

from entrypoint.config.oauth2 import REFRESH_TOKEN, SERVICE_ACCOUNT, OAuth2
from entrypoint.errors import quote_value

_LEAST_SECRET: Final = 4
"""A shorter one would be found in every other word."""
_OWN: Final = re.compile(r"\b(?:OAUTH2_[A-Z_]+|RELAYHOST_USERNAME)\b")
_NEW_LOGIN: Final = "Get a new one with authrelay oauth2 login, and put it into OAUTH2_REFRESH_TOKEN"
_RENEWAL: Final = (
    "Make a new one (Entra: App registrations, Certificates & secrets), and put its value into OAUTH2_CLIENT_SECRET"
)
_CODES: Final = {
    "AADSTS7000215": "Give the secret's value, which Entra shows once, and not its id, in OAUTH2_CLIENT_SECRET",
    "AADSTS7000222": _RENEWAL,
    "AADSTS700016": "Check OAUTH2_CLIENT_ID, the application's id, and the tenant in OAUTH2_TOKEN_URL or PROVIDER",
    "AADSTS90002": "Check the tenant in OAUTH2_TOKEN_URL or PROVIDER",
    "AADSTS700027": "Upload the certificate that authrelay oauth2 certificate prints (Certificates & secrets)",
    "AADSTS700082": _NEW_LOGIN,
    "AADSTS50173": _NEW_LOGIN,
}
"""What Entra ID means (https://learn.microsoft.com/entra/identity-platform/reference-error-codes)."""
_PASSING: Final = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
"""RFC 6749 section 4.1.2.1, RFC 8628 section 3.5."""


class TokenError(Exception):
    """No access token: what is wrong, as a clause, and the `remedy`.

    `is_for_person`: trying again will not mend it. `retry_after`: seconds that the endpoint asks for. `kind` stays the
    same while the text may change from one answer to the next.
    """

    def __init__(
        self, what: str, remedy: str, *, is_for_person: bool, retry_after: float = 0.0, kind: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.kind = kind or what
        self.remedy = remedy
        self.is_for_person = is_for_person
        self.retry_after = retry_after


def explain_refusal(oauth2: OAuth2, status: int, error: str, description: str, retry_after: float) -> TokenError:
    """Return what an endpoint's own error means (RFC 6749 section 5.2)."""
    # Entra ID goes on with numbers of the request and its time.
    description = re.split(r"\s+Trace ID:", description)[0]
    said = quote_value(hide(f"{error}: {description}" if description else error, oauth2.secrets))
    kind = f"{status} {error} {description.partition(':')[0]}"
    what = f"it answered {status} {said}"
    if error in _PASSING or status in (408, 429) or status >= 500:
        return TokenError(what, _advise_to_wait(status), is_for_person=False, retry_after=retry_after, kind=kind)
    code = next((known for known in _CODES if re.search(rf"\b{known}\b", description)), None)
    is_about_secret = code in ("AADSTS7000215", "AADSTS7000222")
    remedy = _CODES[code] if code and not (is_about_secret and oauth2.shows_certificate) else _advise(oauth2, error)
    return TokenError(what, remedy, is_for_person=True, kind=kind)


def explain_silence(status: int, reason: str, retry_after: float) -> TokenError:
    """Return what an answer means that is none of a token endpoint."""
    what = f"it answered {quote_value(f'{status} {reason}'.strip())}"
    if status in (408, 429) or status >= 500:
        return TokenError(what, _advise_to_wait(status), is_for_person=False, retry_after=retry_after)
    return TokenError(f"{what}, and not as a token endpoint does", "Check OAUTH2_TOKEN_URL", is_for_person=True)


def hide(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text of the endpoint's without what we sent it: some echo it."""
    for secret in secrets:
        if len(secret) >= _LEAST_SECRET:
            text = text.replace(secret, "(hidden)")
    return text


def name_for(setting: str, text: str) -> str:
    """Return a remedy for the upstream of a setting, in which RELAYHOST's names stand for its own."""
    if not setting.startswith("UPSTREAMS"):
        return text
    named, count = _OWN.subn(lambda match: match[0].removeprefix("RELAYHOST_").lower(), text)
    return f"{named}, in {setting}" if count else text


def _advise_to_wait(status: int) -> str:
    return "It is asked again by itself, more seldom" if status == 429 else "It is asked again by itself"


def _advise(oauth2: OAuth2, error: str) -> str:
    if error == "invalid_client" and oauth2.shows_certificate:
        return (
            "Check OAUTH2_CLIENT_ID, and that the application has the certificate that authrelay oauth2 certificate "
            "prints; or set OAUTH2_CLIENT_SECRET"
        )
    if error == "invalid_client":
        return "Check OAUTH2_CLIENT_ID and OAUTH2_CLIENT_SECRET, which may have ended"
    if oauth2.grant == SERVICE_ACCOUNT:
        return (
            "Check that RELAYHOST_USERNAME is a mailbox of the domain, that the key in OAUTH2_SERVICE_ACCOUNT is still "
            f"there, and that its client id has the scope {oauth2.scope} (Google Admin: Security, API controls, "
            "Domain-wide delegation)"
        )
    if error in ("invalid_grant", "interaction_required", "consent_required") and oauth2.grant == REFRESH_TOKEN:
        return f"The refresh token has ended, or was withdrawn. {_NEW_LOGIN}"
    if error == "unauthorized_client":
        return f"Allow the application the grant {oauth2.grant}, at the provider, or set another OAUTH2_GRANT"
    if error == "invalid_scope":
        return f"Check OAUTH2_SCOPE, which is '{oauth2.scope}', and the application's permissions at the provider"
    if error == "unsupported_grant_type":
        return f"The endpoint does not know {oauth2.grant}: set another OAUTH2_GRANT, or check OAUTH2_TOKEN_URL"
    return "Check OAUTH2_TOKEN_URL, OAUTH2_CLIENT_ID and OAUTH2_SCOPE, and the application at the provider"
