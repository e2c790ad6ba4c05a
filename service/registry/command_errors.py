"""How a command that works on the registry opens it, and how it ends where it cannot go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from service.domain.errors import (
    BackupDamaged,
    BackupFailed,
    RegistryNotFound,
    RestoreFailed,
    StorageUnavailable,
    VocationError,
)

if TYPE_CHECKING:
    from service.registry.database import Database
    from service.settings import Settings

# Something that was right to ask for did not work; any other error is a mistake of the caller.
_FAILURES = (BackupDamaged, BackupFailed, RestoreFailed, StorageUnavailable)


@contextmanager
def ended_clearly() -> Iterator[None]:
    """Turn an error into one line and an exit status: 1 where it failed, 2 where it was refused."""
    try:
        yield
    except VocationError as error:
        typer.echo(f"vocation: {error.title}: {error.detail}", err=True)
        raise typer.Exit(1 if isinstance(error, _FAILURES) else 2) from None


@contextmanager
def opened_registry(settings: Settings) -> Iterator[Database]:
    """The registry of a home that has one; raises RegistryNotFound where a command would make it."""
    # SQLAlchemy: --help must not wait for it.
    from service.registry.database import Database, sqlite_file  # noqa: PLC0415

    file = sqlite_file(settings.resolved_database_url)
    if file is not None and not file.is_file():
        raise RegistryNotFound(f"{file} does not exist: set VOCATION_HOME.")
    database = Database(settings.resolved_database_url)
    try:
        database.create_schema()
        yield database
    finally:
        database.close()
