"""Similarity to one vector: what describes the occupation, or the mean of its positives."""

from __future__ import annotations

import numpy as np

from benchmarks.arrays import Embeddings, Floats, Labels
from benchmarks.recipes.calibration import calibrated, copies_of, kept_background
from benchmarks.recipes.given import Answer, Given, Ranked, Recipe
from benchmarks.recipes.weak_positives import Pick, one_hint


def similarity_alone(pick: Pick) -> Recipe:
    """Bi-encoder zero-shot: cosine similarity to what describes the occupation."""

    def recipe(given: Given) -> Answer:
        query = one_hint(pick)(given)[0]
        threshold = float(np.quantile(given.crowd @ query, 1.0 - given.prevalence))
        scores = (given.judged @ query).astype(np.float64)
        return Answer(scores, threshold, probability=False)

    return recipe


def prototype(pick: Pick | None = None, *, centred: bool = False) -> Recipe:
    """Cosine to the mean of the positives, each held out of its own mean.

    Source: Snell, Swersky and Zemel, "Prototypical networks for few-shot learning" (2017), here
    with cosine on a frozen encoder. ``centred`` first subtracts the background's mean, as Wang et
    al., "SimpleShot" (2019), subtract that of the base classes, and takes the mean of the `out`
    examples off the mean of the positives.
    """

    def recipe(given: Given) -> Answer:
        centre = given.crowd.mean(axis=0) if centred else np.zeros(given.crowd.shape[1])

        def unit(rows: Embeddings) -> Floats:
            moved = rows.astype(np.float64) - centre
            return np.asarray(moved / np.linalg.norm(moved, axis=-1, keepdims=True))

        rows, copies = unit(given.rows), copies_of(given.rows)
        weak = unit(pick(given)) if pick else rows[:0]

        def mean(kept: Labels) -> Floats:
            inside = np.concatenate([rows[kept & given.labels], weak]).mean(axis=0)
            outside = rows[kept & ~given.labels]
            if centred and len(outside):
                inside = inside - outside.mean(axis=0)
            return np.asarray(inside / np.linalg.norm(inside))

        held_out = np.array([rows[row] @ mean(copies != copies[row]) for row in range(len(rows))])
        query = mean(np.ones(len(rows), dtype=np.bool_))
        return calibrated(
            given,
            Ranked(held_out, unit(kept_background(given)) @ query, unit(given.judged) @ query),
        )

    return recipe
