"""What the unit tests need to read settings and plan from them. Disk: one file of parameter names."""

from __future__ import annotations

import ipaddress
import pathlib
from collections.abc import Mapping
from typing import Final

from entrypoint.config.environment import read_settings
from entrypoint.config.secret import Secret
from entrypoint.config.settings import Settings
from entrypoint.plan.compute import compute_plan
from entrypoint.plan.files import Facts, Plan

TEMPLATES: Final = str(pathlib.Path(__file__).parents[2] / "templates")
PARAMETERS: Final = str(pathlib.Path(__file__).with_name("postfix-parameters"))
"""A few dozen of the names that `postconf -d` knows."""

FACTS: Final = Facts(
    host_name="relay",
    subnets=(ipaddress.ip_network("172.18.0.0/16"), ipaddress.ip_network("fd00:18::/64")),
    gateways=(ipaddress.ip_address("172.18.0.1"), ipaddress.ip_address("fd00:18::1")),
    client_chain=Secret("(the client's key and certificate)\n"),
)
"""A container on one Docker network with IPv4 and IPv6."""


def read(environ: Mapping[str, str]) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings and warnings for an environment."""
    return read_settings(environ, PARAMETERS)


def plan_for(environ: Mapping[str, str], facts: Facts = FACTS) -> Plan:
    """Return the plan for an environment."""
    return compute_plan(read(environ)[0], facts, TEMPLATES)


def find_text(plan: Plan, name: str) -> str:
    """Return the text of the planned file with that base name."""
    return next(file.text for file in plan.files if file.path.rpartition("/")[2] == name)


def read_main_cf(plan: Plan) -> dict[str, str]:
    """Return main.cf's parameters; the lines are `name = value` without continuation."""
    pairs = (line.partition(" =") for line in find_text(plan, "main.cf").split("\n") if line and line[0] != "#")
    return {name: value.strip() for name, _, value in pairs}
