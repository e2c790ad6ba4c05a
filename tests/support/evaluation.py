"""Labelled rows for ``vocation evaluate``, the command itself, and what its report says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner, Result

from service.cli import app
from service.domain.types import Experience
from service.inference.encoder import Encoder
from service.settings import PROJECT_ROOT
from service.training.background import read_background

BUNDLED = PROJECT_ROOT / "models" / "occupations" / "ai-engineering.yaml"

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


def rendered(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [Experience(row["title"], None, row["description"]).rendered for row in rows]


def background(encoder: Encoder, tmp_path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    rows = read_background(tmp_path / "background.jsonl")
    return encoder.encode([row.rendered for row in rows]).embeddings


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
