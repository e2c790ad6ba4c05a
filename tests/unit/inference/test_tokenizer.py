from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.inference.encoder_spec import read_spec
from service.inference.tokenizer import Tokenizer
from tests.support.tiny_encoder import MAX_TOKENS

_CLS, _SEP = 2, 3


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder_folder: Path) -> Tokenizer:
    return Tokenizer(tiny_encoder_folder, read_spec(tiny_encoder_folder))


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=200))
def test_any_unicode_text_becomes_tokens_between_the_special_ones(
    tokenizer: Tokenizer, text: str
) -> None:
    tokens = tokenizer(text)
    ids = tokens.ids.tolist()
    assert (ids[0], ids[-1]) == (_CLS, _SEP)
    assert 2 <= len(ids) <= MAX_TOKENS
    assert len(ids) == MAX_TOKENS or not tokens.truncated
    assert not {0, 1, _CLS, _SEP} & set(ids[1:-1])


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet="abcdefghij ", max_size=100))
def test_a_text_is_truncated_only_when_it_has_more_tokens_than_fit(
    tokenizer: Tokenizer, text: str
) -> None:
    tokens = tokenizer(text)
    assert tokens.truncated == (len(text) + 2 > MAX_TOKENS)
    assert len(tokens.ids) == min(len(text) + 2, MAX_TOKENS)


def test_the_beginning_of_a_long_text_is_what_is_read(tokenizer: Tokenizer) -> None:
    assert tokenizer("a" * 200).ids.tolist() == tokenizer("a" * 100 + "b" * 100).ids.tolist()
