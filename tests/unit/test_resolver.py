"""Names are looked up within a time, and every address of a name has its share of what is left."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from entrypoint import paths
from entrypoint.__main__ import main
from entrypoint.system import download as download_module
from entrypoint.system.connection import ConnectError, Deadline, connect
from entrypoint.system.download import DownloadError, download
from entrypoint.system.issuers import IssuerError, fetch_issuer
from entrypoint.system.resolver import (
    LookUpTimeoutError,
    describe_name_servers,
    describe_resolver,
    find_addresses,
    look_up,
)

RESOLV_CONF = (
    "# by the engine\nsearch example.com\nnameserver 192.0.2.53\nnameserver 2001:db8::53 # two\noptions edns0\n"
)


@pytest.fixture(autouse=True)
def resolv_conf(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Which name servers there are."""
    path = tmp_path / "resolv.conf"
    path.write_text(RESOLV_CONF)
    monkeypatch.setattr(paths, "RESOLV_CONF", str(path))
    return path


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A name server that never answers."""
    end = threading.Event()

    def wait(*_: object) -> list[Any]:
        end.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    yield
    end.set()


def answer(*addresses: str, port: int = 0) -> Callable[..., list[Any]]:
    """A name server that answers so."""

    def find(_host: str, wanted: int, *_: object) -> list[Any]:
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port or wanted))
            for one in addresses
        ]

    return find


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody on the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.mark.usefixtures("silence")
def test_look_up_ends_in_time_and_says_who_was_asked() -> None:
    """getaddrinfo(3) waits as long as resolv.conf(5) lets it: minutes, with three servers of which none is there."""
    begin = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        look_up("smtp.example.com", 587, socket.AF_UNSPEC, 0.1)
    assert time.monotonic() - begin < 3
    said = f"no answer within 0.1 s from name server 192.0.2.53 or 2001:db8::53 ({paths.RESOLV_CONF})"
    assert str(caught.value) == said
    assert isinstance(caught.value, LookUpTimeoutError)


@pytest.mark.usefixtures("silence")
def test_every_caller_says_that_the_name_server_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server that was to be asked is not the one that is down."""
    begin = time.monotonic()
    assert main(["discover-ca", "smtp.example.com", "--timeout", "0.2"]) == 69
    err = capsys.readouterr().err
    assert err.startswith("authrelay: smtp.example.com: no answer within 0.2 s from name server 192.0.2.53 or ")
    assert len(err.splitlines()) == 1
    with pytest.raises(IssuerError, match=r"no answer within 0\.[12]\d* s from name server 192\.0\.2\.53"):
        fetch_issuer("http://ca.example.com/x", 0.2)
    monkeypatch.setattr(download_module, "_TOTAL_SECONDS", 0.2)
    with pytest.raises(DownloadError, match=r"no answer within 0\.[12]\d* s from name server 192\.0\.2\.53"):
        download("https://ca.example.com/x")
    assert time.monotonic() - begin < 4


@pytest.mark.parametrize("host", ["a" * 64 + ".example.com", "a..example.com", ".example.com"])
def test_name_that_can_be_none_is_an_error_like_any_other(host: str) -> None:
    """Python raises UnicodeError for it, which nobody expects."""
    with pytest.raises(socket.gaierror):
        look_up(host, 587, socket.AF_UNSPEC, 5)


def test_each_address_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """/etc/hosts may have it twice."""
    monkeypatch.setattr(socket, "getaddrinfo", answer("192.0.2.1", "192.0.2.1", "2001:db8::1"))
    found = look_up("smtp.example.com", 587, socket.AF_UNSPEC, 5)
    assert [one[4][0] for one in found] == ["192.0.2.1", "2001:db8::1"]


@pytest.mark.parametrize("text", ["", "search x\nnameserver\n", None])
def test_without_a_name_server_it_is_the_default(text: str | None, resolv_conf: pathlib.Path) -> None:
    """resolv.conf(5): the machine itself."""
    resolv_conf.unlink()
    if text is not None:
        resolv_conf.write_text(text)
    assert describe_name_servers() == f"name server 127.0.0.1 ({resolv_conf})"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "# x\nnameserver 10.0.0.1\nsearch a.test b.test\nnameserver 10.0.0.2 # y\n",
            "resolv.conf has nameserver 10.0.0.1, 10.0.0.2, search a.test b.test",
        ),
        ("", "resolv.conf has no nameserver"),
    ],
)
def test_resolver_is_told_in_a_few_words(text: str, words: str, resolv_conf: pathlib.Path) -> None:
    """What resolv.conf says is the first thing that anybody asks."""
    resolv_conf.write_text(text)
    assert describe_resolver() == words


@pytest.mark.parametrize(
    ("protocols", "family"), [("ipv4", socket.AF_INET), ("ipv6", socket.AF_INET6), ("all", socket.AF_UNSPEC)]
)
def test_only_families_that_postfix_uses_are_looked_up(
    protocols: str, family: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With INET_PROTOCOLS=ipv4 it would never try the other address."""
    asked = []

    def find(_host: str, _port: object, wanted: int, *_: object) -> list[Any]:
        asked.append(wanted)
        return answer("192.0.2.1", "192.0.2.1")("", 0)

    monkeypatch.setattr(socket, "getaddrinfo", find)
    assert find_addresses("smtp.example.com", 5, protocols) == ("192.0.2.1",)
    assert asked == [family]


def test_dead_first_address_leaves_time_for_the_next(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv6 that leads nowhere, or one of two machines: the other one answers."""
    port = listener.getsockname()[1]
    true_connect = socket.socket.connect

    class Dead(socket.socket):
        def connect(self, place: Any) -> None:
            if place[0] != "127.0.0.1":
                time.sleep(self.gettimeout() or 9)
                raise TimeoutError
            true_connect(self, place)

    monkeypatch.setattr(socket, "getaddrinfo", answer("192.0.2.1", "127.0.0.1"))
    monkeypatch.setattr(socket, "socket", Dead)
    begin = time.monotonic()
    with connect("smtp.example.com", port, Deadline(1.5)) as connection:
        assert connection.getpeername() == ("127.0.0.1", port)
    assert 0.5 < time.monotonic() - begin < 1.5


def test_family_that_the_kernel_lacks_is_one_address_that_does_not_answer(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS has an AAAA record, and the kernel no IPv6: `ipv6.disable=1`."""
    true_socket = socket.socket

    def make(family: int = -1, *words: Any, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return true_socket(family, *words, **more)

    monkeypatch.setattr(socket, "getaddrinfo", answer("2001:db8::1", "127.0.0.1"))
    monkeypatch.setattr(socket, "socket", make)
    with contextlib.closing(connect("smtp.example.com", listener.getsockname()[1], Deadline(2))) as connection:
        assert connection.getpeername()[0] == "127.0.0.1"
    monkeypatch.setattr(socket, "getaddrinfo", answer("2001:db8::1"))
    with pytest.raises(ConnectError, match="Address family not supported"):
        connect("smtp.example.com", 587, Deadline(2))


@pytest.mark.parametrize(
    ("addresses", "words"),
    [
        (("127.0.0.1",), "127.0.0.1 refused the connection. Nobody listens there: check the port"),
        (
            ("127.0.0.1", "2001:db8::1"),
            "127.0.0.1 refused the connection, 2001:db8::1 cannot be reached (Network is unreachable). A firewall",
        ),
    ],
)
def test_every_address_that_did_not_answer_is_named(
    addresses: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One that refuses and one that is unreachable have different remedies."""
    true_connect = socket.socket.connect

    class Offline(socket.socket):
        def connect(self, place: Any) -> None:
            if ":" in place[0]:
                raise OSError(101, "Network is unreachable")
            true_connect(self, place)

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(socket, "getaddrinfo", answer(*addresses))
    monkeypatch.setattr(socket, "socket", Offline)
    assert main(["discover-ca", f"smtp.example.com:{port}", "--starttls", "smtp"]) == 69
    assert f"authrelay: smtp.example.com:{port}: {words}" in capsys.readouterr().err
