"""What a version is expected to answer: shares that can be checked by hand, and on fresh texts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from service.telemetry.predictions import SCORE_BOUNDS, SCORE_EDGES
from service.training.head import fit_head
from service.training.neighbours import UNFAMILIAR_RATE
from service.training.reference import Reference, expected_reference
from service.training.tuned_head import fit_tuned_head
from tests.unit.training.test_head import PREVALENCE, background, drawn, examples, served

Floats = NDArray[np.float64]


def _reference(scores: list[float], weights: list[float] | None = None) -> Reference:
    """With 0.5 as the threshold and 0.45 to 0.55 too close to call."""
    shares = np.ones(len(scores)) if weights is None else np.array(weights)
    return expected_reference(np.array(scores), shares, 0.5, 0.45, 0.55)


def _below(scores: Floats) -> Floats:
    """Shares of scores up to each bound that is counted, float64[11]."""
    return np.array([*((scores <= edge).mean() for edge in SCORE_EDGES), 1.0])


def test_scores_are_shares_that_add_up_from_bound_to_bound() -> None:
    found = _reference([0.05, 0.1, 0.31, 0.95])
    assert found.scores == (0.5, 0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 1.0, 1.0)


def test_a_row_counts_by_its_weight_whatever_their_scale() -> None:
    few, many = _reference([0.05, 0.95], [3, 1]), _reference([0.05, 0.95], [300, 100])
    assert few == many
    assert few.scores[0] == 0.75


def test_labels_are_those_of_the_threshold_the_band_and_the_rate_of_the_unfamiliar() -> None:
    found = _reference([0.2, 0.45, 0.5, 0.55, 0.56])
    familiar = 1.0 - UNFAMILIAR_RATE
    assert found.inside == pytest.approx(0.2 * familiar, abs=1e-6)
    assert found.outside == pytest.approx(0.2 * familiar, abs=1e-6)
    assert found.uncertain == pytest.approx(0.6 * familiar + UNFAMILIAR_RATE, abs=1e-6)


def test_a_manifest_holds_a_share_for_each_bound_that_is_counted_and_for_each_label() -> None:
    written = _reference([0.05, 0.95]).as_json()
    assert tuple(written["scores"]) == SCORE_BOUNDS
    assert written["scores"]["0.1"] == 0.5
    assert sum(written["labels"].values()) == pytest.approx(1.0, abs=1e-5)


def test_the_reference_of_a_head_is_what_it_answers_on_texts_that_it_never_saw() -> None:
    """Many `out` examples say where real texts lie, and these are drawn as they were."""
    fit = fit_head(*examples(300, 600), background(), prevalence=PREVALENCE, seed=0)
    scores = served(fit, np.concatenate([drawn(500, 0.8, 31), drawn(9500, 0.0, 32)]))
    assert np.abs(_below(scores) - fit.reference.scores).max() < 0.03
    assert fit.reference.inside == pytest.approx((scores >= fit.uncertain_high).mean(), abs=0.02)


def test_a_rarer_occupation_is_expected_to_score_lower_and_to_be_in_less_often() -> None:
    common, rare = (
        fit_head(*examples(16, 16), background(), prevalence=prevalence, seed=0).reference
        for prevalence in (0.3, 0.01)
    )
    assert rare.scores[0] > common.scores[0]
    assert rare.inside < common.inside


def test_the_reference_of_a_tuned_head_is_of_the_scores_that_were_held_out() -> None:
    """The encoder has pulled its examples apart; the folds that left them out have not."""
    rows, labels = examples(16, 16)

    def fitted(held_out: Floats) -> Reference:
        return fit_tuned_head(
            rows,
            labels,
            np.arange(32),
            background(),
            rows[:0],
            held_out,
            labels,
            prevalence=0.2,
            seed=0,
        ).reference

    sides = np.where(labels, 1.0, -1.0)
    overlapping = np.random.default_rng(33).normal(0.3 * sides, 0.5)
    apart, mixed = fitted(sides), fitted(overlapping)
    # Of what is in, little is found where held-out scores overlap.
    assert mixed.scores[4] > apart.scores[4]
    assert mixed.scores[0] < apart.scores[0]
