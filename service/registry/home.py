"""The names of what stands in a home beside the artifacts, and who holds its lock."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Held by the Trainer that works on a home, for as long as it runs.
LOCK_FILE = "trainer.lock"


@contextmanager
def held(home: Path) -> Iterator[bool]:
    """Hold a home's lock for a block; False where a service (or another command) has it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOCK_FILE).open("a") as lock:
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
