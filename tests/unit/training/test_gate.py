"""The gate: equal folds for both methods, and a decision that noise does not make."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from service.training.gate import (
    Fold,
    FoldScores,
    fold_precision,
    judge,
    make_folds,
    score_fold,
    standing_background,
)
from service.training.tuned_head import held_out_scores


def _fold(inside: list[float], outside: list[float], background: list[float]) -> FoldScores:
    return FoldScores(
        np.array([*inside, *outside]),
        np.arange(len(inside) + len(outside)) < len(inside),
        np.array(background),
    )


def _folds(levels: list[float]) -> list[FoldScores]:
    """Folds whose positives stand at the levels, over one background."""
    crowd = np.random.default_rng(0).normal(-1.0, 0.3, 200).tolist()
    return [_fold([level, level + 0.1], [-0.9, -0.8], crowd) for level in levels]


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(
        np.float32
    )
    return unit


def test_every_row_is_judged_once_a_repeat_and_never_trained_on_then() -> None:
    labels = np.arange(20) < 7
    folds = make_folds(labels, splits=3, repeats=2, seed=4)
    assert len(folds) == 6
    for repeat in (folds[:3], folds[3:]):
        assert sorted(np.concatenate([fold.test for fold in repeat]).tolist()) == list(range(20))
    for fold in folds:
        assert not set(fold.train) & set(fold.test)
        assert len(fold.train) + len(fold.test) == 20
        assert 2 <= labels[fold.test].sum() <= 3
        assert 6 <= len(fold.test) <= 7
    again = make_folds(labels, splits=3, repeats=2, seed=4)
    assert all(np.array_equal(one.test, two.test) for one, two in zip(folds, again, strict=True))
    other = make_folds(labels, splits=3, repeats=2, seed=5)
    assert any(
        not np.array_equal(one.test, two.test) for one, two in zip(folds, other, strict=True)
    )


def test_one_class_and_few_rows_still_make_folds() -> None:
    folds = make_folds(np.full(4, fill_value=True), splits=3, repeats=1, seed=0)
    assert [len(fold.test) for fold in folds] == [2, 1, 1]
    assert all(len(fold.train) >= 2 for fold in folds)


def test_equal_scores_are_no_gain() -> None:
    folds = _folds([-0.2, 0.0, 0.1])
    verdict = judge(folds, folds, 0.05)
    assert verdict.promote is False
    assert verdict.difference == 0.0
    assert "not higher" in verdict.reason


def test_a_gain_in_every_fold_promotes() -> None:
    old, new = _folds([-0.6, -0.5, -0.55]), _folds([0.5, 0.6, 0.7])
    verdict = judge(old, new, 0.05)
    assert verdict.promote is True
    assert verdict.challenger > verdict.champion
    assert verdict.difference > verdict.standard_error
    assert judge(new, old, 0.05).promote is False
    assert set(verdict.figures()) == {
        "champion_average_precision",
        "challenger_average_precision",
        "difference",
        "standard_error",
        "folds",
    }


def test_a_mean_gain_within_its_error_does_not_promote() -> None:
    verdict = judge(_folds([-0.5, -0.5, 0.6]), _folds([0.6, -0.5, -0.3]), 0.05)
    assert abs(verdict.difference) < verdict.standard_error
    assert verdict.promote is False


def test_the_error_is_that_of_the_mean_over_the_folds() -> None:
    old, new = _folds([-0.6, -0.5, -0.7]), _folds([-0.2, 0.5, -0.4])
    verdict = judge(old, new, 0.05)
    gains = [
        fold_precision(two, 0.05) - fold_precision(one, 0.05)
        for one, two in zip(old, new, strict=True)
    ]
    expected = np.sqrt(np.var(gains, ddof=1) / 3)
    assert verdict.standard_error == pytest.approx(expected)


def test_folds_without_positives_are_left_out_and_too_few_decide_nothing() -> None:
    empty = _fold([], [-0.5], [-1.0, -0.9])
    one = _folds([0.5])
    verdict = judge([empty, *one], [empty, *one], 0.05)
    assert verdict.promote is False
    assert verdict.folds == 1
    assert "too few" in verdict.reason


def test_average_precision_falls_with_the_prevalence() -> None:
    (fold,) = _folds([-0.4])
    assert fold_precision(fold, 0.5) > fold_precision(fold, 0.01) > 0.0


def test_scores_come_from_a_fit_without_the_fold() -> None:
    generator = np.random.default_rng(1)
    labels = np.arange(12) < 6
    centre = np.where(labels[:, None], 2.0, -2.0) * np.eye(8)[0]
    examples = _unit(centre + generator.normal(size=(12, 8)))
    crowd = _unit(generator.normal(size=(150, 8)) - np.eye(8)[0])
    kept = crowd[standing_background(examples[labels], crowd)]
    assert 0.9 * len(crowd) - 1 <= len(kept) <= len(crowd)
    folds = make_folds(labels, splits=3, repeats=1, seed=0)
    scored = [score_fold(examples, labels, kept, examples[:0], fold) for fold in folds]
    for fold, one in zip(folds, scored, strict=True):
        assert len(one.scores) == len(fold.test)
        assert len(one.background) == len(kept)
        assert one.scores[one.labels].mean() > one.scores[~one.labels].mean()
        moved = examples.copy()
        moved[fold.test] = -moved[fold.test]
        other = score_fold(moved, labels, kept, examples[:0], fold)
        assert np.array_equal(other.background, one.background)
    spread = held_out_scores(folds, scored, 12)
    assert np.isfinite(spread).all()
    assert np.array_equal(spread[folds[1].test], scored[1].scores)


def test_held_out_scores_are_the_mean_over_repeats() -> None:
    fold = Fold(np.array([0]), np.array([1, 2]))
    other = Fold(np.array([1, 2]), np.array([0]))
    scores = [_fold([1.0], [0.0], [-1.0]), _fold([3.0], [4.0], [-1.0]), _fold([5.0], [], [-1.0])]
    assert held_out_scores([fold, fold, other], scores, 3).tolist() == [5.0, 2.0, 2.0]
