"""Keeps the DKIM keys that are made here: once for each domain and selector, in the state volume. Disk.

Uses `files` to write them. `config.dkim` and `config.dkim_key` read and make a key. One that somebody put there is used
like one of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from entrypoint import paths
from entrypoint.config.declaration import InvalidValue
from entrypoint.config.dkim import BOTH, ED25519, RSA
from entrypoint.config.dkim_key import SigningKey, make_dkim_key, name_second, parse_dkim_key
from entrypoint.errors import BadCertificateError
from entrypoint.system.files import make_directory, read_text, write_file


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The keys of one domain."""

    keys: tuple[SigningKey, ...]
    made: tuple[SigningKey, ...] = ()
    """Those among them that did not exist before."""
    missing: tuple[str, ...] = ()
    """The paths of those that were not to be made."""
    warnings: tuple[str, ...] = ()


def find_key_path(domain: str, selector: str) -> str:
    """Return where the key of a domain and a selector lies."""
    return f"{paths.DKIM_KEYS}/{domain}/{selector}.pem"


def load_or_make_keys(domain: str, selector: str, key_type: str, *, may_make: bool) -> Kept:
    """Return the keys of a domain: of the type rsa, ed25519 or both. What is missing is made, or left out."""
    keys: list[SigningKey] = []
    made: list[SigningKey] = []
    missing: list[str] = []
    warnings: list[str] = []
    for name, algorithm in _list_wanted(selector, key_type):
        key = _load_key(domain, name)
        if key is None and may_make:
            key = _make_key(domain, name, algorithm)
            made.append(key)
        if key is None:
            missing.append(find_key_path(domain, name))
        else:
            keys.append(key)
            warnings += _compare(key, algorithm)
    return Kept(keys=tuple(keys), made=tuple(made), missing=tuple(missing), warnings=tuple(warnings))


def _list_wanted(selector: str, key_type: str) -> Sequence[tuple[str, str]]:
    if key_type == BOTH:
        return (selector, RSA), (name_second(selector), ED25519)
    return ((selector, key_type),)


def _load_key(domain: str, selector: str) -> SigningKey | None:
    path = find_key_path(domain, selector)
    try:
        text = read_text(path)
        if text is None:
            return None
        return SigningKey(domain=domain, selector=selector, key=parse_dkim_key(text))
    except InvalidValue as invalid:
        raise BadCertificateError(f"{path}: {invalid.what}. Remove it to have a new key made.") from invalid
    except (OSError, UnicodeDecodeError) as error:
        raise BadCertificateError(f"{path} cannot be read: {error}. Remove it to have a new key made.") from error


def _make_key(domain: str, selector: str, algorithm: str) -> SigningKey:
    signing = SigningKey(domain=domain, selector=selector, key=make_dkim_key(algorithm))
    make_directory(paths.STATE, 0o755)
    for directory in (paths.DKIM_KEYS, f"{paths.DKIM_KEYS}/{domain}"):
        make_directory(directory, 0o700)
    write_file(find_key_path(domain, selector), signing.key.pem.reveal(), 0o600, is_durable=True)
    return signing


def _compare(signing: SigningKey, algorithm: str) -> Iterator[str]:
    """Yield a warning when the settings ask for another kind of key than the kept one."""
    if signing.key.algorithm != algorithm:
        yield (
            f"DKIM_KEY_TYPE: the kept key {find_key_path(signing.domain, signing.selector)} is {signing.key}, and "
            f"stays, for its record is published. To have an {algorithm} key made, set another DKIM_SELECTOR"
        )
