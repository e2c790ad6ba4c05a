"""Every statistic against scikit-learn, or against a sum that fits in a comment."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from service.training import measures
from service.training.evaluation.judged import (
    FIGURES,
    Answer,
    Judged,
    figures,
    over_draws,
    over_rows,
)

Floats = NDArray[np.float64]


def sample(size: int = 400, seed: int = 5) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Scores with ties, labels that follow them, weights."""
    generator = np.random.default_rng(seed)
    scores = np.round(generator.random(size), 2)
    inside = generator.random(size) < scores**2
    return scores, inside, generator.random(size) + 0.1


def judged(
    scores: list[float],
    inside: Sequence[int],
    *,
    threshold: float = 0.5,
    uncertain: list[int] | None = None,
    units: list[int] | None = None,
    prevalence: float | None = None,
) -> Judged:
    unsure = None if uncertain is None else np.array(uncertain, dtype=np.bool_)
    return Judged(
        Answer(np.array(scores), threshold, unsure),
        np.array(inside, dtype=np.bool_),
        np.array(units if units is not None else range(len(scores))),
        prevalence,
    )


def test_precision_recall_and_accuracy_are_scikit_learns() -> None:
    scores, inside, weights = sample()
    outcomes = inside.astype(np.float64)
    called = scores >= 0.4
    expected = (
        sklearn_metrics.precision_score(inside, called, sample_weight=weights),
        sklearn_metrics.recall_score(inside, called, sample_weight=weights),
        sklearn_metrics.accuracy_score(inside, called, sample_weight=weights),
        sklearn_metrics.f1_score(inside, called, sample_weight=weights),
    )
    found = (
        measures.precision_at(0.4, scores, outcomes, weights),
        measures.recall_at(0.4, scores, outcomes, weights),
        measures.accuracy_at(0.4, scores, outcomes, weights),
        measures.f1_at(0.4, scores, outcomes, weights),
    )
    assert found == pytest.approx(expected)


def test_precision_by_recall_is_scikit_learns_curve() -> None:
    scores, inside, weights = sample()
    precision, recall, _ = sklearn_metrics.precision_recall_curve(
        inside, scores, sample_weight=weights
    )
    reached = recall[:-1]  # the last point is of no threshold
    found = measures.precision_by_recall(scores, inside.astype(np.float64), weights, reached)
    # Where several thresholds reach one recall, the first to reach it is the highest one.
    first = {r: p for p, r in zip(precision[:-1], reached, strict=True)}
    assert found.tolist() == pytest.approx([first[r] for r in reached])


def test_the_calibration_curve_is_what_the_calibration_error_adds_up() -> None:
    scores, inside, weights = sample()
    outcomes = inside.astype(np.float64)
    curve = measures.calibration_curve(scores, outcomes, weights)
    held = curve[curve[:, 0] > 0]
    error = (held[:, 0] * np.abs(held[:, 1] - held[:, 2])).sum() / weights.sum()
    assert error == pytest.approx(measures.expected_calibration_error(scores, outcomes, weights))
    assert curve.shape == (measures.CALIBRATION_BINS, 3)
    assert curve[:, 0].sum() == pytest.approx(weights.sum())


def test_the_calibration_error_of_four_rows_by_hand() -> None:
    # Bins of 1/15: 0.01 and 0.02 share one (mean gap |0.03 - 1| / 2), 0.9 and 0.95 are apart.
    found = figures(judged([0.01, 0.02, 0.9, 0.95], [0, 1, 1, 1]))
    assert found["calibration_error"] == pytest.approx((0.97 + 0.1 + 0.05) / 4)


def test_figures_of_six_rows_by_hand() -> None:
    found = figures(
        judged([0.9, 0.8, 0.7, 0.4, 0.3, 0.1], [1, 0, 1, 1, 0, 0], uncertain=[0, 0, 0, 1, 1, 0])
    )
    # Called: 0.9 in, 0.8 out, 0.7 in; one in is missed. Ranks of the in: 1, 3, 4.
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["average_precision"] == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)
    assert found["uncertain_rate"] == pytest.approx(2 / 6)
    assert found["threshold"] == 0.5


def test_a_prevalence_weights_the_rows_as_if_each_label_had_its_share() -> None:
    # 2 in and 2 out at 0.1: each in weighs 0.05, each out 0.45.
    found = figures(judged([0.9, 0.2, 0.8, 0.1], [1, 1, 0, 0], prevalence=0.1))
    assert found["precision"] == pytest.approx(0.05 / 0.5)
    assert found["recall"] == pytest.approx(0.5)
    assert found["accuracy"] == pytest.approx(0.05 + 0.45)


def test_the_share_of_the_rows_themselves_changes_nothing() -> None:
    scores, inside, _ = sample()
    plain = judged(scores.tolist(), inside.tolist())
    weighted = judged(scores.tolist(), inside.tolist(), prevalence=float(inside.mean()))
    assert list(figures(plain).values()) == pytest.approx(
        list(figures(weighted).values()), nan_ok=True
    )


def test_rows_of_one_label_have_no_figure_that_needs_the_other() -> None:
    found = figures(judged([0.2, 0.1], [0, 0]))
    undefined = {name for name, value in found.items() if math.isnan(value)}
    assert undefined == {"precision", "recall", "f1", "average_precision", "uncertain_rate"}
    assert found["accuracy"] == 1.0


def test_rows_of_one_label_cannot_be_weighted_to_a_share_of_both() -> None:
    found = figures(judged([0.9, 0.8], [1, 1], prevalence=0.05))
    assert {name for name, value in found.items() if not math.isnan(value)} == {"threshold"}


def test_a_redraw_without_one_label_has_no_part_in_a_weighted_interval() -> None:
    # One `in` among 20: a third of all redraws lack it, and would be of another population.
    scores = np.linspace(0.05, 0.4, 19).tolist()
    made = judged([0.3, *scores], [1, *[0] * 19], prevalence=0.05)
    found = over_rows(made, seed=0)["accuracy"]
    assert (found.value, found.low, found.high) == pytest.approx((0.95, 0.95, 0.95))


def test_scores_that_are_no_probabilities_have_no_calibration() -> None:
    answer = Answer(np.array([3.0, 0.0]), 1.0, is_probability=False)
    found = figures(Judged(answer, np.array([True, False]), np.arange(2)))
    assert math.isnan(found["calibration_error"])
    assert found["f1"] == 1.0


def test_an_interval_over_rows_is_as_wide_as_theory_says() -> None:
    scores, inside, _ = sample(size=900)
    made = judged(scores.tolist(), inside.tolist())
    found = over_rows(made, seed=0)["accuracy"]
    share = figures(made)["accuracy"]
    assert found.value == share
    expected = 1.96 * math.sqrt(share * (1 - share) / 900)
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.15)


def test_copies_of_a_text_are_redrawn_together() -> None:
    scores, inside, _ = sample(size=200)
    alone = judged(scores.tolist(), inside.tolist())
    fourfold = judged(
        np.repeat(scores, 4).tolist(),
        np.repeat(inside, 4).tolist(),
        units=np.repeat(np.arange(200), 4).tolist(),
    )
    one, four = (over_rows(made, seed=0)["accuracy"] for made in (alone, fourfold))
    assert one.value == four.value
    assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.15)


def test_intervals_hold_their_figure_and_the_threshold_has_none() -> None:
    scores, inside, _ = sample(size=60)
    found = over_rows(judged(scores.tolist(), inside.tolist(), uncertain=[0] * 60), seed=3)
    assert tuple(found) == FIGURES
    assert all(i.low <= i.value <= i.high for name, i in found.items() if name != "threshold")
    assert math.isnan(found["threshold"].low)


def test_the_same_seed_gives_the_same_interval() -> None:
    scores, inside, _ = sample(size=60)
    made = judged(scores.tolist(), inside.tolist())
    assert over_rows(made, seed=3)["f1"] == over_rows(made, seed=3)["f1"]
    assert over_rows(made, seed=3)["f1"] != over_rows(made, seed=4)["f1"]


def draw(value: float) -> dict[str, float]:
    return dict.fromkeys(FIGURES, value)


def test_over_draws_the_mean_stands_between_the_draws() -> None:
    found = over_draws([draw(0.2), draw(0.4), draw(0.9)], seed=0)["f1"]
    assert found.value == pytest.approx(0.5)
    assert 0.2 <= found.low < found.value < found.high <= 0.9


def test_an_interval_over_two_draws_reaches_both() -> None:
    # One redraw in four is of one draw alone, far more than the 2.5 % that are cut off.
    found = over_draws([draw(0.2), draw(0.8)], seed=0)["f1"]
    assert (found.low, found.high) == pytest.approx((0.2, 0.8))


def test_one_draw_has_no_interval() -> None:
    found = over_draws([draw(0.2)], seed=0)["f1"]
    assert found.value == 0.2
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_draw_without_a_figure_is_left_out_of_its_mean() -> None:
    found = over_draws([draw(0.2), draw(float("nan")), draw(0.4)], seed=0)["precision"]
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(0.2)
    none = over_draws([draw(float("nan"))] * 2, seed=0)["precision"]
    assert math.isnan(none.value)
    assert math.isnan(none.low)
