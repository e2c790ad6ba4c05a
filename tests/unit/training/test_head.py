"""A head's fit, read as a specification: synthetic embeddings, no encoder."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from service.training.calibration import fit_affine, sigmoid
from service.training.discriminant import class_weights, fit_discriminant
from service.training.head import HeadFit, fit_head
from service.training.measures import average_precision
from service.training.neighbours import MOST_SET_ASIDE, familiarity_floor, unlike_positives
from service.training.population import Population
from service.training.thresholds import f1_curve, f1_threshold

Embeddings = NDArray[np.float32]
Labels = NDArray[np.bool_]

DIMENSIONS = 32
PREVALENCE = 0.05


def unit(rows: NDArray[np.float64]) -> Embeddings:
    embeddings: Embeddings = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return embeddings


def background(rows: int = 400, seed: int = 1) -> Embeddings:
    return unit(np.random.default_rng(seed).normal(size=(rows, DIMENSIONS)))


def drawn(count: int, pull: float, seed: int) -> Embeddings:
    """Texts pulled towards one occupation; a pull of 0 makes them like the background."""
    noise = np.random.default_rng(seed).normal(size=(count, DIMENSIONS))
    noise[:, 0] += pull * np.sqrt(DIMENSIONS)
    return unit(noise)


def examples(inside: int, outside: int, seed: int = 2) -> tuple[Embeddings, Labels]:
    rows = np.concatenate([drawn(inside, 0.8, seed), drawn(outside, 0.0, seed + 100)])
    return rows, np.arange(inside + outside) < inside


def fitted(inside: int, outside: int, prevalence: float = PREVALENCE) -> HeadFit:
    return fit_head(*examples(inside, outside), background(), prevalence=prevalence, seed=0)


def served(fit: HeadFit, embeddings: Embeddings) -> NDArray[np.float64]:
    return sigmoid(embeddings.astype(np.float64) @ fit.weights + fit.bias)


def as_bytes(fit: HeadFit) -> bytes:
    rest = dataclasses.astuple(dataclasses.replace(fit, weights=fit.weights[:0]))
    return fit.weights.tobytes() + repr(rest).encode()


@pytest.mark.parametrize(("inside", "outside"), [(4, 0), (4, 4), (16, 0), (16, 16), (1000, 1000)])
def test_a_head_separates_from_four_positives_to_two_thousand_examples(
    inside: int, outside: int
) -> None:
    fit = fitted(inside, outside)
    scores = served(fit, np.concatenate([drawn(50, 0.8, 9), drawn(950, 0.0, 10)]))
    assert average_precision_score(np.arange(1000) < 50, scores) > 0.8
    assert np.isfinite(fit.weights).all()
    assert 0 < fit.uncertain_low < fit.threshold < fit.uncertain_high < 1


def test_the_weights_are_float32_and_the_served_score_is_a_sigmoid_of_one_dot_product() -> None:
    fit = fitted(8, 8)
    assert fit.weights.dtype == np.float32
    assert fit.weights.shape == (DIMENSIONS,)
    assert isinstance(fit.bias, float)


def test_scores_are_calibrated_at_the_declared_prevalence() -> None:
    fit = fitted(64, 64)
    scores = served(fit, np.concatenate([drawn(500, 0.8, 11), drawn(9500, 0.0, 12)]))
    assert scores.mean() == pytest.approx(PREVALENCE, abs=0.02)


def test_a_rarer_occupation_scores_lower() -> None:
    text = drawn(1, 0.5, 13)
    common, rare = fitted(16, 16, prevalence=0.3), fitted(16, 16, prevalence=0.01)
    assert served(rare, text)[0] < served(common, text)[0]


def test_the_threshold_reaches_nine_tenths_of_the_best_f1() -> None:
    fit = fitted(16, 0)
    inside = np.arange(4000) < 200
    scores = served(fit, np.concatenate([drawn(200, 0.8, 14), drawn(3800, 0.0, 15)]))

    def f1(threshold: float) -> float:
        called = scores >= threshold
        return float(2 * (called & inside).sum() / (called.sum() + inside.sum()))

    assert f1(fit.threshold) >= 0.9 * max(f1(threshold) for threshold in scores)


def test_a_lone_positive_is_not_promised_certainty() -> None:
    fit = fitted(4, 0)
    assert served(fit, drawn(200, 0.8, 16)).max() < 0.999


def test_the_uncertain_band_narrows_as_examples_are_added() -> None:
    def width(fit: HeadFit) -> float:
        ends = np.array([fit.uncertain_low, fit.uncertain_high])
        return float(np.diff(np.log(ends / (1 - ends)))[0])

    assert width(fitted(200, 200)) < width(fitted(8, 8))


def test_the_same_inputs_give_the_same_bytes() -> None:
    assert as_bytes(fitted(12, 12)) == as_bytes(fitted(12, 12))


def test_the_number_of_threads_does_not_change_a_byte() -> None:
    with threadpool_limits(limits=2):
        two = as_bytes(fitted(12, 12))
    with threadpool_limits(limits=1):
        one = as_bytes(fitted(12, 12))
    assert two == one


def test_the_seed_touches_intervals_and_nothing_that_is_served() -> None:
    rows, labels = examples(8, 8)
    first = fit_head(rows, labels, background(), prevalence=PREVALENCE, seed=1)
    second = fit_head(rows, labels, background(), prevalence=PREVALENCE, seed=2)
    assert first.weights.tobytes() == second.weights.tobytes()
    assert (first.bias, first.threshold) == (second.bias, second.threshold)
    assert first.metrics.average_precision.low != second.metrics.average_precision.low


def test_copies_of_a_text_count_once() -> None:
    rows, labels = examples(8, 8)
    repeated = np.concatenate([rows, rows[:3]])
    more = np.concatenate([labels, labels[:3]])
    once = fit_head(rows, labels, background(), prevalence=PREVALENCE, seed=0)
    twice = fit_head(repeated, more, background(), prevalence=PREVALENCE, seed=0)
    np.testing.assert_allclose(once.weights, twice.weights, rtol=1e-4)
    assert once.threshold == pytest.approx(twice.threshold, rel=1e-3)


def test_rows_the_caller_groups_are_held_out_together() -> None:
    rows, labels = examples(8, 8)
    near = unit(rows[:1].astype(np.float64) + 1e-3)
    groups = np.append(np.arange(16), 0)
    fit = fit_head(
        np.concatenate([rows, near]),
        np.append(labels, True),
        background(),
        prevalence=PREVALENCE,
        seed=0,
        groups=groups,
    )
    alone = fit_head(rows, labels, background(), prevalence=PREVALENCE, seed=0)
    assert fit.threshold == pytest.approx(alone.threshold, rel=0.05)


def test_held_out_scores_are_those_of_a_fit_without_the_row() -> None:
    rows, labels = examples(6, 6)
    everything = np.concatenate([rows, background(80)]).astype(np.float64)
    targets = np.concatenate([np.where(labels, 1.0, -1.0), np.full(80, -1.0)])
    weights = np.concatenate([class_weights(labels, np.ones(12)), np.full(80, 1 / 80)])
    groups = np.arange(92)
    groups[1] = groups[0]
    fit = fit_discriminant(everything, targets, weights, groups)
    # The ridge is a share of the variance, which moves a little when a row leaves: hence the
    # tolerance; a score that had seen its row would be off by far more.
    for left_out in ([0, 1], [7]):
        rest = np.setdiff1d(np.arange(92), left_out)
        refit = fit_discriminant(everything[rest], targets[rest], weights[rest], groups[rest])
        expected = everything[left_out] @ refit.weights + refit.bias
        np.testing.assert_allclose(fit.held_out[left_out], expected, atol=0.01)
        seen = everything[left_out] @ fit.weights + fit.bias
        assert np.abs(seen - expected).max() > 0.01


def test_a_hint_pulls_the_direction_of_a_head_with_few_examples() -> None:
    rows, labels = examples(4, 0)
    name = np.eye(DIMENSIONS, dtype=np.float32)[:1]
    plain = fit_head(rows, labels, background(), prevalence=PREVALENCE, seed=0)
    hinted = fit_head(rows, labels, background(), prevalence=PREVALENCE, seed=0, hints=name)

    def along(fit: HeadFit) -> float:
        return float(fit.weights[0] / np.linalg.norm(fit.weights))

    assert along(hinted) > along(plain)
    assert hinted.metrics.positives == 4


def test_suggested_examples_turn_the_direction_and_calibrate_nothing() -> None:
    rows, labels = examples(8, 0)
    # The hardest part of what is outside: half way to the occupation, and with a mark of its own.
    hard = drawn(16, 0.4, 30)
    hard[:, 1] += 0.5
    hard = unit(hard.astype(np.float64))
    texts = np.concatenate([rows, hard])
    truth = np.concatenate([labels, np.zeros(16, dtype=np.bool_)])

    def fit(suggested: Labels | None) -> HeadFit:
        return fit_head(
            texts, truth, background(), prevalence=PREVALENCE, seed=0, suggested=suggested
        )

    alone = fit_head(rows, labels, background(), prevalence=PREVALENCE, seed=0)
    told, untold = fit(~truth), fit(None)

    def against_the_mark(head: HeadFit) -> float:
        return float(-head.weights[1] / np.linalg.norm(head.weights))

    # They turn it less than a sample of what is outside would.
    assert against_the_mark(alone) < against_the_mark(told) < against_the_mark(untold)
    assert told.metrics.negatives == 16
    # What was drawn at random is a sample, whoever else was suggested.
    assert as_bytes(fit(np.zeros_like(truth))) == as_bytes(untold)


def test_suggested_in_examples_calibrate_only_where_too_few_others_do() -> None:
    rows, labels = examples(8, 8)
    plain = fit_head(rows, labels, background(), prevalence=PREVALENCE, seed=0)
    every_in = fit_head(rows, labels, background(), prevalence=PREVALENCE, seed=0, suggested=labels)
    assert as_bytes(every_in) == as_bytes(plain)
    four = np.arange(16) < 4
    some = fit_head(rows, labels, background(), prevalence=PREVALENCE, seed=0, suggested=four)
    np.testing.assert_allclose(
        some.weights / np.linalg.norm(some.weights),
        plain.weights / np.linalg.norm(plain.weights),
        atol=1e-6,
    )
    assert some.threshold != plain.threshold


def test_positives_among_the_background_do_not_spoil_the_head() -> None:
    rows, labels = examples(16, 0)
    poison = drawn(20, 0.8, 20)
    clean = fit_head(rows, labels, background(), prevalence=PREVALENCE, seed=0)
    poisoned = np.concatenate([background(), poison])
    spoilt = fit_head(rows, labels, poisoned, prevalence=PREVALENCE, seed=0)
    inside = drawn(200, 0.8, 21)

    def found(fit: HeadFit) -> float:
        return float((served(fit, inside) >= fit.threshold).mean())

    kept = unlike_positives(rows, np.arange(16), poisoned)
    assert kept[-20:].mean() <= 0.6
    assert kept[:-20].mean() >= 0.9
    assert found(spoilt) > 0.8 * found(clean)


def test_a_scattered_occupation_sets_aside_a_tenth_of_the_background_at_most() -> None:
    rows = background(400)
    kept = unlike_positives(drawn(4, 0.0, 22), np.arange(4), rows)
    assert kept.mean() >= 1 - MOST_SET_ASIDE - 0.01


def test_nearly_all_texts_like_the_background_are_familiar_and_an_opposite_one_is_not() -> None:
    rows = background(2000)
    new = (background(2000, seed=23) @ rows.T).max(axis=1)
    assert (new < familiarity_floor(rows)).mean() < 0.01
    far = np.eye(DIMENSIONS, dtype=np.float32)
    crowd = unit(np.abs(np.random.default_rng(24).normal(size=(100, DIMENSIONS))))
    assert (-far @ crowd.T).max() < familiarity_floor(crowd)


def test_a_fit_stays_well_below_a_second_at_the_served_size() -> None:
    generator = np.random.default_rng(25)
    rows = unit(generator.normal(size=(32, 384)))
    crowd = unit(generator.normal(size=(2600, 384)))
    started = time.process_time()
    fit_head(rows, np.arange(32) < 16, crowd, prevalence=PREVALENCE, seed=0)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prevalence": 0.0}, "prevalence"),
        ({"prevalence": 1.0}, "prevalence"),
        ({"labels": np.zeros(8, dtype=np.bool_)}, "distinct `in`"),
        ({"labels": np.ones(7, dtype=np.bool_)}, "labels"),
        ({"background": background(10)}, "background rows"),
        ({"background": background()[:, :5]}, "do not match"),
        ({"hints": background()[:1, :5]}, "do not match"),
        ({"examples": np.full((8, DIMENSIONS), np.nan, dtype=np.float32)}, "finite"),
        ({"groups": np.zeros(8, dtype=np.intp)}, "distinct `in`"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_reason(
    change: dict[str, NDArray[np.float32] | float], message: str
) -> None:
    rows, labels = examples(8, 0)
    arguments = {
        "examples": rows,
        "labels": labels,
        "background": background(),
        "prevalence": PREVALENCE,
        "seed": 0,
    } | change
    with pytest.raises(ValueError, match=message):
        fit_head(**arguments)  # type: ignore[arg-type]


def test_calibration_recovers_a_known_sigmoid() -> None:
    scores = np.linspace(-3, 3, 400)
    truth = sigmoid(2.0 * scores - 1.0)
    fit = fit_affine(scores, truth, np.ones_like(scores))
    assert (fit.slope, fit.offset) == pytest.approx((2.0, -1.0), abs=1e-6)


def test_calibration_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="both classes"):
        fit_affine(np.arange(4.0), np.zeros(4), np.ones(4))


def normal_population(positives: int, seed: int) -> Population:
    generator = np.random.default_rng(seed)
    inside, outside = generator.normal(3, 1, positives), generator.normal(0, 1, 5000)
    weights = np.concatenate([np.full(positives, 0.05 / positives), np.full(5000, 0.95 / 5000)])
    outcomes = np.concatenate([np.ones(positives), np.zeros(5000)])
    return Population(np.concatenate([inside, outside]), outcomes, weights)


def test_a_threshold_from_many_positives_is_the_best_one() -> None:
    known = normal_population(2000, seed=26)
    assert f1_threshold([known]) == pytest.approx(2.33, abs=0.15)  # by the two normals' tails


def test_a_threshold_from_eight_positives_is_nearly_as_good() -> None:
    known = normal_population(2000, seed=26)
    candidates = np.linspace(-1, 5, 601)
    truth = f1_curve(known, candidates)
    reached = [
        np.interp(f1_threshold([normal_population(8, seed)]), candidates, truth)
        for seed in range(20)
    ]
    assert np.mean(reached) > 0.9 * truth.max()


def test_a_threshold_needs_a_positive() -> None:
    empty = Population(np.arange(3.0), np.zeros(3), np.full(3, 1 / 3))
    with pytest.raises(ValueError, match="at least one positive"):
        f1_threshold([empty])


def test_average_precision_equals_scikit_learns_with_ties_and_weights() -> None:
    generator = np.random.default_rng(27)
    scores = np.round(generator.random(300), 1)
    outcomes = (generator.random(300) < scores).astype(np.float64)
    weights = generator.random(300)
    expected = average_precision_score(outcomes, scores, sample_weight=weights)
    assert average_precision(scores, outcomes, weights) == pytest.approx(expected)
