"""Figures of judged rows: of one fixed version over its rows, or of a method over its draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.training import measures
from service.training.measures import Interval

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]
Rows = NDArray[np.intp]

REDRAWS = 1000
FIGURES = (
    "precision",
    "recall",
    "f1",
    "average_precision",
    "accuracy",
    "calibration_error",
    "threshold",
    "uncertain_rate",
)
_UNKNOWN = float("nan")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method says of n rows: scores float64[n], `in` from ``threshold`` upwards.

    ``uncertain`` bool[n] are rows that it will not call, None for a method that calls every row.
    ``is_probability`` is false where the scores rank and no more.
    """

    scores: Floats
    threshold: float
    uncertain: Labels | None = None
    is_probability: bool = True

    def of(self, rows: Rows | Labels) -> Answer:
        """The answer for some of the rows."""
        uncertain = None if self.uncertain is None else self.uncertain[rows]
        return Answer(self.scores[rows], self.threshold, uncertain, self.is_probability)


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer beside the labels bool[n]; ``units`` intp[n] are equal for rows of one text.

    ``prevalence`` is the share of `in` that the rows are weighted to, None to take them as they
    are.
    """

    answer: Answer
    inside: Labels
    units: Rows
    prevalence: float | None = None

    def of(self, rows: Rows | Labels) -> Judged:
        """Some of the rows, weighted to the same prevalence on their own."""
        return Judged(self.answer.of(rows), self.inside[rows], self.units[rows], self.prevalence)

    def weights(self, counts: Floats) -> Floats | None:
        """Row weights float64[n] for rows that are there ``counts`` float64[n] times.

        None for rows of one label alone, which cannot be weighted to a share of both.
        """
        if self.prevalence is None:
            return counts
        size_in, size_out = float(counts @ self.inside), float(counts @ ~self.inside)
        if not size_in or not size_out:
            return None
        shares = np.where(self.inside, self.prevalence / size_in, (1 - self.prevalence) / size_out)
        weighted: Floats = counts * shares
        return weighted


def figures(judged: Judged, counts: Floats | None = None) -> dict[str, float]:
    """Every figure by name, not a number where it is not defined.

    Args:
        judged: at least one row.
        counts: float64[n], how often each row is there; by default once.
    """
    answer = judged.answer
    weights = judged.weights(np.ones(len(judged.inside)) if counts is None else counts)
    if weights is None:
        return {**dict.fromkeys(FIGURES, _UNKNOWN), "threshold": answer.threshold}
    outcomes = judged.inside.astype(np.float64)
    sample = (answer.scores, outcomes, weights)
    has_in = bool((weights @ outcomes) > 0)
    return {
        "precision": measures.precision_at(answer.threshold, *sample),
        "recall": measures.recall_at(answer.threshold, *sample),
        "f1": measures.f1_at(answer.threshold, *sample) if has_in else _UNKNOWN,
        "average_precision": measures.average_precision(*sample) if has_in else _UNKNOWN,
        "accuracy": measures.accuracy_at(answer.threshold, *sample),
        "calibration_error": (
            measures.expected_calibration_error(*sample) if answer.is_probability else _UNKNOWN
        ),
        "threshold": answer.threshold,
        "uncertain_rate": (
            _UNKNOWN
            if answer.uncertain is None
            else float(weights[answer.uncertain].sum() / weights.sum())
        ),
    }


def over_rows(judged: Judged, seed: int) -> dict[str, Interval]:
    """Figures of a fixed version with bootstrap intervals over its rows, texts drawn whole."""
    order = np.argsort(-judged.answer.scores, kind="stable")  # sorted once, not in each redraw
    ranked = judged.of(order)
    units = np.unique(ranked.units, return_inverse=True)[1].reshape(-1)
    found = measures.bootstrap(
        lambda counts: list(figures(ranked, counts).values()),
        np.ones(len(order)),
        units,
        np.zeros(len(order), dtype=np.intp),
        seed=seed,
        redraws=REDRAWS,
    )
    intervals = dict(zip(FIGURES, found, strict=True))
    # One number of a fixed version: nothing of it varies with the rows.
    intervals["threshold"] = Interval(judged.answer.threshold, _UNKNOWN, _UNKNOWN)
    return intervals


def over_draws(draws: Sequence[Mapping[str, float]], seed: int) -> dict[str, Interval]:
    """The mean of each figure over draws with its bootstrap interval; one draw has none.

    A draw in which a figure is not defined is left out of its mean.
    """
    table = np.array([[draw[name] for name in FIGURES] for draw in draws])
    if len(draws) == 1:
        values = table[0].tolist()
        return {
            name: Interval(value, _UNKNOWN, _UNKNOWN)
            for name, value in zip(FIGURES, values, strict=True)
        }
    known = ~np.isnan(table)
    held = np.where(known, table, 0.0)

    def means(counts: Floats) -> list[float]:
        sizes = counts @ known
        found: list[float] = np.where(
            sizes > 0, counts @ held / np.maximum(sizes, 1), np.nan
        ).tolist()
        return found

    each = np.arange(len(draws))
    intervals = measures.bootstrap(
        means, np.ones(len(draws)), each, np.zeros_like(each), seed=seed, redraws=REDRAWS
    )
    return dict(zip(FIGURES, intervals, strict=True))
