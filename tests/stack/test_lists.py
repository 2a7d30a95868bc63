"""From nothing to a working list, as its owner and a member do it: in a browser over TLS, and by mail."""

from __future__ import annotations

import os
import pathlib
import re
from email.message import EmailMessage

import pytest

from tests.support.browser import Browser, Page
from tests.support.engine import run_docker
from tests.support.stack import DOMAIN, OWNER, WEB_HOST, Sent, Stack
from tests.support.wait import wait_until

SITE = f"https://{WEB_HOST}"
LIST = f"announce@{DOMAIN}"
LIST_ID = f"announce.{DOMAIN}"
# Those who write are in a domain that the relay finds in the engine's DNS, as a stranger's sender must be.
ALICE = "alice@upstream.example.test"
DORA = "dora@upstream.example.test"
EVE = "eve@upstream.example.test"
OTHERS = ("bob@example.net", "carol@example.org")
PASSWORD = "a long and quiet road"


def log_in(page: Page, name: str, password: str) -> None:
    """Log in by the form."""
    page.visit(f"{SITE}/accounts/login/")
    keep_picture(page, f"1-login-{name}")
    page.submit("form[action*=login]", login=name, password=password)
    assert "/accounts/login" not in page.address, page.text


def wait_sent(stack: Stack, recipient: str, subject: str) -> Sent:
    """Wait for a message to somebody; the newest."""

    def find() -> list[Sent]:
        return [one for one in stack.sent() if one.rcpt_tos == (recipient,) and subject in str(one.message["Subject"])]

    return wait_until(find, 60, f"{recipient} should be sent: {subject}")[-1]


def keep_picture(page: Page, name: str) -> None:
    """Where AUTHRELAY_PICTURES names a directory, leave there what a person sees now."""
    directory = os.environ.get("AUTHRELAY_PICTURES")
    if directory:
        (pathlib.Path(directory) / f"{name}.png").write_bytes(page.take_picture())


def find_link(sent: Sent) -> str:
    """The link in a message, of this site."""
    found = re.search(rf"{SITE}/\S+", sent.text)
    assert found, sent.text
    return found[0]


@pytest.fixture(scope="module")
def owner(browser: Browser, stack: Stack) -> Page:
    """The site's owner, logged in with the password from the secret, and his domain and list."""
    page = browser.open_page()
    log_in(page, "owner", stack.read_secret("owner_password"))
    page.visit(f"{SITE}/mailman3/domains/new")
    page.submit("form[action*='domains/new']", mail_host=DOMAIN, description="")
    assert DOMAIN in page.text
    keep_picture(page, "2-domain")
    page.visit(f"{SITE}/mailman3/lists/new")
    keep_picture(page, "3-new-list")
    page.submit(
        "form[action*='lists/new']", listname="announce", mail_host=DOMAIN, list_owner=OWNER, advertised="True",
        description="What is new",
    )  # fmt: skip
    assert LIST in page.text
    keep_picture(page, "4-list")
    return page


@pytest.fixture(scope="module")
def member(browser: Browser, stack: Stack, owner: Page) -> Page:
    """Alice: an account of her own, confirmed by the link in her mail, with which she subscribes."""
    del owner
    page = browser.open_page()
    page.visit(f"{SITE}/accounts/signup/")
    page.submit("form[action*=signup]", email=ALICE, username="alice", password1=PASSWORD, password2=PASSWORD)
    page.visit(find_link(wait_sent(stack, ALICE, "Confirm")))
    page.submit("form[action*=confirm-email]")
    log_in(page, "alice", PASSWORD)
    page.visit(f"{SITE}/mailman3/lists/{LIST_ID}/")
    page.submit("form[action$='/subscribe']")
    keep_picture(page, "5-subscribed")
    return page


@pytest.fixture(scope="module")
def reader(browser: Browser, stack: Stack, owner: Page) -> Page:
    """Dora, who wants no account: she gives her address, and follows the link that is sent there."""
    del owner
    page = browser.open_page()
    page.visit(f"{SITE}/mailman3/lists/{LIST_ID}/")
    page.submit("form[action$=anonymous_subscribe]", email=DORA, display_name="Dora")
    page.visit(find_link(wait_sent(stack, DORA, "join")))
    keep_picture(page, "6-confirm-link")
    page.submit("form[action*=confirm]")
    return page


@pytest.fixture(scope="module")
def members(stack: Stack, owner: Page, member: Page, reader: Page) -> Page:
    """Two more, whom the owner has subscribed."""
    del member, reader
    owner.visit(f"{SITE}/mailman3/lists/{LIST_ID}/mass_subscribe/")
    owner.submit(
        "form[action*=mass_subscribe]", emails="\n".join(OTHERS), pre_verified=True, pre_confirmed=True,
        pre_approved=True,
    )  # fmt: skip
    for other in OTHERS:
        wait_sent(stack, other, "Welcome")
    owner.visit(f"{SITE}/mailman3/lists/{LIST_ID}/members/member/")
    keep_picture(owner, "7-members")
    return owner


def make_post(subject: str, message_id: str) -> bytes:
    """A post of Alice's with an attachment."""
    post = EmailMessage()
    post["From"] = f"Alice <{ALICE}>"
    post["To"] = LIST
    post["Subject"] = subject
    post["Message-ID"] = message_id
    post["Date"] = "Sat, 28 Nov 2026 12:00:00 +0000"
    post.set_content("The first of all posts: Grüße.\n")
    post.add_attachment(b"one,two\n1,2\n", maintype="text", subtype="csv", filename="numbers.csv")
    return post.as_bytes()


def test_owner_makes_a_domain_and_a_list_in_the_browser(owner: Page) -> None:
    """The certificate's CA was imported; nothing but it was trusted. Nothing was refused by the page's own policy."""
    owner.visit(f"{SITE}/mailman3/lists/{LIST_ID}/")
    assert "What is new" in owner.text
    assert [one for one in owner.requests if not one.startswith((SITE, "data:"))] == []
    assert owner.complaints == []


def test_people_subscribe_with_and_without_an_account(stack: Stack, member: Page, reader: Page, owner: Page) -> None:
    """Either follows a link in a mail, and is a member then; the site's mail came by way of the provider, too."""
    assert f"You are subscribed to {LIST}" in member.text
    assert WEB_HOST in reader.address
    owner.visit(f"{SITE}/mailman3/lists/{LIST_ID}/members/member/")
    assert ALICE in owner.text
    assert DORA in owner.text
    assert wait_sent(stack, DORA, "join").mail_from == f"announce-bounces+{DORA.replace('@', '=')}@{DOMAIN}"


def test_post_reaches_each_member_and_the_archive(stack: Stack, members: Page, page: Page) -> None:
    """Posted from the world: each copy has a sender that names its member, and the headers of RFC 2369 and RFC 2919."""
    del members
    assert stack.converse_from_outside(ALICE, LIST, make_post("First post", "<first@example.com>"))[0] == 250
    copies = {member: wait_sent(stack, member, "First post") for member in (ALICE, DORA, *OTHERS)}
    sessions = stack.sessions()
    for member, copy in copies.items():
        assert copy.mail_from == f"announce-bounces+{member.replace('@', '=')}@{DOMAIN}"
        assert copy.message["List-Id"] == f"What is new <{LIST_ID}>"
        assert copy.message["List-Post"] == f"<mailto:{LIST}>"
        assert f"announce-leave@{DOMAIN}" in copy.message["List-Unsubscribe"]
        assert copy.message["Subject"] == "[Announce] First post"
        assert sessions[copy.session_id]["tls_version"] == "TLSv1.3"
        assert sessions[copy.session_id]["sni"] == "upstream.example.test"
    assert len([one for one in stack.sent() if "First post" in str(one.message["Subject"])]) == 4

    archived = str(copies[ALICE].message["Archived-At"]).strip("<> ")
    assert archived.startswith(f"{SITE}/archives/list/{LIST}/message/")
    wait_until(lambda: visit_archive(page, archived), 60, "the archive should have the post")
    assert "The first of all posts: Grüße." in page.text
    link = page.evaluate("[...document.querySelectorAll('a')].find(one => one.innerText.includes('numbers.csv')).href")
    keep_picture(page, "8-archive")
    content = page.evaluate(f"fetch({link!r}).then(answer => answer.text())")
    assert content == "one,two\n1,2\n"


_BOUNCE = b"""From: MAILER-DAEMON@mx.example.net\r
Subject: Undelivered\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary=x\r
\r
--x\r
\r
No such user.\r
--x\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example.net\r
\r
Final-Recipient: rfc822; bob@example.net\r
Action: failed\r
Status: 5.1.1\r
\r
--x--\r
"""


def test_bounce_from_outside_is_counted_and_nothing_else_comes_in(stack: Stack, members: Page) -> None:
    """Port 25 is for the lists alone; a bounce finds its member by the sender that his copies had."""
    del members
    own = f"announce-bounces+{OTHERS[0].replace('@', '=')}@{DOMAIN}"
    assert stack.converse_from_outside("", own, _BOUNCE)[0] == 250
    for recipient, code in ((f"nobody@{DOMAIN}", 550), ("bob@example.net", 554), (f"announce@other.{DOMAIN}", 554)):
        assert stack.converse_from_outside("", recipient, _BOUNCE)[0] == code, recipient

    wait_until(lambda: list_bounced(stack) == {OTHERS[0]}, 60, "it should be counted")


def list_bounced(stack: Stack) -> set[str]:
    """Against whom a bounce was counted."""
    query = "SELECT email FROM member JOIN address ON address.id = address_id WHERE bounce_score = 1"
    command = ("exec", "--no-TTY", "database", "psql", "--username", "postgres", "--host", "/run/postgresql", "-Atc")
    return set(stack.compose(*command, query, "mailman").text.split())


def test_refusal_of_the_provider_is_counted_too(stack: Stack, members: Page) -> None:
    """The relay says so to the sender of that one copy, which is the list's, by LMTP; the others have theirs."""
    del members
    refusal = {"kind": "reply", "code": 550, "text": "5.1.1 No such user", "containing": OTHERS[1]}
    stack.behave(faults={"rcpt": refusal})
    assert stack.converse_from_outside(ALICE, LIST, make_post("Second post", "<second@example.com>"))[0] == 250
    for member in (ALICE, DORA, OTHERS[0]):
        wait_sent(stack, member, "Second post")
    wait_until(lambda: list_bounced(stack) == set(OTHERS), 60, "it should be counted")
    stack.behave()


def test_people_subscribe_by_mail_alone(stack: Stack, members: Page, owner: Page) -> None:
    """A mail to -join, and an answer to the one that comes back: its address has the token, in whatever client."""
    del members
    wish = f"From: {EVE}\r\nSubject: hello\r\n\r\n"
    assert stack.converse_from_outside(EVE, f"announce-join@{DOMAIN}", wish.encode())[0] == 250
    question = wait_sent(stack, EVE, "join").message
    address = str(question["Reply-To"] or question["From"])
    assert re.fullmatch(rf"announce-confirm\+\w+@{DOMAIN}", address), address
    answer = f"From: {EVE}\r\nTo: {address}\r\nSubject: Re: {question['Subject']}\r\n\r\nYes.\r\n"
    assert stack.converse_from_outside(EVE, address, answer.encode())[0] == 250
    wait_sent(stack, EVE, "Welcome")
    owner.visit(f"{SITE}/mailman3/lists/{LIST_ID}/members/member/")
    assert EVE in owner.text


def test_runners_of_mailman_share_their_memory(stack: Stack, members: Page) -> None:
    """A dozen Pythons of their own would take 900 MB (compose/mailman/core/lists-master)."""
    del members
    said = run_docker(["stats", "--no-stream", "--format", "{{.MemUsage}}", stack.container("core").name]).text
    used = re.match(r"([0-9.]+)MiB", said)
    assert used, said
    assert float(used[1]) < 400
    log = stack.container("core").logs()
    assert log.count("runner started.") == 12
    assert "Traceback" not in log


def visit_archive(page: Page, address: str) -> bool:
    """Whether a page of the archive is there."""
    page.visit(address)
    return "First post" in page.text


def test_people_unsubscribe_in_the_browser_and_by_mail(
    stack: Stack, members: Page, member: Page, reader: Page, owner: Page
) -> None:
    """Leaving takes as little as joining."""
    del members
    member.visit(f"{SITE}/mailman3/lists/{LIST_ID}/")
    member.submit("form[action*='/unsubscribe']")
    keep_picture(member, "9-unsubscribed")
    wait_sent(stack, ALICE, "unsubscribed")
    leave = f"From: {DORA}\r\nSubject: leave\r\n\r\n".encode()
    assert stack.converse_from_outside(DORA, f"announce-leave@{DOMAIN}", leave)[0] == 250
    reader.visit(find_link(wait_sent(stack, DORA, "leave")))
    reader.submit("form[action*=confirm]")
    owner.visit(f"{SITE}/mailman3/lists/{LIST_ID}/members/member/")
    assert ALICE not in owner.text
    assert DORA not in owner.text
    assert OTHERS[0] in owner.text
