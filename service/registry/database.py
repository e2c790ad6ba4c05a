"""The registry's database: engine, schema, and the two kinds of transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, OperationalError

from service.domain.errors import StorageUnavailable
from service.registry import migrations

BUSY_TIMEOUT_MILLISECONDS = 15_000
_WAL_RETRY_SECONDS = 0.01
# Of an extended result code (sqlite.org/rescode.html, section 2).
_PRIMARY_CODE = 0xFF
# Whoever scrubs comes again: nobody waits for it as long as for a write.
_SCRUB_TIMEOUT_SECONDS = 2.0


def utc_now() -> str:
    """The time as the registry stores it: RFC 3339, UTC, microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(value: str) -> datetime:
    """The reverse of :func:`utc_now`."""
    return datetime.fromisoformat(value)


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite registry, None for another database."""
    return _file_of(sa.make_url(url))


class Database:
    """One engine with explicit read and write transactions."""

    def __init__(self, url: str) -> None:
        self.engine = _create_engine(url)

    @property
    def file(self) -> Path | None:
        """The file of a SQLite registry, None for another database."""
        return _file_of(self.engine.url)

    def create_schema(self) -> None:
        """Create the tables, or migrate those of an older release.

        Safe when several processes start at once. Raises RegistryTooNew.
        """
        with self.read() as connection:
            # A later start takes no write lock: it would wait for the Trainer's.
            if migrations.up_to_date(connection):
                return
        with self.write() as connection:
            migrations.bring_up_to_date(connection)

    def scrub(self) -> bool:
        """Leave nothing of deleted rows in a SQLite registry's files; False when others are busy.

        ``secure_delete`` alone is not enough: cells that SQLite moved within its pages leave
        copies, which only writing the file anew removes. Another database has its own ways.
        """
        if self.file is None:
            return True
        try:
            with closing(sqlite3.connect(self.file, _SCRUB_TIMEOUT_SECONDS)) as connection:
                connection.isolation_level = None
                connection.execute("VACUUM")
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.OperationalError:
            return False
        return not busy

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction."""
        with _storage_errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction, committed when the block ends without an error.

        On SQLite the write lock is taken at once, so that what the block reads cannot change
        before it writes. Raises StorageUnavailable on a full, read-only or locked disk.
        """
        with _storage_errors(), self.engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                _take_write_lock(connection)
            yield connection
            connection.commit()

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _file_of(url: sa.URL) -> Path | None:
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _take_write_lock(connection: Connection) -> None:
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError as error:
        if not error.connection_invalidated:
            raise
        # It was opened while the disk was read-only; the next one may not be.
        connection.rollback()
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        # A damaged file is a plain DatabaseError; its other kinds are mistakes of ours.
        if not isinstance(error, OperationalError) and type(error) is not DatabaseError:
            raise
        # Only the driver's own message: the statement's parameters hold callers' texts.
        raise StorageUnavailable(f"The registry's database answered: {error.orig}") from None


def _create_engine(url: str) -> Engine:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_pre_ping=True, hide_parameters=True)
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(parsed, hide_parameters=True)
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "handle_error", _drop_read_only)
    return engine


def _drop_read_only(context: sa.ExceptionContext) -> None:
    # A connection that SQLite opened while the disk was read-only stays so when the disk no longer
    # is, and so does the shared memory of a process, until its last connection is closed.
    code = getattr(context.original_exception, "sqlite_errorcode", 0)
    if code & _PRIMARY_CODE == sqlite3.SQLITE_READONLY:
        context.is_disconnect = True
        if context.execution_context is not None:
            # Else SQLite keeps what the pool has closed until its last cursor is collected.
            context.execution_context.cursor.close()
        if context.engine is not None:
            context.engine.dispose()


def _use_write_ahead_log(connection: Any) -> None:
    # SQLite answers "locked" at once, without its busy timeout, while another process makes the
    # same change to a new file (sqlite.org/wal.html, "Sometimes queries return SQLITE_BUSY").
    deadline = time.monotonic() + BUSY_TIMEOUT_MILLISECONDS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_WAL_RETRY_SECONDS)
        else:
            return


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # IMMEDIATE: a transaction that begins with a read must not fail when it comes to write.
    connection.isolation_level = "IMMEDIATE"
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MILLISECONDS}")
    _use_write_ahead_log(connection)
    # An accepted registration survives a power cut, not only a killed process.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    # What was deleted or corrected does not stay in the file's unused parts.
    connection.execute("PRAGMA secure_delete=ON")
