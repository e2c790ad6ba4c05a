"""One interface over the two ways of tuning: train on some rows, embed any, start again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from service.domain.errors import EncoderUnusable
from service.training.top_layers import (
    CachedTop,
    SplitUnsupported,
    encoder_layers,
    token_ids,
    trunk_states,
)
from service.training.tuning import Report, TuningSettings, tune_all, tune_top

Embeddings = NDArray[np.float32]


class Tuner(Protocol):
    """An encoder over a fixed list of texts, each known by its row number.

    ``trunk_layers`` are frozen, None when all are tuned; ``fallback`` says why they are when that
    was not asked for.
    """

    trunk_layers: int | None
    fallback: str | None

    def start_again(self) -> None:
        """Go back to the weights of the base encoder."""
        ...

    def train(
        self,
        rows: Sequence[int],
        labels: NDArray[np.bool_],
        settings: TuningSettings,
        report: Report,
    ) -> None:
        """Tune on rows with labels bool[len(rows)]."""
        ...

    def embed(self, rows: Sequence[int]) -> Embeddings:
        """Embeddings float32[len(rows), d] by the encoder as it is now, in PyTorch."""
        ...


class TopTuner:
    """Tunes the top layers over trunk states that are computed once, here, for every text."""

    fallback: str | None = None

    def __init__(
        self, model: SentenceTransformer, texts: Sequence[str], settings: TuningSettings
    ) -> None:
        count, tuned = len(encoder_layers(model)), settings.tuned_layers
        if tuned == "all" or not 0 < tuned < count:
            raise EncoderUnusable(
                f"tuned_layers is {tuned}; this encoder of {count} layers takes 1 to {count - 1}, "
                "or all."
            )
        self.trunk_layers: int | None = count - tuned
        ids = token_ids(model, texts, settings.max_tokens)
        states = trunk_states(model, count - tuned, ids, bfloat16=settings.bfloat16)
        self._width = int(model.get_sentence_embedding_dimension() or 0)
        self._top = CachedTop(model, count - tuned, states, bfloat16=settings.bfloat16)
        self._base = {name: value.clone() for name, value in self._top.layers.state_dict().items()}

    def start_again(self) -> None:
        """Go back to the weights of the base encoder."""
        self._top.layers.load_state_dict(self._base)

    def train(
        self,
        rows: Sequence[int],
        labels: NDArray[np.bool_],
        settings: TuningSettings,
        report: Report,
    ) -> None:
        """Tune the top layers on rows with labels bool[len(rows)]."""
        tune_top(self._top, rows, labels, settings, report)

    def embed(self, rows: Sequence[int]) -> Embeddings:
        """Embeddings float32[len(rows), d] of texts cut as in training."""
        if not rows:
            return np.empty((0, self._width), dtype=np.float32)
        embedded: Embeddings = self._top.embed_rows(rows).numpy()
        return embedded


class WholeTuner:
    """Tunes all layers by setfit's stock recipe."""

    trunk_layers: int | None = None

    def __init__(
        self, model: SentenceTransformer, texts: Sequence[str], fallback: str | None = None
    ) -> None:
        self.fallback = fallback
        self._model = model
        self._texts = list(texts)
        self._base = {name: value.clone() for name, value in model.state_dict().items()}

    def start_again(self) -> None:
        """Go back to the weights of the base encoder."""
        self._model.load_state_dict(self._base)

    def train(
        self,
        rows: Sequence[int],
        labels: NDArray[np.bool_],
        settings: TuningSettings,
        report: Report,
    ) -> None:
        """Tune the encoder on rows with labels bool[len(rows)]."""
        tune_all(self._model, [self._texts[row] for row in rows], labels, settings, report)

    def embed(self, rows: Sequence[int]) -> Embeddings:
        """Embeddings float32[len(rows), d]."""
        if not rows:
            return np.empty((0, self._model.get_sentence_embedding_dimension() or 0), np.float32)
        with torch.no_grad():
            embedded = self._model.encode(
                [self._texts[row] for row in rows], batch_size=16, show_progress_bar=False
            )
        return np.asarray(embedded, dtype=np.float32)


def make_tuner(model: SentenceTransformer, texts: Sequence[str], settings: TuningSettings) -> Tuner:
    """The tuner that ``tuned_layers`` asks for.

    An encoder of an architecture that cannot be split is tuned whole, and the tuner says so.
    Raises EncoderUnusable for a number of layers that the encoder does not have.
    """
    if settings.tuned_layers == "all":
        return WholeTuner(model, texts)
    try:
        return TopTuner(model, texts, settings)
    except SplitUnsupported as error:
        return WholeTuner(model, texts, f"{error.detail} All layers were tuned instead.")
