"""Labelled experiences: what a researcher brings to judge a version, or a method, by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import InvalidFields
from service.domain.types import Example, Experience, Label
from service.training.evaluation.records import read_records

# Tables with empty cells write whole numbers as 1.0.
_INSIDE = {"in": True, "1": True, "1.0": True, "out": False, "0": False, "0.0": False}
# `lang` is what many data sets call the language.
_LANGUAGES = ("language", "lang")


class Field(StrEnum):
    """What of an experience is judged; ``text`` is all of it."""

    TEXT = "text"
    TITLE = "title"
    DESCRIPTION = "description"


@dataclass(frozen=True, slots=True)
class Condition:
    """Only rows whose column holds this value are taken."""

    column: str
    value: str

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether a record meets it; numbers and truth values compare as JSON writes them."""
        found = record.get(self.column)
        if isinstance(found, bool):
            return self.value == str(found).lower()
        return found is not None and self.value == str(found)

    def __str__(self) -> str:
        return f"{self.column}={self.value}"


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One experience as it is judged, its label, and the groups that it is counted in."""

    line: int
    experience: Experience
    inside: bool
    language: str | None
    source: str | None
    split: str | None

    @property
    def example(self) -> Example:
        """The row as an example."""
        return Example(self.experience, Label.IN if self.inside else Label.OUT)


@dataclass(frozen=True, slots=True)
class Labelled:
    """The rows of one file, those left out by conditions counted in ``filtered``."""

    name: str
    file_digest: str
    field: Field
    only: tuple[Condition, ...]
    rows: tuple[LabelledRow, ...]
    filtered: int

    @property
    def inside(self) -> NDArray[np.bool_]:
        """The labels, bool[n]."""
        return np.array([row.inside for row in self.rows], dtype=np.bool_)

    @property
    def units(self) -> NDArray[np.intp]:
        """Numbers intp[n] from 0, equal for rows of one text."""
        digests = [row.experience.digest for row in self.rows]
        return np.unique(digests, return_inverse=True)[1].reshape(-1)


def read_labelled(path: Path, field: Field, only: Sequence[Condition] = ()) -> Labelled:
    """Read labelled experiences from JSON lines or CSV.

    Raises InvalidFields that names the file, the line and the field.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidFields(f"{path.name}: {error.strerror}.") from None
    rows = []
    filtered = 0
    for line, record in read_records(path, content):
        if all(condition.holds(record) for condition in only):
            rows.append(_row(f"{path.name}, line {line}", line, record, field))
        else:
            filtered += 1
    if not rows:
        left = f" ({filtered} are left out by conditions)" if filtered else ""
        raise InvalidFields(f"{path.name}: no labelled experience{left}.")
    digest = hashlib.sha256(content).hexdigest()
    return Labelled(path.name, digest, field, tuple(only), tuple(rows), filtered)


def outside(rows: Sequence[LabelledRow], background: frozenset[str]) -> tuple[LabelledRow, ...]:
    """Rows whose text is not in the background, case folded.

    Every version has met those as everybody else's, and so they judge none.
    """
    return tuple(row for row in rows if row.experience.rendered.casefold() not in background)


def check_both_labels(rows: Sequence[LabelledRow], what: str) -> None:
    """Raise InvalidFields unless there are rows of both labels."""
    found = {row.inside for row in rows}
    if len(found) < 2:
        only = f"all {len(rows)} are `{'in' if True in found else 'out'}`" if found else "none"
        raise InvalidFields(f"{what}, label: rows of both labels are needed ({only}).")


def _row(where: str, line: int, record: Mapping[str, Any], field: Field) -> LabelledRow:
    experience = _experience(where, record, field)
    if not experience.rendered:
        raise InvalidFields(f"{where}, {field.value}: there is nothing to judge.")
    language = next((name for name in _LANGUAGES if record.get(name) is not None), _LANGUAGES[0])
    return LabelledRow(
        line=line,
        experience=experience,
        inside=_label(where, record),
        language=_word(where, record, language),
        source=_word(where, record, "source"),
        split=_word(where, record, "split"),
    )


def _experience(where: str, record: Mapping[str, Any], field: Field) -> Experience:
    """The part of the record that is judged: a whole ``text`` goes before its parts."""
    if field is not Field.TEXT:
        return Experience(text=_word(where, record, field.value) or "")
    text = _word(where, record, "text")
    if text is not None:
        return Experience(text=text)
    title = _word(where, record, "title")
    if title is None:
        raise InvalidFields(f"{where}, text: a text or a title is needed.")
    return Experience(title, _word(where, record, "company"), _word(where, record, "description"))


def _word(where: str, record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidFields(f"{where}, {name}: a string is needed, not {_kind(value)}.")
    # JSON can spell halves of a character, which no UTF-8 holds.
    if value is not None and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InvalidFields(f"{where}, {name}: half of a surrogate pair is no character.")
    # An empty cell of CSV and an empty string of JSON say the same.
    return value if value and value.strip() else None


def _label(where: str, record: Mapping[str, Any]) -> bool:
    if record.get("label") is None:
        raise InvalidFields(f"{where}, label: missing.")
    value = record["label"]
    # A truth value is a number to Python: 1 == True.
    if isinstance(value, int | float) and value in (0, 1):
        return value == 1
    if isinstance(value, str) and value.strip().lower() in _INSIDE:
        return _INSIDE[value.strip().lower()]
    raise InvalidFields(f"{where}, label: in, out, 1 or 0 is needed.")


def _kind(value: object) -> str:
    if isinstance(value, float) and np.isnan(value):
        return "NaN"
    return {bool: "a truth value", int: "a number", float: "a number", list: "a list"}.get(
        type(value), "an object"
    )
