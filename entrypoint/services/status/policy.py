"""The Content-Security-Policy that goes with the status page. Reads the template files of the image."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from entrypoint import paths

STYLE: Final = "status.css"
SCRIPT: Final = "status.js"


def make_policy(templates: str = paths.TEMPLATES) -> str:
    """Return the policy: the page's own style and script may be used, it may fetch from here, and nothing else.

    The hashes are of the files, not of what was rendered: a script that came in by a mistake of ours would not run.
    """
    style, script = (_hash(read_part(templates, name)) for name in (STYLE, SCRIPT))
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def read_part(templates: str, name: str) -> str:
    """Return the text of a file that stands in the page as it is."""
    with open(f"{templates}/{name}", encoding="utf-8") as file:
        return file.read()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
