"""What a service needs to fine-tune within seconds: a tiny encoder, one occupation, few texts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from service.settings import Settings
from service.training.encoder_export import export_encoder
from tests.support.tiny_bert import write_tiny_bert

_BACKGROUND = [
    "Boulangère", "Conductrice de bus", "Warehouse operative", "Comptable", "Staff nurse",
    "Maçon", "Backend developer", "Professeure de mathématiques", "Estate agent", "Jardinier",
]  # fmt: skip
_SECTORS = ["Lyon", "Brest", "Leeds", "night shift", "secteur public", "intérim", "siège", "Lille"]


def write_tiny_settings(folder: Path, dimensions: int | None = None) -> Mapping[str, str]:
    """Write an encoder with its graph, a background and one bundled occupation; their settings."""
    write_tiny_bert(folder, dimensions)
    source = folder / "source"
    # With its graph beside the weights, no start has to export it.
    export_encoder(source, source / "onnx", "int8", "tiny-bert", lambda *_: None)
    rows = [{"title": title, "description": sector} for title in _BACKGROUND for sector in _SECTORS]
    background = folder / "background.jsonl"
    background.write_text("\n".join(json.dumps(row) for row in rows))
    occupations = folder / "occupations"
    occupations.mkdir()
    shutil.copy(Settings().occupations / "chef.yaml", occupations)
    return {
        "VOCATION_ENCODER": str(source),
        "VOCATION_BACKGROUND": str(background),
        "VOCATION_OCCUPATIONS": str(occupations),
        "VOCATION_THREADS": "1",
    }
