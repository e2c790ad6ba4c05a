"""The tables of a report, and how they look in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.training.evaluation.groups import ALL
from service.training.evaluation.judged import FIGURES
from service.training.evaluation.result import Evaluation, FigureRow
from service.training.measures import Interval

NAMES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "calibration_error": "calibration error",
    "threshold": "threshold",
    "uncertain_rate": "uncertain",
}
UNDEFINED = "-"
# Percentile intervals of fewer successes are too narrow to be shown without a word.
FEWEST_INSIDE = 10


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as they are read: a caption, a header, rows of equal length."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def make_tables(evaluation: Evaluation) -> list[Table]:
    """All methods on all rows, then the method group by group, then its paired differences."""
    tables = [_methods(evaluation)]
    most = max(evaluation.shots, default=None)
    own = [row for row in evaluation.of(evaluation.method) if row.shots == most]
    at = f", {most} + {most} examples" if most else ""
    columns = dict.fromkeys(row.by for row in own if row.by != ALL)
    tables += [_groups(f"{evaluation.method} by {by}{at}", by, own) for by in columns]
    if evaluation.differences:
        tables.append(_differences(evaluation))
    return tables


def markdown(evaluation: Evaluation) -> str:
    """What the terminal shows."""
    parts = [f"# {evaluation.title}", summary(evaluation)]
    parts += [f"{table.caption}\n\n{_as_markdown(table)}" for table in make_tables(evaluation)]
    return "\n\n".join([*parts, *make_notes(evaluation)]) + "\n"


def make_notes(evaluation: Evaluation) -> list[str]:
    """What a reader must know of these figures, one sentence each."""
    most = max(evaluation.shots, default=None)
    few = [
        row.value
        for row in evaluation.of(evaluation.method)
        if row.shots == most and row.by != ALL and row.inside < FEWEST_INSIDE
    ]
    notes = list(evaluation.notes)
    if few:
        notes.append(
            f"Fewer than {FEWEST_INSIDE} rows are `in` for {', '.join(few)}: figures and intervals "
            "of so few say little, and an interval of no width is no certainty."
        )
    return notes


def summary(evaluation: Evaluation) -> str:
    """What was judged, in one line."""
    data = evaluation.data
    text = f"{data['rows']:,} rows judged, {data['rows_in']:,} of them `in`"
    weighted = evaluation.judged["weighted_to_prevalence"]
    if weighted is not None:
        text += f", weighted to a share of {weighted:g}"
    left = {name.replace("_", " "): count for name, count in data["left_out"].items() if count}
    if left:
        text += "; left out: " + ", ".join(f"{count:,} {name}" for name, count in left.items())
    return text + "."


def cell(interval: Interval) -> str:
    """A figure with its interval, as papers print them."""
    if math.isnan(interval.value):
        return UNDEFINED
    if math.isnan(interval.low):
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _methods(evaluation: Evaluation) -> Table:
    whole = [row for row in evaluation.figures if row.by == ALL]
    rows = tuple(
        (
            row.method,
            str(row.shots) if row.shots else UNDEFINED,
            row.over,
            *(cell(row.intervals[name]) for name in FIGURES),
        )
        for row in whole
    )
    header = ("method", "shots", "interval over", *(NAMES[name] for name in FIGURES))
    return Table("All rows, with 95 % intervals", header, rows)


def _groups(caption: str, by: str, own: Sequence[FigureRow]) -> Table:
    rows = tuple(
        (
            row.value,
            f"{row.rows:,}",
            f"{row.inside:,}",
            *(cell(row.intervals[name]) for name in FIGURES if name != "threshold"),
        )
        for row in own
        if row.by == by
    )
    names = tuple(NAMES[name] for name in FIGURES if name != "threshold")
    return Table(caption, (by, "rows", "in", *names), rows)


def _differences(evaluation: Evaluation) -> Table:
    rows = tuple(
        (
            found.baseline,
            str(found.shots),
            *(_signed(interval) for interval in found.intervals.values()),
        )
        for found in evaluation.differences
    )
    names = tuple(NAMES[name] for name in evaluation.differences[0].intervals)
    caption = f"{evaluation.method} minus each baseline, paired by draw"
    return Table(caption, ("baseline", "shots", *names), rows)


def _signed(interval: Interval) -> str:
    if math.isnan(interval.value):
        return UNDEFINED
    if math.isnan(interval.low):
        return f"{interval.value:+.3f}"
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _as_markdown(table: Table) -> str:
    def lines() -> Iterator[str]:
        yield "| " + " | ".join(table.header) + " |"
        yield "|" + "---|" * len(table.header)
        for row in table.rows:
            # A bar in a source's name would be another column, a line end another row.
            yield "| " + " | ".join(" ".join(c.replace("|", "\\|").split()) for c in row) + " |"

    return "\n".join(lines())
