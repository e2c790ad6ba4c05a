"""A variant of the served head that takes `out` examples for what suggestions make of them.

The served head takes `out` examples for a sample of everybody else. Those that were suggested are
not: they are the ones that look most like the occupation. Two changes, by the served code with
three functions replaced: `out` examples weigh ``OUT_WEIGHT`` times n / (n + 32) in total, and in
the calibration they stand for no rows of their own: they only move the expected population, each
by no more than a far row of it could.
"""

from __future__ import annotations

from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from service.training import head
from service.training.discriminant import IN_WEIGHT, IN_WEIGHT_PER_PAIR, MOST_PAIRS, OUT_WEIGHT
from service.training.head import HeadFit, fit_head
from service.training.measures import Figures, Interval
from service.training.population import (
    OUT_PRIOR_ROWS,
    POSSIBLE_SHIFTS,
    POSSIBLE_SPREADS,
    REGISTER_SHIFT,
    REGISTER_SPREAD,
    Population,
)

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
Labels = NDArray[np.bool_]

# As many standard deviations above the expected mean may an `out` example be and still count whole.
PLAUSIBLE_DEVIATIONS = 2.0
# The farthest that real negatives were found on the way to the positives.
FARTHEST_SHIFT = 0.6

_NOTHING = Interval(0.0, 0.0, 0.0)
# Half of the time of a fit goes into intervals and the floor of familiarity; nothing here reads
# them, and no score or threshold depends on them.
_UNREAD: dict[str, Any] = {
    "measure": lambda *_, **__: Figures(*[_NOTHING] * 4),
    "familiarity_floor": lambda _: 0.0,
}


class FitHead(Protocol):
    """Fits a head; arguments as `fit_head` has them."""

    def __call__(
        self,
        examples: Embeddings,
        labels: Labels,
        background: Embeddings,
        *,
        prevalence: float,
        hints: Embeddings,
        suggested: Labels,
    ) -> HeadFit:
        """The fitted head."""
        ...


def fit_served_head(
    examples: Embeddings,
    labels: Labels,
    background: Embeddings,
    *,
    prevalence: float,
    hints: Embeddings,
    suggested: Labels,
) -> HeadFit:
    """What a registration fits that is told which examples were suggested."""
    with patch.multiple(head, **_UNREAD):
        return fit_head(
            examples,
            labels,
            background,
            prevalence=prevalence,
            seed=0,
            hints=hints,
            suggested=suggested,
        )


def fit_untold_head(
    examples: Embeddings,
    labels: Labels,
    background: Embeddings,
    *,
    prevalence: float,
    hints: Embeddings,
    suggested: Labels,
) -> HeadFit:
    """What a registration fits that is not told."""
    nobody = np.zeros_like(suggested)
    return fit_served_head(
        examples, labels, background, prevalence=prevalence, hints=hints, suggested=nobody
    )


def fit_gentle_head(
    examples: Embeddings,
    labels: Labels,
    background: Embeddings,
    *,
    prevalence: float,
    hints: Embeddings,
    suggested: Labels,
) -> HeadFit:
    """`fit_head` with the three functions replaced."""
    del suggested
    with patch.multiple(
        head,
        **_UNREAD,
        class_weights=_class_weights,
        expected_population=_population,
        possible_populations=_possible_populations,
    ):
        return fit_head(examples, labels, background, prevalence=prevalence, seed=0, hints=hints)


def _class_weights(labels: Labels, shares: Floats, suggested: Labels | None) -> Floats:
    del suggested
    size_in, size_out = float(shares[labels].sum()), float(shares[~labels].sum())
    pairs = min(size_in, size_out, MOST_PAIRS)
    each_in = (IN_WEIGHT + IN_WEIGHT_PER_PAIR * pairs) / size_in
    weights: Floats = shares * np.where(labels, each_in, OUT_WEIGHT / (size_out + OUT_PRIOR_ROWS))
    return weights


def _possible_populations(
    held_out: Floats, labels: Labels, shares: Floats, background: Floats, prevalence: float
) -> list[Population]:
    evidence = (held_out, labels, shares, background, prevalence)
    return [
        _population(*evidence, shift, spread)
        for shift in POSSIBLE_SHIFTS
        for spread in POSSIBLE_SPREADS
    ]


def _population(
    held_out: Floats,
    labels: Labels,
    shares: Floats,
    background: Floats,
    prevalence: float,
    shift: float = REGISTER_SHIFT,
    spread: float = REGISTER_SPREAD,
) -> Population:
    start, width = float(background.mean()), max(float(background.std()), 1e-12)
    gap = max(float(np.average(held_out[labels], weights=shares[labels])) - start, width)
    expected, deviation = start + shift * gap, spread * width
    counts = shares[~labels]
    outside = np.minimum(held_out[~labels], expected + PLAUSIBLE_DEVIATIONS * deviation)
    total = OUT_PRIOR_ROWS + float(counts.sum())
    mean = (OUT_PRIOR_ROWS * expected + float(counts @ outside)) / total
    mean = min(mean, start + max(FARTHEST_SHIFT, shift) * gap)
    scatter = OUT_PRIOR_ROWS * deviation**2 + float(counts @ (outside - mean) ** 2)
    moved = mean + (background - start) * (float(np.sqrt(scatter / total)) / width)
    inside = np.where(labels, prevalence / float(shares[labels].sum()), 0.0) * shares
    return Population(
        scores=np.concatenate([held_out, moved]),
        outcomes=np.concatenate([labels.astype(np.float64), np.zeros(len(moved))]),
        weights=np.concatenate([inside, np.full(len(moved), (1.0 - prevalence) / len(moved))]),
    )


HEADS: dict[str, FitHead] = {
    "served": fit_served_head,
    "untold": fit_untold_head,
    "gentle": fit_gentle_head,
}
