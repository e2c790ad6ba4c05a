"""``vocation``: thin commands over the same functions that the service uses."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.api.exposure import is_loopback
from service.domain.errors import VocationError
from service.jobs.erase_command import erase
from service.registry import keys_command
from service.registry.backup_command import backup, restore
from service.registry.export_command import export
from service.registry.home import require_writable
from service.registry.schema_version import require_known_schema
from service.settings import PROJECT_ROOT, Settings
from service.training.adapt.command import adapt
from service.training.encoder_source import resolve_encoder
from service.training.evaluation.command import EvaluateCommand, evaluate

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


app.command()(adapt)
app.command(cls=EvaluateCommand)(evaluate)
app.command()(backup)
app.command()(restore)
app.command()(export)
app.command()(erase)
app.add_typer(keys_command.app, name="keys")


@app.callback()
def main() -> None:
    """Few-shot occupation classifiers for work experiences."""


@app.command()
def serve(
    host: Annotated[str, typer.Option(envvar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="PORT", help="Port to listen on.")] = 3000,
) -> None:
    """Start the service: API processes and the Trainer, supervised."""
    settings = Settings()
    try:
        if settings.device == "cuda":
            # Imported only to be asked: a start does not wait for what it does not need.
            from service.inference.device import precision_for

            precision_for(settings.device)
        resolve_encoder(settings.encoder)
        require_known_schema(settings.resolved_database_url)
        require_writable(settings.home.resolve())
        if not settings.open and not is_loopback(host):
            keys_command.require_a_key(settings)
    except VocationError as error:
        typer.echo(f"vocation: {error.title}: {error.detail}", err=True)
        raise typer.Exit(2) from None
    environment = {"BENTOML_DO_NOT_TRACK": "True", **os.environ}
    # Processes that BentoML starts may have another working directory.
    environment["VOCATION_HOME"] = str(settings.home.resolve())
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", "service.bento:Api"]
    arguments = ["--host", host, "--port", str(port), "--working-dir", str(PROJECT_ROOT)]
    os.execve(command[0], [*command, *arguments], environment)


if __name__ == "__main__":
    app()
