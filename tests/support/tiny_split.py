"""The tiny encoder as a fine-tuning leaves it: a trunk, and tops that weigh dimensions anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, TensorProto, helper, numpy_helper
from safetensors.numpy import save

from service.inference.encoder import SideBySide
from service.inference.encoder_cache import BACKGROUND_TENSORS
from service.inference.encoder_spec import (
    MODEL_FILE,
    SPEC_FILE,
    TOKENIZER_FILE,
    EncoderSpec,
    read_spec,
)
from service.inference.split_encoder import SplitEncoder, Trunk
from service.registry.artifacts import ArtifactStore
from tests.support.tiny_encoder import DIMENSIONS, MAX_TOKENS

TEXTS = [f"métier numéro {number}, secteur {number % 7}" for number in range(80)]


def put_tuned(
    artifacts: ArtifactStore, whole: Path, folder: Path, side_by_side: SideBySide, seed: int
) -> tuple[SplitEncoder, str]:
    """Store a trunk and a top of the encoder in ``whole``; the loaded pair, and the top's digest.

    Tops of different seeds place the same texts differently, and share their trunk. Both are
    packed where ``whole`` is.
    """
    packed = read_spec(whole).packed
    trunk, top = folder / "trunk", folder / "top"
    for made in (trunk, top):
        made.mkdir(parents=True)
    weights = onnx.load(whole / MODEL_FILE).graph.initializer
    table = next(each for each in weights if each.name == "table")
    (trunk / TOKENIZER_FILE).write_bytes((whole / TOKENIZER_FILE).read_bytes())
    reads = ("input_ids", "attention_mask") if packed else ("input_ids",)
    (trunk / SPEC_FILE).write_bytes(_spec(reads, "hidden", None, packed=packed).to_json())
    _write(trunk, _packed_trunk_graph(table) if packed else _trunk_graph(table))
    trunk_digest = artifacts.put({path.name: path for path in trunk.iterdir()})
    inputs = ("hidden", "attention_mask")
    (top / SPEC_FILE).write_bytes(_spec(inputs, "embedding", trunk_digest, packed=packed).to_json())
    _write(top, _packed_top_graph(seed) if packed else _top_graph(seed))
    encoder = SplitEncoder(Trunk(trunk, trunk_digest), top, f"top-{seed}", side_by_side)
    background = np.ascontiguousarray(encoder.encode(TEXTS).embeddings)
    files = {path.name: path for path in top.iterdir()}
    return encoder, artifacts.put({**files, BACKGROUND_TENSORS: save({"embeddings": background})})


def _spec(inputs: tuple[str, ...], output: str, trunk: str | None, *, packed: bool) -> EncoderSpec:
    return EncoderSpec(
        name="tiny",
        precision="int8",
        dimensions=DIMENSIONS,
        max_tokens=MAX_TOKENS,
        pad_token_id=0,
        inputs=inputs,
        output=output,
        trunk=trunk,
        packed=packed,
    )


def _trunk_graph(table: TensorProto) -> GraphProto:
    tokens = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "n"])
    hidden = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["b", "n", DIMENSIONS])
    node = helper.make_node("Gather", ["table", "input_ids"], ["hidden"])
    return helper.make_graph([node], "trunk", [tokens], [hidden], [table])


def _top_graph(seed: int) -> GraphProto:
    scales = np.random.default_rng(seed).lognormal(0.0, 2.0, DIMENSIONS).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["hidden", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "scales"], ["scaled"]),
        helper.make_node("LpNormalization", ["scaled"], ["embedding"], axis=-1, p=2),
    ]
    return helper.make_graph(
        nodes,
        "top",
        [
            helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["b", "n", DIMENSIONS]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["b", "n"]),
        ],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["b", DIMENSIONS])],
        [
            numpy_helper.from_array(scales, "scales"),
            numpy_helper.from_array(np.array([-1], dtype=np.int64), "last"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "middle"),
        ],
    )


# Row and column of each token in the padded grid, int64[tokens, 2].
_PLACES = (
    helper.make_node("NonZero", ["attention_mask"], ["axes"]),
    helper.make_node("Transpose", ["axes"], ["places"], perm=[1, 0]),
)


def _packed_trunk_graph(table: TensorProto) -> GraphProto:
    grid = ["b", "n"]
    nodes = [
        *_PLACES,
        helper.make_node("GatherND", ["input_ids", "places"], ["kept"]),
        helper.make_node("Gather", ["table", "kept"], ["hidden"]),
    ]
    return helper.make_graph(
        nodes,
        "trunk",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, grid),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, grid),
        ],
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["tokens", DIMENSIONS])],
        [table],
    )


def _packed_top_graph(seed: int) -> GraphProto:
    scales = np.random.default_rng(seed).lognormal(0.0, 2.0, DIMENSIONS).astype(np.float32)
    nodes = [
        *_PLACES,
        helper.make_node("Shape", ["attention_mask"], ["grid"]),
        helper.make_node("Concat", ["grid", "width"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["empty"]),
        helper.make_node("ScatterND", ["empty", "places", "hidden"], ["placed"]),
        helper.make_node("ReduceSum", ["placed", "middle"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "scales"], ["scaled"]),
        helper.make_node("LpNormalization", ["scaled"], ["embedding"], axis=-1, p=2),
    ]
    return helper.make_graph(
        nodes,
        "top",
        [
            helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["tokens", DIMENSIONS]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["b", "n"]),
        ],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["b", DIMENSIONS])],
        [
            numpy_helper.from_array(scales, "scales"),
            numpy_helper.from_array(np.array([DIMENSIONS], dtype=np.int64), "width"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "middle"),
        ],
    )


def _write(folder: Path, graph: GraphProto) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString())
