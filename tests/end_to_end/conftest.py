"""One first start for all end-to-end tests; each service of its own gets a copy of that home."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.measured import Measured
from tests.support.running_service import RunningService, running
from tests.support.tiny_service import write_tiny_settings


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


@pytest.fixture(scope="session")
def tiny_settings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Settings of a service that starts within seconds: a tiny encoder, one bundled occupation."""
    return write_tiny_settings(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def prepared_tiny_home(
    tiny_settings: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The home of the tiny service after its first start."""
    home = tmp_path_factory.mktemp("tiny-first") / "home"
    with running(home, environment=tiny_settings):
        pass
    return home


@pytest.fixture
def tiny_home(prepared_tiny_home: Path, tmp_path: Path) -> Path:
    """A copy of the tiny home that a test may change."""
    home = tmp_path / "home"
    shutil.copytree(prepared_tiny_home, home)
    return home


@pytest.fixture(scope="module")
def tiny_service(
    prepared_tiny_home: Path,
    tiny_settings: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningService]:
    """A running tiny service that the tests of one module share."""
    home = tmp_path_factory.mktemp("tiny-shared") / "home"
    shutil.copytree(prepared_tiny_home, home)
    with running(home, environment=tiny_settings) as started:
        yield started


@pytest.fixture
def measured(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Measured:
    def record(what: str, value: float, unit: str) -> None:
        figure = f"{value:,.3g}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"
        record_property(what, f"{figure} {unit}")
        sys.stdout.write(f"\nmeasured | {request.node.name} | {what} | {figure} {unit}\n")

    return record
