"""The bilingual encoder's making: data, vocabulary, batches, loss, resume, export."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from service.inference.encoder_spec import MODEL_FILE, read_spec
from service.training.adapt.alignment import strongest, translation_table
from service.training.adapt.batching import LengthBatches
from service.training.adapt.card import tell_served
from service.training.adapt.corpus import HoldOut, read_corpus, split_genders
from service.training.adapt.export import blend
from service.training.adapt.objective import TeacherMatchLoss
from service.training.adapt.optimise import last_whole_checkpoint
from service.training.adapt.pairs import Floats, Ingredients, Tutor, build_pairs
from service.training.adapt.run import adapt
from service.training.adapt.settings import AdaptSettings
from service.training.adapt.teacher import glossers
from service.training.adapt.vocabulary import Words, rebuild
from tests.support.tiny_reference import (
    ENGLISH,
    PAIRS,
    write_reference_files,
    write_tiny_base,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reference files of a handful of occupations and skills, in the real layout."""
    return write_reference_files(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer random BERT whose vocabulary has letters, a few words and spare pieces."""
    return write_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def settings(data: Path, base: Path, tmp_path: Path) -> AdaptSettings:
    """A recipe that takes a second."""
    return AdaptSettings(
        data=data,
        base=base,
        out=tmp_path / "out",
        work=tmp_path / "work",
        device="cpu",
        precision="fp32",
        pieces_per_batch=256,
        rows_per_batch_at_most=16,
        pieces_at_most=48,
        checkpoint_every_steps=2,
        new_piece_least_count=1,
        new_pieces_at_most=5,
        ingredients=Ingredients(
            french_experiences=20, english_experiences=5, qualified_titles=5, english_labels=20
        ),
    )


def test_a_held_out_occupation_is_nowhere_in_the_corpus(data: Path) -> None:
    """Neither its labels nor its description may leak into training."""
    held = HoldOut(rome_prefixes=("M1801",), isco_prefixes=("2500",), codes=frozenset({"o001"}))
    corpus = read_corpus(data, held)
    assert {"o000", "o001"}.isdisjoint(c.code for c in corpus.occupations)
    assert {"o000", "o001"}.isdisjoint(d.code for d in corpus.descriptions)
    assert "M1801" not in {c.code for c in corpus.rome}
    assert len(corpus.occupations) == 7 * len(PAIRS) - 2


def test_nothing_is_held_out_by_default(data: Path) -> None:
    """An empty hold-out matches no code, not every code."""
    assert len(read_corpus(data).rome) == len(PAIRS)


@pytest.mark.parametrize(
    ("label", "forms"),
    [
        ("boulanger/boulangère", ("boulanger", "boulangère")),
        ("agent / agente de tri", ("agent / agente de tri",)),
        ("TCP/IP", ("TCP", "IP")),
        ("soudeur", ("soudeur",)),
    ],
)
def test_gender_forms_are_split_only_when_both_halves_are_whole(
    label: str, forms: tuple[str, ...]
) -> None:
    """A half that lost its shared words would teach a wrong title."""
    assert split_genders(label) == forms


def test_words_align_with_their_translations() -> None:
    """Every French word of the toy labels finds its English one."""
    table = translation_table([(french.split(), english.split()) for english, french in PAIRS])
    best = {word: max(row, key=lambda other: row[other]) for word, row in table.items()}
    assert best["boulanger"] == "baker"
    assert best["ingénieur"] == "engineer"
    assert sum(strongest(table["données"]).values()) == pytest.approx(1.0)


def test_the_vocabulary_keeps_its_size_and_spells_new_words_whole(
    data: Path, base: Path, tmp_path: Path
) -> None:
    """French words take the numbers of spare pieces; English words are cut as before."""
    report = rebuild(base, tmp_path / "new", read_corpus(data), least_count=1, most=5)
    old, new = Words(base), Words(tmp_path / "new")
    assert report.added == 5
    assert report.pieces_per_word_after["fr"] < report.pieces_per_word_before["fr"]
    assert all(new.pieces(word) == old.pieces(word) for word in ENGLISH)
    shapes = [
        load_file(path / "model.safetensors")["embeddings.word_embeddings.weight"].shape
        for path in (base, tmp_path / "new")
    ]
    assert shapes[0] == shapes[1]
    assert type(
        SentenceTransformer(str(tmp_path / "new"), device="cpu").tokenizer
    ).__name__.startswith("BertTokenizer")


def test_a_new_word_starts_at_its_translation(data: Path, base: Path, tmp_path: Path) -> None:
    """The French word begins with the embedding of its English translation."""
    rebuild(base, tmp_path / "new", read_corpus(data), least_count=1, most=5)
    numbers = json.loads((tmp_path / "new" / "tokenizer.json").read_text())["model"]["vocab"]
    table = load_file(tmp_path / "new" / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert "boulanger" in numbers
    torch.testing.assert_close(
        table[numbers["boulanger"]], table[numbers["baker"]], atol=0.02, rtol=0.2
    )


def test_pairs_are_seeded_and_their_targets_are_unit_rows(data: Path) -> None:
    """The same seed builds the same pairs; another seed other ones."""

    def teach(texts: Sequence[str]) -> Floats:
        rows = [np.random.default_rng(len(text)).normal(size=8) for text in texts]
        matrix = np.array(rows, dtype=np.float32)
        return np.asarray(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), np.float32)

    small = Ingredients(
        french_experiences=10, english_experiences=5, qualified_titles=5, english_labels=10
    )
    made = [
        build_pairs(read_corpus(data), small, Tutor(teach, str.lower, str.upper), seed)
        for seed in (1, 1, 2)
    ]
    assert made[0].texts == made[1].texts
    assert made[0].texts != made[2].texts
    np.testing.assert_allclose(np.linalg.norm(made[0].targets, axis=1), 1.0, rtol=1e-5)
    assert max(made[0].target_numbers) == len(made[0].targets) - 1


def test_batches_cover_every_row_once_within_the_budget() -> None:
    """Whatever the epoch, and the number of batches never changes."""
    lengths = [int(n) for n in np.random.default_rng(0).integers(3, 60, 500)]
    batches = LengthBatches(lengths, pieces_per_batch=200, rows_at_most=16, seed=3)
    epochs = []
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        epochs.append(list(batches))
        assert sorted(row for batch in epochs[-1] for row in batch) == list(range(500))
        assert all(
            len(batch) <= 16 and len(batch) * max(lengths[row] for row in batch) <= 200
            for batch in epochs[-1]
        )
        assert len(epochs[-1]) == len(batches)
    assert epochs[0] != epochs[1]


def test_two_texts_of_one_target_are_not_each_others_negatives() -> None:
    """The loss of a perfect batch is the same whether its rows share a target or stand alone."""

    class Echo(torch.nn.Module):
        def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"sentence_embedding": features["rows"]}

    targets = torch.eye(4)
    loss = TeacherMatchLoss(Echo(), targets)  # type: ignore[arg-type]
    alone = loss([{"rows": targets[:2]}], torch.tensor([0, 1]))
    shared = loss([{"rows": targets[[0, 0, 1]]}], torch.tensor([0, 0, 1]))
    torch.testing.assert_close(alone, shared, atol=1e-4, rtol=0)


def test_blending_moves_the_weights_back_towards_the_start(base: Path) -> None:
    """Half of the start and half of the end is their mean."""
    model = SentenceTransformer(str(base), device="cpu")
    end = {name: value.clone() for name, value in model.state_dict().items()}
    start = {name: torch.zeros_like(value) for name, value in end.items()}
    blend(model, start, 0.5)
    name = next(name for name in end if "word_embeddings" in name)
    torch.testing.assert_close(model.state_dict()[name], end[name] / 2)


def test_adapt_writes_everything_that_ships(settings: AdaptSettings) -> None:
    """Half-precision weights, card, notices, checksums that hold, curve; and French gets closer."""
    result = adapt(settings)
    weights = load_file(settings.out / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()} == {
        torch.float16
    }
    for line in (settings.out / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((settings.out / name).read_bytes()).hexdigest() == digest
    assert {"CARD.md", "NOTICE.md", "modules.json", "tokenizer.json"} <= {
        p.name for p in settings.out.iterdir()
    }
    assert (settings.out / "curve.png").stat().st_size > 1000
    card = (settings.out / "CARD.md").read_text()
    assert str(settings.work) not in card
    spec = read_spec(settings.out / "onnx")
    assert f"mean {spec.parity['served_mean_cosine']:.4f}" in card
    tell_served(settings.out / "CARD.md", spec, (settings.out / "onnx" / MODEL_FILE).stat().st_size)
    assert (settings.out / "CARD.md").read_text() == card
    assert result.losses[-1][1] < 2.0 if result.losses else result.steps > 0
    assert json.loads((settings.out / "config.json").read_text())["dtype"] == "float32"


def test_an_interrupted_adaptation_goes_on_and_ends_the_same(
    settings: AdaptSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between two steps costs the steps since the checkpoint, and changes nothing else."""
    whole = adapt(settings)
    again = replace(settings, out=tmp_path / "out2", work=tmp_path / "work2")
    forward, calls = TeacherMatchLoss.forward, []

    def killed(self: TeacherMatchLoss, *arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return forward(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(TeacherMatchLoss, "forward", killed)
    with pytest.raises(KeyboardInterrupt):
        adapt(again)
    resumed = adapt(again)
    assert resumed.is_resumed
    assert resumed.steps == whole.steps
    assert len(calls) < whole.steps + 6
    assert resumed.weights_sha256 == whole.weights_sha256


def test_a_broken_checkpoint_is_passed_over(tmp_path: Path) -> None:
    """A checkpoint cut short by a kill is removed, not resumed from."""
    broken = tmp_path / "checkpoint-4"
    broken.mkdir()
    (broken / "trainer_state.json").write_text("{", encoding="utf-8")
    assert last_whole_checkpoint(tmp_path) is None
    assert not broken.exists()


def test_a_work_directory_of_another_recipe_is_refused(settings: AdaptSettings) -> None:
    """Two recipes must not be mixed in one training."""
    settings.work.mkdir()
    (settings.work / "settings.digest").write_text("other", encoding="utf-8")
    with pytest.raises(ValueError, match="another recipe"):
        adapt(settings)


def test_english_descriptions_become_running_french(data: Path) -> None:
    """Their word-by-word French is to match what the teacher makes of the English."""
    corpus = read_corpus(data)
    english = [d.text for d in corpus.descriptions if d.lang == "en"]

    def teach(texts: Sequence[str]) -> Floats:
        return np.ones((len(texts), 4), dtype=np.float32)

    none = Ingredients(
        has_glossed_descriptions=True,
        french_experiences=0,
        english_experiences=0,
        qualified_titles=0,
        english_labels=0,
    )
    tutor = Tutor(teach, str.lower, lambda text: f"fr {text}")
    made = build_pairs(corpus, none, tutor, 1)
    glossed = [
        text
        for text, source in zip(made.texts, made.sources, strict=True)
        if source == "descriptions glossed in French"
    ]
    assert glossed == [f"fr {text}" for text in english]


def test_words_are_glossed_both_ways_and_full_stops_are_left(data: Path, base: Path) -> None:
    """The parallel labels are the dictionary; what they do not hold stays as it is."""
    in_english, in_french = glossers(read_corpus(data), base)
    assert in_english("boulanger.") == "baker ."
    assert in_french("the baker.") == "the boulanger ."
