"""Similarity to the nearest examples."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from benchmarks.arrays import Embeddings, Floats, Labels
from benchmarks.recipes.calibration import calibrated, copies_of, kept_background
from benchmarks.recipes.given import Answer, Given, Ranked, Recipe

# From similarities float32[n, k] (-inf: not to be looked at) to scores float64[n].
Reduce = Callable[[Embeddings], Floats]


@lru_cache(maxsize=1)  # every neighbour rule asks for the same of one draw
def similarities(given: Given) -> tuple[Embeddings, Embeddings, Embeddings, Embeddings]:
    """Cosines of the known rows (examples, kept background) and the judged rows.

    Known to positives and to all others, judged to positives and to all others; float32, and -inf
    between a known row and itself or its copies.
    """
    kept, copies = kept_background(given), copies_of(given.rows)
    own = np.concatenate([copies, copies.max() + 1 + np.arange(len(kept))])
    known = np.concatenate([given.rows, kept])
    inside = np.concatenate([given.labels, np.zeros(len(kept), dtype=np.bool_)])

    def among(sides: Labels) -> Embeddings:
        products: Embeddings = known @ known[sides].T
        products[own[:, None] == own[sides][None, :]] = -np.inf
        return products

    judged = [given.judged @ known[sides].T for sides in (inside, ~inside)]
    return among(inside), among(~inside), judged[0], judged[1]


def neighbours(inside: Reduce, outside: Reduce | None = None) -> Recipe:
    """Similarity to the nearest positives, less that to the nearest of `out` and background."""

    def recipe(given: Given) -> Answer:
        known_in, known_out, judged_in, judged_out = similarities(given)
        known, judged = inside(known_in), inside(judged_in)
        if outside is not None:
            known, judged = known - outside(known_out), judged - outside(judged_out)
        size = len(given.rows)
        return calibrated(given, Ranked(known[:size], known[size:], judged))

    return recipe


def nearest(count: int) -> Reduce:
    """Mean similarity to the ``count`` nearest, or to as many as are left beside the row itself."""

    def reduce(near: Embeddings) -> Floats:
        if count == 1:
            return np.asarray(near.max(axis=1), dtype=np.float64)
        taken = min(count, near.shape[1] - 1)
        ordered = np.partition(near, near.shape[1] - taken, axis=1)
        return np.asarray(ordered[:, -taken:].mean(axis=1), dtype=np.float64)

    return reduce


def attention(temperature: float) -> Reduce:
    """Logarithm of the summed attention to all of them.

    Source: Vinyals et al., "Matching networks for one shot learning" (2016), eq. 1.
    """

    def reduce(near: Embeddings) -> Floats:
        # Cosines are at most 1, so that nothing overflows.
        attended = np.exp((near - 1.0) / np.float32(temperature)).sum(axis=1, dtype=np.float64)
        logs: Floats = np.log(np.maximum(attended, 1e-300))
        return logs

    return reduce
