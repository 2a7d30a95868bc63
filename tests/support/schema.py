"""Checks a value against a JSON Schema (2020-12), as far as the schemas in docs/ go. Pure."""

from __future__ import annotations

import re
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {"object": (dict,), "string": (str,), "integer": (int,), "number": (int, float)}
_TYPES |= {"array": (list,), "boolean": (bool,)}
_KNOWN = frozenset(
    "$schema $defs $ref title description type required additionalProperties properties allOf if then const enum "
    "pattern minimum maximum items default propertyNames minProperties dependentRequired".split()
)


def find_faults(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None, path: str = "") -> list[str]:
    """What is wrong with a value. A word of JSON Schema that is not known here is a ValueError."""
    root = root or schema
    if unknown := set(schema) - _KNOWN:
        raise ValueError(f"{path}: {unknown}")
    if reference := schema.get("$ref"):
        return find_faults(value, root["$defs"][reference.removeprefix("#/$defs/")], root, path)
    faults = [f"{path}: {value!r} is no {schema['type']}"] if not _has_type(value, schema.get("type")) else []
    if "const" in schema and value != schema["const"]:
        faults.append(f"{path}: {value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        faults.append(f"{path}: {value!r} is none of {schema['enum']}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        faults.append(f"{path}: {value!r} does not match {schema['pattern']}")
    if isinstance(value, int | float) and value < schema.get("minimum", value):
        faults.append(f"{path}: {value!r} is too small")
    if isinstance(value, int | float) and value > schema.get("maximum", value):
        faults.append(f"{path}: {value!r} is too large")
    if isinstance(value, list):
        for index, item in enumerate(value):
            faults += find_faults(item, schema.get("items", {}), root, f"{path}/{index}")
    if isinstance(value, dict):
        faults += _find_faults_of_members(value, schema, root, path)
    for part in schema.get("allOf", ()):
        faults += find_faults(value, part, root, path)
    if "if" in schema and not find_faults(value, schema["if"], root, path):
        faults += find_faults(value, schema.get("then", {}), root, path)
    return faults


def _find_faults_of_members(
    value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], path: str
) -> list[str]:
    faults = [f"{path}: {name} is missing" for name in schema.get("required", ()) if name not in value]
    if len(value) < schema.get("minProperties", 0):
        faults.append(f"{path}: it is empty")
    for name, needed in schema.get("dependentRequired", {}).items():
        faults += [f"{path}: {name} needs {other}" for other in needed if name in value and other not in value]
    for name in value:
        faults += find_faults(name, schema.get("propertyNames", {}), root, path)
    properties = schema.get("properties", {})
    for name, member in value.items():
        if name in properties:
            faults += find_faults(member, properties[name], root, f"{path}/{name}")
        elif schema.get("additionalProperties") is False:
            faults.append(f"{path}: {name} is not in the schema")
        elif isinstance(others := schema.get("additionalProperties"), dict):
            faults += find_faults(member, others, root, f"{path}/{name}")
    return faults


def _has_type(value: Any, names: str | list[str] | None) -> bool:
    wanted = [names] if isinstance(names, str) else names or []
    return names is None or any(
        isinstance(value, _TYPES[name]) and isinstance(value, bool) == (name == "boolean") for name in wanted
    )
