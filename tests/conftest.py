"""Fixtures that every level of tests shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from service.inference.encoder import CpuEncoder, SideBySide
from service.inference.encoder_cache import BACKGROUND_TENSORS
from service.inference.model_cache import INITIALISED, ModelCache
from service.registry import encoders, generation
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database, utc_now
from service.registry.encoders import EncoderRecord
from tests.support.tiny_encoder import write_tiny_encoder


@pytest.fixture(scope="session")
def tiny_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a deterministic encoder of 32 dimensions, made without torch."""
    folder = tmp_path_factory.mktemp("tiny-encoder")
    write_tiny_encoder(folder)
    return folder


@pytest.fixture(scope="session")
def side_by_side() -> Iterator[SideBySide]:
    runner = SideBySide(2)
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def tiny_encoder(tiny_encoder_folder: Path, side_by_side: SideBySide) -> CpuEncoder:
    return CpuEncoder(tiny_encoder_folder, "tiny", side_by_side)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def database(home: Path) -> Iterator[Database]:
    """A fresh registry in a file."""
    opened = Database(f"sqlite:///{home / 'registry.sqlite'}")
    opened.create_schema()
    yield opened
    opened.close()


@pytest.fixture
def artifacts(home: Path) -> ArtifactStore:
    return ArtifactStore(str(home / "artifacts"), home / "cache")


@pytest.fixture
def base_encoder(
    database: Database,
    artifacts: ArtifactStore,
    tiny_encoder_folder: Path,
    tiny_encoder: CpuEncoder,
) -> EncoderRecord:
    """The registry as the first start leaves it, with the tiny encoder as its base."""
    digest = artifacts.put({path.name: path for path in tiny_encoder_folder.iterdir()})
    texts = [f"métier numéro {number}, secteur {number % 7}" for number in range(80)]
    background = tiny_encoder.encode(texts).embeddings
    stored = artifacts.put(
        {BACKGROUND_TENSORS: save({"embeddings": np.ascontiguousarray(background)})}
    )
    record = EncoderRecord("fingerprint", digest, stored)
    with database.write() as connection:
        encoders.record_encoder(connection, record)
        encoders.set_base_encoder(connection, record.fingerprint)
        generation.put(connection, INITIALISED, utc_now())
    return record


@pytest.fixture
def cache(database: Database, artifacts: ArtifactStore, side_by_side: SideBySide) -> ModelCache:
    return ModelCache(database, artifacts, side_by_side, version_entries=4, encoder_bytes=1 << 30)
