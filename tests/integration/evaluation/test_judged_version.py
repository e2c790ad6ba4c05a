"""A version's figures, each computed a second time: with scikit-learn, by other code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
)

from service.domain.types import Label, Method
from service.inference.encoder import Encoder
from service.inference.head import HeadStack
from service.registry import occupations, registrations, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from service.training.bundled import read_file
from service.training.head_version import TrainedVersion, train_head
from tests.support.evaluation import (
    BUNDLED,
    INSIDE,
    OUTSIDE,
    background,
    figures,
    records,
    rendered,
    report,
    run,
)
from tests.support.make import add_occupation, example


def calibration_error(scores: Any, inside: Any) -> float:
    """Fifteen bins, written out."""
    total = 0.0
    for number in range(15):
        held = (scores >= number / 15) & (scores < (number + 1) / 15)
        if held.any():
            total += held.sum() * abs(scores[held].mean() - inside[held].mean())
    return total / len(scores)


def test_a_version_made_of_a_file_is_judged_as_scikit_learn_judges_it(
    data: Path, tmp_path: Path, encoder: Encoder
) -> None:
    out = tmp_path / "report"
    ended = run(data, "--occupation", BUNDLED, "--out", out)
    assert ended.exit_code == 0, ended.stderr
    bundled = read_file(BUNDLED).occupation
    trained = train_head(
        encoder, background(encoder, tmp_path), bundled.examples, bundled.prevalence, bundled.name
    )
    rows = records()
    for by, value in (("all", ""), ("language", "fr"), ("source", "one")):
        part = [row for row in rows if by == "all" or row[by] == value]
        inside = np.array([row["label"] == "in" for row in part])
        embeddings = encoder.encode(rendered(part)).embeddings
        scores = HeadStack([trained.head]).scores(embeddings)[:, 0]
        called = scores >= trained.head.threshold
        found = figures(report(out), "ai-engineering", by, value)
        assert (found["rows"], found["inside"]) == (len(part), inside.sum())
        assert {name: interval["value"] for name, interval in found["intervals"].items()} == {
            "precision": pytest.approx(precision_score(inside, called), abs=1e-5),
            "recall": pytest.approx(recall_score(inside, called), abs=1e-5),
            "f1": pytest.approx(f1_score(inside, called), abs=1e-5),
            "average_precision": pytest.approx(average_precision_score(inside, scores), abs=1e-5),
            "accuracy": pytest.approx(accuracy_score(inside, called), abs=1e-5),
            "calibration_error": pytest.approx(calibration_error(scores, inside), abs=1e-5),
            "threshold": pytest.approx(trained.head.threshold, abs=1e-5),
            "uncertain_rate": pytest.approx(
                uncertain_share(trained, scores, embeddings, tmp_path, encoder), abs=1e-5
            ),
        }
        for name, interval in found["intervals"].items():
            if name != "threshold" and interval["value"] is not None:
                assert interval["low"] <= interval["value"] <= interval["high"]


def uncertain_share(
    trained: TrainedVersion, scores: Any, embeddings: Any, tmp_path: Path, encoder: Encoder
) -> float:
    head = trained.head
    known = np.concatenate([background(encoder, tmp_path), head.examples])
    nearest = (embeddings @ known.T).max(axis=1)
    close = (scores >= head.uncertain_low) & (scores <= head.uncertain_high)
    return float((close | (nearest < head.familiarity_floor)).mean())


def test_a_prevalence_moves_precision_and_no_recall(data: Path, tmp_path: Path) -> None:
    shares: dict[str, Any] = {}
    for share in ("0.05", "0.5"):
        out = tmp_path / share
        ended = run(
            data, "--occupation", BUNDLED, "--field", "description", "--prevalence", share,
            "--out", out,
        )  # fmt: skip
        assert ended.exit_code == 0, ended.stderr
        shares[share] = figures(report(out), "ai-engineering")["intervals"]
    rare, even = shares["0.05"], shares["0.5"]
    assert rare["recall"]["value"] == even["recall"]["value"]
    # Bayes: precision at a share p of (recall r, false positive rate f) is pr / (pr + (1 - p) f).
    recall, precision = even["recall"]["value"], even["precision"]["value"]
    false = recall * (1 - precision) / precision
    expected = 0.05 * recall / (0.05 * recall + 0.95 * false)
    assert rare["precision"]["value"] == pytest.approx(expected, abs=1e-4)


def test_a_version_of_the_registry_is_judged_by_its_number(
    data: Path,
    tmp_path: Path,
    home: Path,
    database: Database,
    artifacts: ArtifactStore,
    base_encoder: EncoderRecord,
    tiny_encoder: Encoder,
) -> None:
    known = [
        *(example(f"{title} {number}") for number, (title, *_) in enumerate(INSIDE)),
        *(example(f"{title} {number}", Label.OUT) for number, (title, *_) in enumerate(OUTSIDE)),
    ]
    crowd = np.random.default_rng(0).standard_normal((80, 32)).astype(np.float32)
    crowd /= np.linalg.norm(crowd, axis=1, keepdims=True)
    heads = []
    with database.write() as connection:
        add_occupation(connection, "ai", known)
        for prevalence in (0.1, 0.4):
            trained = train_head(tiny_encoder, crowd, known, prevalence, "Ai")
            heads.append(trained.head)
            versions.publish(
                connection,
                occupation="ai",
                method=Method.HEAD,
                encoder_digest=base_encoder.digest,
                trunk_digest=None,
                artifact_digest=artifacts.put(heads[-1].files()),
                manifest=trained.manifest,
                registration=registrations.insert_registration(connection, "ai", Method.HEAD),
                promote=prevalence == 0.4,
            )
        assert len(occupations.all_examples(connection, "ai")) == 20
    inside = np.array([row["label"] == "in" for row in records()])
    embeddings = tiny_encoder.encode(rendered(records())).embeddings
    for reference, number in (("ai", 1), ("ai@1", 0), ("ai@2", 1)):
        out = tmp_path / reference
        ended = run(data, "--occupation", reference, "--out", out)
        assert ended.exit_code == 0, ended.stderr
        content = report(out)
        assert content["judged"]["version"] == number + 1
        scores = HeadStack([heads[number]]).scores(embeddings)[:, 0]
        found = figures(content, f"ai@{number + 1}")["intervals"]
        assert found["average_precision"]["value"] == pytest.approx(
            average_precision_score(inside, np.round(scores, 6)), abs=1e-5
        )
        assert found["threshold"]["value"] == pytest.approx(heads[number].threshold, abs=1e-5)
    for reference, said in (("nobody", "No occupation"), ("ai@3", "no version with this number")):
        ended = run(data, "--occupation", reference)
        assert ended.exit_code == 2
        assert said in ended.stderr
