"""The background: unlabelled experiences that stand for everybody else, and their embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from service.domain.types import Experience
from service.inference.encoder import Encoder
from service.inference.encoder_cache import BACKGROUND_TENSORS

_CHUNK = 64


def read_background(path: Path) -> list[Experience]:
    """Read a background file: JSON lines with ``title`` and optional ``description``."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return [Experience(title=row["title"], description=row.get("description")) for row in rows]


def embed_background(
    encoder: Encoder, background: Sequence[Experience], advance: Callable[[int], None]
) -> Mapping[str, bytes]:
    """The background's embeddings float32[m, d] as the files of an artifact.

    ``advance`` is called with the number of rows after each part.
    """
    parts = []
    for start in range(0, len(background), _CHUNK):
        texts = [row.rendered for row in background[start : start + _CHUNK]]
        parts.append(encoder.encode(texts).embeddings)
        advance(len(texts))
    return {BACKGROUND_TENSORS: save({"embeddings": np.concatenate(parts)})}
