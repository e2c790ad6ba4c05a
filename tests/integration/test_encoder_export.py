"""Any encoder can replace the embedded one: export, quantise, verify, serve."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizerFast

from service.domain.errors import EncoderUnusable
from service.inference.encoder import CpuEncoder, SideBySide, load_encoder
from service.inference.encoder_spec import Precision
from service.training import encoder_source
from service.training.encoder_export import PROBES, export_encoder
from service.training.encoder_source import resolve_encoder

PRECISIONS: tuple[Precision, ...] = ("int8", "fp16")
TEXTS = ["Infirmière", "Data scientist, Paris", "Chef de partie. Cuisson, dressage, mise en place"]


@pytest.fixture(scope="module")
def xlmr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny randomly initialised XLM-R in plain transformers' layout, with SentencePiece."""
    folder = tmp_path_factory.mktemp("xlmr")
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join([*PROBES, *TEXTS] * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "spm"), vocab_size=110, minloglevel=2
    )
    source = folder / "source"
    tokenizer = XLMRobertaTokenizerFast(vocab_file=str(folder / "spm.model"))
    tokenizer.save_pretrained(str(source))
    torch.manual_seed(3)
    configuration = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=66,
        pad_token_id=tokenizer.pad_token_id,
    )
    XLMRobertaModel(configuration).save_pretrained(str(source), safe_serialization=True)
    return source


@pytest.fixture(scope="module")
def cls_pooled(xlmr: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in sentence-transformers' layout, with CLS pooling."""
    folder = tmp_path_factory.mktemp("cls")
    transformer = Transformer(str(xlmr), max_seq_length=40)
    SentenceTransformer(
        modules=[transformer, Pooling(32, pooling_mode="cls")], device="cpu"
    ).save_pretrained(str(folder))
    return folder


def _served(source: Path, target: Path) -> CpuEncoder:
    found = resolve_encoder(str(source))
    export_encoder(found.folder, target, "int8", found.name, lambda _step, _what: None)
    loaded = load_encoder(target, "test", SideBySide(2))
    assert isinstance(loaded, CpuEncoder)
    return loaded


def test_a_plain_xlm_roberta_is_mean_pooled_and_served_as_pytorch_computes_it(
    xlmr: Path, tmp_path: Path
) -> None:
    encoder = _served(xlmr, tmp_path)
    assert encoder.spec.inputs == ("input_ids", "attention_mask")
    assert encoder.spec.max_tokens == 64
    assert not encoder.spec.packed
    assert encoder.spec.parity["fp32_max_difference"] < 1e-4
    assert encoder.spec.parity["served_mean_cosine"] > 0.97
    reference = SentenceTransformer(str(xlmr), device="cpu").encode(
        TEXTS, normalize_embeddings=True
    )
    served = encoder.encode(TEXTS).embeddings
    assert (served * np.asarray(reference)).sum(axis=1).min() > 0.97


def test_cls_pooling_is_kept(cls_pooled: Path, xlmr: Path, tmp_path: Path) -> None:
    encoder = _served(cls_pooled, tmp_path / "cls")
    assert encoder.spec.max_tokens == 40
    reference = SentenceTransformer(str(cls_pooled), device="cpu").encode(
        TEXTS, normalize_embeddings=True
    )
    served = encoder.encode(TEXTS).embeddings
    assert (served * np.asarray(reference)).sum(axis=1).min() > 0.97
    mean = _served(xlmr, tmp_path / "mean").encode(TEXTS).embeddings
    assert not np.allclose(mean, served, atol=0.05)


def test_embeddings_have_length_one_and_do_not_depend_on_batch_mates(
    xlmr: Path, tmp_path: Path
) -> None:
    encoder = _served(xlmr, tmp_path)
    together = encoder.encode([*TEXTS, "x " * 500]).embeddings
    assert np.allclose((together**2).sum(axis=1), 1, atol=1e-5)
    for row, text in enumerate(TEXTS):
        assert np.array_equal(encoder.encode([text]).embeddings[0], together[row])


def test_a_hub_id_is_found_in_the_hubs_own_cache(
    xlmr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "hub" / "models--someone--tiny-xlmr"
    snapshot = repository / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    for path in xlmr.iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_OFFLINE", True)
    found = resolve_encoder("someone/tiny-xlmr")
    assert found.folder.resolve() == snapshot.resolve()
    assert found.name == "someone/tiny-xlmr"


def test_pickled_weights_are_refused(xlmr: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((xlmr / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(EncoderUnusable, match="safetensors"):
        resolve_encoder(str(tmp_path))


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnusable, match="no directory"):
        resolve_encoder(str(tmp_path / "nowhere"))


def test_a_fingerprint_follows_the_weights_and_the_precision(xlmr: Path, tmp_path: Path) -> None:
    background = tmp_path / "background.jsonl"
    background.write_text(json.dumps({"title": "Boulanger"}))
    source = resolve_encoder(str(xlmr))
    first = source.fingerprint("int8", background)
    assert source.fingerprint("int8", background) == first
    assert source.fingerprint("fp16", background) != first
    background.write_text(json.dumps({"title": "Boulangère"}))
    assert source.fingerprint("int8", background) != first


def test_a_fingerprint_follows_the_recipe_that_exports_the_graph(
    xlmr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    background = tmp_path / "background.jsonl"
    background.write_text(json.dumps({"title": "Boulanger"}))
    source = resolve_encoder(str(xlmr))
    before = {kind: source.fingerprint(kind, background) for kind in PRECISIONS}
    monkeypatch.setitem(encoder_source.EXPORT_RECIPES, "int8", "another recipe")
    assert source.fingerprint("int8", background) != before["int8"]
    assert source.fingerprint("fp16", background) == before["fp16"]


def test_a_fingerprint_follows_the_graph_that_is_shipped_with_the_weights(
    xlmr: Path, tmp_path: Path
) -> None:
    background = tmp_path / "background.jsonl"
    background.write_text(json.dumps({"title": "Boulanger"}))
    shutil.copytree(xlmr, tmp_path / "source")
    shipped = tmp_path / "source" / "onnx"
    shipped.mkdir()
    source = resolve_encoder(str(tmp_path / "source"))
    seen = {source.fingerprint("int8", background)}
    for spec, graph in ((b"{}", b"one"), (b"{}", b"two"), (b"{ }", b"two")):
        (shipped / "encoder.json").write_bytes(spec)
        (shipped / "model.onnx").write_bytes(graph)
        seen.add(source.fingerprint("int8", background))
    assert len(seen) == 4
