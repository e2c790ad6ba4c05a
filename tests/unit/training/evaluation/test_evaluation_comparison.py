"""Groups, paired differences and curves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.domain.types import Experience
from service.training.evaluation.baselines import by_frozen_encoder, by_keywords, by_words
from service.training.evaluation.comparison import (
    JudgedRows,
    calibration,
    difference,
    drawn_rows,
    fixed_rows,
    number_rows,
    precision_curve,
)
from service.training.evaluation.groups import find_groups
from service.training.evaluation.judged import Answer
from service.training.evaluation.labelled import LabelledRow

LANGUAGES = ["fr", "fr", "en", "fr", "en", None]
INSIDE = [True, False, True, True, False, False]


def rows() -> list[LabelledRow]:
    return [
        LabelledRow(number, Experience(text=f"text {number}"), inside, language, "one", None)
        for number, (inside, language) in enumerate(zip(INSIDE, LANGUAGES, strict=True))
    ]


def judging() -> JudgedRows:
    return number_rows(rows(), None, seed=0)


def answer(scores: list[float], uncertain: list[int] | None = None) -> Answer:
    unsure = None if uncertain is None else np.array(uncertain, dtype=np.bool_)
    return Answer(np.array(scores), 0.5, unsure)


GOOD = [0.9, 0.1, 0.8, 0.7, 0.2, 0.3]
POOR = [0.9, 0.6, 0.1, 0.7, 0.2, 0.3]


def test_groups_are_the_values_of_a_column_by_their_size() -> None:
    found = [(group.by, group.value, int(group.rows.sum())) for group in find_groups(rows())]
    assert found == [
        ("all", "", 6),
        ("language", "fr", 3),
        ("language", "en", 2),
        ("language", "(none)", 1),
    ]


def test_too_many_and_too_long_values_are_others() -> None:
    made = [
        LabelledRow(n, Experience(text=str(n)), True, None, f"s{n // 2:02}", None)
        for n in range(50)
    ]
    made += [LabelledRow(n, Experience(text=f"x{n}"), True, None, "x" * 90, None) for n in range(9)]
    groups = [group for group in find_groups(made) if group.by == "source"]
    assert [group.value for group in groups] == [*(f"s{n:02}" for n in range(20)), "(others)"]
    assert groups[-1].rows.sum() == 10 + 9


def test_each_group_has_the_figures_of_its_own_rows() -> None:
    found = {(row.by, row.value): row for row in fixed_rows(judging(), "x", answer(POOR))}
    french = found["language", "fr"]
    # Rows 0, 1 and 3 are called; 0 and 3 are in.
    assert (french.rows, french.inside, french.over) == (3, 2, "rows")
    assert french.intervals["precision"].value == pytest.approx(2 / 3)
    assert french.intervals["recall"].value == 1.0
    english = found["language", "en"]
    assert english.intervals["recall"].value == 0.0
    assert math.isnan(english.intervals["precision"].value)


def test_the_rows_that_are_not_uncertain_are_a_group() -> None:
    found = fixed_rows(judging(), "x", answer(POOR, [0, 1, 1, 0, 0, 0]))
    decided = next(row for row in found if row.by == "label")
    assert (decided.value, decided.rows) == ("not uncertain", 4)
    assert decided.intervals["f1"].value == 1.0


def test_over_draws_the_uncertain_rows_of_each_draw_are_its_own() -> None:
    answers = [answer(POOR, [0, 1, 1, 0, 0, 0]), answer(POOR, [0, 0, 0, 0, 0, 0])]
    found = drawn_rows(judging(), "x", 4, answers)
    decided = next(row for row in found if row.by == "label")
    whole = next(row for row in found if row.by == "all")
    assert decided.intervals["accuracy"].value == pytest.approx((1.0 + 4 / 6) / 2)
    assert whole.intervals["uncertain_rate"].value == pytest.approx((2 / 6) / 2)
    assert [draw["accuracy"] for draw in whole.draws] == pytest.approx([4 / 6, 4 / 6])


def test_differences_are_paired_by_draw() -> None:
    own = drawn_rows(judging(), "own", 4, [answer(GOOD), answer(POOR)])[0]
    same = drawn_rows(judging(), "same", 4, [answer(GOOD), answer(POOR)])[0]
    found = difference(own, same, seed=0)
    assert found.intervals["f1"].value == found.intervals["f1"].low == 0.0
    fixed = fixed_rows(judging(), "fixed", answer(POOR))[0]
    gain = difference(own, fixed, seed=0).intervals["f1"]
    # GOOD calls all three rightly: F1 1 against 2/3; POOR gains nothing.
    assert gain.value == pytest.approx((1 - 2 / 3) / 2)
    assert (gain.low, gain.high) == pytest.approx((0.0, 1 - 2 / 3))


def test_a_perfect_ranking_keeps_full_precision() -> None:
    curve = precision_curve(judging(), "x", None, [answer(GOOD)])
    assert set(curve.precision) == {1.0}
    mean = precision_curve(judging(), "x", 4, [answer(GOOD), answer(POOR)])
    # POOR finds its first two at once and its last after all others: 3 of 6.
    assert mean.precision[0] == 1.0
    assert mean.precision[-1] == pytest.approx((1 + 3 / 6) / 2)


def test_the_reliability_diagram_shares_out_all_rows() -> None:
    bins = calibration(judging(), [answer(GOOD), answer(POOR)])
    assert sum(found.weight for found in bins) == pytest.approx(1.0)
    assert all((found.predicted is None) == (found.weight == 0) for found in bins)


def test_keywords_are_whole_words_in_any_case() -> None:
    texts = ["Data Scientist", "DATA SCIENTIST, machine learning", "metadata scientists", "C++ dev"]
    found = by_keywords(["data scientist", "Machine Learning", "c++"], texts)
    assert found.scores.tolist() == [1.0, 2.0, 0.0, 1.0]
    assert (found.scores >= found.threshold).tolist() == [True, True, False, True]
    assert not found.is_probability


def test_words_that_stand_under_one_label_decide() -> None:
    texts = [f"sommelier vin cave {n}" for n in range(8)] + [
        f"plombier tuyau {n}" for n in range(8)
    ]
    labels = np.arange(16) < 8
    found = by_words(texts, labels, ["cave et vin", "tuyau et plombier", "rien de connu"])
    assert found.scores[0] > 0.5 > found.scores[1]
    assert found.scores[2] == pytest.approx(0.5, abs=1e-6)


def test_the_frozen_encoder_is_called_from_one_half() -> None:
    near, far = np.eye(4, dtype=np.float32)[:2]
    rows = np.stack([near, near, far, far])
    found = by_frozen_encoder(rows, np.array([True, True, False, False]), np.stack([near, far]))
    assert found.threshold == 0.5
    assert found.scores[0] > 0.5 > found.scores[1]
    assert found.scores.sum() == pytest.approx(1.0, abs=1e-4)
