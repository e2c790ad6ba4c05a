"""Fit a head: from labelled embeddings and the background to a score that can be published.

The served score is ``sigmoid(weights . e + bias)``: calibration and the prevalence are affine in
the embedding, so they are folded into the weights. Figures: docs/few-shot-heads.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from service.training.calibration import (
    AffineCalibration,
    expected_calibration_error,
    fit_affine,
    log_loss,
    sigmoid,
)
from service.training.discriminant import IN_WEIGHT, OUT_WEIGHT, fit_discriminant
from service.training.thresholds import f1_threshold

Floats = NDArray[np.float64]

FEWEST_POSITIVES = 4

# How real texts outside an occupation differ from the background, in held-out scores: their mean
# lies this share of the way to the positives, and they spread this much wider. Measured on the
# dev tasks; `out` examples take over as there are more of them than OUT_PRIOR_ROWS.
REGISTER_SHIFT = 0.2
REGISTER_SPREAD = 1.4
OUT_PRIOR_ROWS = 16

# Standard errors of the calibrated logit at the threshold that count as too close to call.
UNCERTAIN_ERRORS = 1.0

# Share of texts of the background's own kind that the familiarity floor may call unfamiliar.
UNFAMILIAR_RATE = 0.005
FAMILIARITY_ROWS = 512

_BOOTSTRAPS = 200


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the 2.5 and 97.5 percentiles of its bootstrap distribution."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class HeadMetrics:
    """Held-out figures at the declared prevalence, background rows standing for the rest."""

    average_precision: Interval
    f1: Interval
    calibration_error: Interval
    log_loss: Interval
    positives: int
    negatives: int
    background: int


@dataclass(frozen=True, slots=True)
class HeadFit:
    """A fitted head: everything that serving needs, and how good it looked when held out."""

    weights: NDArray[np.float32]
    bias: float
    threshold: float
    uncertain_low: float
    uncertain_high: float
    familiarity_floor: float
    metrics: HeadMetrics


@dataclass(frozen=True, slots=True)
class _Sample:
    """Held-out scores as a sample of the population at the declared prevalence."""

    scores: Floats
    outcomes: Floats
    weights: Floats


def fit_head(
    examples: NDArray[np.float32],
    labels: NDArray[np.bool_],
    background: NDArray[np.float32],
    *,
    prevalence: float,
    seed: int,
    groups: NDArray[np.intp] | None = None,
) -> HeadFit:
    """Fit weights, calibration, threshold and the `uncertain` rules of one head.

    Args:
        examples: float32[n, d] unit-length embeddings, as they will be served.
        labels: bool[n], true for `in`. At least 4 distinct `in` texts; `out` is optional.
        background: float32[m, d] unit-length embeddings of the background, m at least 50.
        prevalence: expected share of positives among the texts that will be scored.
        seed: seeds the bootstrap of the intervals and nothing that is served.
        groups: intp[n], equal for copies of a text; by default equal embeddings are copies.

    Raises:
        ValueError: if shapes disagree, values are not finite, the prevalence is not strictly
            between 0 and 1, or there are too few distinct positives or background rows.
    """
    _check(examples, labels, background, prevalence)
    copies = _copies(examples) if groups is None else np.unique(groups, return_inverse=True)[1]
    _check_positives(labels, copies)
    # One thread: sums in another order would give other bytes.
    with threadpool_limits(limits=1, user_api="blas"):
        return _fit(examples, labels, background, prevalence, seed, copies)


def _fit(
    examples: NDArray[np.float32],
    labels: NDArray[np.bool_],
    background: NDArray[np.float32],
    prevalence: float,
    seed: int,
    copies: NDArray[np.intp],
) -> HeadFit:
    shares = 1.0 / np.bincount(copies)[copies]  # copies of a text count once
    rows = np.concatenate([examples, background]).astype(np.float64)
    targets = np.concatenate([np.where(labels, 1.0, -1.0), np.full(len(background), -1.0)])
    weights = np.concatenate(
        [_class_weights(labels, shares), np.full(len(background), 1.0 / len(background))]
    )
    row_groups = np.concatenate([copies, copies.max() + 1 + np.arange(len(background))])
    fit = fit_discriminant(rows, targets, weights, row_groups)
    held_out = fit.held_out[: len(examples)]
    sample, calibration = _calibrate(
        held_out[labels],
        shares[labels],
        held_out[~labels],
        shares[~labels],
        fit.held_out[len(examples) :],
        prevalence,
    )
    chances = sigmoid(calibration.logits(sample.scores))
    threshold = f1_threshold(chances, sample.outcomes, sample.weights)
    low, high = _uncertain_band(calibration, threshold)
    return HeadFit(
        weights=(calibration.slope * fit.weights).astype(np.float32),
        bias=calibration.slope * fit.bias + calibration.offset,
        threshold=threshold,
        uncertain_low=low,
        uncertain_high=high,
        familiarity_floor=_familiarity_floor(examples, background),
        metrics=_metrics(sample, chances, threshold, labels, len(background), seed),
    )


def _class_weights(labels: NDArray[np.bool_], shares: Floats) -> Floats:
    """Weights float64[n] by which each class weighs what its constant says in total."""
    weights = shares.copy()
    for label, total in ((True, IN_WEIGHT), (False, OUT_WEIGHT)):
        members = labels == label
        weights[members] *= total / max(float(shares[members].sum()), 1.0)
    return weights


def _calibrate(
    positives: Floats,
    positive_shares: Floats,
    negatives: Floats,
    negative_shares: Floats,
    background: Floats,
    prevalence: float,
) -> tuple[_Sample, AffineCalibration]:
    """Fit the sigmoid on held-out positives, `out` examples and the moved background."""
    distinct = float(positive_shares.sum())
    distinct_out = float(negative_shares.sum())
    moved = _move_background(positives, negatives, negative_shares, background)
    trust = distinct_out / (distinct_out + OUT_PRIOR_ROWS)
    rest = 1.0 - prevalence
    sample = _Sample(
        scores=np.concatenate([positives, negatives, moved]),
        outcomes=np.concatenate([np.ones_like(positives), np.zeros(len(negatives) + len(moved))]),
        weights=np.concatenate(
            [
                prevalence * positive_shares / distinct,
                rest * trust * negative_shares / max(distinct_out, 1.0),
                np.full(len(moved), rest * (1.0 - trust) / len(moved)),
            ]
        ),
    )
    # Platt's target for positives: one more positive and one more negative than were seen.
    softened = sample.outcomes * (distinct + 1.0) / (distinct + 2.0)
    calibration = fit_affine(sample.scores, softened, sample.weights * distinct / prevalence)
    return sample, calibration


def _move_background(
    positives: Floats, negatives: Floats, negative_shares: Floats, background: Floats
) -> Floats:
    """Held-out background scores float64[m] moved to where real negatives are expected."""
    start, spread = float(background.mean()), float(background.std())
    gap = max(float(positives.mean()) - start, spread)
    count = float(negative_shares.sum())
    centre = start + REGISTER_SHIFT * gap
    variance = (REGISTER_SPREAD * spread) ** 2
    if count:
        total = OUT_PRIOR_ROWS + count
        centre = (OUT_PRIOR_ROWS * centre + float(negative_shares @ negatives)) / total
        scatter = float(negative_shares @ (negatives - centre) ** 2)
        variance = (OUT_PRIOR_ROWS * variance + scatter) / total
    moved: Floats = centre + (background - start) * (np.sqrt(variance) / max(spread, 1e-12))
    return moved


def _uncertain_band(calibration: AffineCalibration, threshold: float) -> tuple[float, float]:
    """The scores within `UNCERTAIN_ERRORS` standard errors of the threshold, in logits."""
    logit = float(np.log(threshold / (1.0 - threshold)))
    slope = calibration.slope or 1.0
    margin = UNCERTAIN_ERRORS * calibration.logit_error((logit - calibration.offset) / slope)
    band = sigmoid(np.array([logit - margin, logit + margin]))
    return float(band[0]), float(band[1])


def _familiarity_floor(examples: NDArray[np.float32], background: NDArray[np.float32]) -> float:
    """The nearest-neighbour similarity that all but `UNFAMILIAR_RATE` of the background reach."""
    probes = np.linspace(0, len(background) - 1, min(FAMILIARITY_ROWS, len(background)))
    chosen = np.unique(probes.astype(np.intp))
    similarity = background[chosen] @ np.concatenate([background, examples]).T
    similarity[np.arange(len(chosen)), chosen] = -1.0
    return float(np.quantile(similarity.max(axis=1), UNFAMILIAR_RATE))


def _metrics(
    sample: _Sample,
    chances: Floats,
    threshold: float,
    labels: NDArray[np.bool_],
    background: int,
    seed: int,
) -> HeadMetrics:
    """Held-out figures with bootstrap intervals over the labelled rows and the background."""

    def figures(weights: Floats) -> tuple[float, float, float, float]:
        called = chances >= threshold
        found = float(weights[called] @ sample.outcomes[called])
        size = float(weights[called].sum() + weights @ sample.outcomes)
        return (
            float(average_precision_score(sample.outcomes, chances, sample_weight=weights)),
            2.0 * found / size if size else 0.0,
            expected_calibration_error(chances, sample.outcomes, weights),
            log_loss(chances, sample.outcomes, weights),
        )

    generator = np.random.default_rng(seed)
    bounds = (int(labels.sum()), len(labels), len(sample.scores))
    draws = []
    for _ in range(_BOOTSTRAPS):
        weights = sample.weights.copy()
        for start, stop in zip((0, *bounds[:-1]), bounds, strict=True):
            drawn = generator.integers(stop - start, size=stop - start) if stop > start else []
            weights[start:stop] *= np.bincount(drawn, minlength=stop - start)
        draws.append(figures(weights))
    low, high = np.percentile(np.array(draws), [2.5, 97.5], axis=0)
    intervals = [
        Interval(value, float(bottom), float(top))
        for value, bottom, top in zip(figures(sample.weights), low, high, strict=True)
    ]
    return HeadMetrics(*intervals, bounds[0], bounds[1] - bounds[0], background)


def _copies(examples: NDArray[np.float32]) -> NDArray[np.intp]:
    """Group numbers intp[n]: equal for equal embeddings."""
    return np.unique(examples, axis=0, return_inverse=True)[1].reshape(-1)


def _check(
    examples: NDArray[np.float32],
    labels: NDArray[np.bool_],
    background: NDArray[np.float32],
    prevalence: float,
) -> None:
    """Raise ValueError for arguments that no head can be fitted on."""
    if examples.ndim != 2 or background.ndim != 2 or examples.shape[1] != background.shape[1]:
        message = f"embeddings {examples.shape} and background {background.shape} do not match"
        raise ValueError(message)
    if labels.shape != (len(examples),):
        message = f"{len(examples)} examples but labels of shape {labels.shape}"
        raise ValueError(message)
    if not (np.isfinite(examples).all() and np.isfinite(background).all()):
        message = "embeddings hold values that are not finite"
        raise ValueError(message)
    if not 0.0 < prevalence < 1.0:
        message = f"prevalence {prevalence} is not strictly between 0 and 1"
        raise ValueError(message)
    if len(background) < 50:
        message = f"{len(background)} background rows are too few"
        raise ValueError(message)


def _check_positives(labels: NDArray[np.bool_], copies: NDArray[np.intp]) -> None:
    """Raise ValueError where there are too few distinct positives to hold any out."""
    distinct = len(np.unique(copies[labels]))
    if distinct < FEWEST_POSITIVES:
        message = f"{distinct} distinct `in` examples, at least {FEWEST_POSITIVES} are needed"
        raise ValueError(message)
