"""From the variables of other relay images to an old main.cf, and from there to settings. Pure.

What each of them makes of its variables is from its own documentation: boky/postfix, mwader/postfix-relay,
juanluisbaptiste/postfix, and the relay settings of docker-mailserver and Mailu.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from entrypoint.config.foreign import BAPTISTE, BOKY, MAILSERVER, MAILU, WADER
from entrypoint.migration.draft import Draft
from entrypoint.migration.main_cf import convert
from entrypoint.migration.services import take_service
from entrypoint.migration.tables import ReadTable

_LINE: Final = re.compile(r"\s*(?:-\s+|export\s+)?[\"']?([A-Za-z_][\w.]*)[\"']?\s*[=:]\s?(.*)")
"""`NAME=value` of an env file, and `NAME: value` and `- NAME=value` of Compose's `environment`."""
_SASL: Final = "sasl_passwd"
_MAILSERVERS: Final = frozenset({"message_size_limit", "inet_protocols"})
"""Of docker-mailserver's POSTFIX_ variables."""
_NOTHING: Final = {
    BOKY: "boky/postfix takes mail for allowed sender domains alone, and TLS is not verified there",
    WADER: "mwader/postfix-relay relays for everybody (mynetworks = 0.0.0.0/0), and TLS is not verified there",
    BAPTISTE: "juanluisbaptiste/postfix does not verify TLS",
    MAILSERVER: "docker-mailserver does not verify TLS to its relay host",
    MAILU: "Mailu does not verify TLS to its relay host",
}
_LOGINS: Final = "write user:password, one a line, into SMTPD_USERS_TABLE_FILE; it needs SMTPD_TLS_CERT"
_NO_EQUIVALENT: Final = {
    "SMTP_HEADER_CHECKS": "the lines of its file may belong into HEADER_CHECKS_TABLE: docs/rewriting.md",
    "SMTP_HEADER_TAG": "no header is added",
    "OVERWRITE_FROM": "SENDER_REWRITE_TABLE changes the address, and leaves the name: docs/rewriting.md",
    "LOG_SUBJECT": "the log has no subjects",
    "SMTPD_SASL_USERS": _LOGINS,
    "SASL_Passwds": _LOGINS,
    "AUTOSET_HOSTNAME": "write the name into MYHOSTNAME",
    "ALWAYS_ADD_MISSING_HEADERS": "headers are relayed as they are",
    "PERMIT_DOCKER": "the attached private subnets may send, without their gateways: MYNETWORKS",
}
_TOKENS: Final = {
    "XOAUTH2_TOKEN_ENDPOINT": "OAUTH2_TOKEN_URL",
    "XOAUTH2_CLIENT_ID": "OAUTH2_CLIENT_ID",
    "XOAUTH2_SECRET": "OAUTH2_CLIENT_SECRET",
    "XOAUTH2_INITIAL_REFRESH_TOKEN": "OAUTH2_REFRESH_TOKEN",
}
_SELECTOR: Final = "mail"
"""boky/postfix's, where none is set."""
_NO_EQUIVALENT_PREFIXES: Final = {
    "DKIM_": "nothing is signed until DKIM_DOMAINS is set: docs/dkim.md",
    "OPENDKIM_": "nothing is signed until DKIM_DOMAINS is set: docs/dkim.md",
    "RSPAMD_": "nothing is filtered",
    "POSTSRSD_": "addresses are relayed as they are",
    "RSYSLOG_": "SYSLOG_URL names a log server",
}


def parse_variables(text: str) -> dict[str, str]:
    """Return the variables of an env file or of Compose's `environment`; several lines of one are not understood."""
    found = {}
    for line in text.splitlines():
        match = None if line.lstrip().startswith("#") else _LINE.fullmatch(line)
        if match:
            found[match[1]] = match[2].strip().strip("\"'")
    return found


def find_image(variables: Mapping[str, str]) -> str:
    """Return whose variables these are; empty where they are nobody's that is known."""
    names = {re.sub(r"_{1,2}FILE$", "", name) for name in variables}
    for image, marks in (
        (BAPTISTE, {"SMTP_SERVER"}),
        (MAILSERVER, {"RELAY_HOST", "DEFAULT_RELAY_HOST", "RELAY_USER"}),
        (MAILU, {"RELAYUSER", "RELAYPASSWORD"}),
        (WADER, {"POSTFIX_relayhost", "POSTMAP_sasl_passwd"}),
        (BOKY, {"RELAYHOST", "ALLOWED_SENDER_DOMAINS", "ALLOW_EMPTY_SENDER_DOMAINS", "POSTFIX_myhostname"}),
    ):
        if names & marks:
            return image
    return ""


def convert_variables(
    variables: Mapping[str, str], image: str, source: str, read_table: ReadTable, find_file: Callable[[str], str]
) -> Draft:
    """Return the settings for an image's variables; `read_table` is for what lies in files beside them."""
    tables = {name.removeprefix("POSTMAP_"): value for name, value in variables.items() if name.startswith("POSTMAP_")}
    parameters = {
        (name.lower() if image == BAPTISTE else name).removeprefix("postfix_").removeprefix("POSTFIX_"): value
        for name, value in variables.items()
        if name.startswith("POSTFIX_")
    }
    if image == MAILSERVER:
        parameters = {name.lower(): value for name, value in parameters.items() if name.lower() in _MAILSERVERS}
    relay, account = _find_relay(variables, image)
    if relay:
        parameters["relayhost"] = relay
    parameters.setdefault("smtp_tls_security_level", "may")
    secret = _find_secret_file(variables)
    if account[0] and relay:
        parameters["smtp_sasl_password_maps"] = f"hash:{_SASL}"
        tables[_SASL] = f"{relay} {account[0]}:{account[1]}\n"
    for name, theirs in (("myhostname", ("OVERRIDE_HOSTNAME", "SERVER_HOSTNAME")), ("mynetworks", ("SMTP_NETWORKS",))):
        for variable in theirs:
            if value := variables.get(variable):
                parameters[name] = value
    if image == BAPTISTE and "MESSAGE_SIZE_LIMIT" in variables:
        parameters["message_size_limit"] = variables["MESSAGE_SIZE_LIMIT"]

    def read(path: str) -> str | None:
        name = path.rpartition("/")[2]
        return tables[name] if name in tables else read_table(path)

    draft = convert(parameters, read, f"{source} ({image})" if image else source, find_file)
    if secret and "RELAYHOST_USERNAME" in draft.values:
        draft.values.pop("RELAYHOST_PASSWORD", None)
        draft.set_file("RELAYHOST_PASSWORD", secret)
    draft.remark(_NOTHING.get(image, ""))
    _take_the_rest(draft, variables, image)
    draft.remarks = [text for text in draft.remarks if text]
    return draft


def _find_relay(variables: Mapping[str, str], image: str) -> tuple[str, tuple[str, str]]:
    """Return the nexthop, and user name and password."""
    if image == BAPTISTE:
        host = variables.get("SMTP_SERVER", "").strip("[]")
        return f"[{host}]:{variables.get('SMTP_PORT') or 587}", _pick(variables, "SMTP_USERNAME", "SMTP_PASSWORD")
    if image == MAILSERVER:
        account = _pick(variables, "RELAY_USER", "RELAY_PASSWORD")
        if nexthop := variables.get("DEFAULT_RELAY_HOST"):
            return nexthop, account
        host = variables.get("RELAY_HOST", "").strip("[]")
        return (f"[{host}]:{variables.get('RELAY_PORT') or 25}" if host else ""), account
    if image == MAILU:
        return variables.get("RELAYHOST", ""), _pick(variables, "RELAYUSER", "RELAYPASSWORD")
    return variables.get("RELAYHOST", ""), _pick(variables, "RELAYHOST_USERNAME", "RELAYHOST_PASSWORD")


def _pick(variables: Mapping[str, str], username: str, password: str) -> tuple[str, str]:
    return variables.get(username, ""), variables.get(password, "")


def _find_secret_file(variables: Mapping[str, str]) -> str:
    """Return the path of the password's file, where it was one."""
    names = ("RELAYHOST_PASSWORD_FILE", "SMTP_PASSWORD_FILE", "RELAY_PASSWORD__FILE", "RELAY_PASSWORD_FILE")
    return next((variables[name] for name in names if variables.get(name)), "")


def _take_the_rest(draft: Draft, variables: Mapping[str, str], image: str) -> None:
    if image == BOKY and (domains := variables.get("ALLOWED_SENDER_DOMAINS")):
        draft.set("ALLOWED_SENDER_DOMAINS", domains)
    if image == BOKY and (domains := variables.get("MASQUERADED_DOMAINS")):
        draft.set("MASQUERADE_DOMAINS", domains, "CHANGED: recipients are relayed as they are written")
    if image == BOKY:
        _take_tokens(draft, variables)
        _take_keys(draft, variables)
    if zone := variables.get("TZ"):
        draft.set("TZ", zone)
    if variables.get("LOG_FORMAT") == "json":
        draft.set("LOG_FORMAT", "json", "CHANGED: json has fields of its own: docs/logs.md")
    if variables.get("ANONYMIZE_EMAILS", "noop") not in ("", "noop", "false", "no"):
        draft.set("LOG_ADDRESSES", "hash", "ANONYMIZE_EMAILS: an address is the same code wherever it is")
    for name in sorted(variables):
        if name.startswith("POSTFIXMASTER_"):
            take_service(draft, variables[name])
        prefix = next((prefix for prefix in _NO_EQUIVALENT_PREFIXES if name.startswith(prefix)), "")
        reason = _NO_EQUIVALENT.get(name) or _NO_EQUIVALENT_PREFIXES.get(prefix, "")
        if reason and not (prefix == "DKIM_" and "DKIM_DOMAINS" in draft.values):
            draft.remark(f"NO EQUIVALENT: {name}: {reason}")
    if image == MAILSERVER:
        others = sorted(
            name for name in variables if re.match(r"ENABLE_|SPOOF_|SASLAUTHD_|LDAP_|DOVECOT_|ONE_DIR$", name)
        )
        if others:
            draft.remark(f"LEFT OUT: {', '.join(others)}: authrelay is the relay alone, and has no mailboxes")


def _take_tokens(draft: Draft, variables: Mapping[str, str]) -> None:
    """Take over the login with access tokens, which are fetched anew."""
    given = {ours: variables[theirs] for theirs, ours in _TOKENS.items() if variables.get(theirs)}
    for name, value in given.items():
        draft.set(name, value)
    if given:
        draft.values.pop("RELAYHOST_PASSWORD", None)
        draft.files.pop("RELAYHOST_PASSWORD", None)


def _take_keys(draft: Draft, variables: Mapping[str, str]) -> None:
    """Take over that mail is signed, with a new key."""
    domains = variables.get("ALLOWED_SENDER_DOMAINS", "")
    selector = variables.get("DKIM_SELECTOR") or _SELECTOR
    if not variables.get("DKIM_AUTOGENERATE") or not domains or "=" in selector:
        return
    draft.set(
        "DKIM_DOMAINS",
        domains,
        "CHANGED: a new key is made for each, and its record is in the log; or put the old one at "
        f"/var/lib/authrelay/dkim/DOMAIN/{selector}.pem: docs/dkim.md",
    )
    draft.set("DKIM_SELECTOR", selector)
