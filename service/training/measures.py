"""Figures of a scored, weighted sample, with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CALIBRATION_BINS = 15
BOOTSTRAPS = 200


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the 2.5 and 97.5 percentiles of its redraws, widened to hold the figure."""

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
    index = np.minimum((probabilities * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    gap = np.bincount(index, weights=weights * (probabilities - outcomes))
    return float(np.abs(gap).sum() / weights.sum())


def log_loss(probabilities: Floats, outcomes: Floats, weights: Floats) -> float:
    """Weighted mean of the negative log likelihood of the outcomes (0 or 1)."""
    likelihood = np.where(outcomes > 0.5, probabilities, 1.0 - probabilities)
    return float(-(weights @ np.log(np.maximum(likelihood, 1e-12))) / weights.sum())


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

    generator = np.random.default_rng(seed)
    members = [np.unique(units[strata == stratum]) for stratum in np.unique(strata)]
    counts = np.zeros(int(units.max()) + 1)
    redraws = []
    for _ in range(BOOTSTRAPS):
        for unit in members:
            picks = generator.integers(len(unit), size=len(unit))
            counts[unit] = np.bincount(picks, minlength=len(unit))
        redraws.append(at(weights * counts[units]))
    low, high = np.percentile(np.array(redraws), [2.5, 97.5], axis=0)
    triples = zip(at(weights), low.tolist(), high.tolist(), strict=True)
    return Figures(
        *(Interval(value, min(value, least), max(value, most)) for value, least, most in triples)
    )
