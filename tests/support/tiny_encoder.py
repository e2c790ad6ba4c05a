"""A deterministic encoder for fast tests: real tokeniser, real ONNX graph, random embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.normalizers import BertNormalizer

from service.inference.encoder_spec import MODEL_FILE, SPEC_FILE, TOKENIZER_FILE, EncoderSpec

DIMENSIONS = 32
MAX_TOKENS = 64
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def write_tiny_encoder(folder: Path, *, packed: bool = False, entangled: bool = False) -> None:
    """Write the files of an encoder artifact: the normalised sum of random token embeddings.

    ``packed`` says that the graph keeps texts apart in a run; ``entangled`` makes one that does
    not: as with one activation scale per run, a text's embedding moves with its neighbours.
    """
    vocabulary = _write_tokenizer(folder)
    _write_graph(folder, vocabulary, entangled=entangled)
    spec = EncoderSpec(
        name="tiny",
        precision="int8",
        dimensions=DIMENSIONS,
        max_tokens=MAX_TOKENS,
        pad_token_id=0,
        inputs=("input_ids", "attention_mask"),
        output="sentence_embedding",
        packed=packed,
    )
    (folder / SPEC_FILE).write_bytes(spec.to_json())


def _write_tokenizer(folder: Path) -> int:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*_SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / TOKENIZER_FILE))
    return len(vocabulary)


def _write_graph(folder: Path, vocabulary: int, *, entangled: bool) -> None:
    table = np.random.default_rng(7).standard_normal((vocabulary, DIMENSIONS), dtype=np.float32)
    # In 64ths every sum is exact, whatever its order: padding cannot move a bit.
    table = (np.round(table * 64) / 64).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["tokens", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
    ]
    pooled = "sum"
    if entangled:
        pooled = "moved"
        nodes += [
            helper.make_node("ReduceMax", ["sum"], ["largest"], keepdims=0),
            helper.make_node("Add", ["sum", "largest"], [pooled]),
        ]
    nodes.append(
        helper.make_node("LpNormalization", [pooled], ["sentence_embedding"], axis=-1, p=2)
    )
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "n"]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["b", "n"]),
        ],
        [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["b", DIMENSIONS])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([-1], dtype=np.int64), "last"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "middle"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString())
