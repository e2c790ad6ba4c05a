"""The names of what stands in a home beside the artifacts, who holds its lock, if it is writable."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.domain.errors import StorageUnavailable

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


def require_writable(home: Path) -> None:
    """Raise StorageUnavailable, with the system's words, for a home where no file can be made.

    It is tried: permissions alone say nothing about a disk that is mounted read-only.
    """
    probe = home / f".writable-{os.getpid()}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StorageUnavailable(
            f"{home}: {error.strerror}. A start needs a home that it can write to."
        ) from None
