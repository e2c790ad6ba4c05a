"""What a fine-tuning is asked for: ``job.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from service.domain.types import Example, Experience, Label
from service.training.tuning import TuningSettings


@dataclass(frozen=True, slots=True)
class Job:
    """What ``job.json`` says. ``source`` holds the base encoder's weights in safetensors.

    ``base_background`` is the file of the background's embeddings by the base encoder; without it
    they are computed. ``name`` is the occupation's, a hint for the head as in the ``head`` method. ``base_encoder`` is its artifact as served; ``method`` is ``auto``, where the gate decides, or
    ``setfit``, which promotes. The other fields of `TuningSettings` may stand there too.
    """

    source: Path
    base_encoder: Path
    encoder_name: str
    name: str | None
    examples: tuple[Example, ...]
    background: tuple[str, ...]
    base_background: Path | None
    prevalence: float
    method: Literal["auto", "setfit"]
    settings: TuningSettings = field(default_factory=TuningSettings)


def read_job(path: Path) -> Job:
    """Read ``job.json``."""
    content: dict[str, Any] = json.loads(path.read_bytes())
    names = {item.name for item in fields(TuningSettings)}
    settings = TuningSettings(**{name: content[name] for name in names & content.keys()})
    if "bfloat16" not in content:
        settings = replace(settings, bfloat16=bfloat16_is_fast())
    return Job(
        source=Path(content["source"]),
        base_encoder=Path(content["base_encoder"]),
        encoder_name=content["encoder_name"],
        name=content.get("name"),
        examples=tuple(
            Example(Experience(text=row["text"]), Label(row["label"]), row.get("suggested", False))
            for row in content["examples"]
        ),
        background=tuple(content["background"]),
        base_background=Path(known) if (known := content.get("base_background")) else None,
        prevalence=content["prevalence"],
        method=content["method"],
        settings=settings,
    )


def bfloat16_is_fast() -> bool:
    """Whether this CPU multiplies bfloat16 itself; others emulate it, which is slower."""
    # Private in torch 2.13, which has no public question for it.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001
