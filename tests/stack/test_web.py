"""What the world meets on ports 80 and 443: TLS as Mozilla has it, headers, redirects, patience with passwords."""

from __future__ import annotations

import http.client
import http.cookies
import json
import re
import ssl
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from tests.support.authorities import Authority, Chain, make_self_signed_chain
from tests.support.browser import Page
from tests.support.engine import Engine, run_docker
from tests.support.stack import WEB_HOST, Stack
from tests.support.wait import wait_until

SSLYZE_IMAGE = "authrelay-peer-sslyze:dev"
OBSERVATORY_IMAGE = "authrelay-peer-observatory:dev"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer, and the certificate that came with it."""

    status: int
    headers: Mapping[str, str]
    body: str
    certificate_der: bytes | None


def ask(
    stack: Stack,
    path: str,
    *,
    method: str = "GET",
    body: str = "",
    headers: Mapping[str, str] | None = None,
    host: str = WEB_HOST,
    authority_pem: str | None = "",
) -> Answer:
    """Ask lighttpd, over TLS that is verified; without any when `authority_pem` is `None`."""
    connection: http.client.HTTPConnection
    if authority_pem is None:
        connection = http.client.HTTPConnection("127.0.0.1", stack.container("lighttpd").published_port(80), timeout=30)
    else:
        context = ssl.create_default_context(cadata=authority_pem or stack.authority_pem)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", stack.container("lighttpd").published_port(443), timeout=30, context=context
        )
        # The name in the certificate is the site's; the address is where the port is published.
        connection._create_connection = lambda address, *rest: __import__("socket").create_connection(  # type: ignore[attr-defined]
            ("127.0.0.1", address[1]), *rest
        )
        connection.host = WEB_HOST
    connection.request(method, path, body=body or None, headers={"Host": host, **(headers or {})})
    answer = connection.getresponse()
    certificate = connection.sock.getpeercert(binary_form=True) if isinstance(connection.sock, ssl.SSLSocket) else None
    text = answer.read().decode("utf-8", "replace")
    connection.close()
    return Answer(
        status=answer.status,
        headers={name.lower(): value for name, value in answer.getheaders()},
        body=text,
        certificate_der=certificate,
    )


def test_tls_is_what_mozilla_recommends(engine: Engine, stack: Stack) -> None:
    """sslyze tries every version and cipher, and the known attacks, against Mozilla's "intermediate" profile."""
    del engine
    run = ["run", "--rm", "--label", "authrelay.test=sslyze", "--network", stack.outside.name, SSLYZE_IMAGE]
    result = run_docker([*run, "--mozilla_config", "intermediate", f"{WEB_HOST}:443"], check=False, is_merged=True)
    # Who signed it is the site's business; all else must pass.
    verdict = result.text.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2]
    assert f"{WEB_HOST}:443: FAILED" in verdict
    assert re.findall(r"^ +\* (\w+):", verdict, re.M) == ["certificate_path_validation"], verdict


def test_connection_is_http_2_and_no_header_lacks(stack: Stack, page: Page) -> None:
    """Every kind of answer has them: the application's, a static file, a refusal."""
    page.visit(f"https://{WEB_HOST}/accounts/login/")
    assert page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
    wanted = {
        "strict-transport-security": "max-age=31536000",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "server": None,
    }
    for path, status in (
        ("/accounts/login/", 200), ("/static/postorius/css/style.css", 200), ("/archives/api/mailman/urls", 403),
        ("/static/no-such-thing", 404), ("/no-such-thing", 404), ("/", 302),
    ):  # fmt: skip
        answer = ask(stack, path)
        assert answer.status == status, path
        assert {name: answer.headers.get(name) for name in wanted} == wanted, path
        assert "default-src 'none'" in answer.headers["content-security-policy"], path


def test_headers_are_what_mozilla_recommends(engine: Engine, stack: Stack) -> None:
    """Mozilla's HTTP Observatory, over TLS that it verifies, finds one thing: what Postorius has within its pages."""
    authority = engine.directory() / "ca.pem"
    authority.write_text(stack.authority_pem, encoding="ascii")
    trust = [f"--volume={authority}:/ca.pem:ro", "--env=NODE_EXTRA_CA_CERTS=/ca.pem"]
    run = ["run", "--rm", "--label", "authrelay.test=observatory", "--network", stack.outside.name, *trust]
    report = json.loads(run_docker([*run, OBSERVATORY_IMAGE, WEB_HOST]).text)
    failed = {name: test["result"] for name, test in report["tests"].items() if not test["pass"]}
    assert failed == {"content-security-policy": "csp-implemented-with-unsafe-inline"}, report
    assert (report["scan"]["grade"], report["scan"]["score"]) == ("B+", 80)


def test_plain_http_leads_to_the_site_and_nowhere_else(stack: Stack) -> None:
    """Also when another name is asked for; what an ACME client has put down is served as it is."""
    for host in (WEB_HOST, "evil.example"):
        answer = ask(stack, "/mailman3/lists/?page=2", host=host, authority_pem=None)
        assert (answer.status, answer.headers["location"]) == (308, f"https://{WEB_HOST}/mailman3/lists/?page=2")
    token = "/srv/acme/.well-known/acme-challenge/token"
    script = f"mkdir -p {token.rpartition('/')[0]} && printf %s token.key >{token}"
    volume = f"{stack.project}_acme:/srv/acme"
    image = stack.container("lighttpd").inspect()["Config"]["Image"]
    run_docker(["run", "--rm", "--user", "root", "--volume", volume, image, "sh", "-c", script])
    answer = ask(stack, "/.well-known/acme-challenge/token", authority_pem=None)
    assert (answer.status, answer.body) == (200, "token.key")
    assert ask(stack, "/.well-known/acme-challenge/../../../etc/passwd", authority_pem=None).status in (308, 404)
    assert ask(stack, "/", host="evil.example").status == 400


def try_password(stack: Stack, path: str, number: int, name: str, forwarded_for: str = "") -> str:
    """Give a wrong password; the page that comes."""
    form = ask(stack, path)
    cookies = http.cookies.SimpleCookie(form.headers["set-cookie"])
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.body)
    assert token, form.body
    fields = {"csrfmiddlewaretoken": token[1], "login": name, "password": f"wrong {number}"}
    headers = {
        "Cookie": f"csrftoken={cookies['csrftoken'].value}",
        "Content-Type": "application/x-www-form-urlencoded",
        "Referer": f"https://{WEB_HOST}{path}",
    }
    if forwarded_for:
        headers["X-Forwarded-For"] = forwarded_for
    return ask(stack, path, method="POST", body=urllib.parse.urlencode(fields), headers=headers).body


def test_guessing_passwords_is_slowed(stack: Stack) -> None:
    """By account, whatever address the guesser says that he has; and by address, whatever account he tries."""
    said = [try_password(stack, "/accounts/login/", number, "owner", f"198.51.100.{number}") for number in range(7)]
    assert ["Too many failed login attempts" in one for one in said] == [False] * 5 + [True] * 2
    # Five wrong ones have been counted for the address; the two that were refused have not.
    said = [
        try_password(stack, "/accounts/login/", number, f"nobody{number}", f"192.0.2.{number}") for number in range(7)
    ]
    assert "Too many failed login attempts" in said[-1]
    answer = ask(stack, "/admin/login/?next=/admin/")
    assert (answer.status, answer.headers["location"].partition("?")[0]) == (302, "/accounts/login/")


@pytest.fixture
def given(stack: Stack) -> Authority:
    """Another CA, whose certificates the user puts into the directory."""
    del stack
    return Authority()


def give(stack: Stack, chain: Chain) -> None:
    """Put a pair where the user does, one half after the other."""
    directory = stack.directory / "secrets" / "tls"
    (directory / "fullchain.pem").write_text(chain.chain_pem, encoding="ascii")
    (directory / "privkey.pem").write_text(chain.key_pem, encoding="ascii")


def test_certificate_is_replaced_while_serving(stack: Stack, given: Authority) -> None:
    """No request fails meanwhile; a pair that is not good changes nothing, and is named in the log."""
    own = stack.authority_pem
    both = own + given.pem
    failures: list[str] = []
    is_over = threading.Event()

    def go_on() -> None:
        while not is_over.is_set():
            try:
                answer = ask(stack, "/static/postorius/css/style.css", authority_pem=both)
                if answer.status != 200:
                    failures.append(str(answer.status))
            except OSError as error:
                failures.append(repr(error))

    visitor = threading.Thread(target=go_on)
    visitor.start()
    try:
        before = ask(stack, "/", authority_pem=both).certificate_der
        give(stack, make_self_signed_chain("another.example"))
        wait_until(
            lambda: "is not for lists.example.test" in stack.container("certificate").logs(), 20, "it should be refused"
        )
        assert ask(stack, "/", authority_pem=both).certificate_der == before
        chain = given.make_chain(WEB_HOST)
        give(stack, chain)
        wanted = ssl.PEM_cert_to_DER_cert(chain.chain_pem[: chain.chain_pem.index("-----END") + 25])
        wait_until(lambda: ask(stack, "/", authority_pem=both).certificate_der == wanted, 20, "it should be served")
        for name in ("fullchain.pem", "privkey.pem"):
            (stack.directory / "secrets" / "tls" / name).unlink()
        wait_until(lambda: ask(stack, "/", authority_pem=both).certificate_der != wanted, 20, "our own should be back")
    finally:
        is_over.set()
        visitor.join()
    assert failures == []
    assert json.loads(json.dumps(stack.container("lighttpd").inspect()["RestartCount"])) == 0
