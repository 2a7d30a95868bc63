"""The one shared state of the mock: behaviour, accounts, certificate, records. Guarded by a lock."""

from __future__ import annotations

import dataclasses
import pathlib
import threading
import time

from .behaviour import Behaviour, Fault
from .record import Message, Session


class State:
    """What the control API sets and reads, and the SMTP sessions follow."""

    def __init__(
        self,
        *,
        hostname: str,
        accounts: dict[str, str],
        chain_pem: str,
        key_pem: str,
        client_certificate_file: pathlib.Path | None,
    ) -> None:
        self.lock = threading.Lock()
        self.hostname = hostname
        self.accounts = accounts
        # Access tokens by account; a password is none, and a token no password.
        self.tokens: dict[str, str] = {}
        self.chain_pem = chain_pem
        self.key_pem = key_pem
        self.client_certificates_pem = ""
        self.behaviour = Behaviour()
        # Changes with every behaviour; whoever hangs ends then.
        self.generation = 0
        self._client_certificate_file = client_certificate_file
        self._fault_counts: dict[str, int] = {}
        self._sessions: dict[int, Session] = {}
        self._last_session_id = 0
        self._last_message_id = 0

    def behave(self, behaviour: Behaviour) -> None:
        """Behave so from now on. Sessions that hang are dropped."""
        with self.lock:
            self.behaviour = behaviour
            self.generation += 1
            self._fault_counts.clear()

    def reset(self) -> None:
        """Forget the records and be good. Accounts, tokens and certificates stay."""
        self.behave(Behaviour())
        with self.lock:
            self._sessions.clear()

    def load_client_certificates(self) -> str:
        """The PEM of the client certificates to accept; empty: ask for none."""
        pem = self.client_certificates_pem
        if self._client_certificate_file is not None and self._client_certificate_file.is_file():
            pem += "\n" + self._client_certificate_file.read_text()
        return pem.strip()

    def take_fault(self, stage: str, text: str = "") -> Fault | None:
        """The fault to show now at this stage, if any."""
        with self.lock:
            fault = self.behaviour.faults.get(stage)
            if fault is None or fault.containing not in text:
                return None
            count = self._fault_counts.get(stage, 0)
            if fault.times is not None and count >= fault.times:
                return None
            self._fault_counts[stage] = count + 1
            return fault

    def open_session(self, *, peer: str, peer_port: int, port: int) -> Session:
        """Begin a record."""
        with self.lock:
            self._last_session_id += 1
            session = Session(
                id=self._last_session_id, peer=peer, peer_port=peer_port, port=port, started_at=time.time()
            )
            self._sessions[session.id] = session
            return session

    def add_message(self, session: Session, message: Message) -> None:
        """Record a message. A session that goes on after a reset counts again, without what it had brought before."""
        with self.lock:
            if session.id not in self._sessions:
                session.messages.clear()
                self._sessions[session.id] = session
            session.verbs.append("DATA.")
            session.messages.append(message)

    def next_message_id(self) -> int:
        """A number that no other message has, also across resets."""
        with self.lock:
            self._last_message_id += 1
            return self._last_message_id

    def sessions(self) -> list[Session]:
        """The sessions since the last reset, without their messages' content, in order of connection."""
        with self.lock:
            return [
                dataclasses.replace(
                    session,
                    messages=[dataclasses.replace(message, data=b"") for message in session.messages],
                )
                for session in self._sessions.values()
            ]

    def messages(self) -> list[Message]:
        """The messages since the last reset, in order of arrival."""
        with self.lock:
            found = [message for session in self._sessions.values() for message in session.messages]
        return sorted(found, key=lambda message: message.id)
