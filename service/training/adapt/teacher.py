"""Embed English with the base encoder, and put French into English words for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer

from service.training.adapt.alignment import Pair, translation_table
from service.training.adapt.corpus import Corpus
from service.training.adapt.vocabulary import Words, parallel_labels

Floats = npt.NDArray[np.float32]
# A word is glossed only when one translation holds at least this share of its row.
LEAST_CERTAIN = 0.25


def teacher(
    base: Path, *, pieces_at_most: int, device: str, is_bf16: bool
) -> Callable[[Sequence[str]], Floats]:
    """Load the base encoder as a function: texts (n) -> (n, d) unit rows, each encoded once."""
    model = SentenceTransformer(str(base), device=device).eval()
    model.max_seq_length = min(pieces_at_most, model.max_seq_length or pieces_at_most)
    known: dict[str, Floats] = {}

    def teach(texts: Sequence[str]) -> Floats:
        missing = sorted({text for text in texts if text not in known})
        if missing:
            with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=is_bf16):
                rows = model.encode(
                    missing,
                    batch_size=32,
                    normalize_embeddings=True,
                    show_progress_bar=len(missing) > 1000,
                )
            known.update(zip(missing, np.asarray(rows, dtype=np.float32), strict=True))
        return np.stack([known[text] for text in texts])

    return teach


def glossers(corpus: Corpus, base: Path) -> tuple[Callable[[str], str], Callable[[str], str]]:
    """Learn word translations from the corpus's parallel labels; give word-by-word glossers.

    The first words French in English, the second English in French. ROME has no English: a gloss
    ("boulanger patissier" -> "baker pastry") is what lets the teacher read it. English
    descriptions have no French: their gloss is the running French that a student can learn from.
    Words without a confident translation stay as they are.
    """
    words = Words(base)
    pairs = [
        (words.words(french), words.words(english))
        for concepts in (corpus.occupations, corpus.skills)
        for concept in concepts
        for french, english in parallel_labels(concept.labels)
    ]
    swapped = [(english, french) for french, english in pairs]
    return _glosser(words, pairs), _glosser(words, swapped)


def _glosser(words: Words, pairs: Sequence[Pair]) -> Callable[[str], str]:
    certain = {
        word: max(sorted(row), key=lambda other: row[other])
        for word, row in translation_table(pairs).items()
        # Labels hardly have full stops: what they would align with is noise.
        if word.isalpha() and max(row.values(), default=0.0) > LEAST_CERTAIN
    }

    def gloss(text: str) -> str:
        return " ".join(certain.get(word, word) for word in words.words(text))

    return gloss
