"""Where `in` begins: thresholds for F1 from calibrated probabilities, without test data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.training.calibration import AffineCalibration, sigmoid

Floats = NDArray[np.float64]

# A threshold of exactly 0 or 1 has no logit.
_LOWEST, _HIGHEST = 1e-4, 1.0 - 1e-4

# Standard errors of the calibrated logit at the threshold that count as too close to call.
UNCERTAIN_ERRORS = 0.5


def f1_curve(scores: Floats, gains: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """F1 of calling everything from each score upwards, highest score first.

    Args:
        scores: float64[n].
        gains: float64[n] weight of the positives that each row stands for.
        weights: float64[n] weight of each row.

    Returns:
        The scores in falling order and the F1 of each as the threshold, both float64[n].
    """
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(gains[order])
    called = np.cumsum(weights[order])
    return scores[order], 2.0 * found / (called + gains.sum())


def f1_threshold(probabilities: Floats, outcomes: Floats, weights: Floats) -> float:
    """The probability from which calling `in` is expected to give the best F1.

    The geometric mean of two thresholds. One trusts the calibrated probabilities: half of the best
    F1 that they themselves promise. The other trusts the held-out outcomes: the middle of the gap
    where their F1 is best. With few positives the second is noisy, and the first depends on the
    sigmoid's tail; their mean came out better than either.

    Args:
        probabilities: float64[n] calibrated, held out.
        outcomes: float64[n], 1 for a positive and 0 for the rest.
        weights: float64[n]; positives must weigh the prevalence in total.

    Raises:
        ValueError: if no row is a positive.

    Source: Lipton, Elkan and Naryanaswamy, "Optimal thresholding of classifiers to maximize F1
    measure" (2014): the optimal threshold is half of the optimal F1.
    """
    if not outcomes.any():
        message = "a threshold for F1 needs at least one positive"
        raise ValueError(message)
    _, promised = f1_curve(probabilities, weights * probabilities, weights)
    trusting = float(promised.max()) / 2.0
    ranked, seen = f1_curve(probabilities, weights * outcomes, weights)
    best = int(np.argmax(seen))
    lower = ranked[best + 1] if best + 1 < len(ranked) else ranked[best]
    empirical = float(ranked[best] + lower) / 2.0
    return float(np.clip(np.sqrt(trusting * empirical), _LOWEST, _HIGHEST))


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
