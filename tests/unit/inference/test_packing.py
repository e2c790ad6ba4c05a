"""Which texts share a run: each text once, within the budget, whoever else there is."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer

from service.inference.packing import MOST_TOKENS_A_RUN, keeps_apart, packs, padded
from service.inference.tokenizer import Tokens
from service.settings import PROJECT_ROOT

LENGTHS = st.lists(st.integers(2, 512), max_size=80)
THREADS = st.integers(1, 8)
MOST_TOKENS = st.integers(1, 600)


@settings(deadline=None)
@given(lengths=LENGTHS, threads=THREADS, most_tokens=MOST_TOKENS)
def test_every_text_is_in_one_pack(lengths: list[int], threads: int, most_tokens: int) -> None:
    made = packs(lengths, threads, most_tokens)
    assert sorted(number for pack in made for number in pack) == list(range(len(lengths)))
    assert all(made)


@settings(deadline=None)
@given(lengths=LENGTHS, threads=THREADS, most_tokens=MOST_TOKENS)
def test_the_padded_grid_keeps_the_budget_or_has_one_text(
    lengths: list[int], threads: int, most_tokens: int
) -> None:
    for pack in packs(lengths, threads, most_tokens):
        grid = len(pack) * max(lengths[number] for number in pack)
        assert grid <= most_tokens or len(pack) == 1


@settings(deadline=None)
@given(lengths=LENGTHS, threads=THREADS, seed=st.integers(0, 1000))
def test_the_order_of_the_texts_changes_no_pack(
    lengths: list[int], threads: int, seed: int
) -> None:
    shuffled = random.Random(seed).sample(lengths, len(lengths))  # noqa: S311  # no secret
    assert [[shuffled[n] for n in pack] for pack in packs(shuffled, threads)] == [
        [lengths[n] for n in pack] for pack in packs(lengths, threads)
    ]


@settings(deadline=None)
@given(lengths=LENGTHS, threads=THREADS)
def test_longer_texts_come_in_earlier_packs(lengths: list[int], threads: int) -> None:
    in_order = [lengths[number] for pack in packs(lengths, threads) for number in pack]
    assert in_order == sorted(lengths, reverse=True)


@settings(deadline=None)
@given(size=st.integers(1, 64), length=st.integers(2, 64), threads=THREADS)
def test_texts_of_one_length_are_shared_out_evenly(size: int, length: int, threads: int) -> None:
    assert max(map(len, packs([length] * size, threads))) <= -(-size // threads)


def test_eight_titles_are_one_run_and_two_runs_for_two_threads() -> None:
    titles = [6, 9, 4, 7, 5, 8, 6, 7]
    assert [len(pack) for pack in packs(titles, 1)] == [8]
    assert [len(pack) for pack in packs(titles, 2)] == [3, 5]


def test_a_title_is_not_padded_to_the_length_of_an_experience() -> None:
    assert packs([6, 95, 7, 8], 1) == [[1], [3, 2, 0]]


@pytest.mark.parametrize("length", [MOST_TOKENS_A_RUN + 1, 512])
def test_a_text_longer_than_the_budget_runs_alone(length: int) -> None:
    assert packs([length, length], 1) == [[0], [1]]


def test_no_texts_make_no_pack() -> None:
    assert packs([], 2) == []


def test_a_run_reads_the_texts_padded_at_their_ends() -> None:
    ids, mask = padded([np.array([2, 5, 3]), np.array([2, 3])], pad_token_id=9)
    assert ids.tolist() == [[2, 5, 3], [2, 3, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert ids.dtype == mask.dtype == np.int64


def words(text: str) -> Tokens:
    """A token for each word, and two special ones."""
    return Tokens(np.array([2, *map(len, text.split()), 3]), truncated=False)


def kernels(
    moves: Callable[[int, int], bool],
) -> Callable[[Sequence[Tokens]], NDArray[np.float32]]:
    """Kernels that move a text of a run where ``moves(texts, longest)`` says so."""

    def run(texts: Sequence[Tokens]) -> NDArray[np.float32]:
        longest = max(len(text.ids) for text in texts)
        moved = int(moves(len(texts), longest))
        return np.array([[text.ids.sum() + moved] for text in texts], dtype=np.float32)

    return run


def test_kernels_that_keep_texts_apart_are_found_to() -> None:
    assert keeps_apart(words, kernels(lambda *_: False))


@pytest.mark.parametrize(("shortest", "longest"), [(0, 16), (40, 512), (60, 512)])
def test_kernels_that_move_the_texts_of_some_lengths_are_found_to(
    shortest: int, longest: int, caplog: pytest.LogCaptureFixture
) -> None:
    """ONNX Runtime may take one kernel for titles and another for experiences."""
    moving = kernels(lambda texts, length: texts > 1 and shortest <= length <= longest)
    assert not keeps_apart(words, moving)
    assert "does not keep texts apart" in caplog.text


def test_what_is_tried_has_the_lengths_of_what_is_served() -> None:
    tokenizer = Tokenizer.from_file(str(PROJECT_ROOT / "models/encoder/onnx/tokenizer.json"))
    runs: list[list[int]] = []

    def run(texts: Sequence[Tokens]) -> NDArray[np.float32]:
        runs.append([len(text.ids) for text in texts])
        return np.zeros((len(texts), 1), dtype=np.float32)

    def tokenise(text: str) -> Tokens:
        return Tokens(np.array(tokenizer.encode(text).ids), truncated=False)

    assert keeps_apart(tokenise, run)
    shared = [lengths for lengths in runs if len(lengths) > 1]
    assert max(map(max, shared)) > 80
    assert min(map(min, shared)) < 8
    # A run that is never made says nothing of those that are.
    assert all(len(packs(lengths, threads=1)) == 1 for lengths in shared)
