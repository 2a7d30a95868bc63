"""Renders the templates. Reads the template files of the image; otherwise pure.

The image has each beside its source as it was compiled at the build, which a start needs not do then.
"""

from __future__ import annotations

import marshal
from functools import cache
from typing import Any

from entrypoint.placeholders import leave_out

with leave_out("jinja2.bccache", "hashlib"):  # templates are not kept; this would bring pickle and OpenSSL
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def refuse_odd_values(value: Any) -> Any:
    """Return a value that may stand in a configuration file, or raise: a line break in one would be a new parameter."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"a template printed {value!r}, which is neither text nor a number")
    if isinstance(value, str) and any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError(f"a template printed {value!r}, which has a control character")
    return value


def render_template(directory: str, name: str, view: dict[str, Any]) -> str:
    """Return the text of `directory`/`name`.j2 for a view."""
    return _load_template(directory, name).render(view)


def compile_template(directory: str, name: str) -> bytes:
    """Return what `directory`/`name`.code has to hold; for the same Python alone (marshal)."""
    environment = _make_environment(directory)
    source, filename, _ = environment.loader.get_source(environment, f"{name}.j2")  # type: ignore[union-attr]
    return marshal.dumps(environment.compile(source, name, filename))


@cache
def _load_template(directory: str, name: str) -> Template:
    environment = _make_environment(directory)
    try:
        with open(f"{directory}/{name}.code", "rb") as file:
            code = marshal.load(file)  # noqa: S302 - the image's own
    except FileNotFoundError:
        return environment.get_template(f"{name}.j2")
    return Template.from_code(environment, code, environment.make_globals(None))


@cache
def _make_environment(directory: str) -> Environment:
    """Return what renders the templates of a directory, and keeps each as it was compiled."""
    return Environment(
        loader=FileSystemLoader(directory),
        undefined=StrictUndefined,
        finalize=refuse_odd_values,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
