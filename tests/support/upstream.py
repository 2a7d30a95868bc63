"""The upstreams of a test: the mock with its control API, a real Postfix, a real Exim. Runs docker."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.authorities import Authority, Chain
from tests.support.engine import Container, Engine, File, Network
from tests.support.wait import WaitError, wait_until

# AUTHRELAY_PEERS: another tag than scripts/peers gives by itself, for a second working copy on one machine.
PEERS_TAG = os.environ.get("AUTHRELAY_PEERS", "dev")
MOCK_IMAGE = f"authrelay-peer-mock:{PEERS_TAG}"
POSTFIX_IMAGE = f"authrelay-peer-postfix:{PEERS_TAG}"
EXIM_IMAGE = f"authrelay-peer-exim:{PEERS_TAG}"
SERVERS_IMAGE = f"authrelay-peer-servers:{PEERS_TAG}"

HOSTNAME = "mail.example.test"
ACCOUNTS = {"relay@example.test": "secret"}

_CONTROL_PORT = 8025


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """One misbehaviour at one stage of SMTP. Make it with `reply`, `hang`, `drop` or `reset`."""

    kind: str
    code: int = 0
    text: str = ""
    # How often before the stage is good again; None: always.
    times: int | None = None
    # Only for a command, login or message with this text in it.
    containing: str = ""


def reply(code: int, text: str, *, times: int | None = None, containing: str = "") -> Fault:
    """Answer with this reply instead of the good one. A line feed in the text begins another line."""
    return Fault(kind="reply", code=code, text=text, times=times, containing=containing)


def hang(*, times: int | None = None, containing: str = "") -> Fault:
    """Never answer."""
    return Fault(kind="hang", times=times, containing=containing)


def drop(*, times: int | None = None, containing: str = "") -> Fault:
    """Close the connection instead of answering."""
    return Fault(kind="drop", times=times, containing=containing)


def reset(*, times: int | None = None, containing: str = "") -> Fault:
    """Reset the connection: RST instead of FIN."""
    return Fault(kind="reset", times=times, containing=containing)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Login:
    """One AUTH exchange that the mock saw."""

    mechanism: str
    identity: str
    # An access token, where the mechanism is XOAUTH2 or OAUTHBEARER.
    password: bytes
    is_inside_tls: bool
    is_accepted: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message:
    """One message whose content the mock has received whole."""

    id: int
    session_id: int
    # The identity that was logged in; empty for none.
    login: str
    mail_from: str
    mail_parameters: tuple[str, ...]
    rcpt_tos: tuple[str, ...]
    rcpt_parameters: tuple[tuple[str, ...], ...]
    # After dot-unstuffing; within a `Session` it is left out.
    data: bytes = dataclasses.field(repr=False)
    received_at: float
    # None: the client was sent no reply to the content.
    final_code: int | None
    final_reply_at: float | None

    @property
    def is_accepted(self) -> bool:
        """Whether the client was sent the final 250."""
        return self.final_code == 250


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """One connection that the mock saw."""

    id: int
    peer: str
    peer_port: int
    port: int
    started_at: float
    # None: it is still open.
    ended_at: float | None
    # Every raw byte before TLS; all of them where there was no TLS.
    plain: bytes
    # Command lines inside TLS, without message content, at most 1 MiB.
    inside_tls: bytes
    tls_version: str | None
    tls_cipher: str | None
    # Why the handshake failed.
    tls_error: str | None
    sni: str | None
    client_certificate_subject: str | None
    client_certificate_sha256: str | None
    helo: str
    # Verbs in order; "DATA." is a complete content.
    verbs: tuple[str, ...]
    # Each reply of 400 and more: the verb that it answers ("" before the first), and its lines, joined by blanks.
    refusals: tuple[tuple[str, str], ...]
    logins: tuple[Login, ...]
    messages: tuple[Message, ...]


class Upstream:
    """The mock upstream: good until told otherwise."""

    def __init__(
        self,
        engine: Engine,
        network: Network,
        *,
        authority: Authority | None = None,
        aliases: Sequence[str] = (HOSTNAME,),
        accounts: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.authority = authority or Authority()
        self.aliases = tuple(aliases)
        self.accounts = dict(ACCOUNTS if accounts is None else accounts)
        self.good_chain = self.authority.make_chain(*self.aliases)
        self.container: Container = engine.run(
            MOCK_IMAGE,
            kind="upstream",
            network=network,
            aliases=self.aliases,
            env={"MOCK_HOSTNAME": self.aliases[0]},
            arguments=["--publish", f"127.0.0.1::{_CONTROL_PORT}", *arguments],
        )
        self._connect()
        self.reset()

    def behave(
        self,
        *,
        faults: Mapping[str, Fault] | None = None,
        is_listening: bool = True,
        starttls_offered: bool = True,
        auth_offered: str = "inside-tls",
        require_auth: bool = True,
        mechanisms: Sequence[str] = ("PLAIN", "LOGIN"),
        extensions: Sequence[str] | None = None,
        tls_minimum: str = "TLSv1.2",
        tls_maximum: str = "TLSv1.3",
        reply_delay_seconds: float = 0,
        final_reply_delay_seconds: float = 0,
        final_reply_jitter_seconds: float = 0,
    ) -> None:
        """Behave exactly so from now on; what is not named is good. Hanging sessions are dropped.

        `faults` by stage: connect, handshake, ehlo, starttls, auth, mail, rcpt, data, content (in its middle),
        end-of-data; no reply at handshake and content. `auth_offered`: inside-tls, absent, before-tls, always. TLS
        versions: TLSv1 to TLSv1.3.
        """
        order: dict[str, Any] = {
            "faults": {stage: dataclasses.asdict(fault) for stage, fault in (faults or {}).items()},
            "is_listening": is_listening,
            "starttls_offered": starttls_offered,
            "auth_offered": auth_offered,
            "require_auth": require_auth,
            "mechanisms": list(mechanisms),
            "tls_minimum": tls_minimum,
            "tls_maximum": tls_maximum,
            "reply_delay_seconds": reply_delay_seconds,
            "final_reply_delay_seconds": final_reply_delay_seconds,
            "final_reply_jitter_seconds": final_reply_jitter_seconds,
        }
        if extensions is not None:
            order["extensions"] = list(extensions)
        self._post("/behaviour", order)

    def behave_weak(self) -> None:
        """Speak TLS 1.0 and 1.1 only."""
        self.behave(tls_minimum="TLSv1", tls_maximum="TLSv1.1")

    def mend(self) -> None:
        """Behave well; records, accounts and certificates stay."""
        self._post("/behaviour", {})

    def reset(self) -> None:
        """Be as new: good, no records, no tokens, first accounts and certificate, no client certificate asked for."""
        self.set_accounts(self.accounts)
        self.set_tokens({})
        self.serve(self.good_chain)
        self.accept_client_certificate()
        self._post("/reset", None)

    def set_accounts(self, accounts: Mapping[str, str]) -> None:
        """Replace the accounts, for now. Several passwords of one account are separated by line feeds."""
        self._post("/accounts", dict(accounts))

    def set_tokens(self, tokens: Mapping[str, str]) -> None:
        """Replace the access tokens by account, of which there are none at first. Several are separated by line feeds.

        They count for XOAUTH2 and OAUTHBEARER alone, and passwords for PLAIN and LOGIN.
        """
        self._post("/tokens", dict(tokens))

    def serve(self, chain: Chain) -> None:
        """Show this certificate from the next handshake on."""
        self._post("/chain", {"chain_pem": chain.chain_pem, "key_pem": chain.key_pem})

    def accept_client_certificate(self, *pems: str) -> None:
        """Ask for a client certificate and accept these (or what they signed); with none, do not ask."""
        self._post("/client-certificates", list(pems))

    def sessions(self) -> list[Session]:
        """The connections since the last reset, in order; their messages come without content."""
        return [_parse_session(value) for value in self._get("/sessions")]

    def messages(self) -> list[Message]:
        """The messages since the last reset, in order, also those that were not accepted."""
        return [_parse_message(value) for value in self._get("/messages")]

    def count(self) -> int:
        """How many messages were sent the final 250; cheap."""
        return int(self._get("/counts")["accepted"])

    def wait_messages(self, count: int, timeout_seconds: float = 30) -> list[Message]:
        """Wait for at least so many accepted messages; all messages."""
        because = f"{count} messages should reach the upstream"
        wait_until(lambda: self.count() >= count, timeout_seconds, because)
        return self.messages()

    def stop(self) -> None:
        """Refuse connections, as a machine that is up without its server."""
        self.container.kill()

    def start(self) -> None:
        """Start again as new: whatever was recorded is gone."""
        self.container.start()
        self._connect()
        self.reset()

    def _connect(self) -> None:
        self._control_port = self.container.published_port(_CONTROL_PORT)
        wait_until(self._is_healthy, 20, "the mock upstream should start")

    def _is_healthy(self) -> bool:
        try:
            return bool(self._get("/healthy"))
        except (OSError, http.client.HTTPException):
            return False

    def _get(self, path: str) -> Any:
        return self._ask("GET", path, b"")

    def _post(self, path: str, value: Any) -> None:
        self._ask("POST", path, json.dumps(value).encode())

    def _ask(self, method: str, path: str, body: bytes) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._control_port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = json.loads(response.read())
        if response.status != 200:
            raise ValueError(f"{path}: {answer}")
        return answer


class _RealUpstream:
    """What the real servers have in common."""

    image = ""
    ports: tuple[int, ...] = (25, 465, 587)

    def __init__(
        self,
        engine: Engine,
        network: Network,
        *,
        authority: Authority | None = None,
        aliases: Sequence[str] = (HOSTNAME,),
        accounts: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        chain: Chain | None = None,
        files: Mapping[str, File] | None = None,
    ) -> None:
        """`chain`: what it shows; one that the authority signs otherwise."""
        self.authority = authority or Authority()
        self.accounts = dict(ACCOUNTS if accounts is None else accounts)
        self.chain = chain or self.authority.make_chain(*aliases)
        lines = "".join(f"{login}:{password}\n" for login, password in self.accounts.items())
        self.container: Container = engine.run(
            self.image,
            kind="upstream",
            network=network,
            aliases=aliases,
            env={"UPSTREAM_HOSTNAME": aliases[0], **(env or {})},
            files={
                "/etc/upstream/tls.pem": File(data=self.chain.combined_pem.encode(), mode=0o600),
                "/etc/upstream/accounts": File(data=lines.encode(), mode=0o600),
                **(files or {}),
            },
        )
        wait_until(self._is_listening, 30, f"{self.image} should listen on its ports")

    def _is_listening(self) -> bool:
        if not self.container.is_running:
            raise AssertionError(f"{self.image} ended: {self.logs()}")
        # State 0A is LISTEN; asking the kernel leaves no trace in the server's log.
        listening = self.container.exec(["cat", "/proc/net/tcp", "/proc/net/tcp6"]).text
        ports = {line.split()[1].rsplit(":")[-1] for line in listening.splitlines() if " 0A " in line}
        return {f"{port:04X}" for port in self.ports} <= ports

    def messages(self) -> list[bytes]:
        """The delivered messages as they lie in the Maildir, oldest first."""
        # Status 1: a message arrived meanwhile.
        command = ["sh", "-c", "tar -C /var/mail/upstream -cf - Maildir/new || [ $? = 1 ]"]
        archive = self.container.exec(command).stdout
        found: list[tuple[float, str, bytes]] = []
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is not None:
                    found.append((member.mtime, member.name, content.read()))
        return [data for _, _, data in sorted(found)]

    def wait_messages(self, count: int, timeout_seconds: float = 30) -> list[bytes]:
        """Wait for so many delivered messages."""

        def enough() -> list[bytes] | None:
            messages = self.messages()
            return messages if len(messages) >= count else None

        try:
            return wait_until(enough, timeout_seconds, f"{count} messages should reach {self.image}") or []
        except WaitError as error:
            raise WaitError(f"{error}; its log:\n{self.logs()}") from error

    def logs(self) -> str:
        """The mail log."""
        return self.container.logs()


class RealPostfix(_RealUpstream):
    """A real Postfix with Cyrus SASL."""

    image = POSTFIX_IMAGE

    def __init__(
        self,
        engine: Engine,
        network: Network,
        *,
        authority: Authority | None = None,
        aliases: Sequence[str] = (HOSTNAME,),
        accounts: Mapping[str, str] | None = None,
        mechanisms: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        chain: Chain | None = None,
        files: Mapping[str, File] | None = None,
    ) -> None:
        wanted = {"MECH_LIST": " ".join(mechanisms)} if mechanisms else {}
        super().__init__(
            engine,
            network,
            authority=authority,
            aliases=aliases,
            accounts=accounts,
            env={**wanted, **(env or {})},
            chain=chain,
            files=files,
        )


class RealExim(_RealUpstream):
    """A real Exim with GnuTLS."""

    image = EXIM_IMAGE


class RealServers(_RealUpstream):
    """Dovecot (POP3, IMAP), OpenSMTPD and lighttpd, which serves files below /var/www/html. No message is kept."""

    image = SERVERS_IMAGE
    ports: tuple[int, ...] = (25, 80, 110, 143, 465, 587, 993, 995)


def _parse_message(value: Mapping[str, Any]) -> Message:
    return Message(
        **{
            **value,
            "data": base64.b64decode(value["data"]),
            "mail_parameters": tuple(value["mail_parameters"]),
            "rcpt_tos": tuple(value["rcpt_tos"]),
            "rcpt_parameters": tuple(tuple(parameters) for parameters in value["rcpt_parameters"]),
        }
    )


def _parse_session(value: Mapping[str, Any]) -> Session:
    return Session(
        **{
            **value,
            "plain": base64.b64decode(value["plain"]),
            "inside_tls": base64.b64decode(value["inside_tls"]),
            "verbs": tuple(value["verbs"]),
            "refusals": tuple((verb, text) for verb, text in value["refusals"]),
            "logins": tuple(
                Login(**{**login, "password": base64.b64decode(login["password"])}) for login in value["logins"]
            ),
            "messages": tuple(_parse_message(message) for message in value["messages"]),
        }
    )
