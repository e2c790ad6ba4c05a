"""One champion's head, the served encoder, and the same weights as the peers would have them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from benchmarks.serving_bench.processes import NotStarted
from service.inference.encoder_spec import (
    MODEL_FILE,
    SPEC_FILE,
    TOKENIZER_FILE,
    EncoderSpec,
    read_spec,
)
from service.inference.head import read_head
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.versions import champions

# The graph gives the tokens' states under this name beside the pooled embedding.
_TOKENS_OUTPUT = "token_embeddings"
_WEIGHTS = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "vocab.txt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bundle:
    """``served`` is the service's own encoder; peers read the other folders.

    ``encoder`` has the ordinary int8 graph of the same weights, pooled; ``hub`` the same graph
    without its pooling, laid out as a hub's repository.
    """

    folder: Path
    served: Path
    encoder: Path
    hub: Path


class Export:
    """The export of the ordinary int8 graph, by a process of its own; it takes half a minute."""

    def __init__(self, source: Path, encoder: Path) -> None:
        encoder.mkdir(parents=True)
        self.encoder = encoder
        self._made = subprocess.Popen(
            (sys.executable, "-m", "benchmarks.serving_bench.ordinary", str(source), str(encoder)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> None:
        """Wait for its end; raises NotStarted when it failed."""
        _, errors = self._made.communicate()
        if self._made.returncode:
            raise NotStarted(f"the peers' graph cannot be exported: {errors[-500:]}")

    def stop(self) -> None:
        """End it where nobody waited for it."""
        if self._made.poll() is None:
            self._made.kill()
            self._made.communicate()


def write_bundle(home: Path, source: Path, folder: Path, occupation: str, export: Export) -> Bundle:
    """Copy what a prepared home serves for an occupation, and the peers' graph.

    ``source`` is the encoder's own folder (weights, configuration, tokeniser). Raises NotStarted.
    """
    database = Database(f"sqlite:///{home / 'registry.sqlite'}")
    artifacts = ArtifactStore(str(home / "artifacts"), home / "cache")
    with database.read() as connection:
        version = next(v for v in champions(connection) if v.occupation == occupation)
    database.close()
    head = read_head(artifacts.open_local(version.artifact_digest))
    served, encoder = folder / "served", export.encoder
    shutil.copytree(artifacts.open_local(version.encoder_digest), served)
    export.finish()
    _write_spec(read_spec(served), encoder)
    shutil.copy(served / TOKENIZER_FILE, encoder / TOKENIZER_FILE)
    rules = {
        "occupation": occupation,
        "weights": [float(weight) for weight in head.weights],
        "bias": head.bias,
        "threshold": head.threshold,
    }
    (folder / "head.json").write_text(json.dumps(rules))
    return Bundle(folder, served, encoder, _write_hub(encoder, source, folder / "hub"))


def _write_spec(served: EncoderSpec, encoder: Path) -> None:
    inputs = onnx.load(str(encoder / MODEL_FILE)).graph.input
    spec = replace(served, inputs=tuple(each.name for each in inputs), packed=False)
    (encoder / SPEC_FILE).write_bytes(spec.to_json())


def _write_hub(encoder: Path, source: Path, hub: Path) -> Path:
    # Embedding servers pool the tokens themselves, and find a quantised graph by its name.
    hub.mkdir()
    for name in _WEIGHTS:
        shutil.copy(source / name, hub / name)
    model = onnx.load(str(encoder / MODEL_FILE))
    _cut_pooling(model)
    onnx.save(model, str(hub / "model_quantized.onnx"))
    return hub


def _cut_pooling(model: onnx.ModelProto) -> None:
    """Leave the tokens' states as the only output, under the name that optimum looks for."""
    needed, kept = {_TOKENS_OUTPUT}, []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    states = next(o for o in model.graph.output if o.name == _TOKENS_OUTPUT)
    renamed = onnx.ValueInfoProto()
    renamed.CopyFrom(states)
    renamed.name = "last_hidden_state"
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    for node in nodes:
        for index, name in enumerate(node.output):
            if name == _TOKENS_OUTPUT:
                node.output[index] = "last_hidden_state"
    weights = [w for w in model.graph.initializer if w.name in needed]
    weights = [onnx.TensorProto.FromString(w.SerializeToString()) for w in weights]
    for field, values in (
        (model.graph.node, nodes),
        (model.graph.initializer, weights),
        (model.graph.output, [renamed]),
    ):
        del field[:]
        field.extend(values)
