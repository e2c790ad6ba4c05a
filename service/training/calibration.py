"""From a discriminant's score to a probability: Platt's sigmoid, with weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_NEWTON_STEPS = 50
_CONVERGED = 1e-9
_MAX_LOGIT = 60.0


@dataclass(frozen=True, slots=True)
class AffineCalibration:
    """``logit = slope * score + offset``; ``covariance`` float64[2, 2] is that of the two."""

    slope: float
    offset: float
    covariance: Floats

    def logits(self, scores: Floats) -> Floats:
        """Calibrated logits float64[n] of scores float64[n]."""
        return self.slope * scores + self.offset

    def logit_error(self, score: float) -> float:
        """Standard error of the calibrated logit at a score."""
        at = np.array([score, 1.0])
        return float(np.sqrt(max(at @ self.covariance @ at, 0.0)))


def sigmoid(logits: Floats) -> Floats:
    """Probabilities float64[n] of logits float64[n], without overflow."""
    values: Floats = 1.0 / (1.0 + np.exp(-np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT)))
    return values


def fit_affine(scores: Floats, targets: Floats, weights: Floats) -> AffineCalibration:
    """Fit Platt's sigmoid by Newton steps with step halving.

    Args:
        scores: float64[n] held-out scores.
        targets: float64[n] in [0, 1]; move them off 0 and 1 to keep separable data finite.
        weights: float64[n] non-negative; their scale sets the reported covariance.

    Raises:
        ValueError: if the weighted mean of the targets is 0 or 1, where no sigmoid is defined.

    Source: Platt, "Probabilistic outputs for support vector machines" (1999); Newton with step
    halving as in Lin, Lin and Weng, "A note on Platt's probabilistic outputs" (2007).
    """
    share = float(weights @ targets / weights.sum())
    if not 0.0 < share < 1.0:
        message = "calibration needs weight on both classes"
        raise ValueError(message)
    design = np.column_stack([scores, np.ones_like(scores)])
    current = np.array([1.0, np.log(share / (1.0 - share))])

    def loss(parameters: Floats) -> float:
        logits = design @ parameters
        return float(weights @ (np.logaddexp(0.0, logits) - targets * logits))

    hessian: Floats = np.eye(2)
    for _ in range(_NEWTON_STEPS):
        chance = sigmoid(design @ current)
        gradient = design.T @ (weights * (chance - targets))
        hessian = (design * (weights * chance * (1.0 - chance))[:, None]).T @ design
        hessian[np.diag_indices(2)] += 1e-9
        step = np.linalg.solve(hessian, gradient)
        before, size = loss(current), 1.0
        while size > 1e-6 and loss(current - size * step) > before:
            size /= 2.0
        current = current - size * step
        if float(np.abs(size * step).max()) < _CONVERGED:
            break
    covariance = np.linalg.inv(hessian).astype(np.float64)
    return AffineCalibration(float(current[0]), float(current[1]), covariance)
