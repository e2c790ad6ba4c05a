"""Commands on a home, and what a home has on the disk, for the tests of backups."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from service.cli import app


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def rows(home: Path) -> dict[str, list[Any]]:
    """Every row of a registry, by table."""
    with closing(sqlite3.connect(home / "registry.sqlite")) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        tables = [row[0] for row in connection.execute(query)]
        reads = {table: f'SELECT * FROM "{table}"' for table in tables}  # noqa: S608  # SQLite's own names
        return {table: connection.execute(read).fetchall() for table, read in reads.items()}


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def flip(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)


@contextmanager
def full_disk(bytes: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: its writes really fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
