"""Log lines as text or JSON; no line carries a text that was sent to be scored."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}

_Fields = Mapping[str, str]
_fields: ContextVar[_Fields] = ContextVar("log fields", default=MappingProxyType({}))


def tell(**fields: str) -> Token[_Fields]:
    """Add these fields to the log lines of this task, and of the threads it calls, from now on."""
    return _fields.set({**_fields.get(), **fields})


@contextmanager
def about(**fields: str) -> Iterator[None]:
    """Add these fields to the log lines of a block."""
    token = tell(**fields)
    try:
        yield
    finally:
        _fields.reset(token)


class ContextFields(logging.Filter):
    """Adds what :func:`tell` was told; what a line says itself stands."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every line through."""
        for name, value in _fields.get().items():
            record.__dict__.setdefault(name, value)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line; ``extra`` fields stand beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record; an exception becomes its type and traceback."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update({k: v for k, v in record.__dict__.items() if k not in _STANDARD})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def configure(log_format: Literal["text", "json"], level: str) -> None:
    """Send the ``service`` loggers to standard error in the chosen format."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
        formatter.default_time_format = "%Y-%m-%dT%H:%M:%S"
        handler.setFormatter(formatter)
    handler.addFilter(ContextFields())
    logger = logging.getLogger("service")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
