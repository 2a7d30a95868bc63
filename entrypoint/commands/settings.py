"""`authrelay settings [--markdown | --json]`: the table of all settings, from their declarations."""

from __future__ import annotations

import json
import sys
import textwrap

from entrypoint.config.declaration import MISSING, Declaration
from entrypoint.config.settings import DECLARATIONS

_PASSTHROUGH = (
    (
        "`POSTFIX_<parameter>`",
        "Any parameter of main.cf (postconf(5)), in place of ours; also in files of /etc/authrelay/main.cf.d. A "
        "name that Postfix does not know is an error: docs/postfix.md.",
    ),
    (
        "`POSTFIX_MASTER_<service>__<type>`",
        "A line of master.cf (master(5)): another service, or other columns and options for one of ours.",
    ),
)


def main(arguments: list[str]) -> int:
    """Print the table as text, Markdown or JSON."""
    forms = {(): render_text, ("--markdown",): render_markdown, ("--json",): render_json}
    render = forms.get(tuple(arguments))
    if render is None:
        sys.stderr.write("usage: authrelay settings [--markdown | --json]\n")
        return 64
    sys.stdout.write(render())
    return 0


def render_text() -> str:
    """Return the settings for a terminal."""
    blocks = []
    group = ""
    for declaration in DECLARATIONS:
        if declaration.group != group:
            group = declaration.group
            blocks.append(f"{group}\n{'-' * len(group)}\n")
        help_text = textwrap.fill(declaration.help, 96, initial_indent="    ", subsequent_indent="    ")
        blocks.append(f"{declaration.name}  (default: {describe_default(declaration)})\n{help_text}\n")
    for name, help_text in _PASSTHROUGH:
        text = textwrap.fill(help_text, 96, initial_indent="    ", subsequent_indent="    ")
        blocks.append(f"{name}\n{text}\n")
    blocks.append("Each may be given as X_FILE=/path instead: the file's text is the value.\n")
    return "\n".join(blocks).replace("`", "")


def render_markdown() -> str:
    """Return the settings as Markdown tables, one for each group."""
    lines = []
    group = ""
    for declaration in DECLARATIONS:
        if declaration.group != group:
            group = declaration.group
            lines += ["", f"**{group}**", "", "| Setting | Default | Meaning |", "|---|---|---|"]
        default = describe_default(declaration)
        shown = f"`{default}`" if declaration.default is not None else default
        lines.append(f"| `{declaration.name}` | {shown} | {_escape_cell(declaration.help)} |")
    lines += [f"| {name} | | {_escape_cell(help_text)} |" for name, help_text in _PASSTHROUGH]
    return "\n".join(lines[1:]) + "\n"


def render_json() -> str:
    """Return the settings for programs."""
    rows = [
        {
            "name": declaration.name,
            "group": declaration.group,
            "default": declaration.default,
            "default_help": declaration.default_help or None,
            "help": declaration.help,
            "is_required": declaration.is_required,
            "is_secret": declaration.is_secret,
            "is_cleared_by_none": declaration.cleared is not MISSING,
            "postfix_parameter": declaration.parameter or None,
        }
        for declaration in DECLARATIONS
    ]
    return json.dumps(rows, indent=2) + "\n"


def describe_default(declaration: Declaration) -> str:
    """Return what holds when the setting is unset."""
    if declaration.is_required:
        return "required"
    return declaration.default if declaration.default is not None else declaration.default_help or "unset"


def _escape_cell(text: str) -> str:
    return text.replace("|", "\\|")
