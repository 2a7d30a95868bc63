"""Logs in by libsasl2, the library that Postfix logs in by, so that mechanism and words are those of Postfix. Process.

The same steps, properties and callbacks as xsasl_cyrus_client.c of Postfix has them; names as in sasl/sasl.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

_OK, _CONTINUE, _NO_MECHANISM = 0, 1, -4
_CB_LIST_END, _CB_LOG, _CB_USER, _CB_AUTHNAME, _CB_PASS = 0, 2, 0x4001, 0x4002, 0x4004
_SEC_PROPS: Final = 101
_FLAGS: Final = {
    "noplaintext": 0x01, "noactive": 0x02, "nodictionary": 0x04, "forward_secrecy": 0x08, "noanonymous": 0x10,
    "mutual_auth": 0x40,
}  # fmt: skip
"""The words of smtp_sasl_security_options (postconf(5)) and SASL_SEC_* of each."""

_GetSimple = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_uint)
)
_GetSecret = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p)
)
_Log = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)


class _Callback(ctypes.Structure):
    _fields_ = (("id", ctypes.c_ulong), ("proc", ctypes.c_void_p), ("context", ctypes.c_void_p))


class _Properties(ctypes.Structure):
    _fields_ = (
        ("min_ssf", ctypes.c_uint),
        ("max_ssf", ctypes.c_uint),
        ("maxbufsize", ctypes.c_uint),
        ("security_flags", ctypes.c_uint),
        ("property_names", ctypes.c_void_p),
        ("property_values", ctypes.c_void_p),
    )


class SaslError(Exception):
    """A login that cannot begin or go on; `has_no_mechanism`: nothing of what was offered may be used."""

    def __init__(self, text: str, *, has_no_mechanism: bool = False) -> None:
        super().__init__(text)
        self.has_no_mechanism = has_no_mechanism


class SaslClient:
    """One login at one server. The library is initialised once for each process."""

    def __init__(self, *, server_name: str, username: str, password: str, options: Sequence[str]) -> None:
        """`options`: words of smtp_sasl_security_options; outside TLS they keep a password from being readable."""
        self._library = _load()
        self._username = ctypes.create_string_buffer(username.encode())
        secret = password.encode()
        # sasl_secret_t: an unsigned long with the length, then the bytes.
        self._secret = ctypes.create_string_buffer(
            len(secret).to_bytes(ctypes.sizeof(ctypes.c_ulong), "little") + secret + b"\0"
        )
        self._callbacks = self._make_callbacks()
        self._connection = ctypes.c_void_p()
        status = self._library.sasl_client_new(
            b"smtp", server_name.encode(), None, None, self._callbacks, 0, ctypes.byref(self._connection)
        )
        if status != _OK:
            raise SaslError(self._describe(status))
        flags = sum(_FLAGS[word] for word in set(options) if word in _FLAGS)
        # As Postfix: no encryption by SASL, TLS does that.
        self._properties = _Properties(security_flags=flags)
        self._library.sasl_setprop(self._connection, _SEC_PROPS, ctypes.byref(self._properties))

    def start(self, mechanisms: Sequence[str]) -> tuple[str, bytes | None]:
        """Return the mechanism that the library chooses, and what to say first (`None`: nothing)."""
        output, length, chosen = ctypes.c_void_p(), ctypes.c_uint(), ctypes.c_char_p()
        status = self._library.sasl_client_start(
            self._connection,
            " ".join(mechanisms).encode(),
            None,
            ctypes.byref(output),
            ctypes.byref(length),
            ctypes.byref(chosen),
        )
        if status not in (_OK, _CONTINUE):
            raise SaslError(self._describe(status), has_no_mechanism=status == _NO_MECHANISM)
        first = ctypes.string_at(output, length.value) if output.value and length.value else None
        return (chosen.value or b"").decode("ascii", "replace"), first

    def answer(self, challenge: bytes) -> bytes:
        """Return the answer to what the server said."""
        output, length = ctypes.c_void_p(), ctypes.c_uint()
        status = self._library.sasl_client_step(
            self._connection, challenge, len(challenge), None, ctypes.byref(output), ctypes.byref(length)
        )
        if status not in (_OK, _CONTINUE):
            raise SaslError(self._describe(status))
        return ctypes.string_at(output, length.value) if output.value and length.value else b""

    def close(self) -> None:
        """Forget the session."""
        self._library.sasl_dispose(ctypes.byref(self._connection))

    def _make_callbacks(self) -> Any:
        def give_name(_context: Any, _id: int, result: Any, length: Any) -> int:
            result[0] = ctypes.addressof(self._username)
            if length:
                length[0] = len(self._username.value)
            return _OK

        def give_secret(_connection: Any, _context: Any, _id: int, result: Any) -> int:
            result[0] = ctypes.addressof(self._secret)
            return _OK

        # Kept as long as the session: the library calls them.
        self._kept = (_GetSimple(give_name), _GetSecret(give_secret), _Log(lambda *_: _OK))
        name, secret, log = (ctypes.cast(one, ctypes.c_void_p) for one in self._kept)
        return (_Callback * 5)(
            _Callback(_CB_USER, name, None),
            _Callback(_CB_AUTHNAME, name, None),
            _Callback(_CB_PASS, secret, None),
            _Callback(_CB_LOG, log, None),
            _Callback(_CB_LIST_END, None, None),
        )

    def _describe(self, status: int) -> str:
        detail = self._library.sasl_errdetail(self._connection) if self._connection else None
        words = detail or self._library.sasl_errstring(status, None, None) or b""
        return str(words.decode("utf-8", "replace"))


def list_installed() -> tuple[str, ...]:
    """Return the mechanisms whose plugins are in the image."""
    names = _load().sasl_global_listmech()
    found: list[str] = []
    while names and names[len(found)]:
        found.append(names[len(found)].decode("ascii", "replace"))
    return tuple(found)


def _load() -> Any:
    try:
        library = ctypes.CDLL("libsasl2.so.2")
    except OSError as error:
        raise SaslError("libsasl2 is not installed") from error
    library.sasl_client_new.argtypes = [
        ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint,
        ctypes.c_void_p,
    ]  # fmt: skip
    library.sasl_setprop.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    library.sasl_client_start.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_void_p,
    ]  # fmt: skip
    library.sasl_client_step.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    library.sasl_dispose.argtypes = [ctypes.c_void_p]
    library.sasl_dispose.restype = None
    library.sasl_errdetail.argtypes = [ctypes.c_void_p]
    library.sasl_errdetail.restype = ctypes.c_char_p
    library.sasl_errstring.restype = ctypes.c_char_p
    library.sasl_global_listmech.restype = ctypes.POINTER(ctypes.c_char_p)
    # A second call only counts.
    status = library.sasl_client_init(None)
    if status != _OK:
        raise SaslError(f"libsasl2 does not start (status {status})")
    return library
