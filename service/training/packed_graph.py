"""An int8 graph of a BERT that runs several texts at once and keeps them apart to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from service.domain.errors import EncoderUnusable
from service.inference.encoder import cpu_session
from service.inference.packing import padded
from service.training.activation_ranges import LayerRanges
from service.training.packed_layers import embed_tokens, find_places, pool, write_layer
from service.training.quantised_products import GraphWriter

HIDDEN = "hidden"
EMBEDDING = "sentence_embedding"
WHOLE_INPUTS = ("input_ids", "attention_mask")
TOP_INPUTS = (HIDDEN, "attention_mask")

# Of ONNX 1.16 (2024): older than every ONNX Runtime that the project allows.
_OPSET = 21
_IR_VERSION = 10


def packable(model: SentenceTransformer) -> bool:
    """Whether `packed_graph` can build the graph: a plain BERT, its mean pooled and normalised."""
    modules: list[Any] = list(model)
    if [type(module) for module in modules] != [Transformer, Pooling, Normalize]:
        return False
    if modules[1].pooling_mode != "mean" or not modules[1].include_prompt:
        return False
    config = modules[0].auto_model.config
    return (
        config.model_type == "bert"
        and not config.is_decoder
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and config.hidden_act == "gelu"
    )


def packed_graph(
    model: SentenceTransformer,
    ranges: Sequence[LayerRanges],
    first: int = 0,
    last: int | None = None,
) -> onnx.ModelProto:
    """The graph of the layers from number ``first`` up to and without ``last``.

    From the first layer on it reads ``input_ids`` and ``attention_mask``, both int64[texts,
    length]; from a later one ``hidden`` float32[tokens, width] in place of the ids, the tokens of
    all texts one after the other. Up to the last layer it gives ``sentence_embedding``
    float32[texts, width], up to an earlier one ``hidden``.

    The same weights and ranges give the same bytes, and two graphs, one after the other, what the
    whole graph gives, to the bit.

    Raises:
        EncoderUnusable: if there are no such layers.
    """
    network: Any = model[0].auto_model
    config = network.config
    last = len(ranges) if last is None else last
    if not 0 <= first < last <= len(ranges):
        raise EncoderUnusable(f"The encoder has no layer {last} to cut after.")
    weights = {name: value.detach().float().numpy() for name, value in network.state_dict().items()}
    epsilon = float(config.layer_norm_eps)
    writer = GraphWriter()
    places = find_places(writer, "attention_mask")
    hidden = HIDDEN
    if first == 0:
        hidden = embed_tokens(writer, weights, places, "input_ids", epsilon)
    for number in range(first, last):
        hidden = write_layer(
            writer, weights, number, ranges[number], places, hidden,
            int(config.num_attention_heads), epsilon,
        )  # fmt: skip
    width = int(config.hidden_size)
    if last == len(ranges):
        pool(writer, places, "attention_mask", hidden, EMBEDDING)
        output = helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["texts", width])
    else:
        writer.node("Identity", hidden, output=HIDDEN)
        output = helper.make_tensor_value_info(HIDDEN, TensorProto.FLOAT, ["tokens", width])
    return _model(writer, WHOLE_INPUTS if first == 0 else TOP_INPUTS, width, output)


def _model(
    writer: GraphWriter, inputs: Sequence[str], width: int, output: onnx.ValueInfoProto
) -> onnx.ModelProto:
    kinds = {
        name: helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "length"])
        for name in WHOLE_INPUTS
    }
    kinds[HIDDEN] = helper.make_tensor_value_info(HIDDEN, TensorProto.FLOAT, ["tokens", width])
    graph = helper.make_graph(
        writer.nodes,
        "packed",
        [kinds[name] for name in inputs],
        [output],
        list(writer.constants.values()),
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def check_kept_apart(graphs: Sequence[Path], texts: Sequence[NDArray[np.int64]]) -> None:
    """Run texts together, in several groups, and each alone; raise where a bit differs.

    ``graphs`` is the ``model.onnx`` of the whole encoder, or those of a trunk and its top; a text is
    its token ids int64[n], the longest last.
    A graph's kernels are ONNX Runtime's, chosen by the machine: what they do is seen, not assumed.

    Raises:
        EncoderUnusable: if a text's embedding depends on its neighbours or on padding.
    """
    sessions = [cpu_session(graph.parent) for graph in graphs]
    alone = np.concatenate([_run(sessions, [text], 0) for text in texts])
    everyone = list(range(len(texts)))
    for chosen, padding in (
        (everyone, 0),
        (everyone[-2::-1], 3),
        (everyone[:1], 5),
    ):
        together = _run(sessions, [texts[row] for row in chosen], padding)
        if together.tobytes() != alone[chosen].tobytes():
            raise EncoderUnusable(
                f"ONNX Runtime {ort.__version__} does not keep texts apart on this machine: run "
                "together they have other embeddings than alone. Nothing is published."
            )


def _run(
    sessions: Sequence[ort.InferenceSession], texts: Sequence[NDArray[np.int64]], padding: int
) -> NDArray[np.float32]:
    grids = [np.pad(grid, ((0, 0), (0, padding))) for grid in padded(texts, pad_token_id=0)]
    feeds: dict[str, NDArray[Any]] = dict(zip(WHOLE_INPUTS, grids, strict=True))
    for session in sessions:
        names = {item.name: feeds[item.name] for item in session.get_inputs()}
        # Graphs that optimum exported also give the states of all tokens, before the embedding.
        feeds[HIDDEN] = session.run([session.get_outputs()[-1].name], names)[0]
    embeddings: NDArray[np.float32] = feeds[HIDDEN]
    return embeddings
