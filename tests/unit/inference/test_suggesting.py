from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.inference.head import IN, OUT, UNCERTAIN
from service.inference.suggesting import Candidates, choose, suggest
from service.inference.suggestions import WHY, Reason


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(
        np.float32
    )
    return unit


def _candidates(
    scores: NDArray[np.float64], embeddings: NDArray[np.float32] | None = None
) -> Candidates:
    count = len(scores)
    if embeddings is None:
        embeddings = np.eye(count, dtype=np.float32)
    labels = np.where(scores >= 0.5, IN, OUT)
    return Candidates(embeddings, scores, labels, np.ones(count, dtype=np.bool_))


def test_the_highest_score_comes_first() -> None:
    scores = np.array([0.1, 0.2, 0.9, 0.3])
    assert choose(_candidates(scores), 4)[0] == 2


def test_where_nothing_resembles_anything_the_scores_decide() -> None:
    scores = np.array([0.1, 0.2, 0.9, 0.3, 0.05])
    assert choose(_candidates(scores), 5) == [2, 3, 1, 0, 4]


def test_what_says_the_same_as_a_choice_waits_behind_lower_scores() -> None:
    generator = np.random.default_rng(0)
    directions = _unit(generator.standard_normal((4, 64)))
    # Ten ways to say the first, which scores highest, then three others, then everybody else.
    repeats = directions[0] + 0.01 * generator.standard_normal((10, 64))
    others = _unit(generator.standard_normal((20, 64)))
    embeddings = _unit(np.concatenate([repeats, directions[1:], others]).astype(np.float64))
    scores = np.concatenate([np.linspace(0.8, 0.76, 10), [0.74, 0.73, 0.72], np.full(20, 0.02)])
    # By score alone the first four would all say the same.
    first = choose(_candidates(scores, embeddings), 4)
    assert first[0] == 0
    assert sorted(first[1:]) == [10, 11, 12]


def test_ties_go_to_the_earlier_one() -> None:
    assert choose(_candidates(np.full(6, 0.3)), 6) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_as_many_are_chosen_as_there_are_when_fewer_than_asked_for(count: int) -> None:
    chosen = choose(_candidates(np.linspace(0.1, 0.9, count)), 16)
    assert sorted(chosen) == list(range(count))


def test_certain_scores_are_ranked_like_any_other() -> None:
    scores = np.array([0.0, 1.0, 0.5, 0.0])
    chosen = choose(_candidates(scores), 4)
    assert chosen == [1, 2, 0, 3]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 60),
    limit=st.integers(1, 30),
    copies=st.integers(0, 20),
)
def test_choices_are_distinct_and_the_same_each_time_and_a_longer_list_begins_with_a_shorter(
    seed: int, count: int, limit: int, copies: int
) -> None:
    generator = np.random.default_rng(seed)
    embeddings = _unit(generator.standard_normal((count, 8)))
    embeddings = np.concatenate([embeddings, embeddings[:copies]])
    scores = generator.uniform(size=len(embeddings)).round(1)
    candidates = _candidates(scores, embeddings)
    chosen = choose(candidates, limit)
    assert chosen == choose(candidates, limit)
    assert len(set(chosen)) == len(chosen) == min(limit, len(embeddings))
    assert choose(candidates, limit + 5)[: len(chosen)] == chosen


def test_the_candidates_are_left_as_they_were() -> None:
    scores, embeddings = np.array([0.2, 0.4]), np.eye(2, dtype=np.float32)
    choose(_candidates(scores, embeddings), 2)
    assert np.array_equal(embeddings, np.eye(2))
    assert scores.tolist() == [0.2, 0.4]


@pytest.mark.parametrize(
    ("label", "familiar", "reason"),
    [
        (IN, True, Reason.LIKELY_IN),
        (OUT, True, Reason.LIKELY_OUT),
        (UNCERTAIN, True, Reason.CLOSE_CALL),
        (UNCERTAIN, False, Reason.UNFAMILIAR),
    ],
)
def test_the_reason_is_what_the_version_makes_of_it(
    label: int, familiar: bool, reason: Reason
) -> None:
    candidates = Candidates(
        np.eye(1, dtype=np.float32), np.array([0.5]), np.array([label]), np.array([familiar])
    )
    assert suggest(candidates, 1) == [(0, reason)]


def test_every_reason_has_its_sentence() -> None:
    assert set(WHY) == set(Reason)
    assert len(set(WHY.values())) == len(Reason)
