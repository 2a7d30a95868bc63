"""The status page as HTML: what it says in each state, and that nobody but us writes markup into it."""

from __future__ import annotations

import base64
import copy
import hashlib
import html.parser
import itertools
import pathlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from entrypoint.services.status.headline import choose_headline
from entrypoint.services.status.page import render_page
from entrypoint.services.status.policy import make_policy
from entrypoint.services.status.sections import describe_flow, list_notes
from entrypoint.services.status.sparkline import MINUTES, fill_hour, make_sparkline
from entrypoint.services.status.wording import format_age, format_bytes, format_moment, format_seconds
from tests.support.pictures import PICTURES, find_stale
from tests.support.views import NOW, make_broken, make_busy, make_empty, make_hostile

TEMPLATES: Final = str(pathlib.Path(__file__).parents[2] / "templates")
_VOID: Final = {"meta", "link", "br", "path"}
_MOST_BYTES: Final = 40_000
HOSTILE: Final = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></script><svg onload=alert(1)>",
    "--><!-- {{ 7 * 7 }} {% if %} &lt;b&gt;",
    "]]><a href=javascript:alert(1)>x</a>",
)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times are shown in the zone of TZ, which is the machine's otherwise."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class _Outline(html.parser.HTMLParser):
    """Elements with the names of their attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *(name for name, _ in attrs)))
        values = dict(attrs)
        self.addresses += [str(values[name]) for name in ("href", "src", "action", "srcset") if name in values]
        self.ids += [str(values["id"])] if "id" in values else []
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}",))
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        self.elements.append(("comment", data))

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        """What a person reads, blanks folded."""
        return " ".join(" ".join(self.texts).split())


def _render(view: dict[str, Any]) -> str:
    return render_page(view, TEMPLATES)


def _change(make: Callable[[], dict[str, Any]], **changes: Any) -> dict[str, Any]:
    view = make()
    for key, value in changes.items():
        view[key] = {**view[key], **value} if isinstance(value, dict) and view[key] else value
    return view


def _with_history(view: dict[str, Any], *rows: tuple[int, int, int, int, int]) -> dict[str, Any]:
    """Return a view with a history of (minutes ago, accepted, sent, deferred, bounced)."""
    minute = int(NOW) // 60 * 60
    view["report"]["history"] = [[minute - 60 * ago, *counts] for ago, *counts in rows]
    return view


_AUTH: Final = {"reason": "x", "messages": 3, "step": "auth", "meaning": "the login failed", "remedy": "Check it"}


@pytest.mark.parametrize(
    ("view", "tone", "text", "remedy"),
    [
        (make_empty(), "quiet", "Ready; no mail has come yet", "'authrelay send-test' in the container"),
        (_change(make_empty, report={"accepted": 3}), "quiet", "All is well; no mail in the last hour", ""),
        (make_busy(), "good", "Mail is flowing; 1 message waits", "The upstream does not take mail for this"),
        (_change(make_busy, reasons=[], queue=[], queue_total=0), "good", "Mail is flowing", ""),
        (_change(make_empty, queue_total=2), "good", "Mail is on its way", ""),
        (
            make_broken(),
            "bad",
            "Mail waits: the upstream refuses the user name or the password",
            "Check RELAYHOST_USER",
        ),
        (
            _change(make_broken, reasons=[], queue=[], queue_total=0),
            "bad",
            "Mail would wait: the upstream refuses the user name or the password",
            "Check RELAYHOST_USERNAME and RELAYHOST_PASSWORD; many",
        ),
        (_change(make_empty, reasons=[_AUTH], queue_total=3), "bad", "Mail waits: the login failed", "Check it."),
        (
            _change(make_empty, reasons=[{**_AUTH, "step": "message"}], queue_total=3),
            "warning",
            "Mail waits: the login failed",
            "Check it.",
        ),
        (
            _change(
                make_empty,
                is_healthy=False,
                is_ready=False,
                health=[{"name": "postfix", "is_well": False, "detail": "fatal"}],
            ),
            "bad",
            "The relay does not work: postfix: fatal",
            "Its log says why.",
        ),
        (
            _change(make_busy, space={"free_bytes": 1000}),
            "bad",
            "No mail is accepted: the queue's disk is full",
            "Make room",
        ),
        (_change(make_empty, report=None), "warning", "Whether mail is flowing is not known", "It is started again"),
        (
            _change(make_empty, is_ready=False, verdict={"at": 0.0, "is_well": False, "upstreams": []}),
            "quiet",
            "Starting: the upstream has not been tried yet",
            "",
        ),
        (
            _change(make_empty, is_ready=False, health=[{"name": "CA", "is_well": False, "detail": "it has expired"}]),
            "bad",
            "The relay is not ready: CA: it has expired",
            "",
        ),
        (
            _with_history(make_empty(), (5, 2, 0, 0, 2)),
            "warning",
            "Mail bounces: all 2 recipients of the last",
            "The last",
        ),
    ],
)
def test_headline_says_whether_mail_flows_and_what_to_do(
    view: dict[str, Any], tone: str, text: str, remedy: str
) -> None:
    """Whoever was woken at night reads one sentence first; it must be the right one, and end in an action."""
    headline = choose_headline(view)
    assert headline.tone == tone
    assert headline.text.startswith(text)
    assert headline.remedy.startswith(remedy)
    assert not headline.remedy or headline.remedy.endswith(".")


def test_headline_does_not_call_it_flowing_when_only_deferrals_came_since() -> None:
    """A message that was sent ten minutes ago proves nothing about now."""
    view = _change(make_empty, reasons=[_AUTH], queue_total=3)
    assert choose_headline(_with_history(view, (3, 1, 1, 0, 0), (2, 1, 0, 1, 0))).text.startswith(
        "Mail is flowing, but 3"
    )
    assert choose_headline(_with_history(view, (3, 1, 1, 0, 0), (1, 1, 0, 1, 0))).text.startswith("Mail waits")


@pytest.mark.parametrize("make", [make_empty, make_busy, make_broken])
def test_page_of_every_state_is_whole_light_and_asks_nobody_else(make: Callable[[], dict[str, Any]]) -> None:
    """On call, on a phone, in a network without a way out: one answer holds all there is."""
    page = _render(make())
    outline = _Outline(page)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert len(page.encode()) < _MOST_BYTES
    outside = [one for one in outline.addresses if not one.startswith("data:")]
    assert outside == ["metrics", "healthz", "readyz"]
    assert not {element[0] for element in outline.elements} & {"form", "input", "iframe", "img", "object", "base"}
    headings = [int(element[0][1]) for element in outline.elements if re.fullmatch("h[1-6]", element[0])]
    assert headings[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))


def test_page_stays_light_when_everything_is_long() -> None:
    """A long queue and chatty upstreams must not make the page heavy when it is needed most."""
    view = make_broken()
    view["reasons"] = [{**_AUTH, "reason": "x" * 5000} for _ in range(50)]
    view["report"]["last"] = [{**view["report"]["last"][0], "reply": "y" * 5000} for _ in range(20)]
    assert len(_render(view).encode()) < 1.5 * _MOST_BYTES


def test_page_tells_what_waits_why_and_what_to_do() -> None:
    """The sentence that says what to do is what a queue's list lacks."""
    text = _Outline(_render(make_broken())).text
    assert "87 messages wait, the oldest for 25 min." in text
    assert "The upstream refuses the user name or the password 86 messages" in text
    assert "Check RELAYHOST_USERNAME and RELAYHOST_PASSWORD; many providers want" in text
    assert "said: 535 5.7.8 Error: authentication failed" in text
    assert "67 more: 'authrelay queue' lists them all." in text


def test_page_tells_the_upstreams_tls_and_how_long_its_certificates_last() -> None:
    """A certificate that ends is an outage with a date."""
    text = _Outline(_render(make_broken())).text
    assert "Does not work Tried 25 min ago." in text
    assert "TLSv1.3, TLS_AES_256_GCM_SHA384, TLS level secure, the certificate is verified" in text
    assert "CN=smtp.example.com signed by CN=Example Mail CA R3,O=Example Trust 6 days left 2 Dec 2026" in text
    assert "CN=relay.example.com, renewed by itself on 12 Mar 2054 9,999 days left" in text


@pytest.mark.parametrize(("seconds", "left"), [(-5, "expired"), (3600, "less than a day left"), (86400, "1 day left")])
def test_page_tells_the_last_day_of_a_certificate(seconds: float, left: str) -> None:
    """The last day is when the words matter; an expired one must not have minus one days left."""
    view = make_empty()
    view["verdict"]["upstreams"][0]["tls"]["chain"][0]["not_after"] = NOW + seconds
    assert f"▲ {left}".removeprefix("▲ ") in _Outline(_render(view)).text


def test_page_tells_deliveries_settings_and_versions() -> None:
    """What else a person asks: what went out last, and with what settings."""
    text = _Outline(_render(make_busy())).text
    assert "nobody@example.org from app@example.com, 4gB10790xyz 550 5.1.1" in text
    assert "sent 22:31:01 UTC took 0.31 s" in text
    assert "took 15 min, 3 attempts" in text
    assert "RELAYHOST_PASSWORD (hidden)" in text
    assert "FALLBACK_RELAYHOST unset" in text
    assert "authrelay 1.2.3" in text
    assert "Postfix 3.10.5" in text
    assert "As of 25 Nov 2026, 22:31:04 UTC" in text


def test_page_without_the_forwarder_says_what_it_cannot_know() -> None:
    """No numbers are not zero."""
    text = _Outline(_render(_change(make_busy, report=None))).text
    assert "Not known: the log forwarder, which counts, does not answer." in text
    assert "Accepted" not in text


@pytest.mark.parametrize(("mode", "words"), [("domain", "Only the domains"), ("hash", "shown as hashes")])
def test_page_says_how_addresses_are_shown(mode: str, words: str) -> None:
    """Whoever reads `*@example.com` must not take it for an address."""
    assert words in _Outline(_render(_change(make_busy, log_addresses=mode))).text


def test_page_does_not_praise_an_upstream_that_nobody_tried() -> None:
    """With PROBE=no it is taken to be well, and that is all that is known."""
    view = make_empty()
    view["verdict"]["upstreams"][0] |= {"words": "it is not tried: PROBE=no", "tls": None}
    text = _Outline(_render(view)).text
    assert "Not tried It is not tried: PROBE=no" in text
    assert "Works" not in text


def test_notes_have_a_broken_upstream_beside_one_that_works() -> None:
    """Mail flows by the fallback: no alarm, and yet somebody must know."""
    view = make_broken()
    fallback = {**make_empty()["verdict"]["upstreams"][0], "setting": "FALLBACK_RELAYHOST"}
    view["verdict"] |= {"is_well": True, "upstreams": [*view["verdict"]["upstreams"], fallback]}
    assert list_notes(view)[-1].startswith("RELAYHOST [smtp.example.com]:587: the upstream refuses the user name")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_strangers_text_is_text_wherever_it_stands(hostile: str) -> None:
    """Recipients, replies and names come from anyone who can send a message; the page is read by who may do more."""
    harmless, outline = _Outline(_render(make_hostile("harmless"))), _Outline(_render(make_hostile(hostile)))
    assert outline.elements == harmless.elements
    assert outline.addresses == harmless.addresses
    assert harmless.text.lower().count("harmless") > 100
    assert outline.text.lower().count(" ".join(hostile.lower().split())) == harmless.text.lower().count("harmless")


def test_odd_characters_are_seen() -> None:
    """A character that turns the direction of writing would show one recipient and mean another."""
    page = _render(make_hostile("a\u202eb\0c\x1bd"))
    assert "a\\u202eb\\x00c\\x1bd" in page
    assert not re.search("[\u202a-\u202e\u2066-\u2069\0-\x08\x0b-\x1f\x7f]", page)


def test_policy_allows_the_pages_own_style_and_script_and_nothing_else() -> None:
    """Were there a hole after all, what came in by it would not run."""
    page, policy = _render(make_hostile("<script>alert(1)</script>")), make_policy(TEMPLATES)
    for tag in ("style", "script"):
        found = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(found) == 1
        digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert not re.search(r"<[^>]+ (style|on\w+)=", page)


def test_sparkline_shows_every_minute_of_the_hour_and_says_the_same_in_words() -> None:
    """The report leaves quiet minutes out; a picture that did, too, would show a busy hour."""
    minute = int(NOW) // 60 * 60
    hour = fill_hour([[minute - 59 * 60, 1, 0, 0, 0], [minute - 60, 1000, 0, 0, 0]], 1, NOW)
    assert len(hour) == MINUTES
    assert hour[-1] == (minute, 0)
    line = make_sparkline("accepted", hour)
    assert line.path == "M0 32v-2h3v2zM232 32v-32h3v32z"
    assert line.words == "1,001 accepted from 21:32 UTC to 22:31 UTC; at most 1,000 a minute, at 22:30 UTC."
    assert make_sparkline("sent", fill_hour([], 2, NOW)).words == "None sent from 21:32 UTC to 22:31 UTC."


def test_flow_tells_half_and_nearly_all_delays_and_not_what_it_does_not_know() -> None:
    """A mean hides the slow ones; beyond the last bucket there is no number to tell."""
    view = make_busy()
    assert describe_flow(view)["sum"].endswith("Of what was sent, half within 0.25 s, 19 of 20 within 1 s.")
    view["report"]["delays"]["total"] = {"buckets": [[1, 5], ["+Inf", 10]], "sum": 9.0, "count": 10}
    assert describe_flow(view)["sum"].endswith("Of what was sent, half within 1 s.")
    assert describe_flow(make_empty())["sum"] == ""


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (format_age(0.4), "0 s"),
        (format_age(65), "1 min 5 s"),
        (format_age(1500.7), "25 min"),
        (format_age(3600), "1 h"),
        (format_age(90061), "1 d 1 h"),
        (format_age(-3), "0 s"),
        (format_seconds(0.25), "0.25 s"),
        (format_seconds(2.5), "2.5 s"),
        (format_seconds(42.3), "42 s"),
        (format_bytes(812), "812 bytes"),
        (format_bytes(4200), "4.2 kB"),
        (format_bytes(999_960), "1.0 MB"),
        (format_bytes(18_400_000_000), "18 GB"),
        (format_bytes(2_000_000_000_000), "2.0 TB"),
    ],
)
def test_wording_is_a_persons(shown: str, wanted: str) -> None:
    """4312.000000 and 1764109864 are for programs."""
    assert shown == wanted


def test_moments_have_their_zone_and_their_day() -> None:
    """A time without its zone sends people to the wrong log lines."""
    assert format_moment(NOW, NOW).text == "22:31:04 UTC"
    assert format_moment(NOW - 86400, NOW).text == "24 Nov 22:31 UTC"
    assert format_moment(NOW - 400 * 86400, NOW).text == "21 Oct 2025"
    assert format_moment(NOW, NOW).iso == "2026-11-25T22:31:04+00:00"


def test_rendering_leaves_what_was_gathered_alone() -> None:
    """The metrics may be made of the same report afterwards."""
    view = make_broken()
    before = copy.deepcopy(view)
    _render(view)
    assert view == before


def test_pictures_in_the_documentation_are_of_this_page() -> None:
    """A picture of last year's page misleads more than none."""
    stale = find_stale({name: _render(picture.make()) for name, picture in PICTURES.items()})
    remedy = "If this is meant: AUTHRELAY_UPDATE_GOLDEN=1 pytest tests/image/test_status_page.py -k pictures -n 0"
    assert stale == [], f"docs/images shows another page. {remedy}"
