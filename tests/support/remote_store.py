"""A remote artifact store in memory, and a cache that nothing can be fetched into."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def new_remote_url() -> str:
    """Where nobody else's artifacts are."""
    return f"memory://{uuid.uuid4().hex}"


@contextmanager
def nothing_is_fetched(cache: Path) -> Iterator[None]:
    """Until the end nothing gets into the cache, and nothing is in it: a file is in its place."""
    aside = cache.with_name(f"{cache.name} aside")
    if cache.exists():
        cache.rename(aside)
    cache.write_bytes(b"")
    try:
        yield
    finally:
        cache.unlink()
        if aside.exists():
            aside.rename(cache)
