"""Answers beside the labels, turned into the rows, differences and curves of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.training.evaluation.groups import DECIDED, LABEL, Group, find_groups
from service.training.evaluation.judged import (
    FIGURES,
    Answer,
    Judged,
    figures,
    over_draws,
    over_rows,
)
from service.training.evaluation.labelled import LabelledRow
from service.training.evaluation.result import (
    CalibrationBin,
    Difference,
    FigureRow,
    PrecisionCurve,
)
from service.training.measures import calibration_curve, precision_by_recall

_RECALLS = np.linspace(0.01, 1.0, 100)
COMPARED = ("average_precision", "f1")


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """The judged rows, as every method meets them."""

    rows: tuple[LabelledRow, ...]
    inside: NDArray[np.bool_]
    units: NDArray[np.intp]
    groups: tuple[Group, ...]
    prevalence: float | None
    seed: int

    def judged(self, answer: Answer) -> Judged:
        """An answer beside the labels."""
        return Judged(answer, self.inside, self.units, self.prevalence)

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weights float64[n] of the rows, of which there are both labels."""
        share = float(self.inside.mean())
        wanted = share if self.prevalence is None else self.prevalence
        return np.where(self.inside, wanted / share, (1.0 - wanted) / (1.0 - share))

    @property
    def texts(self) -> list[str]:
        """The texts that are judged."""
        return [row.experience.rendered for row in self.rows]


def number_rows(rows: Sequence[LabelledRow], prevalence: float | None, seed: int) -> JudgedRows:
    """Number the texts and find the groups."""
    digests = [row.experience.digest for row in rows]
    return JudgedRows(
        rows=tuple(rows),
        inside=np.array([row.inside for row in rows], dtype=np.bool_),
        units=np.unique(digests, return_inverse=True)[1].reshape(-1),
        groups=tuple(find_groups(rows)),
        prevalence=prevalence,
        seed=seed,
    )


def fixed_rows(judging: JudgedRows, method: str, answer: Answer) -> list[FigureRow]:
    """A method that does not vary, group by group, with intervals over rows."""
    found = []
    judged = judging.judged(answer)
    for group in _groups(judging, [answer]):
        part = judged.of(group.rows)
        found.append(
            FigureRow(
                method=method,
                shots=None,
                by=group.by,
                value=group.value,
                rows=len(part.inside),
                inside=int(part.inside.sum()),
                over="rows",
                intervals=over_rows(part, judging.seed),
            )
        )
    return found


def drawn_rows(
    judging: JudgedRows, method: str, shots: int, answers: Sequence[Answer]
) -> list[FigureRow]:
    """A method's draws, group by group, with intervals over draws."""
    found = []
    for group in _groups(judging, answers):
        parts = [
            judging.judged(answer).of(_rows_of(group, answer))
            for answer in answers
            if _rows_of(group, answer).any()
        ]
        draws = tuple(figures(part) for part in parts)
        found.append(
            FigureRow(
                method=method,
                shots=shots,
                by=group.by,
                value=group.value,
                rows=len(parts[0].inside),
                inside=int(parts[0].inside.sum()),
                over="draws",
                intervals=over_draws(draws, judging.seed),
                draws=draws,
            )
        )
    return found


def difference(own: FigureRow, other: FigureRow, seed: int) -> Difference:
    """How much higher ``own`` is than a baseline on the same rows and, where it has any, draws."""
    fixed = {name: interval.value for name, interval in other.intervals.items()}
    paired = other.draws or (fixed,) * len(own.draws)
    gains = [
        {name: mine[name] - theirs[name] for name in FIGURES}
        for mine, theirs in zip(own.draws, paired, strict=True)
    ]
    intervals = over_draws(gains, seed)
    return Difference(
        baseline=other.method,
        shots=own.shots or 0,
        intervals={name: intervals[name] for name in COMPARED},
    )


def precision_curve(
    judging: JudgedRows, method: str, shots: int | None, answers: Sequence[Answer]
) -> PrecisionCurve:
    """Mean precision over the answers where each first reaches a recall."""
    weights = judging.weights
    outcomes = judging.inside.astype(np.float64)
    mean = np.mean(
        [precision_by_recall(answer.scores, outcomes, weights, _RECALLS) for answer in answers],
        axis=0,
    )
    return PrecisionCurve(method, shots, tuple(_RECALLS.tolist()), tuple(mean.tolist()))


def calibration(judging: JudgedRows, answers: Sequence[Answer]) -> tuple[CalibrationBin, ...]:
    """The reliability diagram of all answers together."""
    weights = judging.weights
    table = calibration_curve(
        np.concatenate([answer.scores for answer in answers]),
        np.tile(judging.inside.astype(np.float64), len(answers)),
        np.tile(weights / weights.sum() / len(answers), len(answers)),
    )
    return tuple(
        CalibrationBin(size, *((predicted, observed) if size else (None, None)))
        for size, predicted, observed in table.tolist()
    )


def _groups(judging: JudgedRows, answers: Sequence[Answer]) -> list[Group]:
    """The groups of the rows, then what is not `uncertain`, where a method knows the label."""
    groups = list(judging.groups)
    known = [answer.uncertain for answer in answers if answer.uncertain is not None]
    if any((~uncertain).any() for uncertain in known):
        # Which rows it holds is for each answer to say.
        groups.append(Group(LABEL, DECIDED, ~known[0]))
    return groups


def _rows_of(group: Group, answer: Answer) -> NDArray[np.bool_]:
    if group.by == LABEL and answer.uncertain is not None:
        return ~answer.uncertain
    return group.rows
