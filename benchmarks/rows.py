"""Rows of the data sets: read, one for each text, and halved by a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_jsonl(path: Path) -> Iterator[Row]:
    """Records of a JSON lines file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def distinct(rows: Iterator[Row], split: str) -> list[Row]:
    """One row per text, ignoring case, of one split."""
    first: dict[str, Row] = {}
    for row in rows:
        if row["split"] == split:
            first.setdefault(row["text"].strip().lower(), row)
    return list(first.values())


def half_of(text: str) -> int:
    """0 for rows to draw from, 1 for rows to judge on."""
    return hashlib.sha256(f"dev1{text}".encode()).digest()[0] % 2
