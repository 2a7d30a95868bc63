"""One list server for all tests of this directory, and a browser that trusts its CA."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import READER_IMAGE, Browser, Page
from tests.support.engine import Engine
from tests.support.stack import Stack


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The container engine; whatever was made in it is removed at the end."""
    with Engine() as made:
        yield made


@pytest.fixture(scope="session")
def stack(engine: Engine) -> Iterator[Stack]:
    """The list server, healthy."""
    made = Stack(engine)
    try:
        made.up()
        yield made
    finally:
        made.down("--volumes", "--remove-orphans")


@pytest.fixture(scope="session")
def browser(engine: Engine, stack: Stack) -> Iterator[Browser]:
    """A Chromium outside, with the CA imported."""
    with Browser(engine, stack.outside, image=READER_IMAGE, authority_pem=stack.authority_pem) as made:
        yield made


@pytest.fixture
def page(browser: Browser) -> Page:
    """A page of a visitor whom nobody knows."""
    return browser.open_page()
