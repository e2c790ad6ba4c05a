"""The head of a fine-tuned version, calibrated on scores of examples that were left out.

A tuned encoder has seen its examples: it pulls them to two points, where even a fit that leaves an
example out finds it at once. Calibrated on those scores, a head promises far too much and calls
too many texts `in`. So the scores that calibrate come from the gate's folds, whose encoders were
tuned without the example; the direction comes from the encoder that is served.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from service.training.calibration import fit_affine, sigmoid
from service.training.gate import Fold, FoldScores
from service.training.head import LOWEST_THRESHOLD, HeadFit, HeadMetrics, uncalibrated_line
from service.training.measures import measure
from service.training.neighbours import familiarity_floor, unlike_positives
from service.training.population import expected_population, possible_populations
from service.training.reference import expected_reference
from service.training.thresholds import f1_threshold, uncertain_band

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]


def held_out_scores(folds: Sequence[Fold], scores: Sequence[FoldScores], rows: int) -> Floats:
    """Each example's mean score over the folds that left it out, float64[rows]."""
    total, times = np.zeros(rows), np.zeros(rows)
    for fold, scored in zip(folds, scores, strict=True):
        total[fold.test] += scored.scores
        times[fold.test] += 1.0
    mean: Floats = total / times
    return mean


def fit_tuned_head(
    examples: Embeddings,
    labels: NDArray[np.bool_],
    copies: NDArray[np.intp],
    background: Embeddings,
    hints: Embeddings,
    held_out: Floats,
    held_out_labels: NDArray[np.bool_],
    *,
    prevalence: float,
    seed: int,
    suggested: NDArray[np.bool_] | None = None,
) -> HeadFit:
    """Fit the direction on the served embeddings, the rest on held-out scores.

    Args:
        examples: float32[n, d] embeddings of all examples by the tuned encoder, as served.
        labels: bool[n], true for `in`.
        copies: intp[n], from 0, equal for copies of a text.
        background: float32[m, d] by the same encoder.
        hints: float32[k, d] of the occupation's name and the like, by the same encoder.
        held_out: float64[h] scores of distinct examples by folds that left them out, on the scale
            of a fit to +1 and -1.
        held_out_labels: bool[h], at least one true.
        prevalence: expected share of positives.
        seed: seeds the intervals' redraws.
        suggested: bool[n], true for examples that were suggested for a label (`fit_head`).
    """
    with threadpool_limits(limits=1, user_api="blas"):
        shares = 1.0 / np.bincount(copies)[copies]
        kept = background[unlike_positives(examples[labels], copies[labels], background)]
        rest = len(kept)
        line = uncalibrated_line(examples, labels, kept, hints, shares, copies, suggested)
        positives = float(held_out_labels.sum())
        evidence = (
            held_out,
            held_out_labels,
            np.ones(len(held_out)),
            line.held_out[len(examples) : len(examples) + rest],
            prevalence,
        )
        population = expected_population(*evidence)
        softened = population.outcomes * (positives + 1.0) / (positives + 2.0)
        calibration = fit_affine(
            population.scores, softened, population.weights * positives / prevalence
        )
        chances = sigmoid(calibration.logits(population.scores))
        best = calibration.logits(np.array([f1_threshold(possible_populations(*evidence))]))
        threshold = float(np.clip(sigmoid(best)[0], LOWEST_THRESHOLD, 1.0 - LOWEST_THRESHOLD))
        low, high = uncertain_band(calibration, threshold)
        figures = measure(
            threshold,
            chances,
            population.outcomes,
            population.weights,
            units=np.arange(len(chances)),
            strata=np.concatenate([held_out_labels.astype(np.intp), np.full(rest, 2)]),
            seed=seed,
        )
        floor = familiarity_floor(background)
    return HeadFit(
        weights=(calibration.slope * line.weights).astype(np.float32),
        bias=calibration.slope * line.bias + calibration.offset,
        threshold=threshold,
        uncertain_low=low,
        uncertain_high=high,
        familiarity_floor=floor,
        metrics=HeadMetrics(
            average_precision=figures.average_precision,
            f1=figures.f1,
            calibration_error=figures.calibration_error,
            log_loss=figures.log_loss,
            positives=int(labels.sum()),
            negatives=int((~labels).sum()),
            background=rest,
            background_set_aside=len(background) - rest,
        ),
        reference=expected_reference(chances, population.weights, threshold, low, high),
    )
