"""The direction of a head: weighted regularised least squares, with exact held-out scores.

With the background carrying most of the weight this is a linear discriminant with the
background's covariance (ridge added), and unlike the textbook discriminant it uses `out` examples too. It is
closed form, so every example's score can be had as if it had been left out, at no extra fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Floats = NDArray[np.float64]

# Ridge, as a share of the mean variance of a feature: docs/few-shot-heads.md has the table.
RIDGE = 0.2

# Weight of each class beside the background's 1: a base, and more for every pair of an `in` and an
# `out` example, since labelled rows of both kinds tell more than the background. Same table.
IN_WEIGHT, IN_WEIGHT_PER_PAIR = 0.05, 0.001
OUT_WEIGHT, OUT_WEIGHT_PER_PAIR = 0.15, 0.0025
MOST_PAIRS = 400
# So many suggested `out` examples weigh half of what drawn ones may in total; docs/less-labelling.md.
SUGGESTED_PRIOR_ROWS = 32.0


@dataclass(frozen=True, slots=True)
class Discriminant:
    """A linear score ``weights . e + bias`` and the held-out score of every row it was fitted on.

    ``held_out`` float64[rows] is each row's score by the fit that never saw the row's group.
    """

    weights: Floats
    bias: float
    held_out: Floats


def class_weights(
    labels: NDArray[np.bool_], shares: Floats, suggested: NDArray[np.bool_] | None = None
) -> Floats:
    """Weights float64[n] of examples by which each class weighs what this module says in total.

    Args:
        labels: bool[n], true for `in`; at least one is.
        shares: float64[n], 1 divided by the number of copies of the example's text.
        suggested: bool[n], true for examples that were chosen for a label. Those that are `out`
            are no sample of what is outside but its hardest part: they weigh less, and the class
            weighs what it does without them.
    """
    chosen = np.zeros_like(labels) if suggested is None else suggested & ~labels
    drawn = ~labels & ~chosen
    size_in, size_out = float(shares[labels].sum()), float(shares[drawn].sum())
    pairs = min(size_in, size_out, MOST_PAIRS)
    each_in = (IN_WEIGHT + IN_WEIGHT_PER_PAIR * pairs) / size_in
    each_out = (OUT_WEIGHT + OUT_WEIGHT_PER_PAIR * pairs) / max(size_out, 1.0)
    each_chosen = OUT_WEIGHT / (float(shares[chosen].sum()) + SUGGESTED_PRIOR_ROWS)
    weights: Floats = shares * np.select([labels, drawn], [each_in, each_out], each_chosen)
    return weights


def fit_discriminant(
    rows: Floats, targets: Floats, weights: Floats, groups: NDArray[np.intp]
) -> Discriminant:
    """Fit least squares with a ridge, and score every row by the fit without its group.

    Args:
        rows: float64[r, d] embeddings.
        targets: float64[r], +1 in the occupation and -1 outside.
        weights: float64[r], non-negative, with a positive sum.
        groups: intp[r], equal for rows that must be left out together.

    Raises:
        numpy.linalg.LinAlgError: if every row is the same, so that there is no variance at all.

    Source: Rifkin and Lippert, "Notes on Regularized Least Squares" (MIT-CSAIL-TR-2007-025),
    whose closed form of the left-out residual is (I - H_gg)^-1 (y_g - f_g) for a group g.
    """
    total = weights.sum()
    centre = weights @ rows / total
    mean_target = float(weights @ targets / total)
    centred = rows - centre
    scatter = (centred * weights[:, None]).T @ centred
    scatter[np.diag_indices_from(scatter)] += RIDGE * np.trace(scatter) / len(scatter)
    factor = cho_factor(scatter, lower=True)
    direction = cho_solve(factor, centred.T @ (weights * (targets - mean_target)))
    fitted = centred @ direction + mean_target
    # The hat matrix is K diag(weights) with K = centred . scatter^-1 . centred' + 1 / total.
    solved = cho_solve(factor, centred.T).T
    leverage = weights * (np.einsum("ij,ij->i", centred, solved) + 1.0 / total)
    residual = targets - fitted
    held_out = targets - residual / (1.0 - leverage)
    for members in _shared_groups(groups):
        kernel = centred[members] @ solved[members].T + 1.0 / total
        block = np.eye(len(members)) - kernel * weights[members][None, :]
        held_out[members] = targets[members] - np.linalg.solve(block, residual[members])
    return Discriminant(direction, mean_target - float(centre @ direction), held_out)


def _shared_groups(groups: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The row numbers of every group that holds more than one row."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    return [members for members in np.split(order, starts) if len(members) > 1]
