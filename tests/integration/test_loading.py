"""Loading beside the requests: what is loaded answers, however long something else takes."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from service.domain.errors import VersionUnavailable
from service.inference.head import HEAD_TENSORS
from service.inference.model_cache import ModelCache
from service.registry import versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from tests.support.make import add_served, head, publish
from tests.support.running_service import wait_for


class _Slow:
    """A file whose reader waits until it is let go, and then finds too little."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink()
        os.mkfifo(path)
        self._pipe: int | None = None

    def wait_for_reader(self) -> None:
        """Return when somebody reads."""

        def opened() -> bool:
            # A pipe without a reader cannot be opened for writing at once (ENXIO).
            with contextlib.suppress(OSError):
                self._pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
            return self._pipe is not None

        wait_for("a reader", opened, 30)

    def close(self) -> None:
        """Let the reader come to the end."""
        if self._pipe is not None:
            os.close(self._pipe)


def test_versions_that_are_loaded_answer_while_a_new_champion_is_being_loaded(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    publish(database, artifacts, base_encoder, "sommelier", head(2))
    cache.refresh()
    cache.resolve(cache.snapshot(), ["sommelier@1"])
    publish(database, artifacts, base_encoder, "sommelier", head(3))
    with database.read() as connection:
        version = versions.get_version(connection, "sommelier", 3)
    path = artifacts.open_local(version.artifact_digest) / HEAD_TENSORS
    with ThreadPoolExecutor(1) as following, ThreadPoolExecutor(1) as asking:
        with contextlib.closing(_Slow(path)) as slow:
            loading = following.submit(cache.refresh)
            slow.wait_for_reader()
            for reference, number in (("sommelier@1", 1), ("sommelier", 2)):
                asked = asking.submit(cache.resolve, cache.snapshot(), [reference])
                assert asked.result(timeout=30).versions[0].version.number == number
        # It was not whole: the former champion goes on.
        assert loading.result(timeout=30)
    assert cache.snapshot().champion("sommelier").version.number == 2


def test_a_version_that_is_being_loaded_keeps_no_champion_from_its_place(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> None:
    for occupation in ("sommelier", "caviste"):
        add_served(database, artifacts, base_encoder, occupation, head(1))
    publish(database, artifacts, base_encoder, "sommelier", head(2))
    cache.refresh()
    with database.read() as connection:
        version = versions.get_version(connection, "sommelier", 1)
    path = artifacts.open_local(version.artifact_digest) / HEAD_TENSORS
    publish(database, artifacts, base_encoder, "caviste", head(4))
    with ThreadPoolExecutor(2) as pool:
        with contextlib.closing(_Slow(path)) as slow:
            asked = pool.submit(cache.resolve, cache.snapshot(), ["sommelier@1"])
            slow.wait_for_reader()
            assert pool.submit(cache.refresh).result(timeout=30)
            assert cache.snapshot().champion("caviste").version.number == 2
        assert isinstance(asked.exception(timeout=30), VersionUnavailable)
