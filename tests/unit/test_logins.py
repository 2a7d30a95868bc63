"""The login service: its words, its patience, and what it remembers; with real hashes, and without Postfix."""

from __future__ import annotations

import base64
import os
import pathlib
from typing import Final

import pytest

from entrypoint.commands import hash_password
from entrypoint.config.logins import User, parse_users_table
from entrypoint.config.password_scheme import Hash, parse_secret
from entrypoint.services.logins.protocol import Credentials, Exchange, ProtocolError, make_failure, make_handshake
from entrypoint.services.logins.throttle import BLOCK_SECONDS, MOST_FAILURES, Throttle, find_network
from entrypoint.services.logins.verifier import Verifier
from entrypoint.system import password_hashes

ANN: Final = b"ann"
BOB: Final = b"bob"
HERE: Final = "192.0.2.1"
THERE: Final = "192.0.2.2"
FAIL: Final = b"FAIL\t1\treason=wrong user name or password\n"


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _begin(mechanism: str, response: str | None, *, parameters: str = "\tsecured") -> Credentials | bytes | None:
    tail = "" if response is None else f"\tresp={response}"
    return Exchange().take(f"AUTH\t1\t{mechanism}\tservice=smtp\tnologin\tlip=192.0.2.9\trip={HERE}{parameters}{tail}")


def test_plain_is_understood_with_every_character_that_a_password_can_have() -> None:
    """A colon, blanks, quotes and letters of other languages are what people and generators choose."""
    password = " a:b \"c\" '$d' \\ ü€ "
    found = _begin("PLAIN", _encode(f"\0jörg@example.com\0{password}"))
    assert found == Credentials(address=HERE, name="jörg@example.com", password=password)
    assert _begin("plain", _encode("ann\0ann\0x")) == Credentials(address=HERE, name="ann", password="x")


def test_login_asks_for_name_and_password() -> None:
    """Outlook and old libraries have nothing else."""
    exchange = Exchange()
    assert exchange.take(f"AUTH\t7\tLOGIN\tservice=smtp\trip={HERE}\tsecured") == b"CONT\t7\tVXNlcm5hbWU6\n"
    assert exchange.take(f"CONT\t7\t{_encode('ann')}") == b"CONT\t7\tUGFzc3dvcmQ6\n"
    assert exchange.take(f"CONT\t7\t{_encode('x y')}") == Credentials(address=HERE, name="ann", password="x y")


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", _encode("ann")),
        ("PLAIN", _encode("\0ann")),
        ("PLAIN", _encode("\0ann\0")),
        ("PLAIN", _encode("\0\0x")),
        ("PLAIN", _encode("\0ann\0x\0y")),
        ("PLAIN", _encode("root\0ann\0x")),
        ("PLAIN", _encode("\0a\tb\0x")),
        ("PLAIN", "?"),
        ("PLAIN", base64.b64encode(b"\0ann\0\xff").decode()),
        ("PLAIN", ""),
    ],
)
def test_odd_response_is_a_failure_and_nothing_worse(mechanism: str, response: str) -> None:
    """A client's bytes go through to us; a tab or a line break among ours would be a field of its own for Postfix."""
    answer = _begin(mechanism, response)
    assert isinstance(answer, bytes)
    assert answer.startswith(b"FAIL\t1\t")
    assert answer.count(b"\n") == 1
    assert {field.partition(b"=")[0] for field in answer.split(b"\t")[2:]} <= {b"user", b"reason"}


def test_password_outside_tls_is_refused_here_as_well() -> None:
    """smtpd_tls_auth_only can be overridden; then nothing must work, so that it is noticed."""
    assert _begin("PLAIN", _encode("\0ann\0x"), parameters="") == FAIL


@pytest.mark.parametrize(
    "line",
    ["", "AUTH", "AUTH\tx\tPLAIN", "AUTH\t1\tEXTERNAL\tsecured", "CONT\t9\tx", "VERSION\t2\t0", "GET / HTTP/1.1"],
)
def test_other_words_end_the_connection(line: str) -> None:
    """What is not Postfix has no business there."""
    with pytest.raises(ProtocolError):
        Exchange().take(line)


def test_handshake_has_the_mechanisms_before_the_pid() -> None:
    """xsasl_dovecot_server.c takes a server that says SPID first for the wrong one."""
    lines = make_handshake(5, 1).decode().splitlines()
    assert lines.index("MECH\tPLAIN\tplaintext") < lines.index("SPID\t5")
    assert (lines[0], lines[-1]) == ("VERSION\t1\t1", "DONE")


def test_failure_names_the_user_and_shows_no_control_character() -> None:
    """Postfix logs it; who tries gives what he likes."""
    assert make_failure("1", "ann\t\nx" * 200).count(b"\t") == 3
    assert len(make_failure("1", "a" * 5000)) < 400


def _fail(throttle: Throttle, address: str, name: bytes, now: float, times: int) -> float:
    """Guess as often as it is allowed; return when that was over."""
    for _ in range(times):
        pause = throttle.find_pause(address, name, now)
        assert pause is not None
        now += pause
        throttle.note_failure(address, name, now)
    return now


def test_guessing_is_slowed_and_then_not_heard_for_a_while() -> None:
    """Ten passwords in five minutes are three thousand a day, whatever a machine could do."""
    throttle = Throttle()
    now = _fail(throttle, HERE, ANN, 0.0, MOST_FAILURES)
    assert 20 < now < 40
    assert throttle.find_pause(HERE, ANN, now) is None
    assert throttle.find_pause(HERE, BOB, now) is None
    assert throttle.find_pause(HERE, ANN, now + BLOCK_SECONDS - 1) is None
    assert throttle.find_pause(HERE, ANN, now + BLOCK_SECONDS + 1) == 0.0


def test_mistyping_twice_costs_nothing() -> None:
    """A person must not be punished for what persons do."""
    throttle = Throttle()
    assert _fail(throttle, HERE, ANN, 0.0, 2) == 0.0
    assert throttle.find_pause(HERE, ANN, 0.0) == 1.0


def test_nobody_is_locked_out_by_others() -> None:
    """Otherwise whoever knows a name could keep its owner from sending."""
    throttle = Throttle()
    for number in range(100):
        _fail(throttle, f"198.51.100.{number}", ANN, 0.0, 1)
    assert throttle.find_pause(THERE, ANN, 1.0) == 0.0
    # While many guess, a stranger has fewer tries.
    _fail(throttle, THERE, ANN, 1.0, 3)
    assert throttle.find_pause(THERE, ANN, 5.0) is None
    assert throttle.find_pause(THERE, BOB, 5.0) is not None


def test_user_who_is_known_behind_the_same_address_is_heard() -> None:
    """Behind a gateway or a NAT everybody has one address, the guesser too."""
    throttle = Throttle()
    throttle.note_success(HERE, BOB, 0.0)
    now = _fail(throttle, HERE, ANN, 1.0, MOST_FAILURES)
    assert throttle.find_pause(HERE, ANN, now) is None
    assert throttle.find_pause(HERE, BOB, now) == 0.0
    # That is no way to guess Bob's password.
    now = _fail(throttle, HERE, BOB, now, MOST_FAILURES)
    assert throttle.find_pause(HERE, BOB, now) is None


def test_memory_is_bounded_however_many_try() -> None:
    """A botnet has more addresses than a container has bytes."""
    throttle = Throttle()
    for number in range(40_000):
        throttle.note_failure(f"a{number}", str(number).encode(), float(number) / 1000)
        throttle.note_success(f"b{number}", str(number).encode(), float(number) / 1000)
    assert throttle.measure() <= 4 * 8192


def test_ipv6_is_counted_by_its_network() -> None:
    """Everybody with IPv6 has 2^64 addresses."""
    assert find_network("2001:db8:1:2:3::4") == find_network("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert find_network("2001:db8:1:3::4") != find_network("2001:db8:1:2::9")
    assert find_network("::ffff:192.0.2.1") == HERE
    assert find_network(HERE) == HERE


def _write(path: pathlib.Path, text: str, key: bytes = b"k" * 16) -> None:
    """Put a table of users in place, hashed, as the plan does it."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    new = path.with_suffix(".new")
    new.write_text(password_hashes.render_table(parse_users_table(text), key, before), encoding="utf-8")
    new.rename(path)


def _verify(verifier: Verifier, name: str, password: str) -> bool | None:
    return verifier.finish(verifier.start(Credentials(address=HERE, name=name, password=password)))


def test_right_password_is_found_right_and_remembered_until_the_table_changes(tmp_path: pathlib.Path) -> None:
    """An application that logs in for each message pays for one login; a withdrawn user is out at once."""
    path = tmp_path / "logins"
    _write(path, 'ann:p:a "ss" ü\nbob:{PLAIN}{x}')
    verifier = Verifier(str(path))
    credentials = Credentials(address=HERE, name="ann", password='p:a "ss" ü')
    assert not verifier.recall(credentials)
    assert _verify(verifier, "ann", credentials.password) is True
    assert verifier.recall(credentials)
    assert not verifier.recall(Credentials(address=HERE, name="ann", password="other"))
    assert not verifier.recall(Credentials(address=HERE, name="bob", password=credentials.password))
    assert _verify(verifier, "bob", "{x}") is True
    _write(path, "bob:{PLAIN}{x}")
    assert not verifier.recall(credentials)
    assert _verify(verifier, "ann", credentials.password) is False


def test_wrong_password_and_unknown_user_are_found_wrong(tmp_path: pathlib.Path) -> None:
    """Also somebody unknown with the password of the hash that he is verified against."""
    path = tmp_path / "logins"
    _write(path, "ann:secret")
    verifier = Verifier(str(path))
    assert _verify(verifier, "ann", "Secret") is False
    assert _verify(verifier, "nobody", "secret") is False
    assert _verify(verifier, "ANN", "secret") is False


def test_table_without_users_lets_nobody_in(tmp_path: pathlib.Path) -> None:
    """The last user, too, must be out when his line is removed."""
    path = tmp_path / "logins"
    _write(path, "# nobody at the moment\n")
    assert _verify(Verifier(str(path)), "ann", "secret") is False


def test_verification_that_the_table_overtakes_counts_for_nothing(tmp_path: pathlib.Path) -> None:
    """Otherwise who is withdrawn in that moment would be remembered for five minutes."""
    path = tmp_path / "logins"
    _write(path, "ann:secret")
    verifier = Verifier(str(path))
    verification = verifier.start(Credentials(address=HERE, name="ann", password="secret"))
    _write(path, "ann:changed")
    assert verifier.finish(verification) is None
    assert not verifier.recall(verification.credentials)


def test_same_letters_in_another_encoding_are_the_same_password(tmp_path: pathlib.Path) -> None:
    """A Mac may send an umlaut in two characters (RFC 8265 section 4.2.2)."""
    path = tmp_path / "logins"
    _write(path, "jo\u0308rg:u\u0308ber")
    assert _verify(Verifier(str(path)), "j\u00f6rg", "\u00fcber") is True


def test_unchanged_passwords_are_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of a second for each of a thousand users at every upkeep would be a processor for nothing."""
    users = parse_users_table("ann:a\nbob:b")
    first = password_hashes.render_table(users, b"k" * 16, "")
    made: list[str] = []

    def note(password: str, **_: object) -> str:
        made.append(password)
        return "{SCRYPT}x"

    monkeypatch.setattr(password_hashes, "make_hash", note)
    assert password_hashes.render_table(users, b"k" * 16, first) == first
    assert made == []
    changed = password_hashes.render_table(parse_users_table("ann:a\nbob:B"), b"k" * 16, first)
    assert made == ["B"]
    assert changed.splitlines()[0] == first.splitlines()[0]
    # With another key nothing tells whether a password is the same.
    password_hashes.render_table(users, b"q" * 16, first)
    assert made == ["B", "a", "b"]


def test_table_of_hashes_holds_no_password() -> None:
    """It lies on a disk."""
    text = password_hashes.render_table(parse_users_table("ann:Zq9-secret"), os.urandom(16), "")
    assert "Zq9" not in text
    assert text.startswith("ann:{SCRYPT}$scrypt$ln=14,r=8,p=1$")


def test_hashes_of_other_programs_are_verified() -> None:
    """Made with passlib 1.7.4: scrypt.using(rounds=14, block_size=8, parallelism=1) and pbkdf2_sha256."""
    for text in (
        "{SCRYPT}$scrypt$ln=14,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$lUTkiXnaPIlt+39/W8AV+zIOgQ+DcviNZtmSHaWiqmU",
        "{pbkdf2-sha256}$pbkdf2-sha256$100000$AAECAwQFBgcICQoLDA0ODw$n7ndPI4pRDZreIx.eVpaY1DViEWyo9Ia1l8HtVGB.Dc",
    ):
        found = parse_secret(text)
        assert isinstance(found, Hash)
        assert password_hashes.verify("secret", found)
        assert not password_hashes.verify("Secret", found)


def test_hash_password_prints_what_the_table_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    """Blanks at its ends, which the table refuses in the clear, work so."""
    (tmp_path / "in").write_bytes(' a:b "c" ü \n'.encode())
    with (tmp_path / "in").open(encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdin", file)
        assert hash_password.main([]) == 0
    (user,) = parse_users_table(f"ann:{capsys.readouterr().out}")
    assert isinstance(user, User)
    assert user.hash is not None
    assert password_hashes.verify(' a:b "c" ü ', user.hash)
    assert "hash" not in repr(user)
