"""Fine-tuning: deterministic, bounded, on a frozen trunk, exported as two graphs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from sentence_transformers import SentenceTransformer

from service.domain.errors import EncoderUnusable, TrainingFailed
from service.inference.encoder import SideBySide, load_encoder
from service.inference.encoder_spec import read_spec
from service.training.cross_tuning import CrossTuning
from service.training.encoder_export import export_encoder, export_graph, load_model
from service.training.pair_loss import AllPairsLoss, StratifiedBatches, shared_out
from service.training.split_export import check_frozen, export_tuned, split_graph
from service.training.top_layers import CachedTop, encoder_layers, token_ids, trunk_states
from service.training.training_texts import choose_texts
from service.training.tuners import TopTuner, make_tuner
from service.training.tuning import TuningSettings
from tests.support.tiny_bert import BACKGROUND, INSIDE, LAYERS, OUTSIDE, write_tiny_bert

SETTINGS = TuningSettings(tuned_layers=2, fewest_steps=3, visits=1)
TEXTS = [*INSIDE, *OUTSIDE]
LABELS = np.arange(16) < 8


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-bert")
    write_tiny_bert(folder)
    return folder / "source"


@pytest.fixture
def model(source: Path) -> SentenceTransformer:
    return load_model(source)


def _weights(model: SentenceTransformer) -> str:
    state = model.state_dict()
    return hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in state)).hexdigest()


def _tune(model: SentenceTransformer, texts: list[str] = TEXTS, **changes: Any) -> None:
    settings = TuningSettings(**{"tuned_layers": 2, "fewest_steps": 3, "visits": 1, **changes})
    labels = np.array([text in INSIDE for text in texts])
    tuner = make_tuner(model, texts, settings)
    tuner.train(range(len(texts)), labels, settings, lambda _: None)


def test_equal_examples_give_equal_weights_digest_for_digest(source: Path) -> None:
    digests = set()
    for _ in range(2):
        model = load_model(source)
        _tune(model)
        digests.add(_weights(model))
    assert len(digests) == 1
    other = load_model(source)
    _tune(other, seed=21)
    assert _weights(other) not in digests


def test_starting_again_forgets_what_was_learnt(source: Path) -> None:
    once, twice = load_model(source), load_model(source)
    _tune(once)
    tuner = TopTuner(twice, TEXTS, SETTINGS)
    tuner.train(range(12), LABELS[:12], SETTINGS, lambda _: None)
    tuner.start_again()
    tuner.train(range(16), LABELS, SETTINGS, lambda _: None)
    assert _weights(once) == _weights(twice)


def test_only_the_top_layers_move(source: Path, model: SentenceTransformer) -> None:
    _tune(model)
    before, after = load_model(source).state_dict(), model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(".layer.2." in name or ".layer.3." in name for name in moved)
    frozen = {name: value for name, value in before.items() if name not in moved}
    check_frozen(frozen, model)
    with torch.no_grad():
        next(encoder_layers(model)[0].parameters()).add_(1e-3)
    with pytest.raises(EncoderUnusable):
        check_frozen(frozen, model)


def test_training_pulls_the_classes_apart(model: SentenceTransformer) -> None:
    tuner = TopTuner(model, TEXTS, SETTINGS)

    def gap() -> float:
        cosines = tuner.embed(range(16)) @ tuner.embed(range(16)).T
        same = LABELS[:, None] == LABELS[None, :]
        return float(cosines[same].mean() - cosines[~same].mean())

    before = gap()
    tuner.train(
        range(16),
        LABELS,
        TuningSettings(tuned_layers=2, fewest_steps=40, most_steps=40),
        lambda _: None,
    )
    assert gap() > before + 0.1


def test_kept_states_give_the_embeddings_of_the_whole_encoder(model: SentenceTransformer) -> None:
    texts = ["Sommelier", *OUTSIDE[:3], "x " * 20]
    states = trunk_states(model, 2, token_ids(model, texts, 64))
    top = CachedTop(model, 2, states)
    whole = model.encode(texts, batch_size=1)
    assert np.allclose(top.embed_rows(range(5)).numpy(), whole, atol=1e-5)


def test_every_pair_counts_once_and_both_kinds_weigh_the_same() -> None:
    embeddings = torch.nn.functional.normalize(torch.randn(5, 8), dim=1)
    labels = torch.tensor([1, 1, 0, 0, 0])

    def embed(_: Any) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": embeddings}

    loss = AllPairsLoss(embed)([{}], labels)  # type: ignore[arg-type]
    alike, apart = [], []
    for first in range(5):
        for second in range(first):
            cosine = float(embeddings[first] @ embeddings[second])
            if labels[first] == labels[second]:
                alike.append((cosine - 1) ** 2)
            else:
                apart.append(cosine**2)
    assert float(loss) == pytest.approx((np.mean(alike) + np.mean(apart)) / 2, abs=1e-6)


def test_two_graphs_compute_what_the_whole_graph_computes(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    export_graph(tmp_path / "model", tmp_path / "onnx")
    whole = onnx.load(tmp_path / "onnx" / "model.onnx")
    sessions = [
        ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        for graph in (whole, *split_graph(whole, 2))
    ]
    generator = np.random.default_rng(0)
    for length in (2, 9, 31):
        feeds = {
            "input_ids": generator.integers(5, 40, (1, length)),
            "attention_mask": np.ones((1, length), dtype=np.int64),
            "token_type_ids": np.zeros((1, length), dtype=np.int64),
        }
        results = []
        for session in sessions:
            names = [item.name for item in session.get_inputs()]
            output = [item.name for item in session.get_outputs()]
            wanted = "hidden" if output == ["hidden"] else "sentence_embedding"
            result = session.run([wanted], {name: feeds[name] for name in names})[0]
            feeds = {**feeds, "hidden": result} if wanted == "hidden" else feeds
            results.append(result)
        assert np.abs(results[0] - results[2]).max() < 1e-5


def test_a_graph_is_cut_only_where_it_has_a_layer(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    export_graph(tmp_path / "model", tmp_path / "onnx")
    with pytest.raises(EncoderUnusable, match="no layer 9"):
        split_graph(onnx.load(tmp_path / "onnx" / "model.onnx"), 9)
    for wrong in (0, LAYERS, 12):
        with pytest.raises(EncoderUnusable, match="tuned_layers"):
            make_tuner(model, TEXTS, TuningSettings(tuned_layers=wrong))


def test_occupations_share_one_trunk_byte_for_byte(source: Path, tmp_path: Path) -> None:
    side_by_side = SideBySide(2)
    files: list[dict[str, bytes]] = []
    for number, texts in enumerate((TEXTS, [*INSIDE[:5], *OUTSIDE[:4]])):
        model = load_model(source)
        _tune(model, texts)
        export = export_tuned(model, 2, tmp_path / str(number), "tiny", side_by_side)
        assert export.parity["fp32_max_difference"] < 1e-4
        assert export.parity["served_mean_cosine"] > 0.95
        folder = tmp_path / str(number) / "trunk"
        files.append({path.name: path.read_bytes() for path in folder.iterdir()})
        reference = np.asarray(model.encode(TEXTS, batch_size=1))
        served = export.encoder.encode(TEXTS).embeddings
        assert (served * reference).sum(axis=1).min() > 0.9
        alone = export.encoder.encode(TEXTS[3:4]).embeddings[0]
        assert np.array_equal(alone, served[3])
    assert files[0] == files[1]
    assert set(files[0]) == {"encoder.json", "model.onnx", "tokenizer.json"}
    tops = [(tmp_path / number / "encoder" / "model.onnx").read_bytes() for number in "01"]
    assert tops[0] != tops[1]
    spec = read_spec(tmp_path / "0" / "encoder")
    assert spec.inputs == ("hidden", "attention_mask")
    assert spec.trunk is None
    trunk = read_spec(tmp_path / "0" / "trunk")
    assert (trunk.inputs, trunk.output) == (("input_ids", "attention_mask"), "hidden")
    assert spec.packed
    assert trunk.packed


def test_split_int8_is_the_whole_int8_bit_for_bit(source: Path, tmp_path: Path) -> None:
    export_encoder(source, tmp_path / "whole", "int8", "tiny", lambda *_: None)
    whole = load_encoder(tmp_path / "whole", "", SideBySide(1)).encode(TEXTS).embeddings
    split = export_tuned(load_model(source), 2, tmp_path / "split", "tiny", SideBySide(1))
    assert np.array_equal(split.encoder.encode(TEXTS).embeddings, whole)


def test_all_layers_are_tuned_with_setfits_own_pairs(
    source: Path, model: SentenceTransformer, tmp_path: Path
) -> None:
    _tune(model, tuned_layers="all", stock_iterations=1)
    before, after = load_model(source).state_dict(), model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(".layer.0." in name for name in moved)
    assert model.max_seq_length == 64
    export = export_tuned(model, None, tmp_path, "tiny", SideBySide(1))
    assert not (tmp_path / "trunk").exists()
    assert export.encoder.spec.inputs[0] == "input_ids"


def test_two_thousand_examples_make_bounded_batches() -> None:
    texts = [f"Sommelier {n}" for n in range(300)] + [f"Plombier {n}" for n in range(1700)]
    chosen = choose_texts(texts, np.arange(2000) < 300, BACKGROUND, most=512, seed=1)
    assert len(chosen.texts) == 512
    assert chosen.labels.sum() == 256
    assert chosen.above_cap == 1488
    batches = list(StratifiedBatches(chosen.labels.astype(int).tolist(), 64, 20, 1))
    assert len(batches) == 20
    assert all(len(batch) <= 64 for batch in batches)
    assert all(28 <= sum(chosen.labels[row] for row in batch) <= 32 for batch in batches)
    assert len({row for batch in batches for row in batch}) == 512
    again = list(StratifiedBatches(chosen.labels.astype(int).tolist(), 64, 20, 1))
    assert batches == again


def test_few_texts_are_all_in_every_batch() -> None:
    assert list(StratifiedBatches([1, 0, 1, 1], 64, 2, 0)) == [[0, 1, 2, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("sizes", "most", "taken"),
    [([8, 8], 64, [8, 8]), ([3, 90], 64, [3, 61]), ([90, 90], 64, [32, 32]), ([90, 3], 9, [6, 3])],
)
def test_a_cap_takes_from_the_larger_class(sizes: list[int], most: int, taken: list[int]) -> None:
    assert shared_out(sizes, most) == taken


def test_background_stands_for_a_missing_class(model: SentenceTransformer) -> None:
    labels = np.full(8, fill_value=True)
    chosen = choose_texts(INSIDE, labels, BACKGROUND, most=512, seed=1)
    assert chosen.borrowed == 8
    assert set(chosen.texts[8:]) <= set(BACKGROUND)
    assert chosen.labels.tolist() == [True] * 8 + [False] * 8
    tuner = TopTuner(model, chosen.texts, SETTINGS)
    tuner.train(range(16), chosen.labels, SETTINGS, lambda _: None)
    assert np.isfinite(tuner.embed(range(16))).all()


def test_three_examples_are_refused() -> None:
    with pytest.raises(TrainingFailed, match="at least 4"):
        choose_texts(INSIDE[:3], np.array([True] * 3), BACKGROUND, most=512, seed=1)


def test_copies_count_once_and_contradictions_not_at_all() -> None:
    texts = [*INSIDE, INSIDE[0], INSIDE[0], INSIDE[1], *OUTSIDE]
    labels = np.array([True] * 10 + [False] * 9)
    chosen = choose_texts(texts, labels, BACKGROUND, most=512, seed=1)
    assert (chosen.copies, chosen.contradictory) == (3, 1)
    assert INSIDE[1] not in chosen.texts
    assert len(chosen.texts) == 15
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = choose_texts(
        [texts[row] for row in order], labels[order], BACKGROUND, most=512, seed=1
    )
    assert shuffled.texts == chosen.texts


def test_suggested_out_texts_are_tuned_on_and_stand_last_where_no_fold_judges_by_them() -> None:
    labels = np.array([True] * 8 + [False] * 8)
    suggested = {OUTSIDE[0], OUTSIDE[3], INSIDE[2]}
    chosen = choose_texts(
        [*INSIDE, *OUTSIDE], labels, BACKGROUND, most=512, seed=1, suggested=suggested
    )
    assert chosen.suggested == 2
    assert set(chosen.texts[-2:]) == {OUTSIDE[0], OUTSIDE[3]}
    assert chosen.judged == len(chosen.texts) - 2
    # Positives are positives, however they were found.
    assert INSIDE[2] in chosen.texts[: chosen.judged]


@pytest.mark.parametrize(("texts", "steps"), [(8, 8), (32, 8), (64, 16), (128, 32), (512, 32)])
def test_more_texts_take_more_steps_up_to_a_bound(texts: int, steps: int) -> None:
    assert TuningSettings().steps(texts) == steps


def test_folds_have_the_same_scores_in_one_process_and_in_several(
    source: Path, tmp_path: Path
) -> None:
    # As a job does before anything else: sums in another order would be other sums.
    torch.set_num_threads(1)
    export_encoder(source, tmp_path, "int8", "tiny", lambda *_: None)
    base = load_encoder(tmp_path, "tiny", SideBySide(1))
    chosen = choose_texts(
        [*INSIDE, *OUTSIDE], np.array([True] * 8 + [False] * 8), BACKGROUND, most=512, seed=1
    )

    def scores(processes: int) -> list[bytes]:
        settings = replace(SETTINGS, threads=processes)
        embeddings = base.encode(BACKGROUND).embeddings
        folds = CrossTuning(chosen, BACKGROUND, embeddings, [], base, settings)
        tuner = TopTuner(load_model(source), folds.texts, settings)
        _, challenger = folds.score(tuner, lambda _: None)
        return [fold.scores.tobytes() + fold.background.tobytes() for fold in challenger]

    assert scores(1) == scores(3)
