"""The child process of a fine-tuning: from a job's folder to all that is published."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.inference.encoder import SideBySide
from service.inference.head import read_head
from service.inference.split_encoder import SplitEncoder, Trunk
from service.telemetry.predictions import SCORE_BOUNDS
from service.training.child import REFUSED
from service.training.encoder_export import export_encoder
from service.training.job_file import read_job
from service.training.setfit_job import run_job
from tests.support.tiny_bert import BACKGROUND, INSIDE, OUTSIDE, write_job, write_tiny_bert


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of a base encoder's weights and of its artifact."""
    folder = tmp_path_factory.mktemp("encoder")
    write_tiny_bert(folder)
    export_encoder(folder / "source", folder / "served", "int8", "tiny-bert", lambda *_: None)
    return folder / "source", folder / "served"


def _start(job: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "service.training.setfit_child", str(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run(job: Path) -> tuple[int, str, str]:
    with _start(job) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        said = child.stdout.read()
        errors = child.stderr.read()
        return child.wait(), said, errors


def _result(job: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((job / "out" / "result.json").read_bytes())
    return content


def _in_this_process(job: Path) -> None:
    making = job / "out"
    making.mkdir()
    run_job(read_job(job / "job.json"), making, lambda _stage, _done: None)


def test_a_job_makes_the_same_version_in_any_process(
    encoder: tuple[Path, Path], tmp_path: Path
) -> None:
    write_job(tmp_path / "one", *encoder)
    status, said, errors = _run(tmp_path / "one")
    assert status == 0, errors
    stages = [line.split()[0] for line in said.splitlines()]
    assert list(dict.fromkeys(stages)) == ["train", "export", "calibrate", "gate"]
    assert all(0.0 <= float(line.split()[1]) <= 1.0 for line in said.splitlines())
    write_job(tmp_path / "two", *encoder)
    _in_this_process(tmp_path / "two")
    for path in sorted((tmp_path / "one" / "out").rglob("*")):
        if path.is_file() and path.name != "result.json":
            twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
            assert path.read_bytes() == twin.read_bytes(), path.name
    result = _result(tmp_path / "one")
    manifest = result["manifest"]
    assert manifest["data"]["examples_in"] == manifest["data"]["examples_out"] == 8
    assert manifest["encoder"]["parity"]["served_mean_cosine"] > 0.9
    assert set(manifest["durations_seconds"]) == {"train", "export", "calibrate", "gate"}
    assert manifest["gate"]["folds"] == 6
    assert manifest["reference"] == _result(tmp_path / "two")["manifest"]["reference"]
    assert tuple(manifest["reference"]["scores"]) == SCORE_BOUNDS
    assert sum(manifest["reference"]["labels"].values()) == pytest.approx(1.0, abs=1e-5)
    assert isinstance(result["promote"], bool)
    out = tmp_path / "one" / "out"
    served = SplitEncoder(Trunk(out / "trunk", "t"), out / "encoder", "e", SideBySide(2))
    head = read_head(out)
    embeddings = served.encode([*INSIDE, *OUTSIDE]).embeddings
    assert sorted(map(tuple, head.examples.tolist())) == sorted(map(tuple, embeddings.tolist()))
    scores = embeddings @ head.weights
    assert scores[:8].mean() > scores[8:].mean()


@pytest.mark.parametrize(
    "changes",
    [
        {"examples": [{"text": t, "label": "in", "digest": ""} for t in INSIDE]},
        {"tuned_layers": "all", "stock_iterations": 1, "method": "setfit", "name": None},
    ],
    ids=["one class", "all layers"],
)
def test_other_jobs_end_well(
    encoder: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    write_job(tmp_path, *encoder, **changes)
    _in_this_process(tmp_path)
    assert (tmp_path / "out" / "trunk").exists() == (changes.get("tuned_layers") != "all")
    assert np.isfinite(read_head(tmp_path / "out").threshold)
    if changes.get("method") == "setfit":
        assert _result(tmp_path)["promote"] is True


def test_what_cannot_be_tuned_is_refused_in_one_sentence(
    encoder: tuple[Path, Path], tmp_path: Path
) -> None:
    three = [{"text": text, "label": "in", "digest": ""} for text in INSIDE[:3]]
    write_job(tmp_path, *encoder, examples=three)
    status, _, errors = _run(tmp_path)
    assert status == REFUSED
    assert "at least 4" in errors.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()
    # All that it wrote is in the job's folder, which the Trainer removes.
    assert {path.name for path in tmp_path.iterdir()} <= {"job.json", "out.part", "scratch"}


def test_the_child_ends_when_its_parent_does(encoder: tuple[Path, Path], tmp_path: Path) -> None:
    write_job(tmp_path, *encoder, fewest_steps=100_000, most_steps=100_000, background=BACKGROUND)
    with _start(tmp_path) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("train")
        assert child.stdin is not None
        child.stdin.close()
        closed = time.monotonic()
        assert child.wait(timeout=5) != 0
        assert time.monotonic() - closed < 1.0
    assert not (tmp_path / "out").exists()
