"""OAuth 2.0 without a network: which token is good, what an answer means, and that the disk keeps what was given."""

from __future__ import annotations

import email.utils
import json
import pathlib
import time
from typing import Any, Final
from urllib.parse import parse_qs

import pytest

from entrypoint import paths
from entrypoint.commands import tokens
from entrypoint.config.oauth2 import OAuth2, make_oauth2, parse_service_account
from entrypoint.config.secret import Secret
from entrypoint.config.upstreams import Upstream
from entrypoint.errors import CannotWriteError
from entrypoint.oauth2 import endpoint
from entrypoint.oauth2.errors import TokenError, name_for
from entrypoint.oauth2.keeping import find_refresh_token, find_token, make_kept
from entrypoint.oauth2.request import make_form
from entrypoint.system import agenda, files
from entrypoint.system.token_store import KeptToken, load_token, save_token
from entrypoint.system.web import Answer, WebError
from entrypoint.upkeep.token_states import TokenState, load_token_states, save_token_states
from entrypoint.upkeep.verdict import Upstream as Found
from entrypoint.upkeep.verdict import Verdict, find_readiness
from tests.unit.material import KEY
from tests.unit.reading import read

URL: Final = "https://login.example.com/token"
SECRET: Final = "a-secret~of.ours"
BASE: Final = {
    "RELAYHOST": "[smtp.example.com]:587",
    "RELAYHOST_USERNAME": "relay@example.com",
    "OAUTH2_TOKEN_URL": URL,
    "OAUTH2_CLIENT_ID": "application",
    "OAUTH2_CLIENT_SECRET": SECRET,
}
WITH_REFRESH: Final = {**BASE, "OAUTH2_REFRESH_TOKEN": "first-refresh"}


def take(environ: dict[str, str]) -> tuple[Upstream, OAuth2]:
    settings, _ = read(environ)
    return settings.token_upstreams[0]


@pytest.fixture(autouse=True)
def places(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(paths, "TOKENS", f"{tmp_path}/tokens")
    monkeypatch.setattr(paths, "RUN", str(tmp_path))
    monkeypatch.setattr(paths, "TOKEN_STATES", f"{tmp_path}/states.json")
    monkeypatch.setattr(paths, "TROUBLE", f"{tmp_path}/trouble")
    monkeypatch.setattr(files, "make_directory", lambda path, mode: pathlib.Path(path).mkdir(mode, exist_ok=True))
    monkeypatch.setattr("entrypoint.system.token_store.make_directory", files.make_directory)
    return tmp_path


class Endpoint:
    """Answers in the place of the network, and keeps what was asked."""

    def __init__(self) -> None:
        self.answer: Answer | Exception = Answer(status=200, reason="OK", content=b"")
        self.forms: list[dict[str, str]] = []

    def good(self, **values: Any) -> None:
        content = {"access_token": "t-1", "token_type": "Bearer", "expires_in": 3600, **values}
        self.answer = Answer(status=200, reason="OK", content=json.dumps(content).encode())

    def bad(self, status: int, error: str, description: str = "", retry_after: str = "") -> None:
        content = json.dumps({"error": error, "error_description": description}).encode()
        self.answer = Answer(status=status, reason="Bad", content=content, retry_after=retry_after)

    def send(self, url: str, form: str, bounds: object, *, authorities: str | None = None) -> Answer:
        del bounds, authorities
        self.forms.append({"url": url, **{name: values[0] for name, values in parse_qs(form).items()}})
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    made = Endpoint()
    made.good()
    monkeypatch.setattr(endpoint, "send_form", made.send)
    return made


def serve(environ: dict[str, str], before: TokenState | None = None, refused: str = "") -> TokenState:
    return tokens._serve(*take(environ), before, {}, refused)


def test_grant_follows_from_what_is_given() -> None:
    """Nobody should have to know the word."""
    assert take(BASE)[1].grant == "client_credentials"
    assert take(WITH_REFRESH)[1].grant == "refresh_token"
    account = parse_service_account(
        json.dumps({"type": "service_account", "client_email": "r@p.example", "private_key": KEY, "token_uri": URL})
    )
    found = make_oauth2({"service_account": account})
    assert found is not None
    assert (found.grant, found.token_url, found.scope) == ("service_account", URL, "https://mail.google.com/")
    assert KEY[40:80] not in repr(found)


def test_form_has_what_the_grant_needs_and_nothing_else() -> None:
    """RFC 6749 sections 4.4.2 and 6."""
    upstream, oauth2 = take(BASE)
    form = parse_qs(make_form(oauth2, upstream.username or "", "", None))
    assert form == {"grant_type": ["client_credentials"], "client_id": ["application"], "client_secret": [SECRET]}
    form = parse_qs(make_form(take(WITH_REFRESH)[1], "", "later", None))
    assert form["refresh_token"] == ["later"]
    assert form["grant_type"] == ["refresh_token"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(3599, 3599), ("3599", 3599), (None, 3600), ("soon", 3600), ("nan", 3600), (-5, 3600), (1e12, 30 * 86400)],
)
def test_lifetime_is_read_as_endpoints_write_it(value: object, seconds: float) -> None:
    """Some write a number as text, and some nothing: RFC 6749 section 5.1 recommends it only."""
    assert endpoint.take_grant({"access_token": "t", "expires_in": value}).lifetime_seconds == seconds


@pytest.mark.parametrize(
    "values",
    [{}, {"access_token": ""}, {"access_token": "a b"}, {"access_token": "a\nb"}, {"access_token": "x" * 40001},
     {"access_token": "t", "token_type": "mac"}, {"access_token": "t", "expires_in": 3}],
)  # fmt: skip
def test_answer_that_is_no_token_is_refused(values: dict[str, object]) -> None:
    """A line break in one would be a line of a Postfix table."""
    with pytest.raises(TokenError) as caught:
        endpoint.take_grant(values)
    assert caught.value.is_for_person


def test_retry_after_is_seconds_or_a_date_and_bounded() -> None:
    """RFC 9110 section 10.2.3; a year would be a relay that never comes back."""
    assert endpoint.read_retry_after("7") == 7
    assert 50 < endpoint.read_retry_after(email.utils.formatdate(time.time() + 60, usegmt=True)) <= 60
    assert endpoint.read_retry_after("99999999") == 3600
    assert endpoint.read_retry_after("never") == endpoint.read_retry_after("") == 0
    assert endpoint.read_retry_after(email.utils.formatdate(0)) == 0


@pytest.mark.parametrize(
    ("status", "error", "is_for_person", "remedy"),
    [
        (401, "invalid_client", True, "OAUTH2_CLIENT_SECRET"),
        (400, "invalid_grant", True, "authrelay oauth2 login"),
        (400, "invalid_scope", True, "OAUTH2_SCOPE"),
        (400, "unauthorized_client", True, "Allow the application"),
        (400, "unsupported_grant_type", True, "OAUTH2_GRANT"),
        (400, "temporarily_unavailable", False, "by itself"),
        (429, "slow_down", False, "more seldom"),
        (503, "server_error", False, "by itself"),
    ],
)
def test_refusal_says_who_can_mend_it(
    status: int, error: str, is_for_person: bool, remedy: str, server: Endpoint
) -> None:
    """What mends itself is asked again soon; what a person must do is said, and not hammered."""
    server.bad(status, error, f"because of {SECRET} and later-refresh", retry_after="9")
    upstream, oauth2 = take(WITH_REFRESH)
    with pytest.raises(TokenError) as caught:
        endpoint.fetch_token(oauth2, upstream.username or "", "later-refresh", None)
    assert caught.value.is_for_person is is_for_person
    assert remedy in caught.value.remedy
    assert f"{status} {error}: because of (hidden) and (hidden)" in caught.value.what
    assert caught.value.retry_after == (0 if is_for_person else 9)


def test_remedy_names_the_keys_of_an_upstream() -> None:
    """There is no OAUTH2_CLIENT_ID in a table of UPSTREAMS."""
    text = "Check OAUTH2_CLIENT_ID and RELAYHOST_USERNAME"
    assert name_for("RELAYHOST", text) == text
    assert name_for("UPSTREAMS [a]", text) == "Check oauth2_client_id and username, in UPSTREAMS [a]"


def test_kept_token_is_good_only_for_what_it_was_fetched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another mailbox, scope or endpoint, or a new refresh token in the settings, wants another."""
    upstream, oauth2 = take(WITH_REFRESH)
    kept = make_kept(upstream, oauth2, access_token="t", lifetime_seconds=3600, refresh_token="second", before=None)
    save_token("smtp", kept)
    assert find_token(upstream, oauth2) == kept
    for change in (
        {"OAUTH2_SCOPE": "other"},
        {"RELAYHOST_USERNAME": "other@example.com"},
        {"OAUTH2_TOKEN_URL": "https://other.example.com/"},
        {"OAUTH2_CLIENT_ID": "other"},
        {"OAUTH2_REFRESH_TOKEN": "another"},
    ):
        assert find_token(*take({**WITH_REFRESH, **change})) is None
    # A secret that was renewed withdraws nothing.
    assert find_token(*take({**WITH_REFRESH, "OAUTH2_CLIENT_SECRET": "renewed"})) == kept
    part = (kept.refresh_at - kept.fetched_at) / 3600
    assert 0.70 <= part <= 0.80
    monkeypatch.setattr(time, "time", lambda: kept.expires_at - 0.5)
    assert find_token(upstream, oauth2) is None


def test_latest_refresh_token_wins_while_it_descends_from_the_settings() -> None:
    """The settings' own is the oldest; after a new login it is the only one."""
    upstream, oauth2 = take(WITH_REFRESH)
    assert find_refresh_token(oauth2, None) == "first-refresh"
    kept = make_kept(upstream, oauth2, access_token="t", lifetime_seconds=60, refresh_token="second", before=None)
    assert find_refresh_token(oauth2, kept) == "second"
    # An answer without one leaves the latest.
    kept = make_kept(upstream, oauth2, access_token="t", lifetime_seconds=60, refresh_token="", before=kept)
    assert find_refresh_token(oauth2, kept) == "second"
    _, changed = take({**WITH_REFRESH, "OAUTH2_REFRESH_TOKEN": "new-login"})
    assert find_refresh_token(changed, kept) == "new-login"


@pytest.mark.parametrize("call", ["fsync", "rename", "write"])
def test_disk_that_fails_leaves_the_token_before_whole(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full volume must not cost the only refresh token; the error is one of ours."""
    before, after = KeptToken(origin="o", access_token="a"), KeptToken(origin="o", access_token="b")
    save_token("smtp", before)

    def fail(*arguments: object) -> None:
        del arguments
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        if call == "write":
            broken.setattr("entrypoint.system.files.os.open", fail)
        else:
            broken.setattr(f"entrypoint.system.files.os.{call}", fail)
        with pytest.raises(CannotWriteError):
            save_token("smtp", after)
        assert load_token("smtp") == before
    save_token("smtp", after)
    assert load_token("smtp") == after
    assert (pathlib.Path(paths.TOKENS) / "smtp.json").stat().st_mode & 0o777 == 0o600


def test_file_that_was_damaged_counts_as_none() -> None:
    """The settings still have where it began."""
    save_token("smtp", KeptToken(origin="o", access_token="a"))
    (pathlib.Path(paths.TOKENS) / "smtp.json").write_text('{"origin": "o"', encoding="utf-8")
    assert load_token("smtp") is None
    (pathlib.Path(paths.TOKENS) / "smtp.json").write_text('{"other": 1}', encoding="utf-8")
    assert load_token("smtp") is None


def test_token_is_fetched_once_and_again_when_its_time_comes(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not before, whatever calls the process; and the first is said in the log, without the token."""
    server.good(refresh_token="second-refresh")
    state = serve(WITH_REFRESH)
    assert state.is_well
    state = serve(WITH_REFRESH, state)
    assert len(server.forms) == 1
    kept = load_token("smtp")
    assert kept is not None
    assert kept.refresh_token == "second-refresh"
    monkeypatch.setattr(time, "time", lambda: kept.refresh_at + 1)
    serve(WITH_REFRESH, state)
    assert [form["refresh_token"] for form in server.forms] == ["first-refresh", "second-refresh"]
    said = capfd.readouterr().out
    assert said.count("an access token came from") == 1
    assert "t-1" not in said
    assert "refresh" not in said


def test_clock_that_was_set_back_calls_for_a_new_token(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """By such a clock a token lives longer than the endpoint says."""
    state = serve(BASE)
    kept = load_token("smtp")
    assert kept is not None
    monkeypatch.setattr(time, "time", lambda: kept.fetched_at - 7200)
    serve(BASE, state)
    assert len(server.forms) == 2


def test_pauses_grow_within_bounds(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that is away, one that wants peace, and a mistake that only a person mends."""
    now = 1000.0
    monkeypatch.setattr(tokens, "find_now", lambda: now)

    def list_pauses(count: int) -> list[float]:
        nonlocal now
        pauses, state = [], None
        for _ in range(count):
            state = serve(BASE, state)
            pauses.append(state.next_try_at - now)
            now = state.next_try_at
        return pauses

    server.answer = WebError("late", "it was not here whole after 10 seconds")
    assert list_pauses(10) == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    server.bad(429, "slow_down", retry_after="90")
    assert list_pauses(3) == [90, 90, 90]
    server.bad(401, "invalid_client")
    assert list_pauses(8) == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_failure_is_said_once_and_an_ended_token_is_taken_away(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """While the present token is good it is a warning alone; without it nobody logs in, and the relay is not ready."""
    now = 1000.0
    monkeypatch.setattr(tokens, "find_now", lambda: now)
    state = serve(BASE)
    kept = load_token("smtp")
    assert kept is not None
    server.bad(401, "invalid_client", f"no {SECRET}")
    monkeypatch.setattr(time, "time", lambda: kept.refresh_at + 1)
    state = serve(BASE, state)
    now = state.next_try_at
    state = serve(BASE, state)
    said = capfd.readouterr().out
    assert said.count("WARNING") == 1
    assert "401 invalid_client: no (hidden)" in said
    assert "The present one is good until" in said
    assert find_token(*take(BASE)) is not None
    verdict = Verdict(at=1, upstreams=(Found(setting="RELAYHOST", nexthop="x", step="", words="well"),))
    assert [is_well for _, is_well, _ in find_readiness(verdict, [state])] == [True]
    monkeypatch.setattr(time, "time", lambda: kept.expires_at + 1)
    now = state.next_try_at
    state = serve(BASE, state)
    assert "Mail is accepted, and waits" in capfd.readouterr().out
    after = load_token("smtp")
    assert after is not None
    assert after.access_token == ""
    ((_, is_well, words),) = find_readiness(verdict, [state])
    assert not is_well
    assert "invalid_client" in words
    server.good()
    now = state.next_try_at
    assert serve(BASE, state).is_well
    assert "INFO authrelay: RELAYHOST: an access token came" in capfd.readouterr().out


def test_one_endpoint_that_hangs_is_waited_for_once(server: Endpoint) -> None:
    """With fifty accounts at it nobody would get to the others."""
    server.answer = WebError("late", "it was not here whole after 10 seconds")
    silent: dict[str, TokenError] = {}
    for _ in range(3):
        tokens._serve(*take(BASE), None, silent, "")
    assert len(server.forms) == 1


def test_token_that_the_upstream_refuses_is_replaced_ever_more_seldom(server: Endpoint, places: pathlib.Path) -> None:
    """It may have been withdrawn; but the next one may be refused, too."""
    state = serve(BASE)
    state = serve(BASE, state, "smtp.example.com")
    assert (len(server.forms), state.refusals) == (2, 1)
    state = serve(BASE, state, "another.example.com")
    assert len(server.forms) == 2
    agenda.write_agenda("tokens", agenda.Agenda(watches=agenda.watch_files((paths.TROUBLE,))))
    assert not tokens._has_trouble()
    (places / "trouble").write_text("SASL authentication failed; server smtp.example.com[192.0.2.1] said: 535 no")
    assert tokens._has_trouble()
    assert tokens._find_refused_host() == "smtp.example.com"
    (places / "trouble").write_text("connect to smtp.example.com[192.0.2.1]:587: Connection refused")
    assert tokens._find_refused_host() == ""


def test_states_are_what_health_reads() -> None:
    """Nothing in them is secret, and there are none without OAuth 2.0."""
    assert load_token_states() == {}
    state = TokenState(setting="RELAYHOST", endpoint=URL, what="it answered 500", remedy="Wait")
    save_token_states({"smtp": state})
    assert load_token_states() == {"smtp": state}
    assert state.describe() == f"the access token cannot be fetched from {URL}: it answered 500 -> Wait"


def test_missing_token_is_an_empty_password_and_never_no_login() -> None:
    """Without a login some servers take mail for their own domains, from anybody."""
    upstream, _ = take(BASE)
    assert upstream.credentials == ("relay@example.com", Secret(""))
    assert upstream.auth == "xoauth2"
