"""``vocation adapt`` as a real process: killed at any moment, it goes on where it was."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running_service import wait_for
from tests.support.tiny_reference import write_reference_files, write_tiny_base


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """``vocation adapt`` on reference files and a base encoder of a few words."""
    folder = tmp_path_factory.mktemp("adapt")
    (folder / "data").mkdir()
    (folder / "base").mkdir()
    data = write_reference_files(folder / "data")
    base = write_tiny_base(folder / "base")
    return [
        str(Path(sys.executable).parent / "vocation"),
        "adapt",
        *("--data", str(data), "--base", str(base)),
        *("--device", "cpu", "--precision", "fp32", "--threads", "1"),
    ]


def weights(out: Path) -> str:
    """SHA-256 of the encoder that was written."""
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def test_a_killed_adaptation_goes_on_and_ends_with_the_same_weights(
    command: list[str], tmp_path: Path
) -> None:
    """Killed twice, before and after its first checkpoint: not a bit of the result differs."""
    whole = [*command, "--out", str(tmp_path / "a"), "--work", str(tmp_path / "work-a")]
    subprocess.run(whole, check=True, capture_output=True, timeout=300)

    work = tmp_path / "work-b"
    broken = [*command, "--out", str(tmp_path / "b"), "--work", str(work)]
    for reached in (work / "start", work / "checkpoints" / "checkpoint-100"):
        with subprocess.Popen(
            broken, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            wait_for(f"{reached.name} or the end", lambda at=reached: at.exists(), 120)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "b").exists()
    said = subprocess.run(broken, check=True, capture_output=True, text=True, timeout=300)

    assert "steps in" in said.stdout
    assert weights(tmp_path / "b") == weights(tmp_path / "a")
