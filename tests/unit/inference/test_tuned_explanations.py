"""What ``explain`` says of a tuned version: its examples are near as its own top places them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.domain.types import Experience, Label, Origin
from service.inference.batch import Neighbour, ScoredExperience, ScoringRequest
from service.inference.embedding_cache import EmbeddingCache
from service.inference.encoder import CpuEncoder, Encoder, SideBySide
from service.inference.model_cache import ModelCache
from service.inference.scorer import Scorer
from service.inference.split_encoder import SplitEncoder
from service.registry import occupations
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from service.telemetry.predictions import PredictionTally
from tests.support.make import add_served, example, head_with_examples, publish
from tests.support.tiny_split import put_tuned

EXAMPLES = [
    example("Sommelier, La Treille"),
    example("Chef sommelière, étoilé"),
    example("Caviste et conseil en vins"),
    example("Serveur, La Treille", Label.OUT),
    example("Comptable, cabinet Morel", Label.OUT),
    example("Vendeuse en boulangerie", Label.OUT),
]
ASKED = "Conseillère en vins, cave des Halles"


@pytest.fixture
def tuned(
    cache: ModelCache,
    base_encoder: EncoderRecord,
    database: Database,
    artifacts: ArtifactStore,
    tiny_encoder: CpuEncoder,
    tiny_encoder_folder: Path,
    side_by_side: SideBySide,
    tmp_path: Path,
) -> SplitEncoder:
    """``sommelier`` with a head version and, as its champion, a tuned one of the same examples."""
    add_served(
        database,
        artifacts,
        base_encoder,
        "sommelier",
        head_with_examples(tiny_encoder, EXAMPLES),
    )
    with database.write() as connection:
        occupations.put_examples(connection, "sommelier", EXAMPLES, Origin.API)
    top, digest = put_tuned(artifacts, tiny_encoder_folder, tmp_path, side_by_side, seed=5)
    tuned_record = replace(base_encoder, digest=digest)
    made = head_with_examples(top, EXAMPLES, seed=2)
    assert publish(database, artifacts, tuned_record, "sommelier", made) == 2
    cache.refresh()
    return top


def _nearest_by(encoder: Encoder) -> tuple[Neighbour, ...]:
    texts = [item.experience.rendered for item in EXAMPLES]
    *examples, asked = encoder.encode([*texts, ASKED]).embeddings
    similarities = np.array([np.vecdot(each, asked) for each in examples])
    return tuple(
        Neighbour(texts[i], EXAMPLES[i].label.value, round(float(similarities[i]), 4))
        for i in np.argsort(-similarities, kind="stable")[:3]
    )


def test_each_version_explains_itself_with_its_own_encoder(
    cache: ModelCache, database: Database, tiny_encoder: CpuEncoder, tuned: SplitEncoder
) -> None:
    target = cache.resolve(cache.snapshot(), ["sommelier@1", "sommelier"])
    scorer = Scorer(database, cache.encoders, EmbeddingCache(0), PredictionTally())
    request = ScoringRequest(None, Experience(text=ASKED), target, explain=True)
    (answer,) = scorer.score([request])
    assert isinstance(answer, ScoredExperience)
    assert [score.version for score in answer.scores] == [1, 2]
    assert answer.scores[0].nearest == _nearest_by(tiny_encoder)
    assert answer.scores[1].nearest == _nearest_by(tuned)
    # The two orders differ, or the test could not tell whose embeddings were asked.
    assert answer.scores[0].nearest != answer.scores[1].nearest


def test_a_tuned_versions_explanation_is_the_same_alone_and_among_others(
    cache: ModelCache, database: Database, tuned: SplitEncoder
) -> None:
    target = cache.resolve(cache.snapshot(), ["sommelier"])
    scorer = Scorer(database, cache.encoders, EmbeddingCache(1 << 20), PredictionTally())

    def explained(text: str) -> ScoringRequest:
        return ScoringRequest(text, Experience(text=text), target, explain=True)

    alone = scorer.score([explained(ASKED)])[0]
    others = [explained(f"Poste {number}") for number in range(9)]
    assert scorer.score([*others, explained(ASKED)])[-1] == alone


def test_an_example_that_was_relabelled_since_keeps_the_label_that_the_version_learnt(
    cache: ModelCache, database: Database, tuned: SplitEncoder
) -> None:
    corrected = [example("Sommelier, La Treille", Label.OUT)]
    with database.write() as connection:
        occupations.put_examples(connection, "sommelier", corrected)
    target = cache.resolve(cache.snapshot(), ["sommelier"])
    scorer = Scorer(database, cache.encoders, EmbeddingCache(0), PredictionTally())
    request = ScoringRequest(None, Experience(text="Sommelier, La Treille"), target, explain=True)
    (answer,) = scorer.score([request])
    assert isinstance(answer, ScoredExperience)
    nearest = answer.scores[0].nearest
    assert nearest is not None
    assert (nearest[0].text, nearest[0].label) == ("Sommelier, La Treille", "in")
