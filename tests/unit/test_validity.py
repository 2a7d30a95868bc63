"""Which certificates hold now."""

from __future__ import annotations

import time

import pytest

from entrypoint.config.certificates import Certificate, Certificates
from entrypoint.errors import BadCertificateError
from entrypoint.system.validity import check_authorities, check_certificates

PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)


def _make(*members: tuple[str, int, int]) -> Certificates:
    return Certificates(
        pem="".join(PEM.format(subject) for subject, _, _ in members),
        members=tuple(
            Certificate(subject=subject, sha256=subject, not_before=begin, not_after=end)
            for subject, begin, end in members
        ),
    )


GOOD = ("CN=good", 1_600_000_000, 1_800_000_000)
EXPIRED = ("CN=old", 0, 1_600_000_000)
FUTURE = ("CN=new", 1_800_000_000, 1_900_000_000)


def test_authority_that_holds_now_is_taken_as_it_is() -> None:
    """No word about what is well."""
    assert check_authorities("RELAYHOST_CA", _make(GOOD)) == (_make(GOOD), ())


def test_expired_authority_beside_a_good_one_is_left_out_with_a_warning() -> None:
    """So a rollover ends: the old CA must not stop the mail on the day on which it expires, nor be trusted on."""
    valid, warnings = check_authorities("RELAYHOST_CA", _make(EXPIRED, GOOD, FUTURE))
    assert valid == _make(GOOD)
    assert warnings == (
        "RELAYHOST_CA: 'CN=old' expired on 2020-09-13, and is left out",
        "RELAYHOST_CA: 'CN=new' is valid only from 2027-01-15, and is left out",
    )


@pytest.mark.parametrize("given", [_make(EXPIRED), _make(EXPIRED, FUTURE)])
def test_authorities_of_which_none_holds_are_refused(given: Certificates) -> None:
    """Found at the start, not in the first handshake at night."""
    with pytest.raises(BadCertificateError, match=r"^RELAYHOST_CA: 'CN=old' expired on 2020-09-13.*Give the CA that"):
        check_authorities("RELAYHOST_CA", given)


def test_own_certificate_outside_its_time_is_refused() -> None:
    """The upstream would refuse it, every time."""
    check_certificates("CLIENT_CERT", _make(GOOD))
    with pytest.raises(
        BadCertificateError, match=r"^CLIENT_CERT: 'CN=old' expired on 2020-09-13\. Give the certificate"
    ):
        check_certificates("CLIENT_CERT", _make(GOOD, EXPIRED))
    with pytest.raises(BadCertificateError, match=r"^CLIENT_CERT: 'CN=new' is valid only from 2027-01-15\. Check this"):
        check_certificates("CLIENT_CERT", _make(FUTURE))
    assert BadCertificateError.exit_status == 65
