from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from safetensors.numpy import save

from service.domain.errors import (
    NotReady,
    OccupationNotFound,
    OccupationNotReady,
    VersionNotFound,
    VersionUnavailable,
    VocationError,
)
from service.inference.encoder import SideBySide
from service.inference.encoder_cache import BACKGROUND_TENSORS
from service.inference.encoder_spec import MODEL_FILE, SPEC_FILE
from service.inference.head import HEAD_TENSORS
from service.inference.model_cache import INITIALISED, ModelCache
from service.registry import encoders, generation, occupations, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from tests.support.make import add_occupation, add_served, head, publish


def _champion(cache: ModelCache, occupation: str) -> int:
    return cache.snapshot().champion(occupation).version.number


def _damage(artifacts: ArtifactStore, database: Database, occupation: str, number: int) -> Path:
    with database.read() as connection:
        version = versions.get_version(connection, occupation, number)
    file = artifacts.open_local(version.artifact_digest) / HEAD_TENSORS
    file.write_bytes(file.read_bytes()[:-1])
    return file


def test_nothing_is_ready_before_the_first_start(cache: ModelCache) -> None:
    assert not cache.refresh()
    assert not cache.ready
    with pytest.raises(NotReady):
        cache.snapshot()
    with pytest.raises(NotReady):
        cache.base_encoder()


def test_the_base_encoder_alone_is_not_ready_until_the_first_start_has_ended(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database
) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM registry_state WHERE key = ?", (INITIALISED,))
    assert not cache.refresh()
    with database.write() as connection:
        generation.put(connection, INITIALISED, "now")
    assert cache.refresh()


def test_a_registry_without_occupations_is_ready_and_scores_for_none(
    cache: ModelCache, base_encoder: EncoderRecord
) -> None:
    assert cache.refresh()
    assert cache.ready
    assert cache.snapshot().all_champions().versions == ()


def test_a_refresh_loads_only_when_the_registry_has_moved(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    assert cache.refresh()
    assert not cache.refresh()
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    assert cache.refresh()
    assert not cache.refresh()


def test_every_champion_answers_in_the_order_of_the_ids(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    for number, id in enumerate(("sommelier", "chef", "nurse")):
        add_served(database, artifacts, base_encoder, id, head(number))
    cache.refresh()
    target = cache.resolve(cache.snapshot(), None)
    assert [version.key for version in target.versions] == [
        ("chef", 1),
        ("nurse", 1),
        ("sommelier", 1),
    ]
    # One encoder, so one group: a text is encoded once and all heads are applied together.
    assert len(target.groups) == 1


def test_a_former_snapshot_keeps_its_answers_when_a_new_champion_is_swapped_in(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    cache.refresh()
    former = cache.snapshot()
    publish(database, artifacts, base_encoder, "sommelier", head(2))
    cache.refresh()
    assert former.champion("sommelier").version.number == 1
    assert [v.key for v in cache.resolve(former, None).versions] == [("sommelier", 1)]
    assert _champion(cache, "sommelier") == 2


def test_a_champion_that_did_not_change_is_not_loaded_again(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    cache.refresh()
    loaded = cache.snapshot().champion("sommelier")
    add_served(database, artifacts, base_encoder, "chef", head(2))
    cache.refresh()
    assert cache.snapshot().champion("sommelier") is loaded


def test_a_slow_refresh_never_puts_an_older_champion_back(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    has_read, go_on = threading.Event(), threading.Event()
    slow = threading.Thread(target=cache.refresh)

    # The slow thread pauses as it gives its connection back: it has read, and not yet loaded.
    def pause(*_: object) -> None:
        if threading.current_thread() is slow and not has_read.is_set():
            has_read.set()
            go_on.wait(30)

    sa.event.listen(database.engine, "checkin", pause)
    slow.start()
    assert has_read.wait(30)
    publish(database, artifacts, base_encoder, "sommelier", head(2))
    cache.refresh()
    assert _champion(cache, "sommelier") == 2
    go_on.set()
    slow.join()
    assert _champion(cache, "sommelier") == 2


def test_a_named_version_is_loaded_beside_the_champion(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    publish(database, artifacts, base_encoder, "sommelier", head(2))
    cache.refresh()
    target = cache.resolve(cache.snapshot(), ["sommelier@1", "sommelier", "sommelier@2"])
    assert [version.version.number for version in target.versions] == [1, 2, 2]


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("chef", OccupationNotFound),
        ("chef@1", OccupationNotFound),
        ("@1", OccupationNotFound),
        ("untrained", OccupationNotReady),
        ("untrained@1", VersionNotFound),
        ("sommelier@2", VersionNotFound),
        ("sommelier@0", VersionNotFound),
    ],
)
def test_a_reference_to_nothing_says_what_is_missing(
    cache: ModelCache,
    base_encoder: EncoderRecord,
    database: Database,
    artifacts: ArtifactStore,
    reference: str,
    error: type[VocationError],
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    with database.write() as connection:
        add_occupation(connection, "untrained")
    cache.refresh()
    with pytest.raises(error):
        cache.resolve(cache.snapshot(), [reference])


def test_versions_beside_the_champions_are_kept_up_to_a_bound_the_last_used_longest(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    for seed in range(2, 8):
        publish(database, artifacts, base_encoder, "sommelier", head(seed))
    cache.refresh()

    def load(number: int) -> object:
        return cache.resolve(cache.snapshot(), [f"sommelier@{number}"]).versions[0]

    first, second, *_ = [load(number) for number in (1, 2, 3, 4)]
    assert load(1) is first
    load(5)
    # The fixture's cache keeps four: the fifth pushed out the second, which was used least lately.
    assert load(1) is first
    assert load(2) is not second


def test_a_damaged_champion_leaves_the_former_one_in_its_place(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    add_served(database, artifacts, base_encoder, "chef", head(2))
    cache.refresh()
    publish(database, artifacts, base_encoder, "sommelier", head(3))
    publish(database, artifacts, base_encoder, "chef", head(4))
    _damage(artifacts, database, "sommelier", 2)
    assert cache.refresh()
    assert _champion(cache, "sommelier") == 1
    assert _champion(cache, "chef") == 2


def test_a_damaged_first_champion_is_unavailable_and_its_neighbours_answer(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    add_served(database, artifacts, base_encoder, "chef", head(2))
    _damage(artifacts, database, "sommelier", 1)
    cache.refresh()
    snapshot = cache.snapshot()
    with pytest.raises(VersionUnavailable):
        cache.resolve(snapshot, ["sommelier"])
    assert [v.key for v in cache.resolve(snapshot, None).versions] == [("chef", 1)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (SPEC_FILE, b'{"format": 2}'),
        (MODEL_FILE, b"a graph that ONNX Runtime here does not load"),
        (BACKGROUND_TENSORS, save({"later": np.zeros((2, 32), dtype=np.float32)})),
    ],
)
def test_a_champion_of_a_newer_release_leaves_the_others_ready_in_a_process_that_starts(
    cache: ModelCache,
    base_encoder: EncoderRecord,
    database: Database,
    artifacts: ArtifactStore,
    tiny_encoder_folder: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    content: bytes,
) -> None:
    """As after a rollback of the software: what it cannot read does not keep it from starting."""
    files: dict[str, bytes | Path] = {path.name: path for path in tiny_encoder_folder.iterdir()}
    newer = EncoderRecord(
        "newer", artifacts.put({**files, name: content}), base_encoder.background_digest
    )
    with database.write() as connection:
        encoders.record_encoder(connection, newer)
    add_served(database, artifacts, base_encoder, "chef", head(1))
    add_served(database, artifacts, newer, "nurse", head(2))
    assert cache.refresh()
    assert cache.ready
    assert [v.key for v in cache.resolve(cache.snapshot(), None).versions] == [("chef", 1)]
    for reference in ("nurse", "nurse@1"):
        with pytest.raises(VersionUnavailable):
            cache.resolve(cache.snapshot(), [reference])
    assert "champion cannot be loaded" in caplog.text


def test_a_damaged_named_version_is_unavailable_until_it_is_healed(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    publish(database, artifacts, base_encoder, "sommelier", head(2))
    cache.refresh()
    file = _damage(artifacts, database, "sommelier", 1)
    with pytest.raises(VersionUnavailable):
        cache.resolve(cache.snapshot(), ["sommelier@1"])
    file.write_bytes(head(1).files()[HEAD_TENSORS])
    assert cache.resolve(cache.snapshot(), ["sommelier@1"]).versions[0].version.number == 1


def test_a_deleted_occupation_is_forgotten_with_its_versions(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    publish(database, artifacts, base_encoder, "sommelier", head(2))
    cache.refresh()
    cache.resolve(cache.snapshot(), ["sommelier@1"])
    with database.write() as connection:
        occupations.delete_occupation(connection, "sommelier")
    cache.refresh()
    for reference in ("sommelier", "sommelier@1", "sommelier@2"):
        with pytest.raises(OccupationNotFound):
            cache.resolve(cache.snapshot(), [reference])


def test_a_version_of_a_deleted_occupation_is_not_one_of_its_successor(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    publish(database, artifacts, base_encoder, "sommelier", head(2))
    cache.refresh()
    cache.resolve(cache.snapshot(), ["sommelier@1"])
    with database.write() as connection:
        occupations.delete_occupation(connection, "sommelier")
        add_occupation(connection, "sommelier")
    cache.refresh()
    with pytest.raises(VersionNotFound):
        cache.resolve(cache.snapshot(), ["sommelier@1"])


def test_a_new_base_encoder_leaves_former_versions_answering_with_their_own(
    cache: ModelCache,
    base_encoder: EncoderRecord,
    database: Database,
    artifacts: ArtifactStore,
    tiny_encoder_folder: Path,
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    files: dict[str, bytes | Path] = {path.name: path for path in tiny_encoder_folder.iterdir()}
    other = EncoderRecord(
        "other", artifacts.put({**files, "NOTE": b"other"}), base_encoder.background_digest
    )
    with database.write() as connection:
        encoders.record_encoder(connection, other)
        encoders.set_base_encoder(connection, other.fingerprint)
    add_served(database, artifacts, other, "chef", head(2))
    cache.refresh()
    target = cache.resolve(cache.snapshot(), ["sommelier", "chef"])
    assert [v.version.encoder_digest for v in target.versions] == [
        base_encoder.digest,
        other.digest,
    ]
    assert sorted(group.positions for group in target.groups) == [(0,), (1,)]
    assert cache.base_encoder().encoder.digest == other.digest


def test_a_restarted_process_loads_what_the_registry_holds(
    cache: ModelCache,
    base_encoder: EncoderRecord,
    database: Database,
    artifacts: ArtifactStore,
    side_by_side: SideBySide,
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    cache.refresh()
    restarted = ModelCache(
        database, artifacts, side_by_side, version_entries=4, encoder_bytes=1 << 30
    )
    restarted.refresh()
    before, after = (c.snapshot().champion("sommelier") for c in (cache, restarted))
    assert after.version == before.version
    assert after.head.weights.tobytes() == before.head.weights.tobytes()
