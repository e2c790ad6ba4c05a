"""Records of a JSON lines or CSV file, each with the line that it begins on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from service.domain.errors import InvalidFields

_CSV = (".csv", ".tsv")
_JSON_LINES = (".jsonl", ".ndjson")
# Spreadsheets of many countries separate by semicolons.
_DELIMITERS = (",", ";", "\t")

Record = tuple[int, Mapping[str, Any]]


def read_records(path: Path, content: bytes) -> Iterator[Record]:
    """Read the records of ``content``, in the format that the name of ``path`` says.

    An empty cell of a CSV file is None. Raises InvalidFields that names the file, the line and
    what is wrong, and repeats nothing of the content.
    """
    suffix = path.suffix.lower()
    if suffix not in (*_CSV, *_JSON_LINES):
        raise InvalidFields(f"{path.name}: a name in .jsonl, .ndjson, .csv or .tsv is needed.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidFields(f"{path.name}, line {line}: not UTF-8.") from None
    records = _csv_records if suffix in _CSV else _json_records
    yield from records(path.name, text)


def _json_records(name: str, text: str) -> Iterator[Record]:
    # Not splitlines(): JSON strings may hold its other line ends, such as U+2028.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidFields(
                f"{name}, line {number}, column {error.colno}: not JSON ({error.msg})."
            ) from None
        if not isinstance(record, dict):
            raise InvalidFields(f"{name}, line {number}: a JSON object is needed.")
        yield number, record


def _csv_records(name: str, text: str) -> Iterator[Record]:
    first = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    try:
        header = [cell.strip() for cell in next(reader, [])]
        _check_header(name, header)
        begins = reader.line_num + 1
        for row in reader:
            number, begins = begins, reader.line_num + 1
            if not row:
                continue
            if len(row) != len(header):
                raise InvalidFields(
                    f"{name}, line {number}: {len(row)} columns where the header has {len(header)}."
                )
            yield number, {key: cell or None for key, cell in zip(header, row, strict=True)}
    except csv.Error as error:
        raise InvalidFields(f"{name}, line {begins}: not CSV ({error}).") from None


def _check_header(name: str, header: list[str]) -> None:
    """The one line without which no other has a meaning."""
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise InvalidFields(f"{name}, line 1: the header has a column twice.")
    if "label" not in header:
        raise InvalidFields(f"{name}, line 1, label: the header has no such column.")
    if not {"text", "title", "description"} & set(header):
        raise InvalidFields(f"{name}, line 1, text: the header has neither text nor title.")
