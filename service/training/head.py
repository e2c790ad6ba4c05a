"""Fit a head: from labelled embeddings and the background to a score that can be published.

The served score is ``sigmoid(weights . e + bias)``: calibration and the prevalence are affine in
the embedding, so they are folded into the weights. Recipe and figures: docs/few-shot-heads.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from service.training.calibration import AffineCalibration, fit_affine, sigmoid
from service.training.discriminant import (
    IN_WEIGHT,
    IN_WEIGHT_PER_PAIR,
    MOST_PAIRS,
    OUT_WEIGHT,
    OUT_WEIGHT_PER_PAIR,
    RIDGE,
    Discriminant,
    class_weights,
    fit_discriminant,
)
from service.training.measures import Interval, measure
from service.training.neighbours import UNFAMILIAR_RATE, familiarity_floor, unlike_positives
from service.training.population import (
    OUT_PRIOR_ROWS,
    REGISTER_SHIFT,
    REGISTER_SPREAD,
    Population,
    expected_population,
    possible_populations,
)
from service.training.reference import Reference, expected_reference
from service.training.thresholds import UNCERTAIN_ERRORS, f1_threshold, uncertain_band

__all__ = [
    "HYPER_PARAMETERS",
    "REGISTER_SHIFT",
    "REGISTER_SPREAD",
    "HeadFit",
    "HeadMetrics",
    "Interval",
    "fit_head",
]

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]

FEWEST_POSITIVES = 4
FEWEST_BACKGROUND = 50
LOWEST_THRESHOLD = 1e-4

# What a manifest records of the recipe.
HYPER_PARAMETERS: Mapping[str, float] = MappingProxyType(
    {
        "in_weight": IN_WEIGHT,
        "in_weight_per_pair": IN_WEIGHT_PER_PAIR,
        "out_weight": OUT_WEIGHT,
        "out_weight_per_pair": OUT_WEIGHT_PER_PAIR,
        "most_pairs": MOST_PAIRS,
        "ridge": RIDGE,
        "register_shift": REGISTER_SHIFT,
        "register_spread": REGISTER_SPREAD,
        "out_prior_rows": OUT_PRIOR_ROWS,
        "uncertain_errors": UNCERTAIN_ERRORS,
        "unfamiliar_rate": UNFAMILIAR_RATE,
    }
)


@dataclass(frozen=True, slots=True)
class HeadMetrics:
    """Held-out figures on the population expected at the declared prevalence, and what it is of.

    `background_set_aside` rows were too near to the positives to stand for everybody else.
    """

    average_precision: Interval
    f1: Interval
    calibration_error: Interval
    log_loss: Interval
    positives: int
    negatives: int
    background: int
    background_set_aside: int


@dataclass(frozen=True, slots=True)
class HeadFit:
    """A fitted head: everything that serving needs, and how good it looked when held out.

    ``weights`` float32[d]; the score of an embedding e is ``sigmoid(weights . e + bias)``, `in`
    from ``threshold`` upwards, too close to call from ``uncertain_low`` to ``uncertain_high``, and
    unfamiliar where the largest cosine similarity of e to the examples and the background is
    below ``familiarity_floor``. ``reference`` is what these rules are expected to answer.
    """

    weights: Embeddings
    bias: float
    threshold: float
    uncertain_low: float
    uncertain_high: float
    familiarity_floor: float
    metrics: HeadMetrics
    reference: Reference


def fit_head(
    examples: Embeddings,
    labels: NDArray[np.bool_],
    background: Embeddings,
    *,
    prevalence: float,
    seed: int,
    groups: NDArray[np.intp] | None = None,
    hints: Embeddings | None = None,
    suggested: NDArray[np.bool_] | None = None,
) -> HeadFit:
    """Fit weights, calibration, threshold and the `uncertain` rules of one head.

    Args:
        examples: float32[n, d] unit-length embeddings, as they will be served.
        labels: bool[n], true for `in`. At least 4 distinct `in` texts; `out` is optional.
        background: float32[m, d] unit-length embeddings of the background, m at least 50.
        prevalence: expected share of positives among the texts that will be scored.
        seed: seeds the redraws behind the intervals, and nothing that is served.
        groups: intp[n], equal for copies of a text; by default equal embeddings are copies.
        hints: float32[k, d] unit-length embeddings of the occupation's name and the like: they
            pull the direction as positives do, but calibrate nothing, since nobody scores them.
        suggested: bool[n], true for examples that were suggested for a label (default: none).
            They teach the direction and calibrate nothing, for they are no sample of what will
            be scored; `in` ones do where fewer than 4 others are left.

    Raises:
        ValueError: if shapes disagree, values are not finite, the prevalence is not strictly
            between 0 and 1, or there are too few distinct positives or background rows.
    """
    hints = examples[:0] if hints is None else hints
    _check(examples, labels, background, hints, prevalence)
    copies = _copies(examples, groups)
    distinct = len(np.unique(copies[labels]))
    if distinct < FEWEST_POSITIVES:
        message = f"{distinct} distinct `in` examples, at least {FEWEST_POSITIVES} are needed"
        raise ValueError(message)
    # One thread: sums in another order would give other bytes.
    with threadpool_limits(limits=1, user_api="blas"):
        chosen = np.zeros_like(labels) if suggested is None else suggested
        return _fit(examples, labels, background, hints, prevalence, seed, copies, chosen)


def _fit(
    examples: Embeddings,
    labels: NDArray[np.bool_],
    background: Embeddings,
    hints: Embeddings,
    prevalence: float,
    seed: int,
    copies: NDArray[np.intp],
    suggested: NDArray[np.bool_],
) -> HeadFit:
    """Fit with checked arguments on one thread."""
    shares = 1.0 / np.bincount(copies)[copies]  # copies of a text count once
    kept = background[unlike_positives(examples[labels], copies[labels], background)]
    line = uncalibrated_line(examples, labels, kept, hints, shares, copies, suggested)
    sampled = _sampled(labels, shares, suggested)
    evidence = (
        line.held_out[: len(examples)][sampled],
        labels[sampled],
        shares[sampled],
        line.held_out[len(examples) : len(examples) + len(kept)],
        prevalence,
    )
    population = expected_population(*evidence)
    calibration = _calibrate(population, float(shares[labels].sum()), prevalence)
    chances = sigmoid(calibration.logits(population.scores))
    best = calibration.logits(np.array([f1_threshold(possible_populations(*evidence))]))
    # A threshold of exactly 0 or 1 has no logit.
    threshold = float(np.clip(sigmoid(best)[0], LOWEST_THRESHOLD, 1.0 - LOWEST_THRESHOLD))
    low, high = uncertain_band(calibration, threshold)
    rest = np.arange(len(kept))
    figures = measure(
        threshold,
        chances,
        population.outcomes,
        population.weights,
        units=np.concatenate([copies[sampled], copies.max() + 1 + rest]),
        strata=np.concatenate([labels[sampled].astype(np.intp), np.full_like(rest, 2)]),
        seed=seed,
    )
    return HeadFit(
        weights=(calibration.slope * line.weights).astype(np.float32),
        bias=calibration.slope * line.bias + calibration.offset,
        threshold=threshold,
        uncertain_low=low,
        uncertain_high=high,
        familiarity_floor=familiarity_floor(background),
        metrics=HeadMetrics(
            average_precision=figures.average_precision,
            f1=figures.f1,
            calibration_error=figures.calibration_error,
            log_loss=figures.log_loss,
            positives=int(labels.sum()),
            negatives=int((~labels).sum()),
            background=len(kept),
            background_set_aside=len(background) - len(kept),
        ),
        reference=expected_reference(chances, population.weights, threshold, low, high),
    )


def _sampled(
    labels: NDArray[np.bool_], shares: Floats, suggested: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which examples calibrate, bool[n]: those that nobody chose, and enough of the `in` ones."""
    if float(shares[labels & ~suggested].sum()) >= FEWEST_POSITIVES:
        return ~suggested
    return labels | ~suggested


def uncalibrated_line(
    examples: Embeddings,
    labels: NDArray[np.bool_],
    background: Embeddings,
    hints: Embeddings,
    shares: Floats,
    copies: NDArray[np.intp],
    suggested: NDArray[np.bool_] | None = None,
) -> Discriminant:
    """The uncalibrated linear score; its held-out scores: examples, background, then hints."""
    rest, extra = len(background), len(hints)
    labelled = class_weights(
        np.concatenate([labels, np.full(extra, fill_value=True)]),
        np.concatenate([shares, np.ones(extra)]),
        None if suggested is None else np.concatenate([suggested, np.zeros(extra, dtype=np.bool_)]),
    )
    return fit_discriminant(
        rows=np.concatenate([examples, background, hints]).astype(np.float64),
        targets=np.concatenate([np.where(labels, 1.0, -1.0), np.full(rest, -1.0), np.ones(extra)]),
        weights=np.concatenate(
            [labelled[: len(labels)], np.full(rest, 1.0 / rest), labelled[len(labels) :]]
        ),
        groups=np.concatenate([copies, copies.max() + 1 + np.arange(rest + extra)]),
    )


def _calibrate(population: Population, positives: float, prevalence: float) -> AffineCalibration:
    """Fit the sigmoid on the population, counting as many positives as there are texts."""
    # Platt's target for positives, as if one more had been seen on either side: four positives
    # that are all well separated must not promise certainty.
    softened = population.outcomes * (positives + 1.0) / (positives + 2.0)
    return fit_affine(population.scores, softened, population.weights * positives / prevalence)


def _copies(examples: Embeddings, groups: NDArray[np.intp] | None) -> NDArray[np.intp]:
    """Group numbers intp[n] from 0, by the caller's groups or by equal embeddings."""
    if groups is not None:
        return np.unique(groups, return_inverse=True)[1].reshape(-1)
    return np.unique(examples, axis=0, return_inverse=True)[1].reshape(-1)


def _check(
    examples: Embeddings,
    labels: NDArray[np.bool_],
    background: Embeddings,
    hints: Embeddings,
    prevalence: float,
) -> None:
    """Raise ValueError for arguments that no head can be fitted on."""
    problem = ""
    shapes = [rows.shape for rows in (examples, background, hints)]
    if any(len(shape) != 2 or shape[1] != examples.shape[-1] for shape in shapes):
        problem = f"examples, background and hints {shapes} do not match"
    elif labels.shape != (len(examples),) or labels.dtype != np.bool_:
        problem = f"{len(examples)} examples but labels {labels.dtype}{labels.shape}"
    elif not all(np.isfinite(rows).all() for rows in (examples, background, hints)):
        problem = "embeddings hold values that are not finite"
    elif not 0.0 < prevalence < 1.0:
        problem = f"prevalence {prevalence} is not strictly between 0 and 1"
    elif len(background) < FEWEST_BACKGROUND:
        problem = f"{len(background)} background rows, at least {FEWEST_BACKGROUND} are needed"
    if problem:
        raise ValueError(problem)
