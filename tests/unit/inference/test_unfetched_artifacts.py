"""An artifact that cannot be fetched from a remote store fails what needs it, and nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from service.domain.errors import VersionUnavailable
from service.domain.types import Experience
from service.inference.batch import Answer, RefusedExperience, ScoredExperience, ScoringRequest
from service.inference.embedding_cache import EmbeddingCache
from service.inference.encoder import SideBySide
from service.inference.model_cache import ModelCache
from service.inference.scorer import Scorer
from service.inference.suggester import Suggester
from service.registry import encoders
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from service.telemetry.predictions import PredictionTally
from tests.support.make import add_served, head, publish
from tests.support.remote_store import new_remote_url, nothing_is_fetched


@pytest.fixture
def remote(home: Path) -> ArtifactStore:
    return ArtifactStore(new_remote_url(), home / "cache")


@pytest.fixture
def base(artifacts: ArtifactStore, base_encoder: EncoderRecord, remote: ArtifactStore) -> None:
    """The base encoder, in the remote store."""
    for digest in (base_encoder.digest, base_encoder.background_digest):
        artifacts.copy_to(remote, digest)


@pytest.fixture
def own_encoder(
    database: Database,
    base_encoder: EncoderRecord,
    remote: ArtifactStore,
    tiny_encoder_folder: Path,
) -> EncoderRecord:
    """Another encoder, that of one occupation."""
    return _recorded(
        database, remote, tiny_encoder_folder, {"NOTE": b"other"}, base_encoder.background_digest
    )


@pytest.fixture
def full(
    base: None, database: Database, remote: ArtifactStore, side_by_side: SideBySide
) -> ModelCache:
    """A cache without room: the first request loads an encoder."""
    return ModelCache(database, remote, side_by_side, version_entries=4, encoder_bytes=0)


@dataclass(slots=True)
class Clock:
    """Seconds, as a test sets them."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nurse_is_new(
    base: None,
    base_encoder: EncoderRecord,
    database: Database,
    remote: ArtifactStore,
    side_by_side: SideBySide,
    clock: Clock,
) -> ModelCache:
    """A cache that serves `chef`; `nurse` has been published since."""
    cache = ModelCache(database, remote, side_by_side, 4, 1 << 30, clock)
    add_served(database, remote, base_encoder, "chef", head(1))
    cache.refresh()
    add_served(database, remote, base_encoder, "nurse", head(2))
    return cache


def _recorded(
    database: Database, remote: ArtifactStore, folder: Path, changed: dict[str, bytes], like: str
) -> EncoderRecord:
    """An encoder that differs from a folder in some files, with the background ``like``."""
    files: dict[str, bytes | Path] = {path.name: path for path in folder.iterdir()}
    record = EncoderRecord("other", remote.put({**files, **changed}), like)
    with database.write() as connection:
        encoders.record_encoder(connection, record)
    return record


def _score(database: Database, cache: ModelCache, *occupations: str) -> list[Answer]:
    scorer = Scorer(database, cache.encoders, EmbeddingCache(0), PredictionTally())
    targets = [cache.resolve(cache.snapshot(), [occupation]) for occupation in occupations]
    return scorer.score([ScoringRequest("x", Experience(text="x"), target) for target in targets])


def test_a_champion_that_cannot_be_fetched_leaves_the_others_ready(
    nurse_is_new: ModelCache, home: Path
) -> None:
    cache = nurse_is_new
    with nothing_is_fetched(home / "cache"):
        assert cache.refresh()
    assert cache.resolve(cache.snapshot(), ["chef"]).versions[0].version.number == 1
    with pytest.raises(VersionUnavailable):
        cache.resolve(cache.snapshot(), ["nurse"])


def test_a_champion_that_could_not_be_fetched_is_tried_again_after_a_minute(
    nurse_is_new: ModelCache, home: Path, clock: Clock
) -> None:
    cache = nurse_is_new
    with nothing_is_fetched(home / "cache"):
        assert cache.refresh()
        clock.now = 61.0
        assert cache.refresh()
    with pytest.raises(VersionUnavailable):
        cache.resolve(cache.snapshot(), ["nurse"])
    clock.now = 100.0
    assert not cache.refresh()
    clock.now = 122.0
    assert cache.refresh()
    assert cache.resolve(cache.snapshot(), ["nurse"]).versions[0].version.number == 1
    clock.now = 1000.0
    assert not cache.refresh()


def test_a_named_version_is_unavailable_until_it_can_be_fetched(
    base_encoder: EncoderRecord,
    database: Database,
    remote: ArtifactStore,
    home: Path,
    full: ModelCache,
) -> None:
    add_served(database, remote, base_encoder, "chef", head(1))
    publish(database, remote, base_encoder, "chef", head(2))
    full.refresh()
    with nothing_is_fetched(home / "cache"):
        with pytest.raises(VersionUnavailable):
            full.resolve(full.snapshot(), ["chef@1"])
        assert full.resolve(full.snapshot(), ["chef@2"]).versions[0].version.number == 2
    assert full.resolve(full.snapshot(), ["chef@1"]).versions[0].version.number == 1


def test_an_encoder_that_cannot_be_fetched_fails_its_items_and_not_those_of_other_callers(
    base_encoder: EncoderRecord,
    own_encoder: EncoderRecord,
    database: Database,
    remote: ArtifactStore,
    home: Path,
    full: ModelCache,
) -> None:
    add_served(database, remote, base_encoder, "chef", head(1))
    add_served(database, remote, own_encoder, "nurse", head(2))
    full.refresh()
    with nothing_is_fetched(home / "cache"):
        chef, nurse = _score(database, full, "chef", "nurse")
    assert isinstance(chef, ScoredExperience)
    assert isinstance(nurse, RefusedExperience)
    assert isinstance(nurse.error, VersionUnavailable)
    chef_again, nurse = _score(database, full, "chef", "nurse")
    assert chef_again == chef
    assert isinstance(nurse, ScoredExperience)


def test_an_encoder_that_fails_in_a_way_of_its_own_fails_its_items_alone(
    base_encoder: EncoderRecord,
    database: Database,
    remote: ArtifactStore,
    full: ModelCache,
    tiny_encoder_folder: Path,
) -> None:
    """ONNX Runtime's errors are its own, and a graph of a newer one is whole and not loaded."""
    graph = {"model.onnx": b"a graph of another kind"}
    newer = _recorded(database, remote, tiny_encoder_folder, graph, base_encoder.background_digest)
    add_served(database, remote, base_encoder, "chef", head(1))
    add_served(database, remote, newer, "nurse", head(2))
    full.refresh()
    chef, nurse = _score(database, full, "chef", "nurse")
    assert isinstance(chef, ScoredExperience)
    assert isinstance(nurse, RefusedExperience)
    suggester = Suggester(database, full, EmbeddingCache(0))
    with pytest.raises(VersionUnavailable):
        suggester.suggest("nurse", None, [Experience(text="x")], 4, Event())


def test_suggest_says_that_the_version_is_unavailable(
    own_encoder: EncoderRecord,
    database: Database,
    remote: ArtifactStore,
    home: Path,
    full: ModelCache,
) -> None:
    add_served(database, remote, own_encoder, "nurse", head(2))
    full.refresh()
    suggester = Suggester(database, full, EmbeddingCache(0))
    asked = [Experience(text="x")]
    with nothing_is_fetched(home / "cache"), pytest.raises(VersionUnavailable):
        suggester.suggest("nurse", None, asked, 4, Event())
    assert len(suggester.suggest("nurse", None, asked, 4, Event()).items) == 1
