"""From what was found for each setting to its value; all that is wrong is collected. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from entrypoint.config.declaration import MISSING, Declaration, InvalidValue
from entrypoint.config.names import FILE_SUFFIX
from entrypoint.config.settings import DECLARATIONS
from entrypoint.config.texts import decode, describe_problem, refuse_surrogates
from entrypoint.errors import Problem
from entrypoint.placeholders import leave_out

# Files of variables, and the checks that marshmallow has of its own, take two thirds of the time.
with leave_out("marshmallow.validate", "dotenv", "dotenv.main", "decimal", "logging", "uuid"):
    import marshmallow

    vars(marshmallow).setdefault("validate", None)  # environs hands it on
    from environs import Env, EnvError, EnvValidationError


class _Environment(Env):
    """environs, reading from the values that were found instead of from os.environ."""

    def __init__(self, values: Mapping[str, str | bytes]) -> None:
        super().__init__(eager=False)
        self._found = values

    def _get_value(self, env_key: str, default: Any) -> Any:
        return self._found.get(env_key, default)


def parse_values(
    values: Mapping[str, str | bytes], lost: frozenset[str], problems: list[Problem]
) -> tuple[dict[str, Any], frozenset[str]]:
    """Return each setting's value by field name, and the names of those that could not be read, the lost among them.

    The latter have their default, so that the rules between the others can still be checked.
    """
    env = _Environment(values)
    parsed: dict[str, Any] = {}
    for declaration in DECLARATIONS:
        parser = f"parse_{declaration.name.lower()}"
        env.add_parser(parser, _defer(declaration))
        if declaration.is_required or declaration.default is not None or declaration.name in values:
            value = getattr(env, parser)(declaration.name, declaration.default or ...)
        else:
            value = None
        parsed[declaration.name.lower()] = value
    unread = lost
    try:
        env.seal()
    except EnvValidationError as error:
        # environs files what the parsers raised under each name; here that is always our InvalidValue.
        messages = cast("Mapping[str, list[InvalidValue | str]]", error.error_messages)
        unread |= frozenset(messages)
        for declaration in DECLARATIONS:
            if declaration.name in messages and declaration.name not in lost:
                message = messages[declaration.name][0]
                problems.append(describe_problem(declaration, message, values.get(declaration.name), FILE_SUFFIX))
                default = declaration.default
                parsed[declaration.name.lower()] = None if default is None else declaration.parse(default)
    return parsed, unread


def _defer(declaration: Declaration) -> Callable[[str | bytes], Any]:
    """Return the declaration's parser in the form that environs collects errors from."""

    def parse(value: str | bytes) -> Any:
        try:
            if isinstance(value, bytes):
                if declaration.parse_file is not None:
                    return declaration.parse_file(value)
                value = decode(value)
            refuse_surrogates(value)
            if declaration.cleared is not MISSING and value.strip().lower() == "none":
                return declaration.cleared
            return declaration.parse(value)
        except InvalidValue as invalid:
            raise EnvError(invalid) from invalid

    return parse
