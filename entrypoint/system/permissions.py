"""Whether smtp(8) may read a file, for it runs as the user postfix and not as root. Disk."""

from __future__ import annotations

import os
import pwd
import stat
from typing import Final

_USER: Final = "postfix"


def may_postfix_read(path: str) -> bool:
    """Return whether the file and the directories that it lies in let that user in, by their modes."""
    try:
        user = pwd.getpwnam(_USER)
    except KeyError:
        return True
    parent = os.path.realpath(path)
    try:
        if not _has_bit(os.stat(parent), user, stat.S_IROTH):
            return False
        while (parent := os.path.dirname(parent)) != "/":
            if not _has_bit(os.stat(parent), user, stat.S_IXOTH):
                return False
    except OSError:
        return False
    return True


def _has_bit(found: os.stat_result, user: pwd.struct_passwd, bit: int) -> bool:
    """Return whether the mode has a bit of the others', or the same of the group or the owner that the user is."""
    if found.st_uid == user.pw_uid:
        bit <<= 6
    elif found.st_gid == user.pw_gid:
        bit <<= 3
    return bool(found.st_mode & bit)
