"""What people use without Vocation, on the same examples and rows; `in` from 0.5 upwards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from service.training.evaluation.judged import Answer
from service.training.evaluation.workbench import Workbench

Labels = NDArray[np.bool_]
Embeddings = NDArray[np.float32]

KEYWORDS = "keyword rule"
WORDS = "TF-IDF + logistic regression"
WORDS_OF_ALL = "TF-IDF + logistic regression, all labels"
FROZEN = "frozen encoder + logistic regression"
STOCK = "stock SetFit"

_HALF = 0.5
_ITERATIONS = 1000
_ENCODED_AT_ONCE = 16


class Baselines(StrEnum):
    """Which baselines stand beside a method; ``stock`` adds stock SetFit, which is slow."""

    USUAL = "usual"
    STOCK = "stock"
    NONE = "none"


def by_keywords(keywords: Sequence[str], texts: Sequence[str]) -> Answer:
    """A text is `in` when it holds one of the keywords as whole words, whatever their case.

    The number of different keywords in it ranks it.
    """
    patterns = [re.compile(rf"(?<!\w){re.escape(word.casefold())}(?!\w)") for word in keywords]
    folded = [text.casefold() for text in texts]
    found = [sum(pattern.search(text) is not None for pattern in patterns) for text in folded]
    return Answer(np.array(found, dtype=np.float64), 1.0, is_probability=False)


def by_words(examples: Sequence[str], labels: Labels, texts: Sequence[str]) -> Answer:
    """TF-IDF of words and word pairs under logistic regression, both labels weighing the same.

    Args:
        examples: what is fitted on, with ``labels`` bool[n] of both kinds.
        labels: see above.
        texts: what is judged.
    """
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(max_iter=_ITERATIONS, class_weight="balanced"),
    )
    model.fit(list(examples), labels)
    return Answer(model.predict_proba(list(texts))[:, 1].astype(np.float64), _HALF)


def by_frozen_encoder(examples: Embeddings, labels: Labels, texts: Embeddings) -> Answer:
    """Logistic regression, as scikit-learn ships it, on embeddings float32[n, d]."""
    model = LogisticRegression(max_iter=_ITERATIONS)
    model.fit(examples, labels)
    return Answer(model.predict_proba(texts)[:, 1].astype(np.float64), _HALF)


def by_stock_setfit(
    bench: Workbench, examples: Sequence[str], labels: Labels, texts: Sequence[str]
) -> Answer:
    """SetFit as it ships: all layers tuned on sampled pairs, then logistic regression; PyTorch."""
    # Both load torch, which takes seconds, and nothing else here needs it.
    from service.training.encoder_export import load_model  # noqa: PLC0415
    from service.training.tuning import TuningSettings, tune_all  # noqa: PLC0415

    model = load_model(bench.source.folder)
    # As long as the encoder reads: SetFit cuts no text.
    settings = TuningSettings(
        tuned_layers="all",
        max_tokens=int(model.max_seq_length or 0),
        threads=bench.side_by_side.threads,
    )
    tune_all(model, list(examples), labels, settings)

    def embed(rows: Sequence[str]) -> Embeddings:
        found = model.encode(list(rows), batch_size=_ENCODED_AT_ONCE, show_progress_bar=False)
        return np.asarray(found, dtype=np.float32)

    return by_frozen_encoder(embed(examples), labels, embed(texts))
