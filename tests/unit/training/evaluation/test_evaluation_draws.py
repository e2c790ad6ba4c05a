"""Draws: the same for every method, and never of a text that is judged."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from service.domain.errors import InvalidFields
from service.domain.types import Example, Experience, Label
from service.training.evaluation.draws import Partition, partition
from service.training.evaluation.labelled import Field, Labelled, LabelledRow


def row(text: str, inside: bool, split: str | None = None) -> LabelledRow:
    return LabelledRow(1, Experience(text=text), inside, None, None, split)


def labelled(rows: Sequence[LabelledRow]) -> Labelled:
    return Labelled("rows.jsonl", "", Field.TEXT, (), tuple(rows), 0)


ROWS = [row(f"text {number}", number % 3 == 0) for number in range(90)]


def texts(rows: Sequence[LabelledRow]) -> set[str]:
    return {row.experience.rendered for row in rows}


def drawn(examples: Sequence[Example], label: Label) -> list[str]:
    return [example.experience.rendered for example in examples if example.label is label]


def test_without_a_split_each_text_is_in_one_half() -> None:
    parts = partition(labelled([*ROWS, *ROWS]), seed=0)
    assert texts(parts.pool) & texts(parts.judged) == set()
    assert texts(parts.pool) | texts(parts.judged) == texts(ROWS)
    assert 20 < len(parts.pool) < 70
    assert len(parts.judged) == 2 * len(texts(parts.judged))


def test_another_seed_makes_other_halves() -> None:
    one, other = (partition(labelled(ROWS), seed) for seed in (0, 1))
    assert texts(one.pool) != texts(other.pool)


def test_the_split_column_parts_the_rows() -> None:
    rows = [
        row("a", True, "train"),
        row("b", False, "train"),
        row("c", True, "dev"),
        row("d", False, None),
        row("a", True, "test"),
    ]
    parts = partition(labelled(rows), seed=0)
    assert texts(parts.pool) == {"a", "b"}
    assert texts(parts.judged) == {"c", "d"}
    assert parts.left_out == 1


def test_one_split_alone_is_halved() -> None:
    rows = [row(f"text {number}", number % 3 == 0, "train") for number in range(90)]
    assert texts(partition(labelled(rows), seed=0).pool) == texts(
        partition(labelled(ROWS), seed=0).pool
    )


def test_a_text_under_both_labels_is_not_drawn() -> None:
    rows = [row("a", True, "train"), row("a", False, "train"), row("b", True, "train")]
    parts = partition(labelled([*rows, row("c", True, "test")]), seed=0)
    assert texts(parts.pool) == {"b"}
    assert parts.contradictory == 1


def test_judged_rows_of_the_background_are_counted_and_left_out() -> None:
    parts = partition(labelled(ROWS), seed=0)
    gone = sorted(texts(parts.judged))[:3]
    kept = parts.without(frozenset(gone))
    assert texts(kept.judged) == texts(parts.judged) - set(gone)
    assert kept.in_background == 3
    assert kept.pool == parts.pool


def halves() -> Partition:
    return partition(labelled(ROWS), seed=0)


def test_a_draw_has_as_many_of_either_label_and_no_text_twice() -> None:
    examples = halves().draw(8, number=0, seed=0)
    inside, outside = drawn(examples, Label.IN), drawn(examples, Label.OUT)
    assert len(set(inside)) == len(set(outside)) == 8
    assert set(inside) < {r.experience.rendered for r in halves().pool if r.inside}


def test_fewer_shots_are_the_first_of_more() -> None:
    few, many = (halves().draw(shots, number=2, seed=0) for shots in (4, 8))
    for label in (Label.IN, Label.OUT):
        assert drawn(few, label) == drawn(many, label)[:4]


def test_draws_differ_by_number_and_by_seed_alone() -> None:
    first = halves().draw(8, number=0, seed=0)
    assert halves().draw(8, number=0, seed=0) == first
    assert halves().draw(8, number=1, seed=0) != first
    assert halves().draw(8, number=0, seed=1) != first


def test_the_order_of_the_file_changes_no_draw() -> None:
    backwards = partition(labelled(ROWS[::-1]), seed=0)
    assert backwards.draw(8, number=0, seed=0) == halves().draw(8, number=0, seed=0)


def test_too_few_texts_to_draw_are_counted() -> None:
    with pytest.raises(
        InvalidFields, match=r"rows.jsonl.*64 different `in` texts.*, \d+ are there"
    ):
        halves().check("rows.jsonl", (8, 64))
    halves().check("rows.jsonl", (4, 8))


def test_judged_rows_need_both_labels() -> None:
    rows = [*(row(r.experience.rendered, r.inside, "train") for r in ROWS), row("x", True, "test")]
    with pytest.raises(InvalidFields, match=r"the rows to judge, label: .*all 1 are `in`"):
        partition(labelled(rows), seed=0).check("rows.jsonl", (4,))
