"""How far the numbers inside a BERT go: the ranges that its int8 graph is built for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from service.training.background import read_background
from service.training.encoder_source import CALIBRATION_FILE
from service.training.top_layers import by_length, encoder_layers, token_ids

# Of 64 to 400 texts cut to 64 to 256 tokens, all gave the embedded encoder a mean cosine of .9991
# with PyTorch (least .998) on 200 other texts. These take it 1.4 seconds on one CPU; the whole of
# a registration has 30.
CALIBRATION_TEXTS = 112
CALIBRATION_TOKENS = 96
_SEED = 1

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Range:
    """The least and the greatest value of each channel, both float32[channels]."""

    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class LayerRanges:
    """What three matrix products of a layer read.

    ``hidden`` is read by queries, keys and values, ``mixed`` by the projection of the attention's
    output, ``attended`` by the first half of the feed forward. The second half has no range: its
    graph takes one scale for each token.
    """

    hidden: Range
    mixed: Range
    attended: Range


def measure_ranges(model: SentenceTransformer) -> tuple[LayerRanges, ...]:
    """The ranges of each layer of a BERT, bottom first, over texts of the shipped background.

    Least and greatest over all tokens (calibration by minimum and maximum: Krishnamoorthi, 2018,
    Quantizing deep convolutional networks for efficient inference). The texts are the same for everybody, whatever background a service is given,
    and a layer's ranges depend on the layers under it alone: equal trunks get equal ranges.
    """
    network: Any = model[0].auto_model
    ids = token_ids(model, calibration_texts(), CALIBRATION_TOKENS)
    watched = _Watched(encoder_layers(model))
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode(), _one_thread(), watched:
            for chunk in by_length([len(text) for text in ids]):
                padded = nn.utils.rnn.pad_sequence([ids[row] for row in chunk], batch_first=True)
                lengths = torch.tensor([len(ids[row]) for row in chunk])
                mask = torch.arange(padded.shape[1])[None, :] < lengths[:, None]
                watched.tokens = mask
                network(input_ids=padded, attention_mask=mask.to(torch.int64))
    finally:
        network.train(was_training)
    return tuple(
        LayerRanges(*(watched.range_of(layer, place) for place in range(3)))
        for layer in range(len(encoder_layers(model)))
    )


@cache
def calibration_texts() -> Sequence[str]:
    """The same titles, and titles with a description, in French and English, at every call."""
    rows = read_background(CALIBRATION_FILE)
    order = np.random.default_rng(_SEED).permutation(len(rows))
    return tuple(rows[row].rendered for row in order[:CALIBRATION_TEXTS])


class _Watched:
    """Keeps the least and the greatest input of three matrix products of each layer."""

    def __init__(self, layers: nn.ModuleList) -> None:
        self._layers = layers
        self._low: dict[tuple[int, int], Tensor] = {}
        self._high: dict[tuple[int, int], Tensor] = {}
        self._hooks: list[Any] = []
        # bool[texts, tokens]: padding is computed too, and must not count.
        self.tokens = torch.empty(0)

    def __enter__(self) -> None:
        for number, layer in enumerate(self._layers):
            read: Any = layer
            for place, module in enumerate(
                (
                    read.attention.self.query,
                    read.attention.output.dense,
                    read.intermediate.dense,
                )
            ):
                hook = self._hook((number, place))
                self._hooks.append(module.register_forward_pre_hook(hook))

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def range_of(self, layer: int, place: int) -> Range:
        low, high = self._low[layer, place], self._high[layer, place]
        return Range(low.numpy().copy(), high.numpy().copy())

    def _hook(self, key: tuple[int, int]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = torch.aminmax(inputs[0][self.tokens], dim=0)
            if key in self._low:
                low = torch.minimum(low, self._low[key])
                high = torch.maximum(high, self._high[key])
            self._low[key], self._high[key] = low, high

        return look


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, whatever the number of threads before, which comes back after."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
