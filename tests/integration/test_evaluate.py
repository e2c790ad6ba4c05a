"""``vocation evaluate`` with the shipped encoder and the bundled AI occupation.

Every number of the report that is checked here is computed a second time, with scikit-learn and
by other code than the report's.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
)
from typer.testing import CliRunner, Result

from service.cli import app
from service.domain.types import Example, Experience, Label, Method
from service.inference.encoder import Encoder, SideBySide, load_encoder
from service.inference.head import HeadStack
from service.registry import occupations, registrations, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from service.settings import PROJECT_ROOT
from service.training.background import read_background
from service.training.bundled import read_file
from service.training.encoder_source import resolve_encoder
from service.training.head_version import TrainedVersion, train_head
from tests.support.make import add_occupation, example
from tests.support.tiny_bert import write_tiny_bert

BUNDLED = PROJECT_ROOT / "models" / "occupations" / "ai-engineering.yaml"
BACKGROUND_ROWS = 300
PLOTS = {"calibration.png", "precision-recall.png"}

# Title, description, language; half of either label, of two sources.
INSIDE = [
    ("Ingénieur apprentissage automatique", "Modèles de prévision, PyTorch.", "fr"),
    ("Data scientist junior", "Scoring et segmentation de clients.", "fr"),
    ("Chercheuse en vision par ordinateur", "Détection d'objets, réseaux de neurones.", "fr"),
    ("Doctorant en intelligence artificielle", "Apprentissage par renforcement.", "fr"),
    ("Stagiaire NLP", "Entraînement de modèles de langue.", "fr"),
    ("Machine learning engineer", "Training and serving of ranking models.", "en"),
    ("Applied scientist", "Deep learning for speech recognition.", "en"),
    ("Research engineer, reinforcement learning", "Simulators and policies.", "en"),
    ("MLOps engineer", "Pipelines that train and deploy models.", "en"),
    ("Senior data scientist", "Causal models, experiments, Python.", "en"),
]
OUTSIDE = [
    ("Comptable fournisseurs", "Saisie des factures et relances.", "fr"),
    ("Infirmière de nuit", "Soins en service de gériatrie.", "fr"),
    ("Développeur PHP", "Boutiques en ligne et paiement.", "fr"),
    ("Chef de rang", "Service en salle, accords mets et vins.", "fr"),
    ("Administrateur réseau", "Pare-feu et supervision des serveurs.", "fr"),
    ("Primary school teacher", "Reading and arithmetic, second grade.", "en"),
    ("Warehouse operator", "Forklift, picking and packing.", "en"),
    ("Sales manager", "Key accounts in the food industry.", "en"),
    ("Electrician", "Wiring of office buildings.", "en"),
    ("Recruiter", "Interviews for the software teams.", "en"),
]


def records() -> list[dict[str, Any]]:
    made = []
    for place in range(3):
        for label, entries in (("in", INSIDE), ("out", OUTSIDE)):
            for number, (title, description, language) in enumerate(entries):
                made.append(
                    {
                        "title": f"{title} {('A', 'B', 'C')[place]}",
                        "description": description,
                        "label": label,
                        "language": language,
                        "source": "one" if number % 2 else "two",
                    }
                )
    return made


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


@pytest.fixture(scope="module")
def encoder() -> Iterator[Encoder]:
    folder = resolve_encoder("vocation-fr-en").exported
    assert folder is not None
    side_by_side = SideBySide(2)
    yield load_encoder(folder, "shipped", side_by_side)
    side_by_side.close()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)])


def report(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "evaluation.json").read_text("utf-8"))
    return content


def figures(content: dict[str, Any], method: str, by: str = "all", value: str = "") -> Any:
    (found,) = (
        row
        for row in content["figures"]
        if (row["method"], row["by"], row["value"]) == (method, by, value)
    )
    return found


def background(encoder: Encoder, tmp_path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    rows = read_background(tmp_path / "background.jsonl")
    return encoder.encode([row.rendered for row in rows]).embeddings


def rendered(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [Experience(row["title"], None, row["description"]).rendered for row in rows]


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


def test_the_report_stands_alone_and_holds_no_text(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    ended = run(data, "--occupation", BUNDLED, "--out", out, "--keywords", "data scientist,nlp")
    assert ended.exit_code == 0, ended.stderr
    assert {path.name for path in out.iterdir()} == {"evaluation.json", "evaluation.html", *PLOTS}
    page = (out / "evaluation.html").read_text("utf-8")
    assert re.findall(r"(?:https?:)?//[\w.]+", re.sub(r"base64,[^\"]+", "", page)) == []
    assert "<script" not in page
    written = page + (out / "evaluation.json").read_text("utf-8") + ended.output
    for row in records():
        assert row["title"] not in written
        assert row["description"] not in written
    content = report(out)
    for fact in (content["data"]["digest"], content["judged"]["encoder"]["digest"], "--keywords"):
        assert fact in page
    assert str(tmp_path) not in page
    found = figures(content, "keyword rule")
    assert found["intervals"]["precision"]["value"] == 1.0
    # "Data scientist junior", "Senior data scientist" and "Stagiaire NLP", three times each.
    assert found["intervals"]["recall"]["value"] == pytest.approx(9 / 30, abs=1e-6)
    assert "| ai-engineering | - | rows |" in ended.stdout


def test_the_same_command_gives_the_same_bytes(data: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run(data, "--occupation", BUNDLED, "--out", tmp_path / name).exit_code == 0
    for path in (tmp_path / "one").iterdir():
        twin = (tmp_path / "two" / path.name).read_bytes()
        assert path.read_bytes() == twin.replace(b"--out two", b"--out one"), path.name


def test_examples_of_the_version_and_background_texts_are_not_judged(
    data: Path, tmp_path: Path
) -> None:
    known = read_file(BUNDLED).occupation.examples[0].experience
    crowd = read_background(tmp_path / "background.jsonl")[0]
    with data.open("a", encoding="utf-8") as file:
        for text, label in ((known.rendered, 1), (crowd.rendered.upper(), 0)):
            file.write(json.dumps({"text": text, "label": label}) + "\n")
    ended = run(data, "--occupation", BUNDLED, "--out", tmp_path / "report")
    assert ended.exit_code == 0, ended.stderr
    found = report(tmp_path / "report")["data"]
    assert found["rows"] == len(records())
    assert found["left_out"] == {
        "by_conditions": 0,
        "examples_of_the_version": 1,
        "in_the_background": 1,
    }


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


def test_a_table_is_judged_as_json_lines_are(data: Path, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(records()[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(records())
    for path, out in ((data, "one"), (table, "two")):
        assert run(path, "--occupation", BUNDLED, "--out", tmp_path / out).exit_code == 0
    assert report(tmp_path / "one")["figures"] == report(tmp_path / "two")["figures"]


def test_a_wrong_row_leaves_an_earlier_report_as_it_was(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    out.mkdir()
    (out / "evaluation.json").write_text("earlier")
    with data.open("a", encoding="utf-8") as file:
        file.write('{"title": "Chef", "label": NaN}\n')
    ended = run(data, "--occupation", BUNDLED, "--out", out)
    assert ended.exit_code == 2
    assert f"rows.jsonl, line {len(records()) + 1}, label: in, out, 1 or 0" in ended.stderr
    assert [path.read_text() for path in out.iterdir()] == ["earlier"]
    assert [path.name for path in tmp_path.glob(".evaluation-*")] == []


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
