from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from prometheus_client import REGISTRY

from service.domain.errors import (
    OccupationNotFound,
    OccupationNotReady,
    VersionNotFound,
    VersionUnavailable,
)
from service.domain.types import Experience, Label
from service.inference.batch import ScoredExperience, ScoringRequest
from service.inference.embedding_cache import EmbeddedText, EmbeddingCache
from service.inference.encoder import CpuEncoder, SideBySide
from service.inference.model_cache import ModelCache
from service.inference.scorer import Scorer
from service.inference.suggester import TEXTS_AT_ONCE, Suggester
from service.inference.suggestions import Reason, Suggested
from service.registry import occupations
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from service.telemetry.predictions import PredictionTally
from tests.support.make import (
    add_occupation,
    add_served,
    example,
    head,
    head_with_examples,
    publish,
)
from tests.support.tiny_split import put_tuned

TEXTS = [f"Ingénieure {'x' * n}, poste {n * n}" for n in range(24)]
EXAMPLES = [example(text) for text in ("Sommelier, La Treille", "Chef sommelière")]


class GivenUpAfterOne(EmbeddingCache):
    """Keeps nothing, and has whoever waits give up as soon as one text is embedded."""

    def __init__(self, given_up: Event) -> None:
        super().__init__(0)
        self._given_up = given_up
        self.looked_up: list[str] = []

    def get(self, encoder_digest: str, texts: Sequence[str]) -> dict[str, EmbeddedText]:
        self.looked_up.extend(texts)
        self._given_up.set()
        return super().get(encoder_digest, texts)


@pytest.fixture
def suggester(database: Database, cache: ModelCache) -> Suggester:
    return Suggester(database, cache, EmbeddingCache(0))


@pytest.fixture
def sommelier(
    cache: ModelCache,
    base_encoder: EncoderRecord,
    database: Database,
    artifacts: ArtifactStore,
    tiny_encoder: CpuEncoder,
) -> str:
    """An occupation with two versions whose examples the registry holds."""
    made = head_with_examples(tiny_encoder, EXAMPLES)
    add_served(database, artifacts, base_encoder, "sommelier", made)
    publish(database, artifacts, base_encoder, "sommelier", replace(made, bias=-1.0))
    with database.write() as connection:
        occupations.put_examples(connection, "sommelier", EXAMPLES)
    cache.refresh()
    return "sommelier"


def _suggest(
    suggester: Suggester, texts: Sequence[str], *, limit: int = 16, version: int | None = None
) -> Suggested:
    experiences = [Experience(text=text) for text in texts]
    return suggester.suggest("sommelier", version, experiences, limit, Event())


def _sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_as_many_are_suggested_as_are_asked_for_and_none_twice(
    suggester: Suggester, sommelier: str
) -> None:
    places = [item.index for item in _suggest(suggester, TEXTS, limit=10).items]
    assert len(places) == len(set(places)) == 10


def test_fewer_are_suggested_where_there_are_no_more(suggester: Suggester, sommelier: str) -> None:
    suggested = _suggest(suggester, TEXTS[:3])
    assert sorted(item.index for item in suggested.items) == [0, 1, 2]
    assert suggested.version == 2


def test_a_suggestion_has_the_score_and_the_label_that_classify_gives(
    suggester: Suggester, sommelier: str, cache: ModelCache, database: Database
) -> None:
    target = cache.resolve(cache.snapshot(), ["sommelier"])
    scorer = Scorer(database, cache.encoders, EmbeddingCache(0), PredictionTally())
    answers = scorer.score([ScoringRequest(t, Experience(text=t), target) for t in TEXTS])
    suggested = _suggest(suggester, TEXTS, limit=24)
    assert len(suggested.items) == 24
    for item in suggested.items:
        answer = answers[item.index]
        assert isinstance(answer, ScoredExperience)
        score = answer.scores[0]
        assert (item.score, item.label) == (score.score, score.label)
        assert (suggested.version, suggested.threshold) == (score.version, score.threshold)


def test_a_repeated_text_is_suggested_once_in_the_place_where_it_came_first(
    suggester: Suggester, sommelier: str
) -> None:
    suggested = _suggest(suggester, ["a b", "c", " a  b\n", "c", "a b"])
    assert sorted(item.index for item in suggested.items) == [0, 1]
    assert (suggested.repeated, suggested.skipped) == (3, 0)


def test_what_is_an_example_already_is_left_out_and_counted(
    suggester: Suggester, sommelier: str, database: Database
) -> None:
    # Not yet trained on, but labelled: nobody wants to be asked again.
    with database.write() as connection:
        occupations.put_examples(connection, "sommelier", [example("Plongeur", Label.OUT)])
    texts = ["Chef  sommelière", "Caviste", "Plongeur", "Chef sommelière"]
    suggested = _suggest(suggester, texts)
    assert [item.index for item in suggested.items] == [1]
    assert (suggested.skipped, suggested.repeated) == (3, 0)


def test_where_everything_is_known_nothing_is_suggested(
    suggester: Suggester, sommelier: str
) -> None:
    suggested = _suggest(suggester, ["Chef sommelière"])
    assert (suggested.items, suggested.skipped) == ((), 1)


def test_a_named_version_is_asked_in_place_of_the_champion(
    suggester: Suggester, sommelier: str
) -> None:
    first, champion = _suggest(suggester, TEXTS, version=1), _suggest(suggester, TEXTS)
    assert (first.version, champion.version) == (1, 2)
    assert {i.index: i.score for i in first.items} != {i.index: i.score for i in champion.items}


def test_the_same_request_is_answered_in_the_same_way_whatever_is_kept(
    suggester: Suggester, sommelier: str, database: Database, cache: ModelCache
) -> None:
    keeping = Suggester(database, cache, EmbeddingCache(1 << 20))
    first, again = _suggest(keeping, TEXTS), _suggest(keeping, TEXTS)
    assert first == again == _suggest(suggester, TEXTS)


def test_a_pool_that_comes_again_is_not_encoded_again(
    sommelier: str, database: Database, cache: ModelCache
) -> None:
    keeping = Suggester(database, cache, EmbeddingCache(1 << 20))
    _suggest(keeping, TEXTS)
    encoded = _sample("vocation_tokens_total")
    _suggest(keeping, TEXTS, version=1)
    assert _sample("vocation_tokens_total") == encoded


def test_what_is_only_looked_at_is_counted_neither_as_scored_nor_as_a_prediction(
    suggester: Suggester, sommelier: str
) -> None:
    before = _sample("vocation_experiences_total", outcome="scored")
    _suggest(suggester, TEXTS)
    assert _sample("vocation_experiences_total", outcome="scored") == before


def test_a_tuned_version_is_asked_with_its_own_encoder(
    suggester: Suggester,
    sommelier: str,
    cache: ModelCache,
    database: Database,
    base_encoder: EncoderRecord,
    artifacts: ArtifactStore,
    tiny_encoder_folder: Path,
    side_by_side: SideBySide,
    tmp_path: Path,
) -> None:
    top, digest = put_tuned(artifacts, tiny_encoder_folder, tmp_path, side_by_side, seed=5)
    made = head_with_examples(top, EXAMPLES)
    publish(database, artifacts, replace(base_encoder, digest=digest), "sommelier", made)
    cache.refresh()
    target = cache.resolve(cache.snapshot(), ["sommelier@3"])
    scores = target.groups[0].stack.scores(top.encode(TEXTS).embeddings)[:, 0]
    suggested = _suggest(suggester, TEXTS)
    assert suggested.version == 3
    for item in suggested.items:
        assert item.score == pytest.approx(scores[item.index], abs=1e-5)


def test_an_unfamiliar_text_says_so(
    suggester: Suggester,
    cache: ModelCache,
    base_encoder: EncoderRecord,
    database: Database,
    artifacts: ArtifactStore,
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1, floor=0.999))
    cache.refresh()
    texts = ["métier numéro 3, secteur 3", "☃☃☃ zzz"]
    reasons = {item.index: item.reason for item in _suggest(suggester, texts).items}
    assert reasons[1] is Reason.UNFAMILIAR
    assert reasons[0] is not Reason.UNFAMILIAR


def test_what_cannot_be_asked_says_why(
    suggester: Suggester, sommelier: str, cache: ModelCache, database: Database
) -> None:
    with database.write() as connection:
        add_occupation(connection, "chef")
    texts = [Experience(text="x")]
    for id, version, error in (
        ("nothing", None, OccupationNotFound),
        ("nothing", 1, OccupationNotFound),
        ("sommelier@1", None, OccupationNotFound),
        ("sommelier@one", 1, OccupationNotFound),
        ("chef", None, OccupationNotReady),
        ("sommelier", 3, VersionNotFound),
    ):
        with pytest.raises(error):
            suggester.suggest(id, version, texts, 16, Event())


def test_an_occupation_that_was_published_a_moment_ago_is_asked(
    suggester: Suggester,
    cache: ModelCache,
    base_encoder: EncoderRecord,
    database: Database,
    artifacts: ArtifactStore,
) -> None:
    assert cache.refresh()
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    assert _suggest(suggester, TEXTS).version == 1


def test_a_version_whose_encoder_cannot_be_loaded_is_unavailable(
    database: Database,
    artifacts: ArtifactStore,
    side_by_side: SideBySide,
    base_encoder: EncoderRecord,
) -> None:
    # No room for an encoder ahead of its first request, and none where it should be.
    cache = ModelCache(database, artifacts, side_by_side, version_entries=4, encoder_bytes=0)
    gone = replace(base_encoder, digest="0" * 64)
    add_served(database, artifacts, gone, "sommelier", head(1))
    cache.refresh()
    with pytest.raises(VersionUnavailable):
        _suggest(Suggester(database, cache, EmbeddingCache(0)), TEXTS)


def test_when_nobody_waits_any_more_the_rest_is_not_encoded(
    sommelier: str, database: Database, cache: ModelCache
) -> None:
    given_up = Event()
    looked_at = GivenUpAfterOne(given_up)
    experiences = [Experience(text=text) for text in TEXTS]
    with pytest.raises(CancelledError):
        Suggester(database, cache, looked_at).suggest("sommelier", None, experiences, 4, given_up)
    first = TEXTS[: TEXTS_AT_ONCE["int8"]]
    assert first != TEXTS
    assert looked_at.looked_up == first
