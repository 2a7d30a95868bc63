"""From the parameters of an old main.cf to settings. Pure.

The parameters are those that `postconf -nx` prints: set in the file, with `$name` replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from entrypoint.config.declaration import InvalidValue
from entrypoint.config.nexthop import IMPLICIT_TLS_PORT, Nexthop, parse_nexthop
from entrypoint.config.tls import OLD_WORDS
from entrypoint.migration.draft import Draft
from entrypoint.migration.parameters import ALREADY_SO, FOR_LOGINS, FOR_MAILBOXES, REWRITES, SAME
from entrypoint.migration.rewriting import TAKEN, take_rewriting
from entrypoint.migration.services import take_milter_action, take_milters
from entrypoint.migration.tables import ReadTable, read_maps

_BUNDLES: Final = frozenset(
    f"/etc/{path}"
    for path in ("ssl/certs/ca-certificates.crt", "pki/tls/certs/ca-bundle.crt", "ssl/cert.pem", "ssl/ca-bundle.pem")
)
_VERIFIED: Final = (
    "CHANGED: the upstream's certificate is verified (RELAYHOST_TLS=secure); {before}. If it is signed by a CA that "
    "Debian does not know: authrelay discover-ca finds it"
)
_EVERYBODY: Final = ("0.0.0.0", "::/")  # noqa: S104 - what is looked for, not listened on
_PRIVATE: Final = frozenset({"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"})
"""RFC 1918: what images and guides name for lack of the container's own subnet."""


def convert(
    parameters: Mapping[str, str], read_table: ReadTable, source: str, find_file: Callable[[str], str]
) -> Draft:
    """Return the settings for an old main.cf; `find_file` gives the path at which the container will have a file."""
    draft = Draft(source=source)
    _Conversion(parameters, read_table, draft, find_file).run()
    return draft


class _Conversion:
    """One main.cf on its way."""

    def __init__(
        self, parameters: Mapping[str, str], read_table: ReadTable, draft: Draft, find_file: Callable[[str], str]
    ) -> None:
        self._parameters, self._read_table, self._draft, self._find_file = parameters, read_table, draft, find_file
        self._nexthop: Nexthop | None = None
        self._used: set[str] = set()

    def run(self) -> None:
        """Go through all of it, the upstream first."""
        self._convert_upstream()
        self._convert_tls()
        self._convert_accounts()
        self._convert_routes()
        self._convert_clients()
        take_rewriting(self._draft, self._parameters, self._read_table)
        self._used |= TAKEN
        self._convert_rest()

    def _take(self, name: str) -> str:
        self._used.add(name)
        return self._parameters.get(name, "").strip()

    def _read(self, name: str) -> list[tuple[str, str]]:
        """Return the records of a parameter's tables, and say which cannot be read."""
        records, unread = read_maps(self._take(name), self._read_table)
        for table in unread:
            self._draft.remark(f"NOT READ: {name} has {table}, which is not here: give the directory that it lies in")
        return records

    def _parse_nexthop(self, text: str, place: str) -> Nexthop | None:
        try:
            return parse_nexthop(text.removeprefix("smtp:").removeprefix("relay:"))
        except InvalidValue as problem:
            self._draft.remark(f"NOT TAKEN: {place} names '{text}': {problem.what}")
            return None

    def _convert_upstream(self) -> None:
        text = self._take("relayhost")
        if not text:
            self._draft.remark(
                "MISSING: there is no relayhost; authrelay hands all mail to an upstream, and does not deliver by MX. "
                "Set RELAYHOST=[smtp.example.com]:587, RELAYHOST_USERNAME and RELAYHOST_PASSWORD_FILE"
            )
            return
        self._nexthop = self._parse_nexthop(text, "relayhost")
        if self._nexthop is None:
            return
        self._draft.set("RELAYHOST", text)
        if not self._nexthop.is_bracketed and not self._nexthop.is_address:
            self._draft.set(
                "RELAYHOST_MX",
                "yes",
                f"relayhost has no brackets, so that Postfix asks for MX hosts of {self._nexthop.host}. If it is the "
                "host itself, remove this line",
            )
        if self._take("smtp_tls_wrappermode") == "yes" and self._nexthop.port != IMPLICIT_TLS_PORT:
            self._draft.note(
                "RELAYHOST", "CHANGED: TLS begins before the greeting at port 465 alone; here it was another"
            )

    def _convert_tls(self) -> None:
        level = self._take("smtp_tls_security_level").lower()
        before = f"smtp_tls_security_level = {level}" if level else ""
        for name in ("smtp_enforce_tls", "smtp_use_tls"):
            if not before and self._take(name) == "yes":
                before = f"{name} = yes"
        if level in ("secure", "verify", "dane", "dane-only", "fingerprint"):
            if level != "secure":
                self._draft.set("RELAYHOST_TLS", level)
        elif self._nexthop is not None:
            self._draft.note(
                "RELAYHOST",
                _VERIFIED.format(before=f"before, {before} took any" if before else "before, TLS was not asked for"),
            )
        authorities = self._take("smtp_tls_CAfile")
        if authorities and authorities not in _BUNDLES:
            self._draft.set_file(
                "RELAYHOST_CA", self._find_file(authorities), f"It was smtp_tls_CAfile = {authorities}"
            )
        certificate, key = self._take("smtp_tls_cert_file"), self._take("smtp_tls_key_file")
        chain = self._take("smtp_tls_chain_files")
        if chain:
            certificate = key = chain
        if certificate:
            self._draft.set_file("CLIENT_CERT", self._find_file(certificate), f"It was {certificate}")
            self._draft.set_file("CLIENT_KEY", self._find_file(key or certificate))
        rules = [
            f"{destination} {_translate_level(policy)}"
            for name in ("smtp_tls_policy_maps", "smtp_tls_per_site")
            for destination, policy in self._read(name)
        ]
        if rules:
            self._draft.set("TLS_POLICY_TABLE", "\n".join(rules))

    def _convert_accounts(self) -> None:
        """Give each nexthop its account; one that mail does not go to is said to be left out."""
        self._accounts = dict(self._read("smtp_sasl_password_maps"))
        account = self._find_account(self._nexthop)
        if account:
            self._draft.set("RELAYHOST_USERNAME", account[0])
            self._draft.set("RELAYHOST_PASSWORD", account[1])
        fallback = self._take("smtp_fallback_relay") or self._take("fallback_relay")
        if fallback:
            first, *more = re.split(r"[\s,]+", fallback)
            self._draft.set("FALLBACK_RELAYHOST", first)
            if more:
                self._draft.note("FALLBACK_RELAYHOST", f"NOT TAKEN: there is one fallback; left out: {', '.join(more)}")
            if account := self._find_account(self._parse_nexthop(first, "smtp_fallback_relay")):
                self._draft.set("FALLBACK_RELAYHOST_USERNAME", account[0])
                self._draft.set("FALLBACK_RELAYHOST_PASSWORD", account[1])

    def _find_account(self, nexthop: Nexthop | None) -> tuple[str, str] | None:
        """Return user name and password for a nexthop, under any key by which Postfix finds it (SASL_README)."""
        if nexthop is None:
            return None
        for key in (
            f"[{nexthop.host}]:{nexthop.port}",
            f"{nexthop.host}:{nexthop.port}",
            f"[{nexthop.host}]",
            nexthop.host,
            "*",
        ):
            if key in self._accounts:
                username, _, password = self._accounts.pop(key).partition(":")
                return username, password
        return None

    def _convert_routes(self) -> None:
        relays = dict(self._read("sender_dependent_relayhost_maps"))
        lines = []
        for sender in dict.fromkeys((*relays, *(key for key in self._accounts if "@" in key))):
            text = relays.get(sender) or (str(self._nexthop) if self._nexthop else "")
            nexthop = self._parse_nexthop(text, "sender_dependent_relayhost_maps") if text else None
            if nexthop is None:
                continue
            account = self._accounts.pop(sender, "").partition(":")
            if not account[0] and (found := self._find_account(nexthop)):
                account = (found[0], ":", found[1])
            lines.append(f"{sender} [{nexthop.host}]:{nexthop.port} {account[0]} {account[2]}".rstrip())
        if lines:
            self._draft.set("SENDER_RELAY_TABLE", "\n".join(lines))
        routes = []
        for pattern, transport in self._read("transport_maps"):
            route = self._convert_transport(pattern, transport)
            if route:
                routes.append(route)
        if routes:
            self._draft.set("TRANSPORT_TABLE", "\n".join(routes))
        for key in self._accounts:
            self._draft.remark(f"LEFT OUT: smtp_sasl_password_maps has an account for {key}, to which no mail goes")

    def _convert_transport(self, pattern: str, transport: str) -> str | None:
        kind, _, place = transport.partition(":")
        if "@" in pattern or pattern == "*":
            self._draft.remark(f"NOT TAKEN: transport_maps has '{pattern} {transport}'; TRANSPORT_TABLE is by domain")
        elif kind in ("error", "discard"):
            return f"{pattern} {kind} {place}".rstrip()
        elif kind == "lmtp" and place and not place.startswith("unix:"):
            return f"{pattern} lmtp:{place.removeprefix('inet:')}"
        elif kind in ("smtp", "relay", "") and place and self._parse_nexthop(place, "transport_maps"):
            if not place.startswith("["):
                self._draft.note(
                    "TRANSPORT_TABLE", f"CHANGED: the MX hosts of {place} are not asked for; it is the host"
                )
            return f"{pattern} {place}"
        else:
            self._draft.remark(f"NOT TAKEN: transport_maps has '{pattern} {transport}', which has no equivalent")
        return None

    def _convert_clients(self) -> None:
        networks = self._take("mynetworks")
        kept = [
            word for word in re.split(r"[\s,]+", networks) if word and not word.startswith(("127.", "[::1]", "[::ffff"))
        ]
        wide = [word for word in kept if re.search(r"/[0-7]$", word) or word.startswith(_EVERYBODY)]
        if wide:
            self._draft.remark(
                f"CHANGED: mynetworks had {', '.join(wide)}, with which everybody may send; here the attached private "
                "subnets may, without their gateways. MYNETWORKS names others"
            )
        elif set(kept) <= _PRIVATE:
            if kept:
                self._draft.remark(
                    f"CHANGED: mynetworks had {', '.join(kept)}, all private addresses; here the attached private "
                    "subnets may send, without their gateways, of IPv6 too. MYNETWORKS names others"
                )
        elif any(":/" in word or word.startswith("/") for word in kept):
            self._draft.remark(f"NOT TAKEN: mynetworks = {networks} names a table; write its networks into MYNETWORKS")
        else:
            self._draft.set(
                "MYNETWORKS",
                " ".join(["127.0.0.0/8", "[::1]/128", *kept]),
                "If these are only Docker's own subnets, remove "
                "this line: the attached private subnets may send by themselves, without their gateways",
            )
        interfaces = self._take("inet_interfaces")
        if interfaces in ("localhost", "loopback-only", "127.0.0.1"):
            self._draft.set("INET_INTERFACES", "loopback-only")
        elif interfaces and interfaces not in ("all", "$myhostname, localhost"):
            self._draft.remark(f"NOT TAKEN: inet_interfaces = {interfaces}: in the container there are other addresses")

    def _convert_rest(self) -> None:
        for name, value in sorted(self._parameters.items()):
            if name in self._used:
                continue
            value = value.strip()
            if name in SAME:
                if value and SAME[name] not in self._draft.values:
                    self._draft.set(SAME[name], "none" if name == "message_size_limit" and value == "0" else value)
            elif REWRITES.fullmatch(name):
                self._draft.remark(f"NO EQUIVALENT: {name} = {value}: docs/rewriting.md says what can be rewritten")
            elif name == "smtpd_milters" and value:
                take_milters(self._draft, value)
            elif name == "milter_default_action":
                take_milter_action(self._draft, value)
            elif name == "content_filter":
                self._draft.set(f"POSTFIX_{name}", value or "none", "Its service is in master.cf: POSTFIX_MASTER_...")
            elif FOR_LOGINS.fullmatch(name):
                self._draft.remark(
                    "NOT TAKEN: how clients log in, and speak TLS (smtpd_sasl_*, smtpd_tls_*): if they do, set "
                    "SMTPD_USERS_TABLE_FILE, SMTPD_TLS_CERT_FILE and SMTPD_TLS_KEY_FILE"
                )
            elif name == "relay_domains":
                if value:
                    self._draft.remark(
                        f"LEFT OUT: {name} = {value}: what comes in from outside is taken for a list server alone. If "
                        "there is one, set LIST_DOMAINS, LIST_LMTP and LIST_MAPS_DIR (docs/inbound.md)"
                    )
            elif FOR_MAILBOXES.fullmatch(name):
                if value and name not in ("local_transport",):
                    self._draft.remark(
                        f"LEFT OUT: {name} = {value}: a relay has no mailboxes, and every address is the upstream's"
                    )
            elif not ALREADY_SO.fullmatch(name):
                self._draft.set(f"POSTFIX_{name}", value or "none", f"{name} is taken as it is")


def _translate_level(policy: str) -> str:
    """Return a policy in which the words of smtp_tls_per_site are Postfix's own."""
    word, blank, rest = policy.partition(" ")
    level = OLD_WORDS.get(word.upper())
    return f"{level.value if level else word}{blank}{rest}"
