"""The gate: whether the challenger beats the champion on data that neither has seen.

Cross-validation on the examples and the background. Both methods see the same folds; in each, the
method is trained without the fold's examples and a linear score is fitted on what it then makes of
texts. Average precision is that of the population expected at the declared prevalence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from service.training.head import uncalibrated_line
from service.training.measures import average_precision
from service.training.neighbours import unlike_positives
from service.training.population import expected_population

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Fold:
    """Row numbers intp[] of the examples trained on and of those judged on."""

    train: Rows
    test: Rows


@dataclass(frozen=True, slots=True)
class FoldScores:
    """What one method makes of one fold, all by fits that never saw the row.

    ``scores`` float64[t] and ``labels`` bool[t] of the test examples; ``background`` float64[m].
    """

    scores: Floats
    labels: NDArray[np.bool_]
    background: Floats


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision, its reason in one sentence, and the figures it was made by."""

    promote: bool
    reason: str
    champion: float
    challenger: float
    difference: float
    standard_error: float
    folds: int

    def figures(self) -> dict[str, float | int]:
        """What a manifest records."""
        return {
            "champion_average_precision": round(self.champion, 4),
            "challenger_average_precision": round(self.challenger, 4),
            "difference": round(self.difference, 4),
            "standard_error": round(self.standard_error, 4),
            "folds": self.folds,
        }


def make_folds(labels: NDArray[np.bool_], splits: int, repeats: int, seed: int) -> list[Fold]:
    """Repeated stratified folds over distinct texts.

    Args:
        labels: bool[n], true for `in`; `out` may be missing, the background then stands for it.
        splits: folds of one repeat, each holding a share of either class; every fold trains on
            two `in` examples at least when there are ``splits`` or more of them.
        repeats: how often all is shuffled anew.
        seed: of the shuffles.
    """
    generator = np.random.default_rng(seed)
    folds = []
    for _ in range(repeats):
        place = np.empty(len(labels), dtype=np.intp)
        dealt = 0
        for label in (True, False):
            members = generator.permutation(np.flatnonzero(labels == label))
            # Dealing goes on where the first class ended, so that folds stay of one size.
            place[members] = (np.arange(len(members)) + dealt) % splits
            dealt += len(members)
        folds += [
            Fold(np.flatnonzero(place != number), np.flatnonzero(place == number))
            for number in range(splits)
        ]
    return folds


def standing_background(positives: Embeddings, background: Embeddings) -> NDArray[np.bool_]:
    """Which background rows stand for everybody else, bool[m], decided once for both methods."""
    return unlike_positives(positives, np.arange(len(positives)), background)


def score_fold(
    examples: Embeddings,
    labels: NDArray[np.bool_],
    background: Embeddings,
    hints: Embeddings,
    fold: Fold,
) -> FoldScores:
    """Fit the linear score on a fold's training rows and the background, and score the rest.

    Background rows are scored as if each had been left out (`fit_discriminant`).

    Args:
        examples: float32[n, d] of all distinct examples, by an encoder that was not trained on
            the fold's test rows.
        labels: bool[n].
        background: float32[m, d] of the rows that stand for everybody else.
        hints: float32[k, d] of the occupation's name and the like, as the head takes them.
        fold: which rows to train on and to score.
    """
    size = len(fold.train)
    with threadpool_limits(limits=1, user_api="blas"):
        line = uncalibrated_line(
            examples[fold.train],
            labels[fold.train],
            background,
            hints,
            np.ones(size),
            np.arange(size),
        )
        scores = examples[fold.test].astype(np.float64) @ line.weights + line.bias
    return FoldScores(
        scores,
        labels[fold.test],
        line.held_out[size : size + len(background)],
    )


def fold_precision(fold: FoldScores, prevalence: float) -> float:
    """Average precision of one fold on the population expected at the prevalence."""
    expected = expected_population(
        fold.scores, fold.labels, np.ones(len(fold.labels)), fold.background, prevalence
    )
    return average_precision(expected.scores, expected.outcomes, expected.weights)


def judge(
    champion: Sequence[FoldScores], challenger: Sequence[FoldScores], prevalence: float
) -> Verdict:
    """Promote when the mean gain in average precision exceeds its standard error.

    Folds share training rows, so this error is smaller than that of independent folds. The
    correction for it, (1/J + test/train) s^2 (Nadeau and Bengio, "Inference for the generalization
    error", 2003), was measured and dropped: it refuses most challengers that are really better
    (docs/fine-tuning.md).

    Args:
        champion: its scores by fold; folds without an `in` test example are left out.
        challenger: its scores on the same folds.
        prevalence: expected share of positives.
    """
    pairs = [
        (fold_precision(old, prevalence), fold_precision(new, prevalence))
        for old, new in zip(champion, challenger, strict=True)
        if old.labels.any()
    ]
    if len(pairs) < 2:
        return Verdict(
            promote=False,
            reason="too few examples to compare the two by cross-validation",
            champion=float("nan"),
            challenger=float("nan"),
            difference=0.0,
            standard_error=float("inf"),
            folds=len(pairs),
        )
    old, new = (np.array(column) for column in zip(*pairs, strict=True))
    gains = new - old
    difference = float(gains.mean())
    error = float(np.sqrt(gains.var(ddof=1) / len(gains)))
    promote = difference > error
    figures = f"{new.mean():.3f} against {old.mean():.3f}, standard error {error:.3f}"
    return Verdict(
        promote=promote,
        reason=(
            f"average precision is higher by more than its standard error ({figures})"
            if promote
            else f"average precision is not higher by more than its standard error ({figures})"
        ),
        champion=float(old.mean()),
        challenger=float(new.mean()),
        difference=difference,
        standard_error=error,
        folds=len(gains),
    )
