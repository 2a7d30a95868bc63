"""The status page in real Chromium: seen by axe, the HTML validator, eyes, and strangers who want to write in it."""

from __future__ import annotations

import os
import pathlib
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any, Final

import pytest

from entrypoint.services.status.page import render_page
from entrypoint.services.status.policy import make_policy
from tests.image.conftest import Relays
from tests.support.browser import Browser, Page
from tests.support.client import Client
from tests.support.engine import Engine, Network
from tests.support.pictures import PICTURES, save_pictures
from tests.support.upstream import Upstream, reply
from tests.support.views import make_broken, make_busy, make_empty, make_hostile
from tests.unit.test_status_page import HOSTILE

TEMPLATES: Final = str(pathlib.Path(__file__).parents[2] / "templates")
POLICY: Final = make_policy(TEMPLATES)
_STATES: Final = {"empty": make_empty, "busy": make_busy, "broken": make_broken}
_LOOKS: Final[dict[str, dict[str, Any]]] = {
    "light": {},
    "dark": {"is_dark": True},
    "phone": {"width": 360, "height": 740, "is_dark": True},
}
# Every element with its attributes' names, in the order of the tree that the browser made.
_TREE: Final = (
    "[...document.querySelectorAll('*')].map(one => one.tagName + ' ' + [...one.attributes].map(a => a.name) + ' ' "
    "+ (one.parentElement?.tagName ?? '')).join('\\n')"
)
# What would be more of them, if somebody's text had become markup.
_COUNTS: Final = "['img', 'script', 'style', 'a', 'h1'].map(tag => document.querySelectorAll(tag).length).join()"
_OPEN_ALL: Final = "document.querySelectorAll('details').forEach(one => { one.open = true })"
_ADDRESS: Final = "http://relay.test/"
# What a tab does that is shown again: it need not wait for the next turn.
_UPDATE: Final = "document.dispatchEvent(new Event('visibilitychange'))"
_HIDE: Final = "Object.defineProperty(document, 'hidden', { value: true, configurable: true })"
_SHOW: Final = "delete document.hidden"


@pytest.fixture(scope="module", autouse=True)
def _utc() -> Iterator[None]:
    """The pages of these tests are rendered here, and their times are the machine's otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(scope="module")
def browser(engine: Engine, network: Network) -> Iterator[Browser]:
    """One Chromium for all tests here."""
    with Browser(engine, network) as made:
        yield made


def _render(view: dict[str, Any]) -> str:
    return render_page(view, TEMPLATES)


def _open(browser: Browser, html: str, **look: Any) -> Page:
    page = browser.open_page()
    page.look(**look)
    page.serve(html, POLICY)
    page.visit(_ADDRESS)
    return page


@pytest.mark.parametrize("look", _LOOKS)
@pytest.mark.parametrize("state", _STATES)
def test_page_keeps_nobody_out(browser: Browser, state: str, look: str) -> None:
    """Contrast, names, headings, tables: what axe can find by itself, of any weight, with everything opened."""
    page = _open(browser, _render(_STATES[state]()), **_LOOKS[look])
    page.evaluate(_OPEN_ALL)
    assert page.find_barriers() == []
    assert page.complaints == []
    assert set(page.requests) == {_ADDRESS}


def test_page_fits_a_narrow_screen(browser: Browser) -> None:
    """On a phone nobody scrolls sideways for the end of a sentence; 320 px is what WCAG 2.2 asks for (1.4.10)."""
    page = _open(browser, _render(make_hostile("x" * 300)), width=320, height=640)
    page.evaluate(_OPEN_ALL)
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_page_is_valid_html(browser: Browser) -> None:
    """Browsers forgive; screen readers and tomorrow's browsers less so."""
    pages = [make() for make in _STATES.values()] + [make_hostile("".join(HOSTILE))]
    assert browser.validate({f"page{number}": _render(view) for number, view in enumerate(pages)}) == []


def test_strangers_text_makes_no_markup_in_a_browser(browser: Browser) -> None:
    """The one parser that counts is the browser's."""
    harmless = _open(browser, _render(make_hostile("harmless")))
    tree = harmless.evaluate(_TREE)
    assert tree.count("\n") > 300
    for text in HOSTILE:
        page = _open(browser, _render(make_hostile(text)))
        assert page.evaluate(_TREE) == tree
        assert page.complaints == []
        assert set(page.requests) == {_ADDRESS}


def test_policy_stops_what_would_come_in_all_the_same(browser: Browser) -> None:
    """The second wall is tried with a hole made into the first."""
    injected = (
        "<script>window.isHacked = true</script><img src=http://elsewhere.test/x><style>h1 { color: red }</style>"
    )
    page = _open(browser, _render(make_busy()).replace("<main>", f"<main>{injected}"))
    assert page.evaluate("window.isHacked") is None
    assert len([one for one in page.complaints if "Content Security Policy" in one]) == 3
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") != "rgb(255, 0, 0)"
    assert set(page.requests) == {_ADDRESS}


def test_page_updates_itself_and_disturbs_nobody(browser: Browser) -> None:
    """What one reads, has opened or stands on stays; what changed is there, without a reload, within seconds."""
    page = _open(browser, _render(make_busy()))
    page.evaluate("window.isTheSame = true; window.table = document.querySelector('#settings table')")
    page.evaluate("document.querySelector('#messages summary').click()")
    page.evaluate("document.querySelector('#messages summary').focus()")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#flow ul'))")
    page.serve(_render(make_broken()), POLICY)
    page.wait_for("document.querySelector('h1').textContent.startsWith('Mail waits')")
    assert page.evaluate("document.title").startswith("Mail waits")
    assert page.evaluate("window.isTheSame")
    assert "87 messages wait" in page.evaluate("document.querySelector('#queue').textContent")
    assert page.evaluate("document.querySelector('#messages').open")
    assert page.evaluate("document.activeElement === document.querySelector('#messages summary')")
    assert page.evaluate("document.querySelector('#defaults').open") is False
    assert page.evaluate("window.table === document.querySelector('#settings table')")
    assert "541" in page.evaluate("getSelection().toString()")
    assert page.complaints == []
    assert set(page.requests) == {_ADDRESS}


def test_page_says_that_it_is_old_when_the_relay_does_not_answer(browser: Browser) -> None:
    """A page that stands still looks like good news."""
    page = _open(browser, _render(make_busy()))
    assert page.evaluate("document.getElementById('stale').checkVisibility()") is False
    page.break_server()
    page.evaluate(_UPDATE)
    page.wait_for("document.getElementById('stale').checkVisibility()")
    assert page.evaluate("document.querySelector('h1').textContent").startswith("Mail is flowing")
    page.serve(_render(make_busy()), POLICY)
    page.evaluate(_UPDATE)
    page.wait_for("!document.getElementById('stale').checkVisibility()")


def test_page_waits_while_it_is_hidden_or_paused(browser: Browser) -> None:
    """A forgotten tab asks nobody, and whoever needs stillness gets it (WCAG 2.2.2)."""
    page = _open(browser, _render(make_busy()))
    press = "document.getElementById('pause').click()"
    page.evaluate(press)
    assert page.evaluate("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    asked = len(page.requests)
    page.serve(_render(make_broken()), POLICY)
    page.evaluate(_UPDATE)
    page.evaluate(f"{_HIDE}; {press}; {_UPDATE}")
    assert len(page.requests) == asked
    page.evaluate(f"{_SHOW}; {_UPDATE}")
    page.wait_for("document.querySelector('h1').textContent.startsWith('Mail waits')")


def test_page_needs_no_script(browser: Browser) -> None:
    """A text browser, a locked-down one, a broken one: a reload shows what is new."""
    page = browser.open_page()
    page.look()
    page.switch_off_scripts()
    page.serve(_render(make_busy()), POLICY)
    page.visit(_ADDRESS)
    assert "Mail is flowing" in page.evaluate("document.body.innerText")
    assert page.evaluate("document.getElementById('pause').checkVisibility()") is False
    page.serve(_render(make_broken()), POLICY)
    page.visit(_ADDRESS)
    assert "Mail waits" in page.evaluate("document.body.innerText")


def test_page_can_be_used_by_keyboard(browser: Browser) -> None:
    """Where one is must be seen."""
    page = _open(browser, _render(make_busy()))
    reached = []
    for _ in range(6):
        page.press("Tab", 9)
        reached.append(page.evaluate("document.activeElement.textContent"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == ["Pause updates", "The messages", "The defaults", "metrics", "healthz", "readyz"]


def test_pictures_are_small_and_of_every_state(browser: Browser) -> None:
    """Those in docs/images come from here (AUTHRELAY_UPDATE_GOLDEN=1); a unit test knows when they are old."""
    pages = {name: _render(picture.make()) for name, picture in PICTURES.items()}
    taken = {}
    for name, picture in PICTURES.items():
        page = _open(browser, pages[name], is_dark=picture.is_dark, width=picture.width, height=picture.height)
        taken[name] = page.take_picture(picture.height)
        assert 20_000 < len(taken[name]) < 150_000
    if os.environ.get("AUTHRELAY_UPDATE_GOLDEN"):
        save_pictures(pages, taken)


def test_page_of_a_relay_follows_its_mail(
    relays: Relays, upstream: Upstream, client: Client, browser: Browser, network: Network
) -> None:
    """What a real relay gathers, from its first second to a refused login, with strangers' words in every message."""
    hostile = "<img/src=x/onerror=alert(1)>"
    relay = relays.start(env={"PROBE": "yes"}, allowed=["does not work, broken at 'auth'"])
    page = browser.open_page()
    page.look()
    page.visit(f"http://{relay.container.address(network)}:9154/")
    page.wait_for("document.querySelector('h1').textContent === 'Ready; no mail has come yet'")
    assert "the certificate is verified" in page.evaluate("document.querySelector('#upstream').textContent")
    tree = page.evaluate(_COUNTS)

    upstream.behave(faults={"rcpt": reply(550, f"5.1.1 {hostile} unknown", containing="nobody")})
    recipients = [f'"{hostile}"@example.com', "nobody@example.com"]
    text = b"Subject: <h1>x</h1>\r\n\r\nx\r\n"
    client.send(relay.container.name, 25, "a@example.test", recipients, text, helo=hostile)
    upstream.wait_messages(1)
    page.wait_for("document.querySelector('h1').textContent === 'Mail is flowing'")
    last = "document.querySelector('#last').textContent"
    page.wait_for(f"{last}.includes('sent') && {last}.includes('bounced')")
    assert page.evaluate(last).count(hostile) >= 2

    upstream.behave(faults={"auth": reply(535, f"5.7.8 no {hostile}")})
    client.send(relay.container.name, 25, "a@example.test", ["c@example.com"], text)
    refused = "Mail waits: the upstream refuses the user name or the password"
    page.wait_for(f"document.querySelector('h1').textContent === '{refused}'", timeout_seconds=40)
    page.wait_for("document.querySelector('#queue').textContent.includes('1 message waits')")
    assert "Check RELAYHOST_USERNAME" in page.evaluate("document.querySelector('#headline').textContent")
    page.evaluate(_OPEN_ALL)
    assert page.find_barriers() == []
    assert page.evaluate(_COUNTS) == tree
    assert page.complaints == []
    assert {urllib.parse.urlsplit(address).path for address in page.requests} == {"/"}
