"""One yes/no question over texts, and how rows are told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.rows import Row

Positive = Callable[[Row], bool]


@dataclass(frozen=True, slots=True)
class Task:
    """One yes/no question: rows to draw examples from, rows to judge on, and which are positive.

    ``group`` names the line of the table the task is averaged into.
    """

    group: str
    name: str
    pool_texts: tuple[str, ...]
    pool_is_positive: tuple[bool, ...]
    judged_texts: tuple[str, ...]
    judged_is_positive: tuple[bool, ...]


def make_task(
    group: str,
    name: str,
    pool: Iterable[Row],
    judged: Iterable[Row],
    positive: Positive,
) -> Task:
    """Make a task of rows, told apart by ``positive``."""
    pool_rows, judged_rows = list(pool), list(judged)
    return Task(
        group,
        name,
        tuple(row["text"] for row in pool_rows),
        tuple(positive(row) for row in pool_rows),
        tuple(row["text"] for row in judged_rows),
        tuple(positive(row) for row in judged_rows),
    )


def equal(field: str, value: str) -> Positive:
    """Ask of a row whether a field has a value."""
    return lambda row: bool(row[field] == value)


def starting(field: str, beginning: str) -> Positive:
    """Ask of a row whether a field starts with some characters."""
    return lambda row: str(row[field]).startswith(beginning)


def fraction(key: str) -> float:
    """Map a key to [0, 1) by a fixed hash: a split that no library version can move."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32
