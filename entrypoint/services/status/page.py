"""The status page: from what was gathered to HTML. Reads the template files of the image; otherwise pure.

Every text in a view may be from outside: a recipient, an upstream's reply, a HELO name. Jinja escapes each; nothing
here makes markup but for the two files that are part of the page itself.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from entrypoint import paths
from entrypoint.errors import escape_odd
from entrypoint.services.status import sections
from entrypoint.services.status.headline import BAD, GOOD, QUIET, WARNING, choose_headline
from entrypoint.services.status.policy import SCRIPT, STYLE, read_part
from entrypoint.services.status.wording import format_whole_moment

_ICONS: Final = {
    # A shape for each tone, for whom does not see the colour: in the browser's tab, too.
    GOOD: '<circle cx="8" cy="8" r="7" fill="#2f8f5b"/>',
    QUIET: '<circle cx="8" cy="8" r="5.5" fill="none" stroke="#7a7a75" stroke-width="3"/>',
    WARNING: '<path d="M8 1l7.5 14H.5z" fill="#c77d0a"/>',
    BAD: '<path d="M1 1h14v14H1z" fill="#cf3a2e"/>',
}


def render_page(view: Mapping[str, Any], templates: str = paths.TEMPLATES) -> str:
    """Return the page for what was gathered; `templates` is the directory of the template files."""
    headline = choose_headline(view)
    environment = Environment(
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        finalize=_escape_odd_values,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("status.html.j2").render(
        # Files of ours, without a value in them.
        style=Markup(read_part(templates, STYLE)),  # noqa: S704
        script=Markup(read_part(templates, SCRIPT)),  # noqa: S704
        icon=_make_icon(headline.tone),
        headline=headline,
        hostname=view["hostname"],
        version=view["version"],
        at=format_whole_moment(view["now"]),
        **sections.make_sections(view),
    )


def _escape_odd_values(value: Any) -> Any:
    """Return a value that may stand on the page: control characters, and those that turn the writing, are seen."""
    if isinstance(value, Markup | int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise TypeError(f"the page printed {value!r}, which is neither text nor a number")
    return "\n".join(escape_odd(line) for line in value.split("\n"))


def _make_icon(tone: str) -> str:
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{_ICONS[tone]}</svg>'
    return f"data:image/svg+xml,{urllib.parse.quote(drawing)}"
