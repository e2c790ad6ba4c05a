"""What is written on the disk, byte by byte, whatever wrote it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def files_with(marker: bytes, *places: Path) -> list[Path]:
    """Every file at or below ``places`` that holds a text."""
    paths = [path for place in places for path in (place, *place.rglob("*"))]
    return [path for path in paths if _holds(path, marker)]


def _holds(path: Path, marker: bytes) -> bool:
    # A file may be taken away while it is looked for.
    with suppress(OSError):
        return path.is_file() and marker in path.read_bytes()
    return False
