from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.inference.encoder import Encoder, SideBySide, load_encoder
from service.settings import PROJECT_ROOT
from service.training.encoder_source import resolve_encoder
from tests.support.evaluation import records

BACKGROUND_ROWS = 300


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of the test's own, and a background that is embedded in a second."""
    rows = (PROJECT_ROOT / "models" / "background" / "background.jsonl").read_text("utf-8")
    background = tmp_path / "background.jsonl"
    background.write_text("".join(rows.splitlines(keepends=True)[:BACKGROUND_ROWS]), "utf-8")
    monkeypatch.setenv("VOCATION_BACKGROUND", str(background))
    monkeypatch.setenv("VOCATION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records()), "utf-8")
    return path


@pytest.fixture(scope="package")
def encoder() -> Iterator[Encoder]:
    folder = resolve_encoder("vocation-fr-en").exported
    assert folder is not None
    side_by_side = SideBySide(2)
    yield load_encoder(folder, "shipped", side_by_side)
    side_by_side.close()
