"""Measure an encoder cheaply, by language, on skills that no training pair has shown it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer

from service.training.adapt.corpus import Concept, Corpus
from service.training.adapt.settings import Figures

Floats = npt.NDArray[np.float32]
# Every so many-th skill is kept out of training for these figures.
SKILL_STRIDE = 27


def set_skills_apart(corpus: Corpus) -> tuple[Corpus, tuple[Concept, ...]]:
    """Take about 500 skills with both languages out of a corpus, by their place in code order."""
    apart = tuple(
        skill
        for number, skill in enumerate(corpus.skills)
        if number % SKILL_STRIDE == 0 and {"en", "fr"} <= skill.labels.keys()
    )
    codes = {skill.code for skill in apart}
    kept = tuple(skill for skill in corpus.skills if skill.code not in codes)
    return replace(corpus, skills=kept), apart


def measure(model: SentenceTransformer, skills: Sequence[Concept], base_english: Floats) -> Figures:
    """Measure retrieval between languages and how much of the English space is kept.

    ``base_english`` (n, d) holds the base encoder's unit embeddings of the English labels, in
    order.
    """
    english = embed(model, [skill.labels["en"][0] for skill in skills])
    french = embed(model, [skill.labels["fr"][0] for skill in skills])
    similarity = french @ english.T
    right = np.arange(len(skills))
    return Figures(
        fr_to_en=float((similarity.argmax(axis=1) == right).mean()),
        en_to_fr=float((similarity.argmax(axis=0) == right).mean()),
        english_kept=float((english * base_english).sum(axis=1).mean()),
    )


def embed(model: SentenceTransformer, texts: Sequence[str]) -> Floats:
    """Embed texts (n) -> (n, d) unit rows, float32."""
    return np.asarray(
        model.encode(list(texts), normalize_embeddings=True, batch_size=32), dtype=np.float32
    )
