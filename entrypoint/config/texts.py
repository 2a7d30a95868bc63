"""Text from variables and files, and what is said of one that cannot be a setting's value. Pure."""

from __future__ import annotations

from entrypoint.config.declaration import SETTING, Declaration, InvalidValue
from entrypoint.errors import Problem


def is_text(content: bytes) -> bool:
    """Return whether bytes are UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode(content: bytes) -> str:
    """Return a file's bytes as text, or raise InvalidValue."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidValue("the file is not UTF-8 text", "Save it as UTF-8") from None


def refuse_surrogates(text: str) -> None:
    """Refuse what stands in os.environ for bytes that are not UTF-8 (PEP 383): no file could be written with it."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidValue("it is not UTF-8 text", "Write it in UTF-8")


def describe_problem(
    declaration: Declaration, message: InvalidValue | str, value: str | bytes | None, suffix: str
) -> Problem:
    """Return what is wrong with a setting; `suffix` is that of the variable that names a file."""
    name = declaration.name
    if not isinstance(message, InvalidValue):
        return Problem(
            setting=name,
            what="it is not set",
            remedy="Name the server that takes your mail, for example RELAYHOST=[smtp.example.com]:587",
        )
    is_shown = (
        isinstance(value, str)
        and not declaration.is_secret
        and not message.may_hold_secret
        and "\n" not in value
        and "PRIVATE KEY" not in value
    )
    return Problem(
        setting=name if isinstance(value, str) else name + suffix,
        value=value if is_shown and isinstance(value, str) else None,
        what=message.what,
        remedy=message.remedy.replace(SETTING, name),
    )
