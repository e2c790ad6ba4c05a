"""A home that can be written to, and what is said where it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.domain.errors import StorageUnavailable
from service.registry.home import require_writable


def test_a_writable_home_is_made_where_it_is_missing_and_keeps_nothing_of_the_trial(
    tmp_path: Path,
) -> None:
    home = tmp_path / "a" / "home"
    require_writable(home)
    assert list(home.iterdir()) == []


def test_a_home_that_cannot_be_made_is_named_with_the_systems_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "home"
    with pytest.raises(StorageUnavailable, match="Not a directory") as raised:
        require_writable(home)
    assert raised.value.detail.startswith(f"{home}: ")


def test_a_start_without_a_writable_home_ends_with_status_2_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.touch()
    monkeypatch.setenv("VOCATION_HOME", str(home))
    result = CliRunner().invoke(app, ["serve"])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"vocation: The registry cannot be written: {home}: ")
