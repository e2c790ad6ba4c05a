"""Export of a tuned encoder as two int8 graphs: the trunk that all share, and the tuned top.

The trunk's layers are frozen, so every occupation tuned from one encoder at one depth exports the
same trunk, byte for byte, and a content-addressed store keeps it once.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from onnx.utils import Extractor
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch import Tensor

from service.domain.errors import EncoderUnusable
from service.inference.encoder import Encoder, SideBySide, load_encoder
from service.inference.encoder_spec import MODEL_FILE, SPEC_FILE, TOKENIZER_FILE, EncoderSpec
from service.inference.split_encoder import SplitEncoder, Trunk
from service.training.activation_ranges import measure_ranges
from service.training.encoder_export import (
    OUTPUT,
    PROBES,
    apart_probes,
    export_graph,
    parity_with,
    quantise_dynamically,
    run_fp32,
)
from service.training.encoder_source import library_versions
from service.training.packed_graph import HIDDEN, check_kept_apart, packable, packed_graph

_TOP_INPUTS = (HIDDEN, "attention_mask", "input_ids")


@dataclass(frozen=True, slots=True)
class TunedExport:
    """What was written: the encoder loaded back, and how far it is from PyTorch on the probes."""

    encoder: Encoder
    parity: Mapping[str, float]


def export_tuned(
    model: SentenceTransformer,
    trunk_layers: int | None,
    target: Path,
    name: str,
    side_by_side: SideBySide,
) -> TunedExport:
    """Write ``target/encoder`` (and ``target/trunk``), int8, and compare with PyTorch.

    Without ``trunk_layers`` the whole encoder is written, as when all layers were tuned.

    Raises:
        EncoderUnusable: where the graph cannot be cut, or the graphs loaded back do not compute
            what PyTorch computes.
    """
    with tempfile.TemporaryDirectory() as scratch:
        saved, exported = Path(scratch) / "model", Path(scratch) / "onnx"
        model.save_pretrained(str(saved), create_model_card=False)
        export_graph(saved, exported)
        spec = EncoderSpec(
            name=name,
            precision="int8",
            dimensions=int(model.get_sentence_embedding_dimension() or 0),
            max_tokens=int(model.max_seq_length or 0),
            pad_token_id=int(model.tokenizer.pad_token_id or 0),
            inputs=(),
            output=OUTPUT,
            libraries=library_versions(),
            packed=packable(model),
        )
        graphs = (
            _packed_graphs(model, trunk_layers)
            if spec.packed
            else _dynamic_graphs(exported / "model.onnx", trunk_layers, Path(scratch))
        )
        transformer: Any = model[0]
        specs = _write(graphs, spec, target, int(transformer.auto_model.config.hidden_size))
        if spec.packed:
            files = [target / part / MODEL_FILE for part in graphs]
            check_kept_apart(files, apart_probes(model))
        tokeniser = exported / TOKENIZER_FILE
        if not tokeniser.exists():
            raise EncoderUnusable("The encoder has no fast tokenizer (tokenizer.json).")
        _copy_tokeniser(tokeniser, target / next(iter(graphs)) / TOKENIZER_FILE)
        encoder = load_tuned(target, side_by_side)
        parity = compare(model, exported / "model.onnx", encoder)
    written = replace(specs["encoder"], parity=parity)
    (target / "encoder" / SPEC_FILE).write_bytes(written.to_json())
    return TunedExport(encoder, parity)


def _packed_graphs(
    model: SentenceTransformer, trunk_layers: int | None
) -> dict[str, onnx.ModelProto]:
    ranges = measure_ranges(model)
    if trunk_layers is None:
        return {"encoder": packed_graph(model, ranges)}
    return {
        "trunk": packed_graph(model, ranges, last=trunk_layers),
        "encoder": packed_graph(model, ranges, first=trunk_layers),
    }


def _dynamic_graphs(
    fp32_graph: Path, trunk_layers: int | None, scratch: Path
) -> dict[str, onnx.ModelProto]:
    whole = onnx.load(fp32_graph)
    parts = (whole,) if trunk_layers is None else split_graph(whole, trunk_layers)
    graphs = {}
    for part, graph in zip(("trunk", "encoder")[-len(parts) :], parts, strict=True):
        folder = scratch / part
        folder.mkdir()
        onnx.save(graph, folder / "model.onnx")
        quantise_dynamically(folder, folder / "quantised.onnx")
        graphs[part] = onnx.load(folder / "quantised.onnx")
    return graphs


def _write(
    graphs: Mapping[str, onnx.ModelProto], spec: EncoderSpec, target: Path, width: int
) -> dict[str, EncoderSpec]:
    """Write each part's graph and what it says of itself; a trunk's output is ``width`` wide."""
    specs = {}
    for part, graph in graphs.items():
        folder = target / part
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL_FILE).write_bytes(graph.SerializeToString())
        own = replace(spec, inputs=tuple(item.name for item in graph.graph.input))
        if part == "trunk":
            own = replace(own, output=HIDDEN, dimensions=width)
        (folder / SPEC_FILE).write_bytes(own.to_json())
        specs[part] = own
    return specs


def _copy_tokeniser(source: Path, target: Path) -> None:
    """Copy a tokeniser without the padding and truncation that its last call in training set."""
    tokeniser = Tokenizer.from_file(str(source))
    tokeniser.no_padding()
    tokeniser.no_truncation()
    tokeniser.save(str(target))


def load_tuned(target: Path, side_by_side: SideBySide) -> Encoder:
    """Load what `export_tuned` wrote, as it will be served."""
    if (target / "trunk").exists():
        return SplitEncoder(Trunk(target / "trunk", ""), target / "encoder", "", side_by_side)
    return load_encoder(target / "encoder", "", side_by_side)


def split_graph(
    whole: onnx.ModelProto, trunk_layers: int
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Cut a float32 graph at the output of layer number ``trunk_layers`` (counted from 1).

    Returns the trunk, whose output is ``hidden`` float32[batch, tokens, width], and the top, which
    reads it with the mask and the ids (whose shape the mask's expansion asks for).

    Raises:
        EncoderUnusable: if the graph names no such layer, or a part would need more inputs.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(whole)
    boundary = _layer_output(graph, trunk_layers - 1)
    for node in graph.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == boundary:
                    names[place] = HIDDEN
    kept = [item for item in graph.graph.value_info if item.name != boundary]
    del graph.graph.value_info[:]
    graph.graph.value_info.extend(kept)
    graph.graph.value_info.append(
        helper.make_tensor_value_info(HIDDEN, TensorProto.FLOAT, ["batch_size", "tokens", None])
    )
    given = {item.name for item in graph.graph.input}
    trunk = Extractor(graph).extract_model([item.name for item in graph.graph.input], [HIDDEN])
    _measure_hidden(graph)
    top = Extractor(graph).extract_model(
        [name for name in _TOP_INPUTS if name in given | {HIDDEN}], [OUTPUT]
    )
    for part in (trunk, top):
        try:
            onnx.checker.check_model(part)
        except onnx.checker.ValidationError as error:
            raise EncoderUnusable(
                f"The encoder's graph cannot be cut after layer {trunk_layers}."
            ) from error
    return trunk, top


def _layer_output(graph: onnx.ModelProto, layer: int) -> str:
    """The name of the tensor that a layer ends in: its last normalisation's output."""
    pattern = re.compile(r"layer\.(\d+)/output(?:/LayerNorm|_layer_norm)/")
    last = ""
    for node in graph.graph.node:
        found = pattern.search(node.name)
        if found and int(found[1]) == layer:
            last = node.output[0]
    if not last:
        raise EncoderUnusable(f"The encoder's graph has no layer {layer + 1} to cut after.")
    return last


def _measure_hidden(graph: onnx.ModelProto) -> None:
    """Take a text's length from ``hidden`` where the graph takes it from the embeddings.

    They have one shape. Every layer of MPNet reads the distances between positions, which follow
    from the length: without this the top would carry the embeddings of all words to know it.
    """
    embeddings = {
        node.output[0] for node in graph.graph.node if "/embeddings/LayerNorm/" in node.name
    }
    for node in graph.graph.node:
        if node.op_type == "Shape" and node.input[0] in embeddings:
            node.input[0] = HIDDEN


def compare(model: SentenceTransformer, fp32_graph: Path, served: Encoder) -> dict[str, float]:
    """Compare PyTorch, the float32 graph and the served graphs on the probes.

    Raises EncoderUnusable when they do not agree.
    """
    reference = np.asarray(model.encode(list(PROBES), batch_size=1), dtype=np.float32)
    _, fp32 = run_fp32(model, fp32_graph)
    return parity_with(reference, fp32, served.encode(PROBES).embeddings)


def check_frozen(before: Mapping[str, Tensor], model: SentenceTransformer) -> None:
    """Raise EncoderUnusable if a weight that should be frozen has moved by a bit."""
    after = model.state_dict()
    moved = [name for name, value in before.items() if not torch.equal(value, after[name])]
    if moved:
        raise EncoderUnusable(
            f"{len(moved)} weights of the shared trunk moved in training: nothing is published."
        )
