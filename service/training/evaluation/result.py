"""What an evaluation found, as data; no text of an experience is in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from service.training.measures import Interval

FORMAT = 1
_DIGITS = 6

Over = Literal["rows", "draws"]


@dataclass(frozen=True, slots=True)
class FigureRow:
    """The figures of one method in one group.

    ``shots`` are the examples of each label, None for a fixed version and for what is not drawn.
    ``over`` says what the intervals are over. ``draws`` holds each draw's own figures. ``rows``
    and ``inside`` count the judged rows, of the first draw where a group differs by draw.
    """

    method: str
    shots: int | None
    by: str
    value: str
    rows: int
    inside: int
    over: Over
    intervals: Mapping[str, Interval]
    draws: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """How much higher the method is than a baseline, paired by draw, all rows."""

    baseline: str
    shots: int
    intervals: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class PrecisionCurve:
    """Mean precision over draws where a method's ranking reaches each recall."""

    method: str
    shots: int | None
    recall: tuple[float, ...]
    precision: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """One bin of the reliability diagram; shares are None where the bin is empty."""

    weight: float
    predicted: float | None
    observed: float | None


@dataclass(frozen=True, slots=True)
class Curves:
    """What the plots show, of the method at its most shots and of the baselines beside it."""

    precision: tuple[PrecisionCurve, ...]
    calibration: tuple[CalibrationBin, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that a report says; ``method`` names the rows that are judged, the others compare."""

    title: str
    mode: Literal["version", "draws"]
    method: str
    command: str
    data: Mapping[str, Any]
    judged: Mapping[str, Any]
    seed: int
    redraws: int
    libraries: Mapping[str, str]
    figures: tuple[FigureRow, ...]
    differences: tuple[Difference, ...]
    curves: Curves
    notes: tuple[str, ...]

    def of(self, method: str) -> list[FigureRow]:
        """The rows of one method."""
        return [row for row in self.figures if row.method == method]

    @property
    def shots(self) -> list[int]:
        """The numbers of examples that were drawn, ascending."""
        return sorted({row.shots for row in self.of(self.method) if row.shots is not None})

    def to_json(self) -> dict[str, Any]:
        """The content of ``evaluation.json``: what is not defined is null."""
        content: dict[str, Any] = plain({"format": FORMAT, **asdict(self)})
        return content


def plain(value: Any) -> Any:
    """Rounded numbers, null for what is not a number, lists and objects only."""
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, _DIGITS)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
