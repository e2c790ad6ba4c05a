"""The parts of a BERT in int8, as ONNX nodes over the tokens of several texts without padding.

Every number of a token is computed from the tokens of its own text, in an order that does not
depend on what else is in the run. Matrix products of int8 are exact sums of integers; everything
else works on one token, or on one text whose padding weighs exactly zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from service.training.activation_ranges import LayerRanges
from service.training.quantised_products import (
    RUNTIME,
    Floats,
    GraphWriter,
    Linear,
    product_by_token,
    smooth,
    smoothed,
    static_product,
)

Weights = Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Places:
    """Where tokens stand: names of tensors that all layers of a graph read.

    ``shape`` int64[2] of the padded grid of texts and tokens; ``kept`` int64[tokens], the grid's
    cells that hold a token; ``rows`` int64[texts, length], each cell's row among the tokens (any
    row where there is none); ``mask`` float32[texts, 1, 1, length], nought or a score so low that
    it weighs nothing.
    """

    shape: str
    kept: str
    rows: str
    mask: str


def find_places(writer: GraphWriter, attention_mask: str) -> Places:
    """Write what tells tokens from padding; ``attention_mask`` is int64[texts, length]."""
    shape = writer.node("Shape", attention_mask)
    flat = writer.node("Reshape", attention_mask, writer.whole_numbers(-1))
    kept = writer.node("Reshape", writer.node("NonZero", flat), writer.whole_numbers(-1))
    zero, one = writer.whole_number(0), writer.whole_number(1)
    before = writer.node("Sub", writer.node("CumSum", flat, zero), one)
    rows = writer.node("Reshape", writer.node("Max", before, zero), shape)
    present = writer.node("Cast", attention_mask, to=TensorProto.FLOAT)
    absent = writer.node("Sub", present, writer.constant("one", 1.0))
    scores = writer.node("Mul", absent, writer.constant("lowest", 3e38))
    mask = writer.node("Unsqueeze", scores, writer.whole_numbers(1, 2))
    return Places(shape, kept, rows, mask)


def embed_tokens(
    writer: GraphWriter, weights: Weights, places: Places, input_ids: str, epsilon: float
) -> str:
    """The embeddings float32[tokens, width], word embeddings in int8 with a scale for each word."""
    word = weights["embeddings.word_embeddings.weight"]
    scale = np.maximum(np.abs(word).max(axis=1, keepdims=True) / np.float32(127), 1e-12)
    ids = _kept(writer, places, input_ids)
    numbers = writer.node(
        "Gather", writer.constant("words", np.rint(word / scale), np.int8), ids, axis=0
    )
    scales = writer.node("Gather", writer.constant("words.scale", scale), ids, axis=0)
    words = writer.node("Mul", writer.node("Cast", numbers, to=TensorProto.FLOAT), scales)
    zero, one = writer.whole_number(0), writer.whole_number(1)
    length = writer.node("Gather", places.shape, one, axis=0)
    place = writer.node("Expand", writer.node("Range", zero, length, one), places.shape)
    # Every token is of the first type: an experience is one text.
    table = (
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    positions = writer.node(
        "Gather", writer.constant("positions", table), _kept(writer, places, place), axis=0
    )
    summed = writer.node("Add", words, positions)
    return _normalise(writer, weights, "embeddings.LayerNorm", summed, epsilon)


def write_layer(
    writer: GraphWriter,
    weights: Weights,
    number: int,
    ranges: LayerRanges,
    places: Places,
    hidden: str,
    heads: int,
    epsilon: float,
) -> str:
    """One layer over ``hidden`` float32[tokens, width]; returns its output, of the same shape."""
    prefix = f"encoder.layer.{number}."
    own = {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }
    projected, out = _projections(own, ranges, heads)
    inputs = smoothed(writer, f"{prefix}inputs", hidden, projected)
    queries = static_product(writer, f"{prefix}attention", inputs, projected)
    mixed = _attend(writer, places, queries, heads, out.weight.shape[0])
    answer = static_product(writer, f"{prefix}output", mixed, out)
    attended = _normalise(
        writer,
        own,
        "attention.output.LayerNorm",
        writer.node("Sum", answer, hidden),
        epsilon,
        prefix,
    )
    first = smooth(
        own["intermediate.dense.weight"].T, own["intermediate.dense.bias"], ranges.attended
    )
    inputs = smoothed(writer, f"{prefix}first", attended, first)
    inner = static_product(writer, f"{prefix}first", inputs, first)
    inner = writer.node("Gelu", inner, domain=RUNTIME)
    second = product_by_token(writer, f"{prefix}second", inner, own["output.dense.weight"].T)
    bias = writer.constant(f"{prefix}second.bias", own["output.dense.bias"])
    # A Sum, and no chain of Add: ONNX Runtime would fuse one with the normalisation that follows
    # into SkipLayerNormalization, whose kernel on CPU is the slower one.
    summed = writer.node("Sum", second, attended, bias)
    return _normalise(writer, own, "output.LayerNorm", summed, epsilon, prefix)


def pool(
    writer: GraphWriter, places: Places, attention_mask: str, hidden: str, output: str
) -> None:
    """The mean of each text's tokens, of length one: float32[texts, width]."""
    grid = writer.node("Gather", hidden, places.rows, axis=0)
    present = writer.node("Cast", attention_mask, to=TensorProto.FLOAT)
    row = writer.node("Unsqueeze", present, writer.whole_numbers(1))
    # Two equal rows: ONNX Runtime's kernel for a single one does not add in the tokens' order.
    rows = writer.node("Concat", row, row, axis=1)
    sums = writer.node("Gather", writer.node("MatMul", rows, grid), writer.whole_number(0), axis=1)
    # A mean and a sum have one direction: normalised, they are the same.
    writer.node("LpNormalization", sums, output=output, axis=-1, p=2)


def _projections(own: Weights, ranges: LayerRanges, heads: int) -> tuple[Linear, Linear]:
    """Queries, keys and values as one product, and the projection of the attention's output.

    The root of a head's width is in the queries' weights, and what smooths the attention's output
    in the values': neither costs anything when the graph runs.
    """
    names = [f"attention.self.{part}" for part in ("query", "key", "value")]
    weight = np.concatenate([own[f"{name}.weight"].T for name in names], axis=1)
    bias = np.concatenate([own[f"{name}.bias"] for name in names])
    width = weight.shape[0]
    root = np.float32(np.sqrt(width // heads))
    weight[:, :width] /= root
    bias[:width] /= root
    projected = smooth(weight, bias, ranges.hidden)
    out = smooth(
        own["attention.output.dense.weight"].T, own["attention.output.dense.bias"], ranges.mixed
    )
    projected.weight[:, 2 * width :] /= out.divisor
    projected.bias[2 * width :] /= out.divisor
    return projected, out


def _attend(writer: GraphWriter, places: Places, queries: str, heads: int, width: int) -> str:
    """Attention within each text, on the padded grid; float32[tokens, width]."""
    grid = writer.node("Gather", queries, places.rows, axis=0)
    by_head = writer.node(
        "Concat", places.shape, writer.whole_numbers(3, heads, width // heads), axis=0
    )
    parts = writer.node("Transpose", writer.node("Reshape", grid, by_head), perm=[2, 0, 3, 1, 4])
    query, key, value = (
        writer.node("Gather", parts, writer.whole_number(part), axis=0) for part in range(3)
    )
    scores = writer.node("FusedMatMul", query, key, domain=RUNTIME, transB=1)
    share = writer.node("Softmax", writer.node("Add", scores, places.mask), axis=-1)
    mixed = writer.node("Transpose", writer.node("MatMul", share, value), perm=[0, 2, 1, 3])
    flat = writer.node("Reshape", mixed, writer.whole_numbers(-1, width))
    return writer.node("Gather", flat, places.kept, axis=0)


def _kept(writer: GraphWriter, places: Places, grid: str) -> str:
    """What a grid int64[texts, length] holds for each token."""
    flat = writer.node("Reshape", grid, writer.whole_numbers(-1))
    return writer.node("Gather", flat, places.kept, axis=0)


def _normalise(
    writer: GraphWriter,
    weights: Weights,
    name: str,
    inputs: str,
    epsilon: float,
    prefix: str = "",
) -> str:
    gain = writer.constant(f"{prefix}{name}.weight", weights[f"{name}.weight"])
    shift = writer.constant(f"{prefix}{name}.bias", weights[f"{name}.bias"])
    return writer.node("LayerNormalization", inputs, gain, shift, axis=-1, epsilon=epsilon)
