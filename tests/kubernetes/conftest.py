"""What takes minutes, and engines of its own, runs by `make kubernetes` alone."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("AUTHRELAY_KUBERNETES") else ["test_pods.py", "test_storage.py", "test_swarm.py"]
