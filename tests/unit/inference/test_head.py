from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from safetensors.numpy import save

from service.domain.errors import VersionUnavailable
from service.inference.head import (
    HEAD_RULES,
    HEAD_TENSORS,
    IN,
    OUT,
    UNCERTAIN,
    Head,
    HeadStack,
    read_head,
)
from tests.support.make import direction, head

EMBEDDINGS = np.stack([direction(1000 + n) for n in range(32)])
HEADS = [head(n) for n in range(9)]
TOGETHER = HeadStack(HEADS).scores(EMBEDDINGS)
FAMILIAR = np.ones((1, 1), dtype=np.float32)


def _write(made: Head, folder: Path) -> None:
    for name, content in made.files().items():
        (folder / name).write_bytes(content)


def test_a_head_survives_its_files_to_the_bit(tmp_path: Path) -> None:
    made = Head(
        weights=direction(1),
        bias=-1.2345678901234567,
        threshold=0.1 + 0.2,
        uncertain_low=0.29,
        uncertain_high=0.31,
        familiarity_floor=0.42,
        examples=np.stack([direction(2), direction(3)]),
        example_digests=("a" * 64, "b" * 64),
        example_labels=("in", "out"),
    )
    _write(made, tmp_path)
    read = read_head(tmp_path)
    assert read.weights.tobytes() == made.weights.tobytes()
    assert_array_equal(read.examples, made.examples)
    for name in ("bias", "threshold", "uncertain_low", "uncertain_high", "familiarity_floor"):
        assert getattr(read, name) == getattr(made, name)
    assert read.example_digests == made.example_digests
    assert read.example_labels == made.example_labels


def test_equal_heads_are_equal_bytes() -> None:
    assert head(5).files() == head(5).files()
    assert head(5).files() != head(6).files()


def test_a_heads_files_are_safetensors_and_json() -> None:
    files = head(1).files()
    assert set(files) == {HEAD_TENSORS, HEAD_RULES}
    header_length = int.from_bytes(files[HEAD_TENSORS][:8], "little")
    header = json.loads(files[HEAD_TENSORS][8 : 8 + header_length])
    assert {"weights", "examples"} <= set(header)
    assert json.loads(files[HEAD_RULES])["threshold"] == 0.5


def test_a_score_is_the_sigmoid_of_weights_times_embedding_plus_bias() -> None:
    logits = EMBEDDINGS.astype(np.float64) @ np.stack([h.weights for h in HEADS]).T + 0.25
    np.testing.assert_allclose(TOGETHER, 1 / (1 + np.exp(-logits)), rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.integers(0, 31), min_size=1, max_size=40))
def test_a_score_is_bit_identical_in_any_batch(rows: list[int]) -> None:
    assert HeadStack(HEADS).scores(EMBEDDINGS[rows]).tobytes() == TOGETHER[rows].tobytes()


@settings(max_examples=60, deadline=None)
@given(columns=st.lists(st.integers(0, 8), min_size=1, max_size=12))
def test_a_score_is_bit_identical_beside_any_other_heads(columns: list[int]) -> None:
    scores = HeadStack([HEADS[column] for column in columns]).scores(EMBEDDINGS)
    assert scores.tobytes() == TOGETHER[:, columns].tobytes()


@pytest.mark.parametrize(
    ("score", "label"),
    [(0.0, OUT), (0.29, OUT), (0.3, IN), (0.49, IN), (0.5, UNCERTAIN), (0.6, UNCERTAIN), (0.7, IN)],
)
def test_a_label_is_in_from_the_threshold_on_and_uncertain_inside_its_band(
    score: float, label: int
) -> None:
    made = Head(direction(1), 0.0, 0.3, 0.5, 0.6, 0.2, np.empty((0, 32), np.float32), (), ())
    assert HeadStack([made]).labels(np.array([[score]]), FAMILIAR).item() == label


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_text_unlike_anything_known_is_uncertain_whatever_its_score(score: float) -> None:
    stack = HeadStack([head(1, floor=0.4)])
    for familiarity, uncertain in ((0.39, True), (0.41, False)):
        label = stack.labels(np.array([[score]]), np.array([[familiarity]], dtype=np.float32))
        assert (label.item() == UNCERTAIN) == uncertain


def test_each_head_keeps_its_own_rules_in_a_stack() -> None:
    empty = np.empty((0, 32), np.float32)
    low = Head(direction(1), 0.0, 0.1, 0.0, 0.0, -1.0, empty, (), ())
    high = Head(direction(2), 0.0, 0.9, 0.8, 1.0, -1.0, empty, (), ())
    unfamiliar = Head(direction(3), 0.0, 0.1, 0.0, 0.0, 0.9, empty, (), ())
    stack = HeadStack([low, high, unfamiliar])
    scores = np.array([[0.5, 0.5, 0.5], [0.95, 0.95, 0.95]])
    labels = stack.labels(scores, np.full((2, 3), 0.5, dtype=np.float32))
    assert labels.tolist() == [[IN, OUT, UNCERTAIN], [IN, UNCERTAIN, UNCERTAIN]]


def _rules(**changed: object) -> bytes:
    """The rules of a head, with some of them changed; None takes one away."""
    rules = {**json.loads(head(1).files()[HEAD_RULES]), **changed}
    return json.dumps({name: rule for name, rule in rules.items() if rule is not None}).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_rules(a_later_field=1), "'a_later_field'"),
        (_rules(format=2), "format 2"),
        (_rules(format="2"), "format '2'"),
        (_rules(bias=None), "no 'bias'"),
        (_rules(bias="0.25"), "'bias'"),
        (_rules(threshold=True), "'threshold'"),
        (_rules(example_digests="abc"), "'example_digests'"),
        (_rules(example_labels=[1]), "'example_labels'"),
        (_rules(example_labels=["in"]), "0 examples and 1 labels"),
        (b"[]", "no JSON object"),
        (b"{", "cannot be read: JSONDecodeError"),
    ],
)
def test_rules_that_are_not_known_here_are_refused_by_name(
    tmp_path: Path, content: bytes, said: str
) -> None:
    """A newer release may have written them: what they mean would be guessed."""
    _write(head(1), tmp_path)
    (tmp_path / HEAD_RULES).write_bytes(content)
    with pytest.raises(VersionUnavailable, match=said):
        read_head(tmp_path)


def test_rules_of_the_format_that_is_read_here_are_read(tmp_path: Path) -> None:
    _write(head(1), tmp_path)
    (tmp_path / HEAD_RULES).write_bytes(_rules(format=1, bias=2))
    assert read_head(tmp_path).bias == 2


WEIGHTS, EXAMPLES = direction(1), np.empty((0, 32), dtype=np.float32)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"weights": WEIGHTS}, "no tensor 'examples'"),
        ({"weights": WEIGHTS, "examples": EXAMPLES, "later": WEIGHTS}, "'later'"),
        ({"weights": WEIGHTS.astype(np.float16), "examples": EXAMPLES}, "'weights' is float16"),
        ({"weights": WEIGHTS[None], "examples": EXAMPLES}, "'weights' is"),
        ({"weights": WEIGHTS[:-1], "examples": EXAMPLES}, "'examples' is"),
        ({"weights": WEIGHTS, "examples": np.zeros((), dtype=np.float32)}, "'examples' is"),
    ],
)
def test_tensors_that_are_not_known_here_are_refused_by_name(
    tmp_path: Path, tensors: dict[str, NDArray[np.float32]], said: str
) -> None:
    _write(head(1), tmp_path)
    (tmp_path / HEAD_TENSORS).write_bytes(save(tensors))
    with pytest.raises(VersionUnavailable, match=said):
        read_head(tmp_path)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    _write(head(1), tmp_path)
    (tmp_path / HEAD_TENSORS).write_bytes(b"something else")
    with pytest.raises(VersionUnavailable, match=f"{HEAD_TENSORS} cannot be read"):
        read_head(tmp_path)
