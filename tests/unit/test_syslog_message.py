"""From lines to RFC 5424: what a client wrote into a mail stays inside MSG, and nothing is longer than it may be."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoint.config.syslog_url import parse_syslog_url
from entrypoint.journal.forms import Form
from entrypoint.services.intake import Intake, Output
from entrypoint.services.syslog_message import LogLine, render_message
from entrypoint.system.log import SEVERITIES, clean_text

AT = 1700000000.5
TIME = "2023-11-14T22:13:20.500+00:00"


@pytest.fixture(autouse=True)
def time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def _render(line: str, own_name: str = "relay.example.com", most_bytes: int = 8192) -> bytes:
    severity, _, text = line.partition(" ")
    (output,) = _take(f"<{16 + SEVERITIES.index(severity)}>{text}".encode(errors="surrogateescape"))
    return render_message(LogLine(severity, AT, output.tag, output.text), own_name, most_bytes)


def _take(datagram: bytes, form: Form | None = None) -> list[Output]:
    outputs: list[Output] = []
    Intake(form or Form(), AT).take(datagram, AT, outputs.append, lambda _: None)
    return outputs


def test_json_line_goes_whole_and_keeps_its_tag() -> None:
    """The log server files by program, and whoever reads the event wants all of it."""
    (output,) = _take(b"<22>postfix/qmgr[9]: 4X: removed", Form("json"))
    assert output.tag == "postfix/qmgr[9]"
    assert json.loads(output.text)["text"] == "postfix/qmgr[9]: 4X: removed"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("INFO postfix/smtp[77]: 4X: to=<a@b>", f"<22>1 {TIME} relay.example.com postfix/smtp 77 - - 4X: to=<a@b>"),
        ("WARNING authrelay: x: y", f"<20>1 {TIME} relay.example.com authrelay - - - x: y"),
        ("CRITICAL postfix/master[1]: fatal: x", f"<18>1 {TIME} relay.example.com postfix/master 1 - - fatal: x"),
        ("ERROR a b", f"<19>1 {TIME} relay.example.com - - - - a b"),
        ("INFO ", f"<22>1 {TIME} relay.example.com - - - - "),
        ("INFO a[x]: b", f"<22>1 {TIME} relay.example.com a[x] - - - b"),
        ("INFO grüße[3]: b", f"<22>1 {TIME} relay.example.com gr??e 3 - - b"),
        (f"INFO {'a' * 60}[3]: b", f"<22>1 {TIME} relay.example.com {'a' * 48} 3 - - b"),
        ("INFO a: <14>1 - - - - - - forged", f"<22>1 {TIME} relay.example.com a - - - <14>1 - - - - - - forged"),
        ('INFO a: [x@1 y="]"]', f'<22>1 {TIME} relay.example.com a - - - [x@1 y="]"]'),
        # The mark says that it is UTF-8 (RFC 5424 section 6.4).
        ("INFO a: grüße", f"<22>1 {TIME} relay.example.com a - - - \ufeffgrüße"),
    ],
)
def test_line_becomes_a_message_whose_parts_are_its_own(line: str, message: str) -> None:
    """The log server files by these parts; each may hold only what RFC 5424 allows there."""
    assert _render(line) == message.encode()


def test_json_has_no_byte_order_mark() -> None:
    """RFC 8259 section 8.1: it must not be added, and parsers may refuse it."""
    message = render_message(LogLine("INFO", AT, "postfix/smtp[7]", '{"to": "ü@example.com"}'), "relay", 8192)
    assert message.endswith(' postfix/smtp 7 - - {"to": "ü@example.com"}'.encode())


@pytest.mark.parametrize(("name", "expected"), [("", "-"), ("a b\n", "a?b?"), ("ü" * 300, "?" * 255)])
def test_odd_own_name_stays_one_word(name: str, expected: str) -> None:
    """A container's host name may be anything; a blank in it would move every part that follows."""
    assert _render("INFO a: b", name).decode().split(" ")[2:4] == [expected, "a"]


@pytest.mark.parametrize("most_bytes", range(100, 110))
def test_cut_is_at_the_end_of_a_character(most_bytes: int) -> None:
    """Half a character is not UTF-8, and a receiver may refuse the whole message for it."""
    message = _render(f"INFO a: {'ü€😀' * 100}", most_bytes=most_bytes)
    assert most_bytes - 4 < len(message) <= most_bytes
    assert message.decode().startswith(f"<22>1 {TIME} relay.example.com a - - - \ufeffü€😀")


@given(st.text(), st.text())
def test_any_text_makes_one_message_with_seven_words_before_it(tag: str, text: str) -> None:
    """Whatever a client sends: no line break, no part too many."""
    message = _render(f"INFO {clean_text(tag)}: {clean_text(text)}").decode()
    assert "\n" not in message
    assert message.startswith(f"<22>1 {TIME} relay.example.com ")
    assert message.split(" ")[5:7] == ["-", "-"]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("udp://logs.example.com", "udp://logs.example.com:514"),
        ("tcp://logs.example.com/", "tcp://logs.example.com:601"),
        ("TLS://Logs.example.com", "tls://logs.example.com:6514"),
        ("tcp://192.0.2.5:1514", "tcp://192.0.2.5:1514"),
        ("tls://[2001:DB8::5]", "tls://[2001:db8::5]:6514"),
        ("udp://[2001:db8::5]:5514", "udp://[2001:db8::5]:5514"),
        ("udp://syslog_1:", "udp://syslog_1:514"),
    ],
)
def test_url_without_a_port_has_the_one_of_its_transport(text: str, url: str) -> None:
    """Nobody remembers 601 and 6514."""
    assert str(parse_syslog_url(text)) == url
