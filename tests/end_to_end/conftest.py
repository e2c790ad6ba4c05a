"""One first start for all end-to-end tests; each service of its own gets a copy of that home."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running_service import RunningService, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "end_to_end" in item.nodeid:
            item.add_marker(pytest.mark.end_to_end)


@pytest.fixture(scope="session")
def prepared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home after its first start: encoder built, bundled occupations registered, stopped."""
    home = tmp_path_factory.mktemp("first") / "home"
    with running(home):
        pass
    return home


@pytest.fixture
def fresh_home(prepared_home: Path, tmp_path: Path) -> Path:
    """A copy of the prepared home that a test may change."""
    home = tmp_path / "home"
    shutil.copytree(prepared_home, home)
    return home


@pytest.fixture(scope="module")
def service(
    prepared_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    """A running service that the tests of one module share."""
    home = tmp_path_factory.mktemp("shared") / "home"
    shutil.copytree(prepared_home, home)
    with running(home) as started:
        yield started
