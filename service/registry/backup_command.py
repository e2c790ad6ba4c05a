"""``vocation backup`` and ``vocation restore``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.registry.command_errors import ended_clearly
from service.settings import Settings

if TYPE_CHECKING:
    from service.registry.artifacts import ArtifactStore
    from service.registry.backup_manifest import BackupManifest


def backup(
    target: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
) -> None:
    """Back up the registry and its artifacts, while the service runs or not."""
    from service.registry.backup import back_up  # noqa: PLC0415  # SQLAlchemy: for --help

    settings = Settings()
    _show_progress()
    with ended_clearly():
        artifacts, file = _home(settings)
        manifest = back_up(file, artifacts, target.absolute())
    typer.echo(f"{target}: {_contents(manifest)}.")
    typer.echo("It holds the examples' texts, and digests of keys: keep it as you keep the home.")


def restore(
    source: Annotated[Path, typer.Argument(help="The folder that `vocation backup` made.")],
    revoke_keys: Annotated[
        bool, typer.Option("--revoke-keys", help="Revoke every key of the backup.")
    ] = False,
) -> None:
    """Restore a backup into an empty home (VOCATION_HOME), after verifying every digest."""
    from service.registry import restore as restoring  # noqa: PLC0415  # SQLAlchemy: for --help

    settings = Settings()
    home = settings.home.resolve()
    _show_progress()
    with ended_clearly():
        artifacts, file = _home(settings)
        manifest = restoring.restore(
            source.absolute(), home, file, artifacts, revoke_keys=revoke_keys
        )
    typer.echo(f"{home}: {_contents(manifest)}, as of {manifest.created_at}.")
    typer.echo("Examples that were erased since are back: erase them again.")
    if revoke_keys:
        typer.echo("Every key is revoked: create new ones (vocation keys create).")
    elif manifest.counts.get("keys"):
        typer.echo(
            "Keys that were revoked since are valid again, and keys made since are unknown: "
            "compare `vocation keys list` with what you know, and revoke what must not be valid."
        )


def _home(settings: Settings) -> tuple[ArtifactStore, Path | None]:
    from service.registry.artifacts import ArtifactStore  # noqa: PLC0415  # fsspec: for --help
    from service.registry.database import sqlite_file  # noqa: PLC0415

    artifacts = ArtifactStore(settings.resolved_artifact_url, settings.home.resolve() / "cache")
    return artifacts, sqlite_file(settings.resolved_database_url)


def _contents(manifest: BackupManifest) -> str:
    counts = manifest.counts
    size = (manifest.database_bytes + manifest.artifact_bytes) / 1e6
    return (
        f"{counts['occupations']} occupations, {counts['examples']} examples, "
        f"{counts['versions']} versions, {len(manifest.artifacts)} artifacts, {size:.1f} MB, "
        f"schema version {manifest.schema_version}"
    )


def _show_progress() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("service").setLevel(logging.INFO)
