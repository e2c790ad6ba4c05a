from __future__ import annotations

import gc
import tracemalloc

import numpy as np

from service.inference.embedding_cache import ROW_OVERHEAD_BYTES, EmbeddedText, EmbeddingCache

WIDTH = 8
ROW_BYTES = 4 * WIDTH + ROW_OVERHEAD_BYTES


def row(number: int, width: int = WIDTH) -> EmbeddedText:
    return EmbeddedText(np.full(width, number, dtype=np.float32), 0.5, truncated=False)


def test_a_row_is_found_for_its_text_and_its_encoder_only() -> None:
    cache = EmbeddingCache(10 * ROW_BYTES)
    cache.put("a" * 64, {"Stagiaire": row(1)})
    found = cache.get("a" * 64, ["Stagiaire", "stagiaire"])
    assert list(found) == ["Stagiaire"]
    np.testing.assert_array_equal(found["Stagiaire"].embedding, row(1).embedding)
    assert cache.get("b" * 64, ["Stagiaire"]) == {}


def test_encoders_and_texts_that_are_written_alike_together_are_kept_apart() -> None:
    cache = EmbeddingCache(10 * ROW_BYTES)
    cache.put("ab", {"c": row(1)})
    assert cache.get("a", ["bc"]) == {}


def test_what_a_text_is_kept_under_is_not_to_be_guessed() -> None:
    """A hash that all processes share would tell who reads it whether a text that they know came."""
    caches = [EmbeddingCache(10 * ROW_BYTES) for _ in range(2)]
    for cache in caches:
        cache.put("e" * 64, {"Stagiaire": row(1)})
    one, other = (set(cache._rows) for cache in caches)
    assert len(one) == len(other) == 1
    assert one != other


def test_the_least_recently_used_row_makes_room() -> None:
    cache = EmbeddingCache(2 * ROW_BYTES)
    cache.put("e", {"first": row(1), "second": row(2)})
    cache.get("e", ["first"])
    cache.put("e", {"third": row(3)})
    assert set(cache.get("e", ["first", "second", "third"])) == {"first", "third"}
    assert cache.bytes == 2 * ROW_BYTES


def test_a_row_that_is_put_again_counts_once() -> None:
    cache = EmbeddingCache(10 * ROW_BYTES)
    for _ in range(3):
        cache.put("e", {"text": row(1)})
    assert cache.bytes == ROW_BYTES


def test_nothing_is_kept_within_no_bytes() -> None:
    cache = EmbeddingCache(0)
    cache.put("e", {"text": row(1)})
    assert cache.get("e", ["text"]) == {}
    assert cache.bytes == 0


def test_the_bound_is_what_python_really_takes() -> None:
    """Within a tenth: an operator counts on it."""
    cache = EmbeddingCache(1 << 30)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(5000):
            cache.put("e" * 64, {f"text {number}": row(number, 384)})
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert abs(taken - cache.bytes) < 0.1 * taken
