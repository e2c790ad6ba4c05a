from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from service.domain.errors import ArtifactCorrupted, StorageUnavailable
from service.registry.artifacts import ArtifactStore
from tests.support.remote_store import new_remote_url, nothing_is_fetched

FILES: dict[str, bytes | Path] = {"head.json": b"{}", "weights.bin": bytes(range(256)) * 64}


@pytest.fixture
def remote_url() -> str:
    return new_remote_url()


@pytest.fixture
def remote(remote_url: str, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(remote_url, tmp_path / "cache")


@pytest.fixture(params=["local", "remote"])
def store(
    request: pytest.FixtureRequest, artifacts: ArtifactStore, remote: ArtifactStore
) -> ArtifactStore:
    return artifacts if request.param == "local" else remote


def test_an_artifact_is_opened_with_the_bytes_that_were_put(store: ArtifactStore) -> None:
    folder = store.open_local(store.put(FILES))
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


def test_equal_bytes_have_one_digest_and_are_stored_once(
    store: ArtifactStore, tmp_path: Path
) -> None:
    source = tmp_path / "weights"
    source.write_bytes(bytes(range(256)) * 64)
    first = store.put(FILES)
    assert store.put({"weights.bin": source, "head.json": b"{}"}) == first
    assert list(store.digests()) == [first]


def test_another_name_or_byte_makes_another_artifact(store: ArtifactStore) -> None:
    digests = {store.put({"a": b"1"}), store.put({"b": b"1"}), store.put({"a": b"2"})}
    assert len(digests) == 3
    assert set(store.digests()) == digests


def test_an_empty_store_has_no_artifacts(store: ArtifactStore) -> None:
    assert list(store.digests()) == []
    assert not store.whole("0" * 64)
    with pytest.raises(ArtifactCorrupted):
        store.open_local("0" * 64)


def test_a_removed_artifact_is_gone_and_can_be_put_again(store: ArtifactStore) -> None:
    digest = store.put(FILES)
    store.open_local(digest)
    store.remove(digest)
    assert not store.whole(digest)
    with pytest.raises(ArtifactCorrupted):
        store.open_local(digest)
    assert store.put(FILES) == digest
    assert (store.open_local(digest) / "head.json").read_bytes() == b"{}"


def test_removing_what_is_not_there_does_nothing(store: ArtifactStore) -> None:
    store.remove("0" * 64)
    assert list(store.digests()) == []


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _alter(path: Path) -> None:
    path.write_bytes(b"\xff" + path.read_bytes()[1:])


@pytest.mark.parametrize("damage", [_truncate, _alter, Path.unlink])
@pytest.mark.parametrize("name", ["weights.bin", "LISTING.json"])
def test_a_damaged_file_is_refused(artifacts: ArtifactStore, name: str, damage: object) -> None:
    digest = artifacts.put(FILES)
    assert callable(damage)
    damage(artifacts.open_local(digest) / name)
    with pytest.raises(ArtifactCorrupted):
        artifacts.open_local(digest)


def test_putting_the_same_bytes_again_heals_a_damaged_artifact(artifacts: ArtifactStore) -> None:
    digest = artifacts.put(FILES)
    _truncate(artifacts.open_local(digest) / "weights.bin")
    assert artifacts.put(FILES) == digest
    folder = artifacts.open_local(digest)
    assert (folder / "weights.bin").read_bytes() == FILES["weights.bin"]


def test_a_folder_without_its_listing_is_no_artifact_and_is_replaced(
    artifacts: ArtifactStore,
) -> None:
    digest = artifacts.put(FILES)
    folder = artifacts.open_local(digest)
    (folder / "LISTING.json").unlink()
    (folder / "weights.bin").write_bytes(b"half")
    assert not artifacts.whole(digest)
    artifacts.put(FILES)
    assert (artifacts.open_local(digest) / "weights.bin").read_bytes() == FILES["weights.bin"]


def test_what_a_killed_process_left_in_staging_is_no_artifact_and_is_swept(
    artifacts: ArtifactStore, home: Path
) -> None:
    digest = artifacts.put(FILES)
    left = home / "artifacts" / ".staging" / "left"
    left.mkdir(parents=True)
    (left / "weights.bin").write_bytes(b"half")
    assert list(artifacts.digests()) == [digest]
    artifacts.sweep_staging()
    assert not left.exists()
    assert artifacts.open_local(digest).exists()


def test_a_source_that_cannot_be_read_leaves_nothing_behind(
    artifacts: ArtifactStore, home: Path, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="missing"):
        artifacts.put({"a": b"1", "b": tmp_path / "missing"})
    assert [path for path in (home / "artifacts").rglob("*") if path.is_file()] == []


def test_several_writers_of_equal_bytes_agree(artifacts: ArtifactStore) -> None:
    together = threading.Barrier(4)
    digests: list[str] = []

    def put() -> None:
        together.wait()
        digests.append(artifacts.put(FILES))

    writers = [threading.Thread(target=put) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(digests) == 4
    assert list(artifacts.digests()) == [digests[0]]
    assert artifacts.open_local(digests[0]).exists()


def test_a_remote_artifact_is_downloaded_once(remote: ArtifactStore, remote_url: str) -> None:
    digest = remote.put(FILES)
    folder = remote.open_local(digest)
    file_system, root = fsspec.core.url_to_fs(remote_url)
    file_system.rm(root, recursive=True)
    assert remote.open_local(digest) == folder
    assert (folder / "weights.bin").read_bytes() == FILES["weights.bin"]


def test_a_damaged_cache_is_healed_from_the_remote_store(remote: ArtifactStore) -> None:
    digest = remote.put(FILES)
    _truncate(remote.open_local(digest) / "weights.bin")
    assert (remote.open_local(digest) / "weights.bin").read_bytes() == FILES["weights.bin"]


def test_a_file_that_is_damaged_in_the_remote_store_is_refused(
    remote: ArtifactStore, remote_url: str
) -> None:
    digest = remote.put(FILES)
    file_system, root = fsspec.core.url_to_fs(remote_url)
    file_system.pipe_file(f"{root}/{digest[:2]}/{digest}/weights.bin", b"other bytes")
    with pytest.raises(ArtifactCorrupted):
        remote.open_local(digest)


def test_what_cannot_be_fetched_now_is_no_damage_and_leaves_nothing_behind(
    remote: ArtifactStore, tmp_path: Path
) -> None:
    digest = remote.put(FILES)
    with nothing_is_fetched(tmp_path / "cache"):
        for ask in (remote.open_local, remote.whole):
            with pytest.raises(StorageUnavailable, match=f"{digest[:12]} cannot be fetched"):
                ask(digest)
    assert list((tmp_path / "cache").iterdir()) == []
    assert remote.whole(digest)


class DriversOwnError(Exception):
    """Of no kind that Python or this project knows."""


def test_what_the_driver_of_a_remote_store_raises_is_an_error_of_ours(
    remote: ArtifactStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digest = remote.put(FILES)
    with monkeypatch.context() as patched:

        def silent(*_: object, **__: object) -> None:
            raise DriversOwnError

        patched.setattr(MemoryFileSystem, "get_file", silent)
        with pytest.raises(StorageUnavailable, match="DriversOwnError"):
            remote.open_local(digest)
    assert list((tmp_path / "cache").iterdir()) == []
    assert remote.whole(digest)


@pytest.mark.parametrize("listing", [b"[1]", b'{"files": []}', b"no JSON"])
def test_a_listing_of_another_format_is_refused(
    artifacts: ArtifactStore, home: Path, listing: bytes
) -> None:
    digest = hashlib.sha256(listing).hexdigest()
    folder = home / "artifacts" / digest[:2] / digest
    folder.mkdir(parents=True)
    (folder / "LISTING.json").write_bytes(listing)
    with pytest.raises(ArtifactCorrupted, match=digest[:12]):
        artifacts.open_local(digest)


def test_two_machines_share_a_remote_store(
    remote: ArtifactStore, remote_url: str, tmp_path: Path
) -> None:
    digest = remote.put(FILES)
    other = ArtifactStore(remote_url, tmp_path / "cache of another machine")
    assert (other.open_local(digest) / "head.json").read_bytes() == b"{}"
