"""What fsync(2) costs where a queue lies: a file of 4 kB, written, and forced to the disk, as cleanup(8) does. Disk.

Arguments: the directory. Standard output: JSON, the median in milliseconds, one file at a time, and how many a second
twenty at once make.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time

_ALONE = 200
_AT_ONCE = 20
_EACH = 50


def write(name: str) -> float:
    """Write one file and return what that took, in milliseconds."""
    path = os.path.join(sys.argv[1], name)
    began = time.perf_counter()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, b"x" * 4000)
    os.fsync(descriptor)
    os.close(descriptor)
    took = time.perf_counter() - began
    os.unlink(path)
    return took * 1000


def work(number: int) -> None:
    """Write some files one after the other."""
    for one in range(_EACH):
        write(f"{number}.{one}")


alone = statistics.median(write(f"alone.{number}") for number in range(_ALONE))
threads = [threading.Thread(target=work, args=(number,)) for number in range(_AT_ONCE)]
began = time.perf_counter()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
together = _AT_ONCE * _EACH / (time.perf_counter() - began)
json.dump({"ms": round(alone, 3), "twenty_per_second": round(together)}, sys.stdout)
