"""``vocation erase``: examples, versions or a whole occupation, for good."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from service.domain.errors import RegistrationFinished
from service.registry.command_errors import ended_clearly, opened_registry
from service.settings import Settings

if TYPE_CHECKING:
    from service.jobs.registering import Registrar
    from service.registry.database import Database

_LATER = "Artifacts that nothing refers to any more go at the service's next start."


def erase(
    occupation: Annotated[str, typer.Argument(help="The occupation's id.")],
    example: Annotated[
        list[int] | None,
        typer.Option(help="The id of an example (GET .../examples, vocation export); repeatable."),
    ] = None,
    version: Annotated[
        list[int] | None,
        typer.Option(help="The number of a version that is not the champion; repeatable."),
    ] = None,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel the occupation's registrations that run.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase examples or versions, or without either the whole occupation, for good."""
    # SQLAlchemy: --help must not wait for it.
    from service.registry.erasing import finish_erasures  # noqa: PLC0415

    chosen = [f"example {id}" for id in example or ()] + [f"version {n}" for n in version or ()]
    what = f"{', '.join(chosen)} of {occupation}" if chosen else f"the whole of {occupation}"
    if not yes:
        typer.confirm(f"Erase {what} for good?", abort=True)
    settings = Settings()
    with ended_clearly(), opened_registry(settings) as database:
        with _registrar(database, settings) as registrar:
            if cancel and chosen:
                _cancel(database, registrar, occupation)
            if chosen:
                _erase_parts(database, occupation, example or [], version or [])
            else:
                registrar.delete(occupation)
        _sweep_jobs(database, settings)
        finished = finish_erasures(database)
    typer.echo(f"Erased {what}. {_LATER}")
    if not finished:
        typer.echo(
            "The database is busy: bytes of it may stay in its files until the running service, "
            "or the next `vocation erase`, has written them anew.",
            err=True,
        )


@contextmanager
def _registrar(database: Database, settings: Settings) -> Iterator[Registrar]:
    # SQLAlchemy and the queue: --help must not wait for them.
    from service.jobs.queue import RegistrationQueue  # noqa: PLC0415
    from service.jobs.registering import Registrar  # noqa: PLC0415

    queue = RegistrationQueue(database.engine, settings.training_timeout_seconds)
    try:
        yield Registrar(database, queue)
    finally:
        queue.close()


def _cancel(database: Database, registrar: Registrar, occupation: str) -> None:
    from service.registry import registrations  # noqa: PLC0415  # SQLAlchemy

    with database.read() as connection:
        active = registrations.active_ids(connection, occupation)
    for id in active:
        # One that has ended meanwhile needs no end.
        with suppress(RegistrationFinished):
            registrar.cancel(id)


def _erase_parts(
    database: Database, occupation: str, examples: list[int], numbers: list[int]
) -> None:
    from service.registry import erasing  # noqa: PLC0415  # SQLAlchemy: --help must not wait

    with database.write() as connection:
        for number in numbers:
            erasing.erase_version(connection, occupation, number)
        marked = erasing.erase_examples(connection, occupation, examples) if examples else []
    if marked:
        told = ", ".join(str(number) for number in marked)
        typer.echo(f"Trained on what was erased, and marked: version {told}.")


def _sweep_jobs(database: Database, settings: Settings) -> None:
    """Remove texts that a killed service left for a child process."""
    from service.registry import registrations  # noqa: PLC0415  # SQLAlchemy

    # Listed before the registry is read: a folder is made by a registration that is active.
    folders = list((settings.home.resolve() / "jobs").glob("*"))
    with database.read() as connection:
        active = set(registrations.active_ids(connection))
    for folder in folders:
        if folder.name not in active:
            shutil.rmtree(folder, ignore_errors=True)
