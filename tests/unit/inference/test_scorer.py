from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from service.domain.errors import OccupationNotFound
from service.domain.types import Experience, Label, Origin
from service.inference.batch import BatchItem, RefusedExperience, ScoredExperience, ScoringRequest
from service.inference.embedding_cache import EmbeddingCache
from service.inference.encoder import CpuEncoder
from service.inference.model_cache import ModelCache
from service.inference.scorer import Scorer
from service.inference.snapshot import Target
from service.registry import encoders, occupations
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from service.telemetry.predictions import PredictionTally
from tests.support.make import add_served, example, head, head_with_examples

TEXTS = [f"Ingénieure {'x' * n}, Lyon" for n in range(32)]
EXAMPLES = [
    example("Sommelier, La Treille"),
    example("Chef sommelière"),
    example("Serveur, La Treille", Label.OUT),
    example("Comptable", Label.OUT),
]


@pytest.fixture
def scorer(database: Database, cache: ModelCache) -> Scorer:
    # Nothing kept: each answer is computed, so that equal answers mean something.
    return Scorer(database, cache.encoders, EmbeddingCache(0), PredictionTally())


@pytest.fixture
def target(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> Target:
    for number, id in enumerate(("chef", "nurse", "sommelier")):
        add_served(database, artifacts, base_encoder, id, head(number))
    cache.refresh()
    return cache.resolve(cache.snapshot(), None)


@pytest.fixture
def sommelier(
    cache: ModelCache,
    base_encoder: EncoderRecord,
    database: Database,
    artifacts: ArtifactStore,
    tiny_encoder: CpuEncoder,
) -> Target:
    """One occupation whose head was made from the examples that the registry holds."""
    made = head_with_examples(tiny_encoder, EXAMPLES)
    add_served(database, artifacts, base_encoder, "sommelier", made)
    with database.write() as connection:
        occupations.put_examples(connection, "sommelier", EXAMPLES, Origin.BUNDLED)
    cache.refresh()
    return cache.resolve(cache.snapshot(), None)


def _request(text: str, target: Target, *, explain: bool = False) -> ScoringRequest:
    return ScoringRequest(text, Experience(text=text), target, explain)


def _answers(scorer: Scorer, requests: Sequence[ScoringRequest]) -> list[ScoredExperience]:
    answers = scorer.score(requests)
    return [answer for answer in answers if isinstance(answer, ScoredExperience)]


def _sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_answers_come_in_the_order_of_the_requests(scorer: Scorer, target: Target) -> None:
    answers = _answers(scorer, [_request(text, target) for text in TEXTS])
    assert [answer.id for answer in answers] == TEXTS
    assert [s.occupation for s in answers[0].scores] == ["chef", "nurse", "sommelier"]
    assert len({answer.scores for answer in answers}) == 32


def test_scores_come_in_the_order_in_which_the_occupations_were_named(
    scorer: Scorer, target: Target, cache: ModelCache
) -> None:
    named = cache.resolve(cache.snapshot(), ["sommelier", "chef"])
    by_name, by_id = _answers(scorer, [_request("x", named), _request("x", target)])
    assert [score.occupation for score in by_name.scores] == ["sommelier", "chef"]
    assert set(by_name.scores) < set(by_id.scores)


def test_a_score_is_bit_identical_alone_and_among_31_others(scorer: Scorer, target: Target) -> None:
    together = _answers(scorer, [_request(text, target) for text in TEXTS])
    alone = [_answers(scorer, [_request(text, target)])[0] for text in TEXTS]
    assert together == alone


def test_refused_items_keep_their_place_and_their_neighbours_are_answered(
    scorer: Scorer, target: Target
) -> None:
    refused = RefusedExperience("refused", OccupationNotFound("No such occupation."))
    batch: list[BatchItem] = [
        refused,
        _request("a", target),
        refused,
        _request("b", target),
        refused,
    ]
    answers = scorer.score(batch)
    assert [answer.id for answer in answers] == ["refused", "a", "refused", "b", "refused"]
    assert answers[1] == scorer.score([_request("a", target)])[0]


def test_a_batch_of_refused_items_alone_is_handed_back(scorer: Scorer) -> None:
    refused = [RefusedExperience(str(n), OccupationNotFound("No such one.")) for n in range(3)]
    assert scorer.score(refused) == refused


def test_experiences_of_one_batch_may_be_scored_for_different_occupations(
    scorer: Scorer, target: Target, cache: ModelCache
) -> None:
    names = ["chef", "nurse", "sommelier"]
    targets = [cache.resolve(cache.snapshot(), [name]) for name in names]
    answers = _answers(scorer, [_request("x", each) for each in targets])
    everything = _answers(scorer, [_request("x", target)])[0]
    assert tuple(answer.scores[0] for answer in answers) == everything.scores


def test_one_text_is_encoded_once_per_encoder_however_often_it_comes(
    scorer: Scorer, target: Target, cache: ModelCache
) -> None:
    one = cache.resolve(cache.snapshot(), ["chef"])
    before = _sample("vocation_tokens_total")
    same = ["abc", " abc\n", "abc"]
    answers = _answers(scorer, [*(_request(text, target) for text in same), _request("abc", one)])
    # Three characters and two special tokens.
    assert _sample("vocation_tokens_total") - before == 5
    assert len({answer.scores for answer in answers[:3]}) == 1


def test_a_text_is_encoded_with_the_encoder_of_each_version(
    scorer: Scorer,
    cache: ModelCache,
    base_encoder: EncoderRecord,
    database: Database,
    artifacts: ArtifactStore,
    tiny_encoder_folder: Path,
) -> None:
    files: dict[str, bytes | Path] = {path.name: path for path in tiny_encoder_folder.iterdir()}
    other = replace(
        base_encoder, fingerprint="other", digest=artifacts.put({**files, "NOTE": b"other"})
    )
    with database.write() as connection:
        encoders.record_encoder(connection, other)
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    add_served(database, artifacts, other, "chef", head(1))
    cache.refresh()
    before = _sample("vocation_tokens_total")
    target = cache.resolve(cache.snapshot(), None)
    answer = _answers(scorer, [_request("abc", target), _request("abc", target)])[0]
    assert _sample("vocation_tokens_total") - before == 2 * 5
    # The other encoder has the same weights, and so the same head gives the same score.
    assert [score.occupation for score in answer.scores] == ["chef", "sommelier"]
    assert answer.scores[0].score == answer.scores[1].score


def test_a_text_that_the_encoder_cuts_is_told(scorer: Scorer, target: Target) -> None:
    answers = _answers(scorer, [_request("x" * 500, target), _request("short", target)])
    assert [answer.truncated for answer in answers] == [True, False]


def test_cut_texts_are_counted_once_and_for_each_version_that_scored_them(
    database: Database, cache: ModelCache, base_encoder: EncoderRecord, artifacts: ArtifactStore
) -> None:
    names = [f"{kind}-{uuid.uuid4().hex}" for kind in ("both", "one")]
    for number, name in enumerate(names):
        add_served(database, artifacts, base_encoder, name, head(number))
    cache.refresh()
    every = cache.resolve(cache.snapshot(), None)
    first = cache.resolve(cache.snapshot(), names[:1])
    tally = PredictionTally()
    before = _sample("vocation_truncations_total")
    Scorer(database, cache.encoders, EmbeddingCache(0), tally).score(
        [_request("x" * 500, every), _request("y" * 500, first), _request("short", every)]
    )
    tally.flush()
    assert _sample("vocation_truncations_total") - before == 2
    cut = "vocation_truncated_predictions_total"
    assert [_sample(cut, occupation=name, version="1") for name in names] == [2, 1]


def test_a_score_carries_its_version_and_threshold(scorer: Scorer, target: Target) -> None:
    for score in _answers(scorer, [_request("Sommelier", target)])[0].scores:
        assert 0.0 <= score.score <= 1.0
        assert (score.version, score.threshold) == (1, 0.5)
        assert score.nearest is None


def test_a_text_unlike_anything_known_is_uncertain_and_a_trained_one_is_not(
    scorer: Scorer,
    cache: ModelCache,
    base_encoder: EncoderRecord,
    database: Database,
    artifacts: ArtifactStore,
    tiny_encoder: CpuEncoder,
) -> None:
    made = replace(
        head_with_examples(tiny_encoder, EXAMPLES),
        familiarity_floor=0.999,
        uncertain_low=0.0,
        uncertain_high=0.0,
    )
    add_served(database, artifacts, base_encoder, "sommelier", made)
    cache.refresh()
    target = cache.resolve(cache.snapshot(), None)
    background, own, strange = "métier numéro 3, secteur 3", "Comptable", "☃☃☃ zzz"
    answers = _answers(scorer, [_request(text, target) for text in (background, own, strange)])
    labels = [answer.scores[0].label for answer in answers]
    assert labels[0] != "uncertain"
    assert labels[1] != "uncertain"
    assert labels[2] == "uncertain"


def test_explaining_returns_the_nearest_examples_the_nearest_first(
    scorer: Scorer, sommelier: Target, tiny_encoder: CpuEncoder
) -> None:
    answer = _answers(scorer, [_request("Chef  sommelière", sommelier, explain=True)])[0]
    nearest = answer.scores[0].nearest
    assert nearest is not None
    assert (nearest[0].text, nearest[0].label) == ("Chef sommelière", "in")
    assert nearest[0].similarity == pytest.approx(1.0, abs=1e-4)
    similarities = [near.similarity for near in nearest]
    assert similarities == sorted(similarities, reverse=True)
    texts = [item.experience.rendered for item in EXAMPLES]
    embeddings = tiny_encoder.encode([*texts, "Chef sommelière"]).embeddings
    order = np.argsort(-(embeddings[:-1] @ embeddings[-1]))[:3]
    assert [near.text for near in nearest] == [texts[i] for i in order]


def test_only_who_asks_is_given_an_explanation_and_it_changes_no_score(
    scorer: Scorer, sommelier: Target
) -> None:
    plain, explained = _answers(
        scorer, [_request("x", sommelier), _request("x", sommelier, explain=True)]
    )
    assert plain.scores[0].nearest is None
    assert plain.scores[0] == explained.scores[0]._replace(nearest=None)


def test_an_erased_example_is_explained_no_more(
    scorer: Scorer, sommelier: Target, database: Database
) -> None:
    kept = [item for item in EXAMPLES if item.experience.text != "Chef sommelière"]
    with database.write() as connection:
        occupations.replace_bundled_examples(connection, "sommelier", kept)
    answer = _answers(scorer, [_request("Chef sommelière", sommelier, explain=True)])[0]
    nearest = answer.scores[0].nearest
    assert nearest is not None
    assert nearest
    assert "Chef sommelière" not in [near.text for near in nearest]


def test_predictions_are_counted_by_version_and_label(
    database: Database,
    cache: ModelCache,
    base_encoder: EncoderRecord,
    artifacts: ArtifactStore,
) -> None:
    occupation = f"counted-{uuid.uuid4().hex}"
    always_in = replace(head(1), bias=50.0)
    add_served(database, artifacts, base_encoder, occupation, always_in)
    cache.refresh()
    tally = PredictionTally()
    target = cache.resolve(cache.snapshot(), None)
    Scorer(database, cache.encoders, EmbeddingCache(0), tally).score(
        [_request(text, target) for text in TEXTS]
    )
    tally.flush()
    counted = _sample("vocation_predictions_total", occupation=occupation, version="1", label="in")
    assert counted == 32


def test_scored_and_refused_experiences_are_counted(scorer: Scorer, target: Target) -> None:
    names = ("scored", "error")
    before = [_sample("vocation_experiences_total", outcome=name) for name in names]
    refused = RefusedExperience(None, OccupationNotFound("No such occupation."))
    scorer.score([_request("a", target), refused, _request("b", target)])
    after = [_sample("vocation_experiences_total", outcome=name) for name in names]
    assert [late - early for early, late in zip(before, after, strict=True)] == [2, 1]


def test_a_text_that_comes_again_is_answered_bit_for_bit_without_encoding_it_again(
    scorer: Scorer, target: Target, cache: ModelCache, database: Database
) -> None:
    keeping = Scorer(database, cache.encoders, EmbeddingCache(1 << 20), PredictionTally())
    first = _answers(keeping, [_request(text, target) for text in TEXTS[:4]])
    encoded = _sample("vocation_tokens_total")
    hits = _sample("vocation_embedding_cache_lookups_total", outcome="hit")
    again = _answers(keeping, [_request(text, target) for text in reversed(TEXTS[:4])])
    assert _sample("vocation_tokens_total") == encoded
    assert _sample("vocation_embedding_cache_lookups_total", outcome="hit") == hits + 4
    computed = _answers(scorer, [_request(text, target) for text in TEXTS[:4]])
    assert first == again[::-1] == computed


def test_a_kept_embedding_serves_an_occupation_that_was_not_asked_before(
    scorer: Scorer, target: Target, cache: ModelCache, database: Database
) -> None:
    keeping = Scorer(database, cache.encoders, EmbeddingCache(1 << 20), PredictionTally())
    chef = cache.resolve(cache.snapshot(), ["chef"])
    keeping.score([_request("a", chef)])
    encoded = _sample("vocation_tokens_total")
    (answer,) = _answers(keeping, [_request("a", target)])
    assert _sample("vocation_tokens_total") == encoded
    assert answer == _answers(scorer, [_request("a", target)])[0]
