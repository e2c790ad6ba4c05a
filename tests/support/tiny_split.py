"""The tiny encoder as a fine-tuning leaves it: a trunk, and tops that weigh dimensions anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, TensorProto, helper, numpy_helper
from safetensors.numpy import save

from service.inference.encoder import SideBySide
from service.inference.encoder_cache import BACKGROUND_TENSORS
from service.inference.encoder_spec import MODEL_FILE, SPEC_FILE, TOKENIZER_FILE, EncoderSpec
from service.inference.split_encoder import SplitEncoder, Trunk
from service.registry.artifacts import ArtifactStore
from tests.support.tiny_encoder import DIMENSIONS, MAX_TOKENS

TEXTS = [f"métier numéro {number}, secteur {number % 7}" for number in range(80)]


def put_tuned(
    artifacts: ArtifactStore, whole: Path, folder: Path, side_by_side: SideBySide, seed: int
) -> tuple[SplitEncoder, str]:
    """Store a trunk and a top of the encoder in ``whole``; the loaded pair, and the top's digest.

    Tops of different seeds place the same texts differently, and share their trunk.
    """
    trunk, top = folder / "trunk", folder / "top"
    for made in (trunk, top):
        made.mkdir(parents=True)
    weights = onnx.load(whole / MODEL_FILE).graph.initializer
    table = next(each for each in weights if each.name == "table")
    (trunk / TOKENIZER_FILE).write_bytes((whole / TOKENIZER_FILE).read_bytes())
    (trunk / SPEC_FILE).write_bytes(_spec(("input_ids",), "hidden", None).to_json())
    _write(trunk, _trunk_graph(table))
    trunk_digest = artifacts.put({path.name: path for path in trunk.iterdir()})
    inputs = ("hidden", "attention_mask")
    (top / SPEC_FILE).write_bytes(_spec(inputs, "embedding", trunk_digest).to_json())
    _write(top, _top_graph(seed))
    encoder = SplitEncoder(Trunk(trunk, trunk_digest), top, f"top-{seed}", side_by_side)
    background = np.ascontiguousarray(encoder.encode(TEXTS).embeddings)
    files = {path.name: path for path in top.iterdir()}
    return encoder, artifacts.put({**files, BACKGROUND_TENSORS: save({"embeddings": background})})


def _spec(inputs: tuple[str, ...], output: str, trunk: str | None) -> EncoderSpec:
    return EncoderSpec(
        name="tiny",
        precision="int8",
        dimensions=DIMENSIONS,
        max_tokens=MAX_TOKENS,
        pad_token_id=0,
        inputs=inputs,
        output=output,
        trunk=trunk,
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


def _write(folder: Path, graph: GraphProto) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString())
