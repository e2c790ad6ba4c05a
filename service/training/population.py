"""What the texts to be scored are expected to look like, in held-out scores.

The background is not drawn from the texts that will be scored: real texts outside an occupation
lie nearer to its positives than ESCO and ROME entries do, because they share the positives' own
register, and they spread wider. Without correction a score promises too much (mean predicted share
1.3 to 5 times the true one on the dev tasks). `out` examples show the real shift; without them the
constants below stand in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Share of the way from the background's mean score to the positives' at which real negatives lie,
# and how many times wider they spread: docs/few-shot-heads.md has the measurements.
REGISTER_SHIFT = 0.3
REGISTER_SPREAD = 1.4

# The range over which the two were found to vary from task to task.
POSSIBLE_SHIFTS = (0.0, 0.2, 0.4, 0.6)
POSSIBLE_SPREADS = (1.0, 1.3)

# As many `out` examples as this weigh as much as the two constants, and as the background itself.
OUT_PRIOR_ROWS = 32


@dataclass(frozen=True, slots=True)
class Population:
    """Held-out scores weighted to stand for the population at the declared prevalence.

    All float64[n]: `scores`, `outcomes` (1 in the occupation, 0 outside), `weights` (summing to 1).
    """

    scores: Floats
    outcomes: Floats
    weights: Floats


def possible_populations(
    held_out: Floats,
    labels: NDArray[np.bool_],
    shares: Floats,
    background: Floats,
    prevalence: float,
) -> list[Population]:
    """One population for each possible shift and spread; arguments as `expected_population`."""
    return [
        expected_population(held_out, labels, shares, background, prevalence, shift, spread)
        for shift in POSSIBLE_SHIFTS
        for spread in POSSIBLE_SPREADS
    ]


def expected_population(
    held_out: Floats,
    labels: NDArray[np.bool_],
    shares: Floats,
    background: Floats,
    prevalence: float,
    shift: float = REGISTER_SHIFT,
    spread: float = REGISTER_SPREAD,
) -> Population:
    """Weigh held-out scores so that they stand for the texts that will be scored.

    Args:
        held_out: float64[n] scores of the examples, each by a fit that never saw it.
        labels: bool[n], true for `in`; at least one is.
        shares: float64[n], 1 divided by the number of copies of the example's text.
        background: float64[m] held-out scores of the background.
        prevalence: expected share of positives.
        shift: share of the way to the positives by which the background is moved.
        spread: how many times wider the background is made.

    Returns:
        Examples in their order, then the background moved to where real negatives are expected.
    """
    distinct_in, distinct_out = float(shares[labels].sum()), float(shares[~labels].sum())
    trust = distinct_out / (distinct_out + OUT_PRIOR_ROWS)
    rest = 1.0 - prevalence
    each = np.where(labels, prevalence / distinct_in, rest * trust / max(distinct_out, 1.0))
    start, width = float(background.mean()), max(float(background.std()), 1e-12)
    gap = max(float(np.average(held_out[labels], weights=shares[labels])) - start, width)
    centre, deviation = _negatives(
        held_out[~labels], shares[~labels], start + shift * gap, spread * width
    )
    moved = centre + (background - start) * (deviation / width)
    return Population(
        scores=np.concatenate([held_out, moved]),
        outcomes=np.concatenate([labels.astype(np.float64), np.zeros(len(moved))]),
        weights=np.concatenate(
            [each * shares, np.full(len(moved), rest * (1.0 - trust) / len(moved))]
        ),
    )


def _negatives(out: Floats, counts: Floats, centre: float, deviation: float) -> tuple[float, float]:
    """Mean and standard deviation of real negatives: those expected, corrected by `out` scores."""
    total = OUT_PRIOR_ROWS + float(counts.sum())
    mean = (OUT_PRIOR_ROWS * centre + float(counts @ out)) / total
    scatter = OUT_PRIOR_ROWS * deviation**2 + float(counts @ (out - mean) ** 2)
    return mean, float(np.sqrt(scatter / total))
