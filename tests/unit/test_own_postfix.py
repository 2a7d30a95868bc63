"""What the user says to Postfix itself: each column, each file and line is checked before any mail depends on it."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import Final

import pytest

from entrypoint import paths
from entrypoint.config.environment import read_settings
from entrypoint.config.master import OURS, fold_name, parse_entry
from entrypoint.config.settings import Settings
from entrypoint.errors import ConfigurationError
from entrypoint.plan.capacity import choose_capacity
from entrypoint.plan.compute import compute_plan
from entrypoint.plan.listeners import find_probe_targets
from entrypoint.services.drain import close_services
from tests.unit.reading import FACTS, PARAMETERS, TEMPLATES, find_text, plan_for, read, read_main_cf

BASE: Final = {"RELAYHOST": "[smtp.example.com]:587"}


def _read_with(
    directory: pathlib.Path, files: Mapping[str, str], environ: Mapping[str, str] | None = None
) -> tuple[Settings, tuple[str, ...]]:
    """Read settings beside files below /etc/authrelay; warnings name them as if they lay there."""
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")
    settings, warnings = read_settings({**BASE, **(environ or {})}, PARAMETERS, str(directory))
    return settings, tuple(warning.replace(str(directory), paths.OWN) for warning in warnings)


def _refuse_with(directory: pathlib.Path, files: Mapping[str, str], environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        _read_with(directory, files, environ)
    return str(caught.value).replace(str(directory), paths.OWN)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2525 inet n - n - 10", "it has 7 columns, and a line of master.cf has 8: service, type, private, "),
        ("", "the variable is empty, and nothing is read"),
        (
            "2526 inet n - n - 10 smtpd",
            "the line is for the service 2526 of type inet. Name the variable POSTFIX_MASTER_2526__inet",
        ),
        (
            "2525 unix n - n - 10 smtpd",
            "the line is for the service 2525 of type unix. Name the variable POSTFIX_MASTER_2525__unix",
        ),
        ("2525 tcp n - n - 10 smtpd", "the line is for the service 2525 of type tcp. Types are inet, unix, "),
        ("2525 inet x - n - 10 smtpd", "the column private is 'x'. Write y, n or -"),
        ("2525 inet n x n - 10 smtpd", "the column unpriv is 'x'. Write y, n or -"),
        ("2525 inet n - x - 10 smtpd", "the column chroot is 'x'. Write n or -"),
        ("2525 inet n - y - 10 smtpd", "the column chroot is y: the container is the isolation"),
        ("2525 inet n - n soon 10 smtpd", "the column wakeup is 'soon'. Write seconds, or -"),
        ("2525 inet n - n - many smtpd", "the column maxproc is 'many'. Write a number, or -"),
        ("2525 inet - - n - 10 smtpd", "the column private is '-', and a port is open to others. Write n"),
        ("2525 inet n - n - 0 smtpd", "the column maxproc is 0, with which sessions take all memory"),
        ("2525 inet n - n - 10 smptd", "there is no program 'smptd' that could serve. Use one of anvil, "),
        ("2525 inet n - n - 10 master", "there is no program 'master' that could serve"),
        ("2525 inet n n n - 10 smtpd", "the column unpriv is 'n', and smtpd(8) must not run as root. Write -"),
        ("2525 inet n - n - 10 qmqpd", "there is no program 'qmqpd'"),
        ("2525 inet n - n - 10 smtp", "smtp(8) serves no port here. Use smtpd, or the type unix"),
        ("2525 inet n - n - 10 smtpd -v", "-v would fill the log, and show passwords in it. Remove it"),
        ("2525 inet n - n - 10 smtpd -o smtpd_banner", "after -o there is 'smtpd_banner'. Write -o name=value"),
        (
            "2525 inet n - n - 10 smtpd -o smtpd_banner=a b",
            "'b' is no option of smtpd(8). Write -o name=value; in braces",
        ),
        ("2525 inet n - n - 10 smtpd -o { smtpd_banner = a", "a brace is not closed"),
        ("2525 inet n - n - 10 smtpd -o smtpd_banner=a}", "after -o there is 'smtpd_banner=a}'"),
        (
            "2525 inet n - n - 10 smtpd -o smtpd_baner=a",
            "-o smtpd_baner: Postfix has no such parameter. Did you mean -o smtpd_banner?",
        ),
        (
            "2525 inet n - n - 10 smtpd -o queue_directory=/q",
            "-o queue_directory: it cannot be changed, because the image has",
        ),
        (
            "2525 inet n - n - 10 smtpd -o syslog_name=x",
            "-o syslog_name: it cannot be changed, because the log forwarder",
        ),
        (
            "2525 inet n - n - 10 smtpd -o smtp_sasl_password_maps=static:u:p",
            "-o smtp_sasl_password_maps: a password would end up",
        ),
        (
            "2525 inet n - n - 10 smtpd -o smtpd_tls_wrappermode=yes",
            "a port on which TLS comes before the greeting cannot be",
        ),
        ("none", "no service can be taken away"),
        ("2525 inet n - n - 10 smtpd\n25 inet n - n - 10 smtpd", "it contains a line break"),
    ],
)
def test_line_of_master_cf_is_refused_by_its_first_wrong_column(line: str, said: str) -> None:
    """master(8) itself ends at such a line, or starts a service that nobody meant."""
    if not line:
        assert read({**BASE, "POSTFIX_MASTER_2525__inet": line})[0].master_entries == ()
        return
    with pytest.raises(ConfigurationError) as caught:
        read({**BASE, "POSTFIX_MASTER_2525__inet": line})
    assert str(caught.value).startswith(f"POSTFIX_MASTER_2525__inet: {said}"), str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("qmgr unix n - n 60 1 oqmgr", "there is no program 'oqmgr'"),
        ("qmgr unix n - n 60 1 discard", "its command must stay. Write qmgr"),
        ("qmgr unix n - n 0 1 qmgr", "its wakeup must stay. Write 60"),
        ("qmgr unix n - n 60 2 qmgr", "its maxproc must stay. Write 1"),
        ("cleanup unix - - n - 0 cleanup", "its private must stay. Write n"),
        ("smtp unix n - n - - smtp", "its private must stay. Write -"),
        ("pickup pass n - n 60 1 pickup", "its type must stay. Write unix"),
    ],
)
def test_service_that_the_relay_needs_keeps_what_others_count_on(line: str, said: str) -> None:
    """A queue that nobody wakes up, or a stop that waits for a process of another name, would be found much later."""
    service, kind, *_ = line.split()
    with pytest.raises(ConfigurationError) as caught:
        read({**BASE, fold_name(service, kind): line})
    assert said in str(caught.value)


def test_what_the_relay_needs_is_what_master_cf_has() -> None:
    """The rules are about the entries of the template: a new one must not be without."""
    environ = {**BASE, "TRANSPORT_TABLE": "lists.example lmtp:lists:8024"}
    lines = [line for line in find_text(plan_for(environ), "master.cf").splitlines() if re.match(r"\w+ +unix", line)]
    assert {line.split()[0] for line in lines} == set(OURS)
    for line in lines:
        assert str(parse_entry(fold_name(*line.split()[:2]), line)).split() == line.split()
        ours = OURS[line.split()[0]]
        assert ours.programs[0] == line.split()[7]
        assert ours.processes in ("", line.split()[6])
        assert ours.wakes_up == (line.split()[5] != "-")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("POSTFIX_MASTER_2525", "a service's name, two underscores and its type must follow the prefix"),
        ("POSTFIX_MASTER_2525__tcp", "a service's name, two underscores and its type must follow the prefix"),
    ],
)
def test_name_of_a_variable_for_master_cf_has_a_service_and_a_type(name: str, said: str) -> None:
    """Ignoring a name that is nearly right would leave a port closed that somebody counts on."""
    with pytest.raises(ConfigurationError, match=re.escape(f"{name}: {said}")):
        read({**BASE, name: "2525 inet n - n - 10 smtpd"})


def test_service_with_dashes_is_named_with_underscores_or_as_it_is() -> None:
    """Shells have no dashes in names; Docker and Kubernetes have."""
    line = "smtp-slow unix - - n - 2 smtp"
    for name in ("POSTFIX_MASTER_smtp_slow__unix", "POSTFIX_MASTER_smtp-slow__unix"):
        (entry,) = read({**BASE, name: line})[0].master_entries
        assert entry.service == "smtp-slow"
    twice = {"POSTFIX_MASTER_smtp_slow__unix": line, "POSTFIX_MASTER_smtp-slow__unix": line}
    with pytest.raises(ConfigurationError, match="is about smtp-slow of type unix as well"):
        read({**BASE, **twice})


def test_option_that_weakens_a_default_is_told_as_for_the_parameter() -> None:
    """A second door that stands open is an open relay, whichever port it is on."""
    line = (
        "2525 inet n - n - 10 smtpd -o { smtpd_relay_restrictions = permit_mynetworks, permit } -o mynetworks=0.0.0.0/0"
    )
    assert read({**BASE, "POSTFIX_MASTER_2525__inet": line})[1] == (
        "POSTFIX_MASTER_2525__inet: -o smtpd_relay_restrictions=permit_mynetworks, permit weakens a safe default: it "
        "may let strangers send through this relay",
        "POSTFIX_MASTER_2525__inet: -o mynetworks=0.0.0.0/0 weakens a safe default: it replaces MYNETWORKS and the "
        "guard against a gateway",
    )


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"POSTFIX_MASTER_127_0_0_1_25__inet": "127.0.0.1:25 inet n - n - 10 smtpd"},
            "port 25 is taken on every address already",
        ),
        (
            {"POSTFIX_MASTER_9154__inet": "9154 inet n - n - 10 smtpd"},
            "port 9154 is POSTFIX_MASTER_9154__inet's, where mail comes in",
        ),
        (
            {
                "POSTFIX_MASTER_smtp_bulk__unix": "smtp-bulk unix - - n - 2 smtp",
                "UPSTREAMS": '[bulk]\nnexthop = "b.example"\nsenders = ["@b.example"]',
            },
            "smtp-bulk is made here, with an upstream's password and TLS. Give the service another name",
        ),
    ],
)
def test_service_that_is_in_the_way_of_another_is_refused(environ: Mapping[str, str], said: str) -> None:
    """Two listeners on one socket end master(8); a copy of an upstream's service would lose its password."""
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        read({**BASE, **environ})


def test_listener_takes_the_place_of_a_listen_port_and_is_probed() -> None:
    """The health check asks each door once, the user's own ones, too."""
    settings, _ = read(
        {
            **BASE,
            "POSTFIX_MASTER_submission__inet": "submission inet n - n - 10 smtpd",
            fold_name("[::1]:2525", "inet"): "[::1]:2525 inet n - n - - smtpd",
            fold_name("0.0.0.0:2626", "inet"): "0.0.0.0:2626 inet n - n - - smtpd",
        }
    )
    assert sorted(find_probe_targets(settings)) == sorted(
        [
            ("127.0.0.1", 25, "127.0.0.25"),
            ("127.0.0.1", 587, "127.0.0.25"),
            ("127.0.0.1", 2626, "127.0.0.25"),
            ("::1", 2525, "::1"),
        ]
    )
    text = find_text(compute_plan(settings, FACTS, TEMPLATES), "master.cf")
    assert len(re.findall(r"(?m)^587 +inet", text)) == 1
    assert "587              inet  n       -      n      -      10      smtpd\n" in text


def test_sessions_of_ones_own_listeners_are_counted() -> None:
    """A relay that promises more sessions than its memory holds is killed in the middle of them."""
    line = "2525 inet n - n - {} smtpd"
    memory = 300 * 2**20
    alone, shared, fixed = (
        choose_capacity(read({**BASE, **own})[0], memory).sessions
        for own in (
            {},
            {"POSTFIX_MASTER_2525__inet": line.format("-")},
            {"POSTFIX_MASTER_2525__inet": line.format("20")},
        )
    )
    assert alone > shared >= 4
    assert fixed == alone - 10


def test_fragments_are_read_in_order_and_a_variable_is_the_last(tmp_path: pathlib.Path) -> None:
    """A file of a base image, one of the site, a variable of this container: the nearest one holds, and it is said."""
    files = {
        "main.cf.d/10-base.cf": "# first\nsmtp_helo_name = base\nmaximal_queue_lifetime = 1d\nalways_bcc =\n",
        "main.cf.d/20-site.cf": "smtp_helo_name\n",
        "main.cf.d/readme.txt": "not read",
        "main.cf.d/.hidden.cf": "zzz = 1\n",
    }
    assert "/etc/authrelay/main.cf.d/20-site.cf line 1: it is not of the form 'name = value'" in _refuse_with(
        tmp_path, files
    )
    files["main.cf.d/20-site.cf"] = "smtp_helo_name =\n  # a comment\n\n   site\n"
    settings, warnings = _read_with(tmp_path, files, {"POSTFIX_maximal_queue_lifetime": "2d"})
    assert settings.postfix_parameters == (
        ("always_bcc", ""),
        ("maximal_queue_lifetime", "2d"),
        ("smtp_helo_name", "site"),
    )
    base, site = "/etc/authrelay/main.cf.d/10-base.cf", "/etc/authrelay/main.cf.d/20-site.cf"
    assert warnings == (
        "/etc/authrelay/main.cf.d/readme.txt is not read, because its name does not end in .cf",
        f"{site} line 1: smtp_helo_name goes before what {base} line 2 says of it",
        f"POSTFIX_maximal_queue_lifetime: maximal_queue_lifetime goes before what {base} line 3 says of it",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("smtp_helo_nam = x", "line 1: smtp_helo_nam: Postfix has no such parameter. Did you mean smtp_helo_name?"),
        ("\n\n# x\nmaillog_file = /x", "line 4: maillog_file: it cannot be changed, because the log forwarder"),
        ("smtp_sasl_password_maps = static:a:b", "line 1: smtp_sasl_password_maps: a password would end up in main.cf"),
        ("  smtp_helo_name = x", "line 1: it begins with a blank, and there is no line before it"),
        ("smtp_helo_name = x\nsmtp_helo_name = x", "line 2: smtp_helo_name is already set in line 1 of the same file"),
        ("smtpd_banner = a\x01b", "line 1: smtpd_banner: it contains a line break or another control character"),
        (
            "header_checks = regexp:/etc/authrelay/tables/x",
            "line 1: there is no file /etc/authrelay/tables/x. Mount it",
        ),
        ("header_checks = hash:/etc/authrelay/tables/x", "line 1: hash: is no type of table here. Write lmdb:/etc/"),
        (
            "header_checks = pcre:/etc/authrelay/tables/x",
            "line 1: a file cannot be a table of type pcre: here. Use one of",
        ),
    ],
)
def test_fragment_is_refused_by_file_and_line(tmp_path: pathlib.Path, text: str, said: str) -> None:
    """Postfix would take a misspelt name for a parameter of the user's own, and say nothing."""
    assert _refuse_with(tmp_path, {"main.cf.d/a.cf": text}).startswith(f"/etc/authrelay/main.cf.d/a.cf {said}")


def test_fragment_that_weakens_a_default_says_where(tmp_path: pathlib.Path) -> None:
    """Whoever looks for the open door must find the line."""
    _, warnings = _read_with(tmp_path, {"main.cf.d/a.cf": "\nsmtpd_relay_restrictions = permit\n"})
    assert warnings == (
        "/etc/authrelay/main.cf.d/a.cf line 2: smtpd_relay_restrictions=permit weakens a safe default: it may let "
        "strangers send through this relay",
    )


def test_file_that_cannot_be_read_is_named(tmp_path: pathlib.Path) -> None:
    """Bytes of another encoding, which no table of ours could carry."""
    (tmp_path / "main.cf.d").mkdir()
    (tmp_path / "main.cf.d" / "a.cf").write_bytes(b"smtpd_banner = \xff\n")
    said = _refuse_with(tmp_path, {})
    assert said == "/etc/authrelay/main.cf.d/a.cf: the file is not UTF-8 text. Save it as UTF-8."
    (tmp_path / "main.cf.d" / "a.cf").write_bytes(b"#" * (8 * 2**20 + 1))
    said = _refuse_with(tmp_path, {})
    assert said == "/etc/authrelay/main.cf.d/a.cf: the file is larger than 8 MiB. Divide it, and name both."


def test_tables_are_planned_with_the_mode_of_their_file(tmp_path: pathlib.Path) -> None:
    """A table with passwords is root's alone, as its file is; one that nothing names is pointed out."""
    files = {
        "main.cf.d/a.cf": "transport_maps = lmdb:/etc/authrelay/tables/routes\n"
        "header_checks = regexp:/etc/authrelay/tables/headers\n",
        "tables/routes": "example.com discard:",
        "tables/headers": "/^X:/ IGNORE\n",
        "tables/spare": "a b\n",
    }
    _read_with(tmp_path, files)
    (tmp_path / "tables" / "routes").chmod(0o600)
    (tmp_path / "tables" / "headers").chmod(0o644)
    settings, warnings = _read_with(tmp_path, {})
    plan = compute_plan(settings, FACTS, TEMPLATES)
    files_planned = {file.path: file for file in plan.files}
    routes = files_planned["/etc/postfix/table-routes"]
    assert (routes.text, routes.mode, routes.is_table) == ("example.com discard:\n", 0o600, True)
    headers = files_planned["/etc/postfix/table-headers"]
    assert (headers.mode, headers.is_table, headers.text_type) == (0o644, False, "regexp")
    parameters = read_main_cf(plan)
    assert parameters["transport_maps"] == "lmdb:/etc/postfix/table-routes"
    assert parameters["header_checks"] == "regexp:/etc/postfix/table-headers"
    assert warnings == (
        "/etc/authrelay/tables/spare: no parameter names it, so that it has no effect. Name it, for example "
        "transport_maps = lmdb:/etc/authrelay/tables/spare",
    )


def test_names_that_come_into_being_by_the_users_own_values_are_known() -> None:
    """Restriction classes, parameters that another one's value uses, and what qmgr(8) has for each service."""
    settings, warnings = read(
        {
            **BASE,
            "POSTFIX_smtpd_restriction_classes": "insiders",
            "POSTFIX_insiders": "permit_mynetworks, reject",
            "POSTFIX_MASTER_2525__inet": "2525 inet n - n - 10 smtpd -o smtpd_client_restrictions=$mua_restrictions",
            "POSTFIX_mua_restrictions": "permit_mynetworks",
            "POSTFIX_MASTER_slow__unix": "slow unix - - n - 2 smtp",
            "POSTFIX_slow_transport_rate_delay": "2s",
        }
    )
    assert len(settings.postfix_parameters) == 4
    assert warnings == ()
    with pytest.raises(ConfigurationError, match="POSTFIX_fast_transport_rate_delay: Postfix has no such parameter"):
        read({**BASE, "POSTFIX_fast_transport_rate_delay": "2s"})


def test_stop_closes_listeners_that_have_restrictions_of_their_own() -> None:
    """A door that stays open during a stop takes mail that then waits for the next start."""
    line = "2525 inet n - n - 10 smtpd -o smtpd_client_restrictions=permit -o smtpd_banner=x -o smtpd_delay_reject=yes"
    master_cf = find_text(plan_for({**BASE, "POSTFIX_MASTER_2525__inet": line}), "master.cf")
    closed = close_services(master_cf)
    assert re.findall(r"-o { (\w+)", closed) == ["smtpd_banner"]
    assert close_services(closed) == closed


def test_milters_are_rendered_in_their_order_and_health_checks_are_not_shown_to_them() -> None:
    """A filter that hangs must not have the relay restarted by its own health check."""
    plan = plan_for({**BASE, "SMTPD_MILTERS": "inet:rspamd:11332, unix:/run/m, inet:[::1]:8891"})
    parameters = read_main_cf(plan)
    assert parameters["smtpd_milters"] == "inet:rspamd:11332, unix:/run/m, inet:[::1]:8891"
    assert parameters["milter_default_action"] == "tempfail"
    assert parameters["smtpd_milter_maps"] == "inline:{ { 127.0.0.25 = DISABLE } }"
    own = read_main_cf(plan_for({**BASE, "POSTFIX_smtpd_milters": "inet:rspamd:11332"}))
    assert own["smtpd_milter_maps"] == parameters["smtpd_milter_maps"]
    assert read(BASE)[0].has_milters is False


def test_accepting_what_no_milter_saw_is_told() -> None:
    """A virus filter that is away must not be away without anybody's knowing."""
    _, warnings = read({**BASE, "SMTPD_MILTERS": "inet:rspamd:11332", "MILTER_DEFAULT_ACTION": "accept"})
    assert warnings == ("MILTER_DEFAULT_ACTION=accept: while a milter does not answer, mail goes out without it",)
