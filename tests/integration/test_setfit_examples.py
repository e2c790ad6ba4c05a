"""Few, many, one-sided, copied and contradicting examples under the method ``setfit``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.inference.head import read_head
from service.training.encoder_export import export_encoder
from service.training.job_file import read_job
from service.training.setfit_job import run_job
from tests.support.mounted_api import MountedApi, mounted_api
from tests.support.tiny_bert import BACKGROUND, write_job, write_tiny_bert


@pytest.fixture(scope="module")
def api(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder_folder: Path
) -> Iterator[MountedApi]:
    with mounted_api(tmp_path_factory.mktemp("examples"), tiny_encoder_folder) as mounted:
        yield mounted


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of a base encoder's weights and of its artifact."""
    folder = tmp_path_factory.mktemp("encoder")
    write_tiny_bert(folder)
    export_encoder(folder / "source", folder / "served", "int8", "tiny-bert", lambda *_: None)
    return folder / "source", folder / "served"


def _rows(count: int, label: str, word: str) -> list[dict[str, str]]:
    return [{"text": f"{word} {number}", "label": label} for number in range(count)]


def _post(api: MountedApi, id: str, examples: list[dict[str, str]]) -> tuple[int, list[str]]:
    body = {"id": id, "examples": examples, "training": {"method": "setfit"}}
    reply = api.client.post("/v1/occupations", json=body)
    return reply.status_code, [error["pointer"] for error in reply.json().get("errors", [])]


@pytest.mark.parametrize(
    ("name", "examples", "status", "pointers"),
    [
        ("three", _rows(3, "in", "Sommelier"), 422, ["/examples"]),
        ("four-copies", _rows(1, "in", "Sommelier") * 4, 422, ["/examples"]),
        ("too-many", _rows(2001, "in", "Sommelier"), 422, ["/examples"]),
        ("only-out", _rows(8, "out", "Plombier"), 422, ["/examples"]),
        (
            "contradicting",
            [*_rows(6, "in", "Sommelier"), *_rows(1, "out", "Sommelier")],
            422,
            ["/examples/0/label", "/examples/6/label"],
        ),
        ("only-in", _rows(4, "in", "Sommelier"), 202, []),
        ("copies", [*_rows(4, "in", "Sommelier"), *_rows(4, "in", "Sommelier")], 202, []),
        ("most", [*_rows(300, "in", "Sommelier"), *_rows(1700, "out", "Plombier")], 202, []),
    ],
)
def test_a_registration_by_setfit_is_accepted_or_refused_by_pointer(
    api: MountedApi, name: str, examples: list[dict[str, str]], status: int, pointers: list[str]
) -> None:
    assert _post(api, name, examples) == (status, pointers)


def test_an_added_example_under_the_other_label_is_a_correction(api: MountedApi) -> None:
    assert _post(api, "corrected", _rows(6, "in", "Sommelier"))[0] == 202
    more = {"examples": _rows(1, "out", "Sommelier"), "training": {"method": "setfit"}}
    assert api.client.post("/v1/occupations/corrected/examples", json=more).status_code == 202
    assert api.client.get("/v1/occupations/corrected").json()["examples"] == {"in": 5, "out": 1}


def _run(folder: Path, encoder: tuple[Path, Path], rows: list[dict[str, str]]) -> dict[str, Any]:
    write_job(folder, *encoder, examples=[{**row, "digest": ""} for row in rows])
    out = folder / "out"
    out.mkdir()
    run_job(read_job(folder / "job.json"), out, lambda _stage, _done: None)
    manifest: dict[str, Any] = json.loads((out / "result.json").read_bytes())["manifest"]
    return manifest


def test_two_thousand_examples_are_tuned_on_in_part_and_kept_by_the_head_in_full(
    encoder: tuple[Path, Path], tmp_path: Path
) -> None:
    rows = [*_rows(300, "in", "Sommelier"), *_rows(1700, "out", "Plombier")]
    manifest = _run(tmp_path, encoder, rows)
    # A step takes so many of them, and so many pairs, however many there are.
    assert manifest["hyper_parameters"]["texts_per_step"] == 16
    assert manifest["data"]["tuned_on"] == manifest["hyper_parameters"]["most_texts"] == 512
    assert manifest["data"]["above_cap"] == 2000 - 512
    assert (manifest["data"]["examples_in"], manifest["data"]["examples_out"]) == (300, 1700)
    head = read_head(tmp_path / "out")
    assert len(head.examples) == 2000
    assert np.isfinite(head.weights).all()


def test_four_positives_alone_are_tuned_against_the_background(
    encoder: tuple[Path, Path], tmp_path: Path
) -> None:
    manifest = _run(tmp_path, encoder, _rows(4, "in", "Sommelier"))
    assert manifest["data"]["borrowed_background"] == 4
    assert manifest["data"]["examples_out"] == 0
    assert manifest["data"]["background"] <= len(BACKGROUND)
