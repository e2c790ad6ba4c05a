"""Intervals over redrawn tasks."""

from __future__ import annotations

import numpy as np

from benchmarks.arrays import Floats

REDRAWS = 2000


def interval(values: Floats) -> str:
    """Bootstrap interval (95 %) of a mean."""
    rows = np.random.default_rng(0).integers(len(values), size=(REDRAWS, len(values)))
    low, high = np.quantile(values[rows].mean(axis=1), [0.025, 0.975])
    return f"{low:+.3f}, {high:+.3f}"
