"""``vocation export``: everything the registry holds about one occupation, for its subjects."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from service.domain.errors import FileExists, StorageUnavailable
from service.registry.command_errors import ended_clearly, opened_registry
from service.settings import Settings


def export(
    occupation: Annotated[str, typer.Argument(help="The occupation's id.")],
    output: Annotated[
        Path | None, typer.Option(help="A new file, for its owner alone; standard output if none.")
    ] = None,
) -> None:
    """Export an occupation as JSON: its record, every example, its versions' manifests."""
    from service.registry.exporting import export_occupation  # noqa: PLC0415  # SQLAlchemy

    with ended_clearly(), opened_registry(Settings()) as database:
        with database.read() as connection:
            document = export_occupation(connection, occupation)
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        if output is None:
            typer.echo(text, nl=False)
            return
        _write_new(output, text)
    examples, versions = len(document["examples"]), len(document["versions"])
    typer.echo(f"{output}: {examples} examples, {versions} versions.")


def _write_new(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise FileExists(f"{path} exists: choose another name.") from None
    except OSError as error:
        raise StorageUnavailable(f"{path}: {error.strerror}.") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StorageUnavailable(f"{path}: {error.strerror}.") from None
