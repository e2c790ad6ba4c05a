"""F1 of a call, and the best that any threshold reaches."""

from __future__ import annotations

import numpy as np

from benchmarks.arrays import Floats, Labels


def f1_of(called: Labels, inside: Labels) -> float:
    """F1 of a call."""
    return float(2 * (called & inside).sum() / max(1, called.sum() + inside.sum()))


def best_f1(scores: Floats, inside: Labels) -> float:
    """The best F1 that any threshold reaches."""
    ranked = inside[np.argsort(-scores, kind="stable")]
    return float((2 * np.cumsum(ranked) / (np.arange(len(ranked)) + 1 + inside.sum())).max())
