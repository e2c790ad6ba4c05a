"""The served head, and the same with other weak positives, negatives or no calibration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.arrays import Embeddings, Floats
from benchmarks.recipes.calibration import calibrated, copies_of, kept_background
from benchmarks.recipes.given import Answer, Given, Ranked, Recipe
from benchmarks.recipes.weak_positives import Pick, name_and_labels
from service.training.calibration import sigmoid
from service.training.discriminant import class_weights, fit_discriminant
from service.training.head import fit_head
from service.training.neighbours import unlike_positives

# Background rows or labels that count as hard negatives, and how much more a row of them weighs.
HARD_ROWS, HARD_WEIGHT = 200, 3.0
# What mined labels weigh together, the background being 1.
MINED_ROWS, MINED_WEIGHT = 500, 0.3


def served_head(pick: Pick | None = None) -> Recipe:
    """What registration fits and the service answers; it is given the name as its only hint."""

    def recipe(given: Given) -> Answer:
        fit = fit_head(
            given.rows,
            given.labels,
            given.crowd,
            prevalence=given.prevalence,
            seed=0,
            hints=pick(given) if pick else None,
        )
        scores = sigmoid((given.judged @ fit.weights).astype(np.float64) + fit.bias)
        return Answer(scores, fit.threshold, fit.uncertain_low, fit.uncertain_high)

    return recipe


def labels_alone(count: int) -> Recipe:
    """No example at all: name, description and labels stand for positives, calibration and all."""

    def recipe(given: Given) -> Answer:
        weak = name_and_labels(count)(given)
        return served_head()(replace(given, rows=weak, labels=np.ones(len(weak), dtype=np.bool_)))

    return recipe


def hinted_head(pick: Pick) -> Recipe:
    """The head with other weak positives as hints; with the name alone it is the served one."""

    def recipe(given: Given) -> Answer:
        kept = kept_background(given)
        ranked = weighted_head(given, pick(given), kept, evenly(kept), kept[:0])
        return calibrated(given, ranked)

    return recipe


def hard_negatives(mode: str) -> Recipe:
    """The head with the name as hint, harder negatives weighing more.

    ``nearest``: the kept background rows nearest to a positive; ``boundary``: those of highest
    held-out score in a first fit; ``mined``: reference labels nearest to a positive, those
    that would be set aside left out, beside the background.
    """

    def recipe(given: Given) -> Answer:
        kept, copies = kept_background(given), copies_of(given.rows)
        positives = given.rows[given.labels]
        weights, mined = evenly(kept), kept[:0]
        if mode == "mined":
            fit_for = unlike_positives(positives, copies[given.labels], given.reference)
            labels = given.reference[fit_for]
            order = np.argsort(-(labels @ positives.T).max(axis=1), kind="stable")
            mined = labels[order[:MINED_ROWS]]
        else:
            near = (kept @ positives.T).max(axis=1).astype(np.float64)
            if mode == "boundary":
                near = weighted_head(given, given.name, kept, weights, mined).crowd
            weights[np.argsort(-near, kind="stable")[:HARD_ROWS]] *= HARD_WEIGHT
            weights /= weights.sum()
        return calibrated(given, weighted_head(given, given.name, kept, weights, mined))

    return recipe


def weighted_head(
    given: Given, hints: Embeddings, kept: Embeddings, weights: Floats, mined: Embeddings
) -> Ranked:
    """The head's direction, with hints, weights float64 of background rows, and mined labels."""
    copies, size = copies_of(given.rows), len(given.rows)
    shares = 1.0 / np.bincount(copies)[copies]
    weak = np.ones(len(hints))
    each = class_weights(np.append(given.labels, weak > 0), np.append(shares, weak))
    rows = np.concatenate([given.rows, kept, hints, mined]).astype(np.float64)
    extra = np.full(len(mined), MINED_WEIGHT / max(len(mined), 1))
    targets = [np.where(given.labels, 1.0, -1.0), np.full(len(kept), -1.0), weak, -np.sign(extra)]
    line = fit_discriminant(
        rows,
        np.concatenate(targets),
        np.concatenate([each[:size], weights, each[size:], extra]),
        np.concatenate([copies, copies.max() + 1 + np.arange(len(rows) - size)]),
    )
    held_out = line.held_out
    judged = (given.judged @ line.weights.astype(np.float32)).astype(np.float64) + line.bias
    return Ranked(held_out[:size], held_out[size : size + len(kept)], judged)


def evenly(rows: Embeddings) -> Floats:
    """Equal weights float64 that sum to 1."""
    return np.full(len(rows), 1.0 / len(rows))


def discriminant_at_half(given: Given) -> Answer:
    """The served head's direction, uncalibrated: the margin through a sigmoid, threshold 0.5."""
    kept = kept_background(given)
    each = class_weights(given.labels, np.ones(len(given.rows)))
    rows = np.concatenate([given.rows, kept]).astype(np.float64)
    line = fit_discriminant(
        rows,
        np.concatenate([np.where(given.labels, 1.0, -1.0), np.full(len(kept), -1.0)]),
        np.concatenate([each, np.full(len(kept), 1 / len(kept))]),
        np.arange(len(rows)),
    )
    margins = given.judged.astype(np.float64) @ line.weights + line.bias
    return Answer(sigmoid(2.0 * margins), 0.5)
