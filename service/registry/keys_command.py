"""The ``vocation keys`` commands: create, list and revoke, before or while the service runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from service.domain.errors import NoKeyConfigured, VocationError
from service.domain.keys import Key, KeyScope, is_key_name, make_key
from service.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

app = typer.Typer(help="Keys of callers: create, list, revoke.", no_args_is_help=True)

_COLUMNS = ("id", "name", "scopes", "created", "expires", "revoked", "requests/min")


def _name(value: str) -> str:
    if not is_key_name(value):
        raise typer.BadParameter("1 to 64 letters, digits, dots, dashes and underscores")
    return value


@app.command()
def create(
    name: Annotated[
        str, typer.Option(callback=_name, help="Shown in metrics and logs; given once.")
    ],
    scope: Annotated[
        list[KeyScope],
        typer.Option(help="Repeatable. register holds classify, admin holds both."),
    ],
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Never when left out.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, max=1_000_000_000, help="Unlimited when left out.")
    ] = None,
) -> None:
    """Create a key; the last line printed is the key, which cannot be shown again."""
    from service.registry import keys  # noqa: PLC0415  # SQLAlchemy: --help must not wait for it

    expires_at = datetime.now(UTC) + timedelta(days=expires_in_days) if expires_in_days else None
    new = make_key()
    with _registry() as connection:
        keys.insert_key(
            connection,
            new,
            name=name,
            scopes=scope,
            expires_at=expires_at,
            requests_per_minute=requests_per_minute,
        )
    scopes = ", ".join(sorted(set(scope)))
    typer.echo(f"Created {name} ({new.id}): {scopes}; expires {_when(expires_at)}.")
    typer.echo("Running services take it within a second. Keep it now: it is stored nowhere.")
    typer.echo(new.text)


@app.command("list")
def list_all() -> None:
    """List every key, revoked ones too; secrets are not known."""
    from service.registry import keys  # noqa: PLC0415  # SQLAlchemy: --help must not wait for it

    with _registry() as connection:
        known = keys.list_keys(connection)
    rows = [_COLUMNS, *(_row(key) for key in known)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


@app.command()
def revoke(
    name_or_id: Annotated[
        str, typer.Argument(help="The key's name, or the 8 characters after voc_.")
    ],
) -> None:
    """Revoke a key for ever, in every running service within a second."""
    from service.registry import keys  # noqa: PLC0415  # SQLAlchemy: --help must not wait for it

    with _registry() as connection:
        revoked = keys.revoke_key(connection, name_or_id)
    typer.echo(f"Revoked {revoked.name} ({revoked.id}) at {_when(revoked.revoked_at)}.")


def require_a_key(settings: Settings) -> None:
    """Raise NoKeyConfigured unless the registry has ever known a key."""
    from service.registry import keys  # noqa: PLC0415  # SQLAlchemy: most starts do not ask
    from service.registry.database import Database  # noqa: PLC0415

    database = Database(settings.resolved_database_url)
    try:
        database.create_schema()
        with database.read() as connection:
            if keys.any_key(connection):
                return
    finally:
        database.close()
    raise NoKeyConfigured(
        "This address can be reached from elsewhere, and everybody could classify, register and "
        "delete. Create a key first (vocation keys create --name NAME --scope admin), listen on "
        "127.0.0.1, or set VOCATION_OPEN=true if that is what you want."
    )


@contextmanager
def _registry() -> Iterator[Connection]:
    """A write transaction on the registry, whose tables are made where they are missing."""
    from service.registry.database import Database  # noqa: PLC0415

    database = Database(Settings().resolved_database_url)
    try:
        database.create_schema()
        with database.write() as connection:
            yield connection
    except VocationError as error:
        typer.echo(f"vocation: {error.title}: {error.detail}", err=True)
        raise typer.Exit(2) from None
    finally:
        database.close()


def _row(key: Key) -> tuple[str, ...]:
    limit = "-" if key.requests_per_minute is None else str(key.requests_per_minute)
    revoked = "-" if key.revoked_at is None else _when(key.revoked_at)
    scopes = ",".join(sorted(key.scopes))
    times = (_when(key.created_at), _when(key.expires_at), revoked)
    return (key.id, key.name, scopes, *times, limit)


def _when(time: datetime | None) -> str:
    return "never" if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}"
