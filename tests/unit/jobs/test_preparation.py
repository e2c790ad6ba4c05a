"""What a start prepares when the background is another one than before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from dbos import run_dbos_database_migrations
from numpy.typing import NDArray
from safetensors.numpy import load_file

from service.domain.types import Experience, RegistrationState
from service.inference.batch import ScoredExperience, ScoringRequest
from service.inference.embedding_cache import EmbeddingCache
from service.inference.encoder import CpuEncoder, SideBySide
from service.inference.encoder_cache import BACKGROUND_TENSORS
from service.inference.model_cache import INITIALISED, ModelCache
from service.inference.scorer import Scorer
from service.jobs.preparation import Preparation
from service.jobs.queue import RegistrationQueue
from service.jobs.registering import JOBS_READY, Registrar
from service.jobs.stages import Stages
from service.registry import encoders, generation, registrations, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database, utc_now
from service.registry.encoders import EncoderRecord
from service.settings import Settings
from service.telemetry.predictions import PredictionTally
from tests.support.make import add_served, head

FORMER = [f"métier numéro {number}, secteur {number % 7}" for number in range(60)]
CHANGED = [f"trade {number} of floor {number % 5}" for number in range(61)]

Start = Callable[[Sequence[str]], EncoderRecord]


@pytest.fixture
def settings(tmp_path: Path, home: Path, tiny_encoder_folder: Path) -> Settings:
    """An encoder whose graph is beside its weights, as the shipped one's, and one occupation."""
    source = tmp_path / "source"
    shutil.copytree(tiny_encoder_folder, source / "onnx")
    (source / "model.safetensors").write_bytes(b"weights")
    bundled = tmp_path / "occupations"
    bundled.mkdir()
    shutil.copy(Settings().occupations / "chef.yaml", bundled)
    return Settings(
        home=home,
        device="cpu",
        encoder=str(source),
        background=tmp_path / "background.jsonl",
        occupations=bundled,
    )


@pytest.fixture
def preparation(
    settings: Settings, database: Database, artifacts: ArtifactStore, side_by_side: SideBySide
) -> Preparation:
    with database.write() as connection:
        generation.put(connection, INITIALISED, utc_now())
    return Preparation(settings, database, artifacts, side_by_side)


@pytest.fixture
def start(settings: Settings, database: Database, preparation: Preparation) -> Start:
    """Start with a background of these texts; returns the base encoder's record."""

    def started(texts: Sequence[str]) -> EncoderRecord:
        settings.background.write_text("\n".join(json.dumps({"title": text}) for text in texts))
        preparation.sweep()
        preparation.prepare_encoder()
        with database.read() as connection:
            record = encoders.base_encoder(connection)
        assert record is not None
        return record

    return started


@pytest.fixture
def embedded(tiny_encoder: CpuEncoder) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    return lambda texts: tiny_encoder.encode(texts).embeddings


def test_heads_are_trained_with_a_changed_background_as_fine_tunings_are(
    start: Start,
    cache: ModelCache,
    artifacts: ArtifactStore,
    embedded: Callable[[Sequence[str]], NDArray[np.float32]],
) -> None:
    for texts in (FORMER, CHANGED, CHANGED[:50]):
        record = start(texts)
        # Of the record, as a fine-tuning reads it, and of the cache, as the `head` method does.
        stored = load_file(artifacts.open_local(record.background_digest) / BACKGROUND_TENSORS)
        assert np.array_equal(stored["embeddings"], embedded(texts))
        assert np.array_equal(cache.base_encoder().background, embedded(texts))


def test_each_version_goes_on_with_the_background_that_it_was_trained_with(
    start: Start,
    cache: ModelCache,
    database: Database,
    artifacts: ArtifactStore,
    side_by_side: SideBySide,
) -> None:
    """A text is unfamiliar, and so `uncertain`, where it is unlike the version's background."""
    wary = replace(head(1), familiarity_floor=0.999, uncertain_low=0.0, uncertain_high=0.0)
    add_served(database, artifacts, start(FORMER), "former", wary)
    cache.refresh()
    add_served(database, artifacts, start(CHANGED), "changed", wary)
    restarted = ModelCache(
        database, artifacts, side_by_side, version_entries=4, encoder_bytes=1 << 30
    )
    for served in (cache, restarted):
        served.refresh()
        scorer = Scorer(database, served.encoders, EmbeddingCache(1 << 20), PredictionTally())
        target = served.resolve(served.snapshot(), ["former", "changed"])
        texts = (FORMER[3], CHANGED[3])
        requests = [ScoringRequest(text, Experience(text=text), target) for text in texts]
        # The second time from the embedding cache.
        for _ in range(2):
            answers = [
                item for item in scorer.score(requests) if isinstance(item, ScoredExperience)
            ]
            unsure = [[score.label == "uncertain" for score in a.scores] for a in answers]
            assert unsure == [[False, True], [True, False]]
            # The graph is the same: a background moves no score.
            assert all(len({score.score for score in a.scores}) == 1 for a in answers)


def test_bundled_occupations_are_trained_again_with_a_changed_background(
    start: Start,
    preparation: Preparation,
    cache: ModelCache,
    database: Database,
    artifacts: ArtifactStore,
) -> None:
    run_dbos_database_migrations(str(database.engine.url))
    with database.write() as connection:
        generation.put(connection, JOBS_READY, utc_now())
    queue = RegistrationQueue(database.engine, 60)
    stages = Stages(database, artifacts, cache)
    nobody_waits = Event()
    nobody_waits.set()

    def trained() -> list[tuple[str, int]]:
        """Encoder, and size of the background, of the champions that this start has trained."""
        preparation.register_bundled(Registrar(database, queue), nobody_waits)
        with database.read() as connection:
            queued = registrations.active_ids(connection)
        for id in queued:
            stages.head(id)
            with database.write() as connection:
                registrations.finish(connection, id, RegistrationState.SUCCEEDED)
        with database.read() as connection:
            found = versions.champions(connection)
        return [
            (
                version.encoder_digest,
                version.manifest["data"]["background"]
                + version.manifest["data"]["background_set_aside"],
            )
            for version in found
            if version.registration in queued
        ]

    for texts in (FORMER, CHANGED):
        record = start(texts)
        assert trained() == [(record.digest, len(texts))]
        assert start(texts) == record
        assert trained() == []
    queue.close()


def test_the_former_background_comes_back_with_its_encoder_and_builds_nothing(
    start: Start, artifacts: ArtifactStore, database: Database
) -> None:
    former, changed = start(FORMER), start(CHANGED)
    stored = set(artifacts.digests())
    assert start(FORMER) == former
    assert start(CHANGED) == changed
    assert set(artifacts.digests()) == stored
    with database.read() as connection:
        for record in (former, changed):
            assert encoders.background_of(connection, record.digest) == record.background_digest


def test_equal_weights_make_the_same_encoder_in_every_home_with_one_background(
    start: Start, settings: Settings, artifacts: ArtifactStore
) -> None:
    graph = Path(settings.encoder) / "onnx"
    assert start(CHANGED).digest == artifacts.put({path.name: path for path in graph.iterdir()})


@pytest.mark.parametrize("texts", [FORMER, CHANGED], ids=["former", "changed"])
@pytest.mark.parametrize("part", ["digest", "background_digest"])
def test_a_lost_artifact_of_the_base_encoder_is_made_again_under_its_digest(
    start: Start, artifacts: ArtifactStore, texts: Sequence[str], part: str
) -> None:
    records = {len(other): start(other) for other in (FORMER, CHANGED)}
    record = records[len(texts)]
    artifacts.remove(getattr(record, part))
    assert start(texts) == record
    assert artifacts.whole(record.digest)
    assert artifacts.whole(record.background_digest)


def test_a_home_where_two_backgrounds_share_an_encoder_has_the_newer_take_its_own(
    start: Start,
    cache: ModelCache,
    database: Database,
    embedded: Callable[[Sequence[str]], NDArray[np.float32]],
) -> None:
    """As former releases left it: one graph was one artifact, whatever the background."""
    former, changed = start(FORMER), start(CHANGED)
    with database.write() as connection:
        encoders.record_encoder(connection, replace(changed, digest=former.digest))
    assert start(CHANGED) == changed
    assert changed.digest != former.digest
    assert np.array_equal(cache.base_encoder().background, embedded(CHANGED))
    # What was trained on it before had the first background, whatever the setting said.
    with database.read() as connection:
        assert encoders.background_of(connection, former.digest) == former.background_digest
