"""What a server says of an access token, in the words of a person."""

from __future__ import annotations

import base64

import pytest

from entrypoint.diagnosis.judgement import hide_secrets, list_forms
from entrypoint.diagnosis.tokens import (
    Refusal,
    explain_missing_mechanism,
    explain_refused_token,
    is_about_token,
    parse_refusal,
)

GOOGLE = '{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}'
TOKEN = "ya29.a0-secret"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOGLE, "status 400, scope https://mail.google.com/"),
        ('{"status":"invalid_token","openid-configuration":"https://example.com/x"}', "status invalid_token"),
        ('{"status":401}', "status 401"),
        ('{"status":["401"],"scope":{}}', ""),
        ('{"status":"a\\nb"}', r"status a\nb"),
        ("[]", ""),
        ("", ""),
        ("no JSON", ""),
        ("[" * 100000, ""),
    ],
)
def test_refusal_is_read_from_what_servers_say(text: str, said: str) -> None:
    """RFC 7628 section 3.2.2 and Google's page; whatever else comes is no reason to fail."""
    assert str(parse_refusal(text)) == said


@pytest.mark.parametrize(
    ("refusal", "detail", "remedy"),
    [
        (parse_refusal(GOOGLE), "(status 400, scope https://mail.google.com/; 535 no)", "for the scope https://mail"),
        (Refusal(), "(535 no)", "put a new token into RELAYHOST_PASSWORD_FILE"),
        (
            Refusal(status="insufficient_scope", scope="mail"),
            "(status insuff",
            "not for mail: get one for the scope mail",
        ),
        (Refusal(status="invalid_request"), "(status invalid_request; 535 no)", "RELAYHOST_AUTH"),
    ],
)
def test_refused_token_is_explained(refusal: Refusal, detail: str, remedy: str) -> None:
    """The reply alone says no more than that the login failed."""
    step = explain_refused_token(refusal, "535 no").step
    assert (step.name, step.is_ok) == ("auth", False)
    assert detail in step.detail
    assert remedy in step.remedy


@pytest.mark.parametrize(
    ("refusal", "code", "is_so"),
    [
        (Refusal(), 535, True),
        (Refusal(), 534, True),
        (parse_refusal(GOOGLE), 535, True),
        (parse_refusal(GOOGLE), 554, True),
        (parse_refusal(GOOGLE), 454, False),
        (Refusal(), 500, False),
        (Refusal(), 504, False),
        (Refusal(), 421, False),
    ],
)
def test_reply_about_the_command_is_no_judgement_on_the_token(refusal: Refusal, code: int, is_so: bool) -> None:
    """A new token would be the wrong remedy for "500 Line too long", and for a server that is busy."""
    assert is_about_token(refusal, code) is is_so


@pytest.mark.parametrize(
    ("auth", "offered", "detail", "remedy"),
    [
        ("password", ("XOAUTH2",), "takes access tokens alone", "RELAYHOST_AUTH=xoauth2, and give"),
        ("xoauth2", ("PLAIN", "OAUTHBEARER"), "does not offer XOAUTH2", "RELAYHOST_AUTH=oauthbearer, which it offers"),
        ("oauthbearer", ("PLAIN",), "does not offer OAUTHBEARER", "RELAYHOST_AUTH=password, and give a password"),
    ],
)
def test_missing_mechanism_is_explained(auth: str, offered: tuple[str, ...], detail: str, remedy: str) -> None:
    """The setting that would do is named, not just that nothing fits."""
    step = explain_missing_mechanism(auth, offered, "offered: X").step
    assert (step.name, detail in step.detail, remedy in step.remedy) == ("mechanisms", True, True)


@pytest.mark.parametrize(
    "message",
    [
        f"user=a,b=c\1auth=Bearer {TOKEN}\1\1",
        f"n,a=a=2Cb=3Dc,\1auth=Bearer {TOKEN}\1\1",
        f"\0a,b=c\0{TOKEN}",
    ],
)
def test_message_with_the_token_is_hidden_when_a_server_echoes_it(message: str) -> None:
    """In base64 the token's own characters are not to be found in it."""
    echoed = base64.b64encode(message.encode()).decode()
    assert hide_secrets(f"535 no {echoed}", list_forms("a,b=c", TOKEN)) == "535 no (hidden)"
