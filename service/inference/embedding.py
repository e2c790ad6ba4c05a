"""Texts as the encoders of a batch embed them: known rows are taken, the rest are encoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.inference.embedding_cache import EmbeddedText, EmbeddingCache
from service.inference.encoder import Encoded
from service.inference.encoder_cache import LoadedEncoder
from service.inference.split_encoder import SplitEncoder, encode_tops
from service.telemetry import metrics


@dataclass(frozen=True, slots=True)
class EmbeddedTexts:
    """The texts of a batch as one encoder embeds them.

    ``embeddings`` float32[n, d], ``background_similarity`` float32[n] and ``truncated`` bool[n];
    ``rows`` finds a text's row.
    """

    embeddings: NDArray[np.float32]
    background_similarity: NDArray[np.float32]
    truncated: NDArray[np.bool_]
    rows: dict[str, int]


def embed_texts(
    wanted: Mapping[str, Iterable[str]],
    loaded: Mapping[str, LoadedEncoder],
    cache: EmbeddingCache,
) -> dict[str, EmbeddedTexts]:
    """Embed each encoder's distinct texts: ``wanted`` and the answer are by encoder digest."""
    distinct = {digest: list(dict.fromkeys(texts)) for digest, texts in wanted.items()}
    known = {digest: cache.get(digest, texts) for digest, texts in distinct.items()}
    missing = {
        digest: [text for text in texts if text not in known[digest]]
        for digest, texts in distinct.items()
    }
    encoded = _encode({digest: texts for digest, texts in missing.items() if texts}, loaded)
    for digest, new in encoded.items():
        made = _rows(missing[digest], new, loaded[digest].background)
        cache.put(digest, made)
        known[digest].update(made)
    return {digest: _stack(texts, known[digest]) for digest, texts in distinct.items()}


def _encode(
    wanted: Mapping[str, Sequence[str]], loaded: Mapping[str, LoadedEncoder]
) -> dict[str, Encoded]:
    encoded: dict[str, Encoded] = {}
    on_trunk: dict[str, dict[str, tuple[SplitEncoder, Sequence[str]]]] = {}
    for digest, texts in wanted.items():
        encoder = loaded[digest].encoder
        if isinstance(encoder, SplitEncoder):
            on_trunk.setdefault(encoder.trunk.digest, {})[digest] = (encoder, texts)
        else:
            encoded[digest] = encoder.encode(texts)
    for tops in on_trunk.values():
        encoded.update(encode_tops(tops))
    made = encoded.values()
    metrics.STAGE_SECONDS.labels("tokenise").observe(sum(e.tokenise_seconds for e in made))
    metrics.STAGE_SECONDS.labels("encode").observe(sum(e.encode_seconds for e in made))
    metrics.TOKENS.inc(sum(int(e.tokens.sum()) for e in made))
    return encoded


def _rows(
    texts: Sequence[str], encoded: Encoded, background: NDArray[np.float32]
) -> dict[str, EmbeddedText]:
    # Copies: a view would keep its whole batch in memory for as long as one of its rows is kept.
    return {
        text: EmbeddedText(
            embedding.copy(), _largest_similarity(background, embedding), bool(truncated)
        )
        for text, embedding, truncated in zip(
            texts, encoded.embeddings, encoded.truncated, strict=True
        )
    }


def _largest_similarity(background: NDArray[np.float32], embedding: NDArray[np.float32]) -> float:
    # Dot by dot, as the scores: a matrix product would wake BLAS's threads, which on a busy
    # machine wait for each other (16 ms in place of 0.08 ms, measured on 2,600 rows).
    return float(np.vecdot(background, embedding).max())


def _stack(texts: Sequence[str], known: Mapping[str, EmbeddedText]) -> EmbeddedTexts:
    rows = [known[text] for text in texts]
    return EmbeddedTexts(
        embeddings=np.stack([row.embedding for row in rows]),
        background_similarity=np.array([r.background_similarity for r in rows], dtype=np.float32),
        truncated=np.array([row.truncated for row in rows], dtype=np.bool_),
        rows={text: number for number, text in enumerate(texts)},
    )
