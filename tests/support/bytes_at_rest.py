"""What is written on the disk, byte by byte, whatever wrote it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def files_with(marker: bytes, *places: Path) -> list[Path]:
    """Every file at or below ``places`` that holds a text."""
    return [path for path, content in contents(*places).items() if marker in content]


def contents(*places: Path) -> dict[Path, bytes]:
    """What every file at or below ``places`` holds."""
    found = {}
    for path in (path for place in places for path in _at_or_below(place)):
        # A file may be taken away while it is looked for.
        with suppress(OSError):
            if path.is_file():
                found[path] = path.read_bytes()
    return found


def _at_or_below(place: Path) -> list[Path]:
    while True:
        # So may a folder; what is in the others is looked for again.
        with suppress(FileNotFoundError):
            return [place, *place.rglob("*")]
