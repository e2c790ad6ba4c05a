"""What a version is said to answer is what the service answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from service.domain.types import Experience, Label
from service.inference.batch import ScoredExperience, ScoringRequest
from service.inference.embedding_cache import EmbeddingCache
from service.inference.encoder import CpuEncoder, Encoded
from service.inference.encoder_cache import BACKGROUND_TENSORS
from service.inference.model_cache import ModelCache
from service.inference.scorer import Scorer
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from service.telemetry.predictions import PredictionTally
from service.training.evaluation.methods import Trained
from service.training.evaluation.workbench import KnownTexts
from tests.support.make import add_served, example, head_with_examples

TEXTS = [f"Ingénieure {'x' * n}, Lyon {n}" for n in range(40)]
EXAMPLES = [example(TEXTS[0]), example("Comptable", Label.OUT)]


def test_scores_and_labels_are_the_services_own(
    database: Database,
    artifacts: ArtifactStore,
    base_encoder: EncoderRecord,
    cache: ModelCache,
    tiny_encoder: CpuEncoder,
) -> None:
    background = load_file(
        artifacts.open_local(base_encoder.background_digest) / BACKGROUND_TENSORS
    )
    embeddings = tiny_encoder.encode(TEXTS).embeddings
    nearest = (embeddings @ background["embeddings"].T).max(axis=1)
    made = replace(
        head_with_examples(tiny_encoder, EXAMPLES),
        uncertain_low=0.55,
        uncertain_high=0.57,
        # The very similarity of one text: a product summed in another order may miss it.
        familiarity_floor=float(np.sort(nearest)[10]),
    )
    add_served(database, artifacts, base_encoder, "sommelier", made)
    cache.refresh()
    target = cache.resolve(cache.snapshot(), None)
    scorer = Scorer(database, cache.encoders, EmbeddingCache(0), PredictionTally())
    served = [
        answer.scores[0]
        for answer in scorer.score([ScoringRequest(t, Experience(text=t), target) for t in TEXTS])
        if isinstance(answer, ScoredExperience)
    ]
    answer = Trained(tiny_encoder, background["embeddings"], made).answer(TEXTS)
    assert answer.uncertain is not None
    assert answer.scores.tolist() == [score.score for score in served]
    unsure = [score.label == "uncertain" for score in served]
    assert answer.uncertain.tolist() == unsure
    assert 0 < sum(unsure) < len(TEXTS)
    called = (answer.scores >= answer.threshold)[~answer.uncertain]
    assert called.tolist() == [
        score.label == "in" for score in served if score.label != "uncertain"
    ]


def test_known_texts_are_embedded_once_and_as_the_encoder_embeds_them(
    tiny_encoder: CpuEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    encode = tiny_encoder.encode
    expected = encode(TEXTS)

    def reading(texts: Sequence[str]) -> Encoded:
        read.extend(texts)
        return encode(texts)

    monkeypatch.setattr(tiny_encoder, "encode", reading)
    known = KnownTexts(tiny_encoder)
    known.encode(TEXTS[:3])
    found = known.encode([*TEXTS[::-1], TEXTS[0]])
    assert sorted(read) == sorted(TEXTS)
    assert np.array_equal(found.embeddings[:-1], expected.embeddings[::-1])
    assert np.array_equal(found.embeddings[-1], expected.embeddings[0])
    assert np.array_equal(found.tokens[:-1], expected.tokens[::-1])
    assert np.array_equal(found.truncated[:-1], expected.truncated[::-1])
