"""The figures of draws, each computed a second time: with scikit-learn, by other code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score

from service.domain.types import Example, Experience, Label
from service.inference.encoder import Encoder
from service.inference.head import HeadStack
from service.training.head_version import train_head
from tests.support.evaluation import background, figures, records, rendered, report, run
from tests.support.tiny_bert import write_tiny_bert


def splits(data: Path) -> list[dict[str, Any]]:
    """The rows with a split: the third copies are judged."""
    rows = [
        {**row, "split": "test" if row["title"].endswith(" C") else "train"} for row in records()
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return rows


def test_draws_are_judged_as_scikit_learn_judges_them(
    data: Path, tmp_path: Path, encoder: Encoder
) -> None:
    rows = splits(data)
    out = tmp_path / "report"
    # All 20 texts of either label: whatever is drawn, it is drawn whole, in any order.
    ended = run(data, "--shots", "20", "--draws", "2", "--name", "AI engineering", "--out", out)
    assert ended.exit_code == 0, ended.stderr
    content = report(out)
    pool = [row for row in rows if row["split"] == "train"]
    judged = [row for row in rows if row["split"] == "test"]
    assert content["data"]["rows"] == len(judged) == 20
    assert content["data"]["drawn_from"]["texts_in"] == 20
    inside = np.array([row["label"] == "in" for row in judged])
    embeddings = encoder.encode(rendered(judged)).embeddings
    model = LogisticRegression(max_iter=1000)
    model.fit(
        encoder.encode(rendered(pool)).embeddings, np.array([row["label"] == "in" for row in pool])
    )
    frozen = figures(content, "frozen encoder + logistic regression")
    check(frozen, model.predict_proba(embeddings)[:, 1], inside, 0.5)
    examples = [
        Example(Experience(row["title"], None, row["description"]), Label(row["label"]))
        for row in pool
    ]
    trained = train_head(
        encoder, background(encoder, tmp_path), examples, float(inside.mean()), "AI engineering"
    )
    scores = HeadStack([trained.head]).scores(embeddings)[:, 0]
    check(figures(content, "head"), scores, inside, trained.head.threshold)
    assert len(figures(content, "head")["draws"]) == 2
    methods = {row["method"] for row in content["figures"]}
    assert methods == {
        "head",
        "TF-IDF + logistic regression",
        "TF-IDF + logistic regression, all labels",
        "frozen encoder + logistic regression",
    }


def check(found: dict[str, Any], scores: Any, inside: Any, threshold: float) -> None:
    intervals = found["intervals"]
    assert intervals["average_precision"]["value"] == pytest.approx(
        average_precision_score(inside, scores), abs=1e-5
    )
    assert intervals["f1"]["value"] == pytest.approx(
        f1_score(inside, scores >= threshold), abs=1e-5
    )
    assert intervals["threshold"]["value"] == pytest.approx(threshold, abs=1e-5)
    assert found["over"] == "draws"


def test_several_shots_give_a_learning_curve_with_the_mean_of_each_draws_figures(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    ended = run(
        data, "--shots", "4", "40", "--draws", "3", "--field", "title", "--only", "source=one",
        "--out", out,
    )  # fmt: skip
    assert ended.exit_code == 2
    assert "40 different `in` texts are needed" in ended.stderr
    ended = run(data, "--shots", "4", "8", "--draws", "3", "--field", "title", "--out", out)
    assert ended.exit_code == 0, ended.stderr
    assert (out / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    content = report(out)
    assert content["judged"]["shots"] == [4, 8]
    assert "No name of the occupation was given" in " ".join(content["notes"])
    drawn = [row for row in content["figures"] if row["over"] == "draws" and row["by"] == "all"]
    assert {(row["method"], row["shots"]) for row in drawn} >= {("head", 4), ("head", 8)}
    for row in drawn:
        values = [draw["average_precision"] for draw in row["draws"]]
        interval = row["intervals"]["average_precision"]
        assert interval["value"] == pytest.approx(np.mean(values), abs=1e-5)
        assert min(values) - 1e-6 <= interval["low"] <= interval["high"] <= max(values) + 1e-6
    own = next(r for r in drawn if (r["method"], r["shots"]) == ("head", 8))
    words = next(
        r for r in drawn if (r["method"], r["shots"]) == ("TF-IDF + logistic regression", 8)
    )
    gain = next(
        d for d in content["differences"] if (d["baseline"], d["shots"]) == (words["method"], 8)
    )
    expected = np.mean(
        [a["f1"] - b["f1"] for a, b in zip(own["draws"], words["draws"], strict=True)]
    )
    assert gain["intervals"]["f1"]["value"] == pytest.approx(expected, abs=1e-5)


def test_fine_tuning_is_judged_by_the_code_of_a_registration(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_bert(tmp_path / "encoder")
    monkeypatch.setenv("VOCATION_ENCODER", str(tmp_path / "encoder" / "source"))
    out = tmp_path / "report"
    ended = run(
        data, "--shots", "8", "--draws", "1", "--method", "setfit", "--baselines", "stock",
        "--field", "title", "--out", out,
    )  # fmt: skip
    assert ended.exit_code == 0, ended.stderr
    content = report(out)
    assert {"setfit", "stock SetFit"} < {row["method"] for row in content["figures"]}
    assert content["judged"]["gate_promotes"] in ({"8": 0}, {"8": 1})
    assert "setfit" in content["libraries"]
    found = figures(content, "setfit")["intervals"]
    assert 0.0 < found["average_precision"]["value"] <= 1.0
    assert found["average_precision"]["low"] is None
    stock = figures(content, "stock SetFit")["intervals"]
    assert 0.0 < stock["average_precision"]["value"] <= 1.0
    assert stock["threshold"]["value"] == 0.5
