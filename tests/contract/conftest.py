from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounted_api import MountedApi, mounted_api


@pytest.fixture(scope="session")
def api(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder_folder: Path
) -> Iterator[MountedApi]:
    """One home for all tests of the contract: each uses occupations of its own."""
    with mounted_api(tmp_path_factory.mktemp("contract"), tiny_encoder_folder) as mounted:
        yield mounted


@pytest.fixture
def new_id() -> str:
    return f"occupation-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def trained(api: MountedApi) -> str:
    """An occupation with three versions, the third its champion; no test changes it."""
    id = "a-trained-occupation"
    api.add_trained(id, versions=3)
    return id
