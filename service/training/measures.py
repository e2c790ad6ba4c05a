"""Figures of a scored, weighted sample, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CALIBRATION_BINS = 15
BOOTSTRAPS = 200


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the 2.5 and 97.5 percentiles of its redraws, widened to hold the figure.

    Not a number where the figure is not defined.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Figures:
    """How good probabilities are on a weighted sample, and F1 at one threshold."""

    average_precision: Interval
    f1: Interval
    calibration_error: Interval
    log_loss: Interval


def average_precision(probabilities: Floats, outcomes: Floats, weights: Floats) -> float:
    """Weighted average precision; rows of one score enter together.

    Source: scikit-learn's `average_precision_score`, whose values it equals.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    gains = (weights * outcomes)[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    found = np.cumsum(gains)[ends]
    called = np.cumsum(weights[order])[ends]
    precision = found / np.maximum(called, 1e-300)
    total = float(found[-1])
    return float(np.diff(found, prepend=0.0) @ precision) / total if total else 0.0


def expected_calibration_error(probabilities: Floats, outcomes: Floats, weights: Floats) -> float:
    """Weighted mean gap between predicted and observed shares over equal-width bins.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
    binning" (2015); 15 bins as in Guo et al., "On calibration of modern neural networks" (2017).
    """
    gap = np.bincount(_bins(probabilities), weights=weights * (probabilities - outcomes))
    return float(np.abs(gap).sum() / weights.sum())


def calibration_curve(probabilities: Floats, outcomes: Floats, weights: Floats) -> Floats:
    """The bins behind the calibration error, float64[bins, 3].

    Columns: weight, mean prediction, observed share; the last two are not numbers in empty bins.
    """
    index = _bins(probabilities)
    size, predicted, observed = (
        np.bincount(index, weights=column, minlength=CALIBRATION_BINS)
        for column in (weights, weights * probabilities, weights * outcomes)
    )
    held = np.where(size > 0.0, size, np.nan)
    return np.stack([size, predicted / held, observed / held], axis=1)


def _bins(probabilities: Floats) -> NDArray[np.intp]:
    return np.minimum((probabilities * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)


def log_loss(probabilities: Floats, outcomes: Floats, weights: Floats) -> float:
    """Weighted mean of the negative log likelihood of the outcomes (0 or 1)."""
    likelihood = np.where(outcomes > 0.5, probabilities, 1.0 - probabilities)
    return float(-(weights @ np.log(np.maximum(likelihood, 1e-12))) / weights.sum())


def precision_at(
    threshold: float, probabilities: Floats, outcomes: Floats, weights: Floats
) -> float:
    """Weighted share of `in` among what is called, not a number where nothing is called."""
    called = probabilities >= threshold
    size = float(weights[called].sum())
    return float(weights[called] @ outcomes[called]) / size if size else float("nan")


def recall_at(threshold: float, probabilities: Floats, outcomes: Floats, weights: Floats) -> float:
    """Weighted share of what is `in` that is called, not a number where nothing is in."""
    called = probabilities >= threshold
    size = float(weights @ outcomes)
    return float(weights[called] @ outcomes[called]) / size if size else float("nan")


def accuracy_at(
    threshold: float, probabilities: Floats, outcomes: Floats, weights: Floats
) -> float:
    """Weighted share of rows that are called as they are labelled."""
    right = (probabilities >= threshold) == (outcomes > 0.5)
    return float(weights[right].sum() / weights.sum())


def precision_by_recall(
    probabilities: Floats, outcomes: Floats, weights: Floats, recalls: Floats
) -> Floats:
    """Precision float64[n] where the ranking first reaches each recall float64[n] in [0, 1].

    Rows of one score enter together, as in `average_precision`.
    """
    order = np.argsort(-probabilities, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)
    found = np.cumsum((weights * outcomes)[order])[ends]
    called = np.cumsum(weights[order])[ends]
    # A recall that is reached but for rounding is reached.
    places = np.searchsorted(found / found[-1], recalls - 1e-12)
    precision: Floats = (found / called)[np.minimum(places, len(ends) - 1)]
    return precision


def f1_at(threshold: float, probabilities: Floats, outcomes: Floats, weights: Floats) -> float:
    """Weighted F1 of calling `in` from the threshold upwards, 0 where nothing is in or called."""
    called = probabilities >= threshold
    found = float(weights[called] @ outcomes[called])
    size = float(weights[called].sum() + weights @ outcomes)
    return 2.0 * found / size if size else 0.0


def measure(
    threshold: float,
    probabilities: Floats,
    outcomes: Floats,
    weights: Floats,
    units: NDArray[np.intp],
    strata: NDArray[np.intp],
    seed: int,
) -> Figures:
    """Measure a sample, with intervals over redraws of its units within each stratum.

    Args:
        threshold: probability from which a row is called `in`.
        probabilities: float64[n].
        outcomes: float64[n], 0 or 1.
        weights: float64[n], non-negative.
        units: intp[n], rows that are drawn together (copies of a text); within one stratum.
        strata: intp[n], every redraw keeps the number of units of each.
        seed: of the redraws.
    """
    # Sorted once, each redraw sorts an already sorted array.
    order = np.argsort(-probabilities, kind="stable")
    sample = (probabilities[order], outcomes[order])
    weights, units, strata = weights[order], units[order], strata[order]

    def at(drawn: Floats) -> tuple[float, float, float, float]:
        return (
            average_precision(*sample, drawn),
            f1_at(threshold, *sample, drawn),
            expected_calibration_error(*sample, drawn),
            log_loss(*sample, drawn),
        )

    return Figures(*bootstrap(at, weights, units, strata, seed=seed))


def bootstrap(
    statistics: Callable[[Floats], Sequence[float]],
    weights: Floats,
    units: NDArray[np.intp],
    strata: NDArray[np.intp],
    *,
    seed: int,
    redraws: int = BOOTSTRAPS,
) -> list[Interval]:
    """Percentile intervals of statistics over redraws of the units within each stratum.

    Source: Efron, "Bootstrap methods: another look at the jackknife" (1979).

    Args:
        statistics: gives the figures for row weights float64[n]; one that is not a number in a
            redraw is left out there.
        weights: float64[n] of the rows as they are, multiplied by how often a row was redrawn.
        units: intp[n], rows that are drawn together; within one stratum.
        strata: intp[n], every redraw keeps the number of units of each.
        seed: of the redraws.
        redraws: how many.
    """
    generator = np.random.default_rng(seed)
    members = [np.unique(units[strata == stratum]) for stratum in np.unique(strata)]
    counts = np.zeros(int(units.max()) + 1)
    redrawn = []
    for _ in range(redraws):
        for unit in members:
            picks = generator.integers(len(unit), size=len(unit))
            counts[unit] = np.bincount(picks, minlength=len(unit))
        redrawn.append(statistics(weights * counts[units]))
    return [
        _interval(value, column)
        for value, column in zip(statistics(weights), np.array(redrawn).T, strict=True)
    ]


def _interval(value: float, redrawn: Floats) -> Interval:
    known = redrawn[~np.isnan(redrawn)]
    if np.isnan(value) or not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(known, [2.5, 97.5]).tolist()
    return Interval(value, min(value, low), max(value, high))
