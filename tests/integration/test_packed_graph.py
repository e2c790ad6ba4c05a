"""Packed graphs: texts run together are kept apart to the bit, and are what PyTorch computes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from service.domain.errors import EncoderUnusable
from service.inference.encoder import SideBySide, load_encoder
from service.inference.encoder_spec import MODEL_FILE, read_spec
from service.jobs.preparation import Preparation
from service.registry import encoders
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.settings import PROJECT_ROOT, Settings
from service.training import packed_graph as packed
from service.training.activation_ranges import LayerRanges, Range, measure_ranges
from service.training.encoder_export import PROBES, apart_probes, export_encoder, load_model
from service.training.packed_graph import check_kept_apart, packable, packed_graph
from service.training.quantised_products import smooth
from service.training.top_layers import encoder_layers
from tests.support.tiny_architectures import write_tiny_architecture
from tests.support.tiny_bert import INSIDE, LAYERS, write_tiny_bert

SHIPPED = PROJECT_ROOT / "models" / "encoder"

Ids = NDArray[np.int64]
Feeds = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-bert")
    write_tiny_bert(folder)
    return folder / "source"


@pytest.fixture(scope="module")
def tiny(source: Path) -> SentenceTransformer:
    """Not to be changed."""
    return load_model(source)


@pytest.fixture(scope="module")
def ranges(tiny: SentenceTransformer) -> tuple[LayerRanges, ...]:
    return measure_ranges(tiny)


def _session(graph: onnx.ModelProto | Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    content = graph.read_bytes() if isinstance(graph, Path) else graph.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _feeds(texts: Sequence[Ids], padding: int = 0) -> Feeds:
    ids = np.zeros((len(texts), max(map(len, texts)) + padding), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    return {"input_ids": ids, "attention_mask": mask}


def _run(session: ort.InferenceSession, feeds: Feeds) -> NDArray[np.float32]:
    names = [item.name for item in session.get_inputs()]
    result: NDArray[np.float32] = session.run(None, {name: feeds[name] for name in names})[0]
    return result


def _random_texts(count: int, longest: int, tokens: int, seed: int) -> list[Ids]:
    """Most are short, as titles are, some as long as an encoder reads."""
    generator = np.random.default_rng(seed)
    lengths = np.exp(generator.uniform(np.log(2), np.log(longest + 1), count)).astype(int)
    return [generator.integers(1, tokens, length) for length in lengths]


def test_the_shipped_graph_keeps_texts_apart_to_the_bit() -> None:
    assert read_spec(SHIPPED / "onnx").packed
    session = _session(SHIPPED / "onnx" / MODEL_FILE)
    texts = [*_random_texts(199, 256, 30000, seed=5), np.full(256, 2000, dtype=np.int64)]
    alone = [_run(session, _feeds([text]))[0].tobytes() for text in texts]
    generator = np.random.default_rng(6)
    left = generator.permutation(len(texts))
    while len(left):
        size = int(generator.integers(1, 13))
        group, left = left[:size], left[size:]
        together = _run(session, _feeds([texts[row] for row in group], int(generator.integers(4))))
        assert [row.tobytes() for row in together] == [alone[row] for row in group]


def test_the_shipped_graph_is_near_to_what_pytorch_computes() -> None:
    model = load_model(SHIPPED)
    reference = np.asarray(model.encode(list(PROBES), batch_size=1))
    served = load_encoder(SHIPPED / "onnx", "", SideBySide(1)).encode(PROBES).embeddings
    assert (served * reference).sum(axis=1).min() > 0.997


def test_equal_weights_give_equal_bytes_and_other_weights_others(
    source: Path, tiny: SentenceTransformer
) -> None:
    # Sums in another order would be other sums: the threads of before must not matter.
    made = set()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        model = load_model(source)
        made.add(packed_graph(model, measure_ranges(model)).SerializeToString())
        assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    assert len(made) == 1
    other = load_model(source)
    with torch.no_grad():
        next(encoder_layers(other)[0].parameters()).mul_(1.1)
    assert packed_graph(other, measure_ranges(other)).SerializeToString() not in made


def test_a_trunk_is_the_same_under_any_top(source: Path, tiny: SentenceTransformer) -> None:
    trunks, tops = set(), set()
    for seed in range(3):
        model = load_model(source)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for value in encoder_layers(model)[2:].parameters():
                value.add_(torch.randn(value.shape, generator=generator) * 0.05)
        ranges = measure_ranges(model)
        trunks.add(packed_graph(model, ranges, last=2).SerializeToString())
        tops.add(packed_graph(model, ranges, first=2).SerializeToString())
    assert (len(trunks), len(tops)) == (1, 3)


@pytest.mark.parametrize("cut", range(1, LAYERS))
def test_a_trunk_and_its_top_are_the_whole_to_the_bit(
    tiny: SentenceTransformer, ranges: tuple[LayerRanges, ...], cut: int
) -> None:
    whole = _session(packed_graph(tiny, ranges))
    trunk = _session(packed_graph(tiny, ranges, last=cut))
    top = _session(packed_graph(tiny, ranges, first=cut))
    assert [item.name for item in top.get_inputs()] == ["hidden", "attention_mask"]
    texts = _random_texts(12, 64, 40, seed=cut)
    for group in (texts, texts[:1], texts[5:9]):
        feeds = _feeds(group, padding=2)
        hidden = _run(trunk, feeds)
        assert hidden.shape == (sum(map(len, group)), 32)
        embeddings = _run(top, {**feeds, "hidden": hidden})
        assert embeddings.tobytes() == _run(whole, feeds).tobytes()


def test_there_is_nothing_to_cut_beyond_the_last_layer(
    tiny: SentenceTransformer, ranges: tuple[LayerRanges, ...]
) -> None:
    for first, last in ((0, LAYERS + 1), (2, 2), (0, 0)):
        with pytest.raises(EncoderUnusable, match="no layer"):
            packed_graph(tiny, ranges, first, last)


def test_ranges_are_those_of_each_text_alone(
    tiny: SentenceTransformer, ranges: tuple[LayerRanges, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding is computed beside the texts, and counts for nothing."""
    monkeypatch.setattr(
        "service.training.activation_ranges.by_length",
        lambda lengths: [[n] for n in range(len(lengths))],
    )
    tiny.train()
    for together, alone in zip(ranges, measure_ranges(tiny), strict=True):
        for place in ("hidden", "mixed", "attended"):
            assert np.allclose(getattr(together, place).low, getattr(alone, place).low, atol=1e-4)
            assert np.allclose(getattr(together, place).high, getattr(alone, place).high, atol=1e-4)
    # Left as it was found.
    transformer: Any = tiny[0]
    assert transformer.auto_model.training
    tiny.eval()
    query: Any = encoder_layers(tiny)[0]
    assert not query.attention.self.query._forward_pre_hooks


def test_smoothing_evens_the_channels_out_and_changes_no_product() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((50, 16), dtype=np.float32)
    inputs[:, 3] *= 40
    weight = generator.standard_normal((16, 8), dtype=np.float32)
    seen = Range(inputs.min(axis=0), inputs.max(axis=0))
    linear = smooth(weight, np.zeros(8, dtype=np.float32), seen)
    assert np.allclose((inputs / linear.divisor) @ linear.weight, inputs @ weight, atol=1e-3)
    widths = np.abs(inputs / linear.divisor).max(axis=0)
    assert widths.max() / widths.min() < 0.3 * np.ptp(seen.high) / np.median(seen.high)
    assert linear.low <= (inputs / linear.divisor).min()
    assert linear.high >= (inputs / linear.divisor).max()


def test_a_graph_that_lets_texts_touch_is_not_published(
    tiny: SentenceTransformer, tmp_path: Path
) -> None:
    # One activation scale for all that is in a run: what a packed graph is free of.
    source = write_tiny_architecture(tmp_path / "other", "distilbert")
    export_encoder(source, tmp_path / "graph", "int8", "tiny", lambda *_: None)
    with pytest.raises(EncoderUnusable, match=f"ONNX Runtime {ort.__version__}"):
        check_kept_apart([tmp_path / "graph" / MODEL_FILE], apart_probes(tiny))


@pytest.mark.parametrize("architecture", ["xlm-roberta", "mpnet", "distilbert", "albert"])
def test_other_architectures_are_not_packed(architecture: str, tmp_path: Path) -> None:
    assert not packable(load_model(write_tiny_architecture(tmp_path / "other", architecture)))


def test_a_bert_that_is_not_plain_is_not_packed(source: Path, tmp_path: Path) -> None:
    assert packable(load_model(source))
    write_tiny_bert(tmp_path, dimensions=48)
    assert not packable(load_model(tmp_path / "source"))
    for name, value in (
        ("hidden_act", "relu"), ("position_embedding_type", "relative_key"), ("is_decoder", True),
    ):  # fmt: skip
        model: Any = load_model(source)
        setattr(model[0].auto_model.config, name, value)
        assert not packable(model)
    model = load_model(source)
    model[1] = Pooling(32, pooling_mode="cls")
    assert not packable(model)


def test_an_old_home_gets_the_new_graph_and_old_versions_keep_theirs(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side_by_side: SideBySide
) -> None:
    shutil.copytree(source, tmp_path / "source")
    source = tmp_path / "source"
    background = tmp_path / "background.jsonl"
    background.write_text("\n".join(json.dumps({"title": text}) for text in INSIDE))
    settings = Settings(home=tmp_path / "home", encoder=str(source), background=background)
    database = Database(f"sqlite:///{tmp_path / 'registry.sqlite'}")
    database.create_schema()
    artifacts = ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "cache")
    preparation = Preparation(settings, database, artifacts, side_by_side)

    def prepared() -> str:
        preparation.prepare_encoder()
        preparation.sweep()
        with database.read() as connection:
            record = encoders.base_encoder(connection)
        assert record is not None
        return record.digest

    with monkeypatch.context() as before:
        before.setattr(packed, "packable", lambda _: False)
        export_encoder(source, source / "onnx", "int8", "tiny", lambda *_: None)
    old = prepared()
    answers = load_encoder(artifacts.open_local(old), old, side_by_side).encode(INSIDE).embeddings
    export_encoder(source, source / "onnx", "int8", "tiny", lambda *_: None)
    new = prepared()
    assert new != old
    assert prepared() == new
    assert read_spec(artifacts.open_local(new)).packed
    # What was trained on the former encoder names it by its digest.
    former = load_encoder(artifacts.open_local(old), old, side_by_side)
    assert not former.spec.packed
    assert former.encode(INSIDE).embeddings.tobytes() == answers.tobytes()
    database.close()
