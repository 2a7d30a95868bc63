"""What follows from a walk: when what waits is tried, and when the next walk is due. The walk is in the image tests."""

from __future__ import annotations

import pathlib

import pytest

from entrypoint import paths
from entrypoint.commands import probe
from entrypoint.upkeep.verdict import Upstream, Verdict

REFUSED = "SASL authentication failed; server x[192.0.2.1] said: 535 5.7.8 no"
AWAY = "connect to x[192.0.2.1]:587: Connection refused"


@pytest.fixture(autouse=True)
def trouble(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Where deliveries leave word of what they met."""
    monkeypatch.setattr(paths, "TROUBLE", str(tmp_path / "trouble"))
    return tmp_path / "trouble"


def _make_verdict(*steps: str, failures: int = 0) -> Verdict:
    names = ("RELAYHOST", "FALLBACK_RELAYHOST", "UPSTREAMS [bulk]")
    upstreams = tuple(
        Upstream(setting=name, nexthop="n", step=step, words="w") for name, step in zip(names, steps, strict=False)
    )
    return Verdict(at=1.0, upstreams=upstreams, failures=failures)


@pytest.mark.parametrize(
    ("before", "after", "words", "is_open"),
    [
        ((), ("",), "", True),
        (("greeting",), ("",), AWAY, True),
        # The outage was over before anybody looked.
        (("",), ("",), AWAY, True),
        (("greeting",), ("greeting",), AWAY, False),
        (("resolve",), ("resolve", ""), AWAY, True),
        # PROBE=no-login, or the login of one sender: the walk cannot know whether it is still refused.
        (("",), ("",), REFUSED, False),
        (("",), ("",), "host x[192.0.2.1] said: 530 5.7.0 log in", False),
        (("greeting",), ("",), REFUSED, True),
        (("auth",), ("auth", ""), REFUSED, False),
        (("auth",), ("",), REFUSED, True),
        # Of several upstreams one is mended and another still away; then nothing is new.
        (("", "", "greeting"), ("", "", ""), AWAY, True),
        (("connect", "connect", "greeting"), ("connect", "connect", ""), AWAY, True),
        (("connect", "connect", ""), ("connect", "connect", ""), AWAY, False),
        (("", "", "greeting"), ("", "", "greeting"), AWAY, False),
    ],
)
def test_mail_that_waits_is_tried_when_the_way_is_open(
    before: tuple[str, ...], after: tuple[str, ...], words: str, is_open: bool, trouble: pathlib.Path
) -> None:
    """Postfix by itself leaves it for minutes; but each try with a refused password is one more at the provider."""
    if words:
        trouble.write_text(words + "\n")
    assert probe._is_open(_make_verdict(*before), _make_verdict(*after)) == is_open


@pytest.mark.parametrize(
    ("step", "failures", "seconds"),
    [
        *[("greeting", 1, 5), ("greeting", 2, 10), ("greeting", 5, 80), ("greeting", 9, 900), ("greeting", 5000, 900)],
        *[("auth", 1, 30), ("auth", 2, 60), ("auth", 7, 1920), ("auth", 8, 3600), ("sender", 5000, 3600)],
    ],
)
def test_broken_upstream_is_looked_at_ever_more_seldom(step: str, failures: int, seconds: float) -> None:
    """Also in the second week of an outage; with a refused login seven times in the first hour."""
    assert probe._choose_pause(_make_verdict(step, failures=failures)) == seconds
