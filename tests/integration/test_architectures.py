"""Trunk and top of encoders that are no BERT: split as BERT's are, or tuned whole with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from service.inference.encoder import SideBySide, load_encoder
from service.inference.encoder_spec import read_spec
from service.training.encoder_export import (
    PROBES,
    export_encoder,
    export_graph,
    graph_inputs,
    load_model,
)
from service.training.job_file import read_job
from service.training.setfit_job import run_job
from service.training.split_export import export_tuned, split_graph
from service.training.top_layers import CachedTop, token_ids, trunk_states
from service.training.tuners import make_tuner
from service.training.tuning import TuningSettings
from tests.support.tiny_architectures import write_tiny_architecture
from tests.support.tiny_bert import INSIDE, OUTSIDE, write_job

SETTINGS = TuningSettings(tuned_layers=2, fewest_steps=3, visits=1)
TEXTS = [*INSIDE, *OUTSIDE]
LABELS = np.arange(16) < 8


@pytest.fixture(scope="module", params=["xlm-roberta", "mpnet", "distilbert"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_architecture(tmp_path_factory.mktemp("split"), request.param)


@pytest.fixture
def model(source: Path) -> SentenceTransformer:
    return load_model(source)


def _run(graph: onnx.ModelProto, feeds: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    outputs = [item.name for item in session.get_outputs()]
    wanted = "hidden" if outputs == ["hidden"] else "sentence_embedding"
    result: NDArray[np.float32] = session.run([wanted], {name: feeds[name] for name in names})[0]
    return result


def test_kept_states_give_the_embeddings_of_the_whole_encoder(model: SentenceTransformer) -> None:
    # Of several lengths: together they are padded, and no padding may be read.
    texts = ["Vin", *OUTSIDE[:3], "cave " * 11]
    top = CachedTop(model, 2, trunk_states(model, 2, token_ids(model, texts, 64)))
    whole = model.encode(texts, batch_size=1)
    assert np.allclose(top.embed_rows(range(5)).numpy(), whole, atol=1e-5)


def test_two_graphs_compute_what_the_whole_graph_computes(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    export_graph(tmp_path / "model", tmp_path / "onnx")
    whole = onnx.load(tmp_path / "onnx" / "model.onnx")
    trunk, top = split_graph(whole, 2)
    for text in PROBES:
        feeds: dict[str, NDArray[np.generic]] = {**graph_inputs(model, text)}
        split = _run(top, {**feeds, "hidden": _run(trunk, feeds)})
        assert np.abs(split - _run(whole, feeds)).max() < 1e-5
    # The words' embeddings are in the trunk, which all occupations share.
    tokens = len(model.tokenizer)
    assert tokens in {weights.dims[0] for weights in trunk.graph.initializer if weights.dims}
    assert tokens not in {weights.dims[0] for weights in top.graph.initializer if weights.dims}


def test_it_is_tuned_exported_and_served_over_a_trunk_that_did_not_move(
    source: Path, model: SentenceTransformer, tmp_path: Path
) -> None:
    tuner = make_tuner(model, TEXTS, SETTINGS)
    tuner.train(range(16), LABELS, SETTINGS, lambda _: None)
    before, after = load_model(source).state_dict(), model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(".layer.2." in name or ".layer.3." in name for name in moved)

    export = export_tuned(model, tuner.trunk_layers, tmp_path / "tuned", "tiny", SideBySide(2))
    assert export.parity["fp32_max_difference"] < 1e-4
    assert not export.encoder.spec.packed
    served = export.encoder.encode(TEXTS).embeddings
    reference = np.asarray(model.encode(TEXTS, batch_size=1))
    assert (served * reference).sum(axis=1).min() > 0.95
    assert np.array_equal(export.encoder.encode(TEXTS[3:4]).embeddings[0], served[3])

    other = load_model(source)
    make_tuner(other, TEXTS, SETTINGS).train(range(12), LABELS[:12], SETTINGS, lambda _: None)
    export_tuned(other, 2, tmp_path / "other", "tiny", SideBySide(1))
    trunks = [tmp_path / name / "trunk" / "model.onnx" for name in ("tuned", "other")]
    assert trunks[0].read_bytes() == trunks[1].read_bytes()


def test_split_int8_is_the_whole_int8_bit_for_bit(source: Path, tmp_path: Path) -> None:
    export_encoder(source, tmp_path / "whole", "int8", "tiny", lambda *_: None)
    whole = load_encoder(tmp_path / "whole", "", SideBySide(1)).encode(TEXTS).embeddings
    assert not read_spec(tmp_path / "whole").packed
    split = export_tuned(load_model(source), 2, tmp_path / "split", "tiny", SideBySide(1))
    assert np.array_equal(split.encoder.encode(TEXTS).embeddings, whole)


def test_an_architecture_that_cannot_be_split_is_tuned_whole_and_the_manifest_says_so(
    tmp_path: Path,
) -> None:
    source = write_tiny_architecture(tmp_path / "encoder", "albert")
    export_encoder(source, tmp_path / "served", "int8", "tiny", lambda *_: None)
    write_job(tmp_path / "job", source, tmp_path / "served", stock_iterations=1)
    out = tmp_path / "job" / "out"
    out.mkdir()
    run_job(read_job(tmp_path / "job" / "job.json"), out, lambda _stage, _done: None)
    manifest = json.loads((out / "result.json").read_bytes())["manifest"]
    assert "architecture albert" in manifest["fallback"]
    assert manifest["hyper_parameters"]["tuned_layers"] == "all"
    assert not (out / "trunk").exists()
    assert not read_spec(tmp_path / "served").packed
    assert not read_spec(out / "encoder").packed
    served = load_encoder(out / "encoder", "", SideBySide(1)).encode(TEXTS).embeddings
    assert np.isfinite(served).all()
