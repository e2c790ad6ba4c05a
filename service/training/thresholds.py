"""Where `in` begins: thresholds for F1 from held-out scores, without test data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from service.training.calibration import AffineCalibration, sigmoid
from service.training.population import Population

Floats = NDArray[np.float64]

CANDIDATES = 301

# Standard errors of the calibrated logit at the threshold that count as too close to call.
UNCERTAIN_ERRORS = 0.5


def f1_threshold(populations: Sequence[Population]) -> float:
    """The score from which calling `in` gives the best F1, whichever of the populations is real.

    The threshold with the highest mean of F1 over the best F1 of each population. How far real
    negatives lie from the background is not known, and a threshold that is best for one guess can
    be poor for the next. Labelled scores are smoothed, or the threshold would hang on single ones.

    Args:
        populations: of the same labelled rows, at least one of them a positive.

    Raises:
        ValueError: if no row is a positive.

    Source: the bandwidth is Silverman's rule of thumb, "Density Estimation" (1986), eq. 3.28.
    """
    inside = populations[0].outcomes > 0.5
    if not inside.any():
        message = "a threshold for F1 needs at least one positive"
        raise ValueError(message)
    start = float(np.mean([_mean(population, ~inside) for population in populations]))
    gap = max(_mean(populations[0], inside) - start, 1e-9)
    candidates = start + gap * np.linspace(-0.5, 2.5, CANDIDATES)
    merit = np.zeros(CANDIDATES)
    for population in populations:
        curve = f1_curve(population, candidates)
        merit += curve / max(float(curve.max()), 1e-12)
    return float(candidates[int(np.argmax(merit))])


def f1_curve(population: Population, candidates: Floats) -> Floats:
    """F1 float64[k] of calling everything `in` from each candidate score upwards.

    Args:
        population: weighted scores; those of positives are smoothed.
        candidates: float64[k] scores in rising order.
    """
    inside = population.outcomes > 0.5
    prevalence = float(population.weights[inside].sum())
    found = _smooth_share_above(population.scores[inside], population.weights[inside], candidates)
    others, weights = population.scores[~inside], population.weights[~inside]
    order = np.argsort(others, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(weights[order])])
    wrong = below[-1] - below[np.searchsorted(others[order], candidates)]
    curve: Floats = 2.0 * found / (found + wrong + prevalence)
    return curve


def _smooth_share_above(scores: Floats, weights: Floats, candidates: Floats) -> Floats:
    """Weight above each candidate float64[k], every score widened to a normal distribution."""
    centre = np.average(scores, weights=weights)
    spread = float(np.sqrt(np.average((scores - centre) ** 2, weights=weights)))
    distinct = float(weights.sum() / weights.max())  # copies of a text share its weight
    bandwidth = max(1.06 * spread * distinct**-0.2, 1e-9)
    above: Floats = weights @ ndtr((scores[:, None] - candidates) / bandwidth)
    return above


def _mean(population: Population, rows: NDArray[np.bool_]) -> float:
    """Weighted mean score of some rows."""
    return float(np.average(population.scores[rows], weights=population.weights[rows]))


def uncertain_band(calibration: AffineCalibration, threshold: float) -> tuple[float, float]:
    """The lowest and highest probability that are too close to the threshold to call.

    The band holds the logits within `UNCERTAIN_ERRORS` standard errors of the threshold's, the
    error being that of the calibration: it narrows as examples are added.

    Args:
        calibration: fitted on the held-out scores, with its covariance.
        threshold: a probability strictly between 0 and 1.
    """
    logit = float(np.log(threshold / (1.0 - threshold)))
    score = (logit - calibration.offset) / calibration.slope if calibration.slope else 0.0
    margin = UNCERTAIN_ERRORS * calibration.logit_error(score)
    low, high = sigmoid(np.array([logit - margin, logit + margin]))
    return float(low), float(high)
