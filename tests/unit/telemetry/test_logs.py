from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable

import pytest

from service.telemetry.logs import ContextFields, JsonFormatter, about
from service.telemetry.progress import Progress


def _format(level: int = logging.INFO, **extra: object) -> dict[str, object]:
    record = logging.makeLogRecord(
        {"name": "service.x", "levelno": level, "levelname": "INFO", "msg": "café %s", **extra}
    )
    record.args = ("noir",)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    parsed: dict[str, object] = json.loads(line)
    return parsed


def test_a_line_is_one_json_object_with_its_extra_fields() -> None:
    entry = _format(request_id="r-1", seconds=0.5)
    assert (entry["message"], entry["level"]) == ("café noir", "info")
    assert (entry["request_id"], entry["seconds"]) == ("r-1", 0.5)
    assert str(entry["time"]).endswith("+00:00")


def test_an_exception_is_a_field_of_its_line() -> None:
    error = KeyError("x")
    entry = _format(exc_info=(KeyError, error, error.__traceback__))
    assert "KeyError: 'x'" in str(entry["exception"])


def test_a_value_that_json_does_not_know_is_written_as_text() -> None:
    assert _format(where=ValueError("here"))["where"] == "here"


def _lines_of(work: Callable[[], None]) -> list[str]:
    """The log lines that some work leaves."""
    lines: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.getLogger("service.telemetry.progress")
    handler, level = Collect(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        work()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return lines


def _fail_after_one(total: int) -> None:
    def fail() -> None:
        with Progress("embedding", total=total) as progress:
            progress.advance(1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()


def test_progress_in_a_log_is_a_few_plain_lines_and_not_one_for_each_item() -> None:
    def embed() -> None:
        with Progress("embedding", total=100) as progress:
            for _ in range(100):
                progress.advance(1)

    lines = _lines_of(embed)
    assert 2 <= len(lines) <= 6
    assert lines[-1] == "embedding: 100/100 done"


@pytest.mark.parametrize("total", [0, 3])
def test_work_that_fails_is_not_announced_as_done(total: int) -> None:
    lines = _lines_of(lambda: _fail_after_one(total))
    assert not any("done" in line for line in lines)


def _told(**fields: str) -> list[dict[str, object]]:
    """What a line says before, inside of and after a block about these fields, as JSON."""
    logger = logging.getLogger("service.told")
    lines: list[dict[str, object]] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonFormatter().format(record)))

    handler = Collect()
    handler.addFilter(ContextFields())
    logger.addHandler(handler)
    try:
        logger.warning("before")
        with about(**fields):
            logger.warning("inside", extra={"registration": "its own"})
            asyncio.run(asyncio.to_thread(logger.warning, "in a thread"))
        logger.warning("after")
    finally:
        logger.removeHandler(handler)
    return lines


def test_lines_carry_what_their_task_is_about_in_its_threads_too_and_only_there() -> None:
    before, inside, thread, after = _told(registration="r-1", request_id="q-1")
    assert (inside["registration"], inside["request_id"]) == ("its own", "q-1")
    assert (thread["registration"], thread["request_id"]) == ("r-1", "q-1")
    assert not {"registration", "request_id"} & (before.keys() | after.keys())
