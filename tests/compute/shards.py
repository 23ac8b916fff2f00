"""Functions of a shard that need no library, so that a new process has them at once."""

from __future__ import annotations

import os
import signal
from typing import Any


def process_id(shard: Any) -> int:
    return os.getpid()


def private_failure(shard: Any) -> None:
    raise ValueError("Ms. Smith has a fever")


def obeys(shard: Any) -> bool:
    return signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
