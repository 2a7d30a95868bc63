"""The one reader of the environment and of secret files.

Reads `os.environ`, and each file that an `X_FILE` variable names, once.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from entrypoint import paths
from entrypoint.config.contradictions import find_contradictions, find_warnings
from entrypoint.config.declaration import InvalidValue
from entrypoint.config.fragments import FRAGMENT_SUFFIX, OwnFile
from entrypoint.config.names import FILE_SUFFIX, PARAMETER_PREFIX, find_unknown_names, is_service_link
from entrypoint.config.own_postfix import OwnPostfix, judge_own
from entrypoint.config.parsing import parse_values
from entrypoint.config.providers import find_preset
from entrypoint.config.settings import DECLARATIONS, Settings
from entrypoint.config.texts import decode, is_text, refuse_surrogates
from entrypoint.errors import ConfigurationError, Problem

_MAX_FILE_BYTES: Final = 8 * 2**20


def read_settings(
    environ: Mapping[str, str] | None = None,
    parameters_path: str = paths.POSTFIX_PARAMETERS,
    directory: str = paths.OWN,
) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings and the warnings about them, or raise ConfigurationError with every problem.

    `environ` is the process's own environment unless one is given. Empty means unset.
    """
    variables = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
    problems: list[Problem] = []
    warnings: list[str] = []

    values = {
        declaration.name: value
        for declaration in DECLARATIONS
        if (value := _find_value(declaration.name, variables, problems)) is not None
    }
    values = {**find_preset(values.get("PROVIDER"), values), **values}
    # What has a problem already is not "not set" as well.
    lost = frozenset(problem.setting.removesuffix(FILE_SUFFIX) for problem in problems)
    parsed, unread = parse_values(values, lost, problems)
    own = _read_own(variables, parameters_path, directory, problems, warnings)

    unknown = find_unknown_names(variables)
    if parsed.get("unknown_settings") == "warn":
        warnings += [str(problem) for problem in unknown]
    else:
        problems += unknown

    if "RELAYHOST" in unread:
        # The rules between settings need an upstream to talk about; its own problem is already in the list.
        raise ConfigurationError(problems)
    settings = Settings(**parsed, postfix_parameters=own.parameters, master_entries=own.entries, own_tables=own.tables)
    # What stands in the place of a password, and cannot be read, is not a missing password as well.
    moot = unread | {"RELAYHOST_PASSWORD" for name in unread if name.startswith("OAUTH2_")}
    between = find_contradictions(settings)
    problems += (problem for problem in between if not moot & set(re.findall(r"[A-Z0-9_]+", str(problem))))
    if problems:
        raise ConfigurationError(problems)
    return settings, tuple(warnings + find_warnings(settings))


def read_chosen(names: Collection[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of these settings alone, by name, where they are set; raise ConfigurationError.

    For a command that needs no upstream; a preset of PROVIDER counts, where `environ` has one.
    """
    problems: list[Problem] = []
    variables = {name: value for name, value in environ.items() if value}
    found = {name: value for name in names if (value := _find_value(name, variables, problems)) is not None}
    preset = find_preset(variables.get("PROVIDER"), ("OAUTH2_REFRESH_TOKEN",))
    found = {**{name: value for name, value in preset.items() if name in names}, **found}
    parsed, _ = parse_values({"RELAYHOST": "[localhost]", **found}, frozenset(), problems)
    if problems:
        raise ConfigurationError(problems)
    return {name: parsed[name.lower()] for name in names if parsed[name.lower()] is not None}


def read_environment() -> dict[str, str]:
    """Return the process's environment as the container was given it, for whoever reads the settings again later."""
    return dict(os.environ)


def list_files(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths that the `X_FILE` variables of settings name, and those of the user's directories."""
    found = list(find_files(environ).values())
    for directory in (paths.OWN_PARAMETERS, paths.OWN_TABLES):
        # One that cannot be read is a problem of the settings, and told there.
        with contextlib.suppress(OSError):
            if os.path.isdir(directory):
                found += [directory, *_list_directory(directory)]
    return (*found, *_list_list_maps(environ))


def _list_list_maps(environ: Mapping[str, str]) -> list[str]:
    """Return the paths at which a list server writes, and deliveries about it, whether or not there is anything yet."""
    given = _find_value("LIST_MAPS_DIR", {name: value for name, value in environ.items() if value}, [])
    if given is None:
        return []
    from entrypoint.config.list_maps import SOURCES  # no other start needs it

    directory = given if isinstance(given, str) else given.decode(errors="surrogateescape")
    return [*(f"{directory}/{name}" for name in SOURCES), paths.LIST_TROUBLE]


def find_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the same by the names of the settings."""
    names = {declaration.name + FILE_SUFFIX for declaration in DECLARATIONS}
    return {
        name.removesuffix(FILE_SUFFIX): path
        for name, path in sorted(environ.items())
        if path and (name in names or (name.startswith(PARAMETER_PREFIX) and name.endswith(FILE_SUFFIX)))
    }


def find_file(name: str) -> str | None:
    """Return the path that the variable `name`_FILE holds, if it is set."""
    return os.environ.get(name + FILE_SUFFIX) or None


def _find_value(name: str, variables: Mapping[str, str], problems: list[Problem]) -> str | bytes | None:
    """Return what the user gave for a name: the variable's text, the file's bytes, or `None`."""
    path = variables.get(name + FILE_SUFFIX)
    if path is None:
        return variables.get(name)
    if name in variables:
        problems.append(
            Problem(
                setting=name,
                what=f"{name} and {name}{FILE_SUFFIX} are both set, and only one can be meant",
                remedy=f"Remove one of them; {name}{FILE_SUFFIX} keeps a secret out of the container's description",
            )
        )
        return None
    return _read_file(name + FILE_SUFFIX, path, problems)


def _read_file(setting: str, path: str, problems: list[Problem]) -> bytes | None:
    """Return a file's bytes without the one line break that an editor leaves at the end."""
    what = ""
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        what = f"the file cannot be read ({getattr(error, 'strerror', None) or error})"
        remedy = "Mount the secret at that path, readable for root; docs/secrets.md shows how"
    else:
        # A secret is text with one line break at its end; what is binary (DER, ZIP) must stay as it is.
        stripped = re.sub(rb"\r?\n\Z", b"", content) if content.isascii() or is_text(content) else content
        if len(content) > _MAX_FILE_BYTES:
            what, remedy = "the file is larger than 8 MiB", "Give the path of the secret itself"
        elif not stripped:
            what, remedy = "the file is empty", "Write the value into it, or remove the variable"
        else:
            return stripped
    # A value without a slash is hardly a path; it may be the secret itself, in the wrong variable.
    problems.append(Problem(setting=setting, value=path if "/" in path else None, what=what, remedy=remedy))
    return None


def _read_own(
    variables: Mapping[str, str],
    parameters_path: str,
    directory: str,
    problems: list[Problem],
    warnings: list[str],
) -> OwnPostfix:
    """Return what the user says to Postfix itself: in `POSTFIX_` variables, and in files."""
    names = sorted(
        {
            name if name in variables and not name.endswith(FILE_SUFFIX) else name.removesuffix(FILE_SUFFIX)
            for name, value in variables.items()
            if name.startswith(PARAMETER_PREFIX) and not is_service_link(name, value)
        }
    )
    fragments = _read_directory(f"{directory}/main.cf.d", problems)
    tables = _read_directory(f"{directory}/tables", problems)
    if not (names or fragments or tables):
        return OwnPostfix()
    with open(parameters_path, encoding="ascii") as file:
        listed = frozenset(file.read().split())
    texts = {}
    for name in names:
        value = _find_value(name, variables, problems)
        if value is None:
            continue
        try:
            texts[name] = value if isinstance(value, str) else decode(value)
            refuse_surrogates(texts[name])
        except InvalidValue as invalid:
            texts.pop(name, None)
            problems.append(Problem(setting=name, what=invalid.what, remedy=invalid.remedy))
    read = [file for file in fragments if file.name.endswith(FRAGMENT_SUFFIX)]
    warnings += (
        f"{file.path} is not read, because its name does not end in {FRAGMENT_SUFFIX}"
        for file in fragments
        if file not in read
    )
    return judge_own(texts, read, tables, listed, problems, warnings)


def _list_directory(directory: str) -> list[str]:
    """Return the paths of the files in a directory by name; a dot begins those of an editor or of Kubernetes."""
    try:
        names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    # What is no file, such as a directory, is nobody's table.
    return [path for name in names if os.path.isfile(path := f"{directory}/{name}")]


def _read_directory(directory: str, problems: list[Problem]) -> list[OwnFile]:
    """Return the files in a directory."""
    files = []
    path = directory
    try:
        for path in _list_directory(directory):
            with open(path, "rb") as file:
                is_private = not os.fstat(file.fileno()).st_mode & 0o044
                content = file.read(_MAX_FILE_BYTES + 1)
            if len(content) > _MAX_FILE_BYTES:
                raise InvalidValue("the file is larger than 8 MiB", "Divide it, and name both")
            text = decode(content)
            files.append(OwnFile(path=path, text=text, is_private=is_private))
    except OSError as error:
        what = f"it cannot be read ({error.strerror or error})"
        problems.append(Problem(setting=path, what=what, remedy="Make it readable for root"))
    except InvalidValue as invalid:
        problems.append(Problem(setting=path, what=invalid.what, remedy=invalid.remedy))
    return files
