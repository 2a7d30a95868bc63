"""Who may send: the default, MYNETWORKS, and the gateway that stands for everyone outside."""

from __future__ import annotations

import ipaddress

import pytest

from entrypoint.plan.files import Facts
from tests.unit.reading import FACTS, find_text, plan_for, read_main_cf

BASE = {"RELAYHOST": "smtp.example.com"}
PUBLIC = Facts(host_name="relay", subnets=(ipaddress.ip_network("8.8.8.0/24"),))
CALICO = Facts(host_name="relay", gateways=(ipaddress.ip_address("169.254.1.1"),))


@pytest.mark.parametrize(
    ("networks", "facts", "expected"),
    [
        ("", FACTS, "![172.18.0.1] ![fd00:18::1] 127.0.0.0/8 [::1]/128 172.18.0.0/16 [fd00:18::]/64"),
        ("none", FACTS, "127.0.0.0/8 [::1]/128"),
        ("10.0.0.0/8", FACTS, "10.0.0.0/8"),
        ("172.16.0.0/12", FACTS, "!172.18.0.1 172.16.0.0/12"),
        ("172.16.0.0/12 172.18.0.1", FACTS, "172.16.0.0/12 172.18.0.1/32"),
        ("172.18.0.1", FACTS, "172.18.0.1/32"),
        ("[fd00:18::]/48", FACTS, "![fd00:18::1] [fd00:18::]/48"),
        ("", PUBLIC, "127.0.0.0/8 [::1]/128"),
        ("8.8.8.0/24", PUBLIC, "8.8.8.0/24"),
        ("", CALICO, "127.0.0.0/8 [::1]/128"),
        ("169.254.0.0/16", CALICO, "!169.254.1.1 169.254.0.0/16"),
    ],
)
def test_mynetworks_trusts_neighbours_and_never_an_unnamed_gateway(networks: str, facts: Facts, expected: str) -> None:
    """Behind a userland proxy every outsider has the gateway's address: this is how containers become open relays."""
    parameters = read_main_cf(plan_for({**BASE, "MYNETWORKS": networks}, facts))
    assert parameters["mynetworks"] == expected.replace("![172.18.0.1]", "!172.18.0.1")


@pytest.mark.parametrize("networks", ["", "172.16.0.0/12"])
def test_excluded_gateway_is_told_what_to_do(networks: str) -> None:
    """The one who published the port to localhost must read why it does not work, not guess."""
    plan = plan_for({**BASE, "MYNETWORKS": networks})
    first = find_text(plan, "gateways").split("\n")[0]
    assert first.startswith("172.18.0.1 REJECT ")
    assert "add 172.18.0.1 to MYNETWORKS" in first
    restrictions = read_main_cf(plan)["smtpd_relay_restrictions"]
    assert restrictions == "permit_mynetworks, check_client_access cidr:/etc/postfix/gateways, reject"


@pytest.mark.parametrize(("networks", "facts"), [("none", FACTS), ("", PUBLIC), ("172.18.0.1", FACTS)])
def test_relay_restrictions_end_in_reject_without_a_gateway(networks: str, facts: Facts) -> None:
    """Nothing that a client says can widen who may send."""
    plan = plan_for({**BASE, "MYNETWORKS": networks}, facts)
    assert read_main_cf(plan)["smtpd_relay_restrictions"] == "permit_mynetworks, reject"
    assert not any(file.path.endswith("/gateways") for file in plan.files)


def test_public_subnet_is_left_out_with_a_warning_that_says_how_to_add_it() -> None:
    """With --network host on a rented server the neighbours are strangers."""
    assert plan_for(BASE, PUBLIC).warnings == (
        "MYNETWORKS is not set, and the attached subnet 8.8.8.0/24 is public: nobody there may send. "
        "If its hosts are yours, set MYNETWORKS=8.8.8.0/24",
    )


@pytest.mark.parametrize("more", [{"MYNETWORKS": "8.8.8.0/24"}, {"INET_INTERFACES": "loopback-only"}])
def test_public_subnet_does_not_warn_where_it_does_not_matter(more: dict[str, str]) -> None:
    """A warning on every start that nobody can act on hides the next one."""
    assert plan_for({**BASE, **more}, PUBLIC).warnings == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.0/8,192.0.2.1\n192.0.2.1", "10.0.0.0/8 192.0.2.1/32"),
        ("[2001:db8::]/32 [2001:db8::1]", "[2001:db8::]/32 [2001:db8::1]/128"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
    ],
)
def test_mynetworks_understands_the_usual_ways_of_writing(text: str, expected: str) -> None:
    """Lists come from YAML, from Postfix's own files and from old configurations."""
    assert read_main_cf(plan_for({**BASE, "MYNETWORKS": text}))["mynetworks"] == expected
