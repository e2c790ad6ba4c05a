"""An encoder whose embeddings are kept on disk between runs."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.arrays import Embeddings
from service.inference.encoder import SideBySide, load_encoder
from service.training.encoder_export import export_encoder
from service.training.encoder_source import resolve_encoder

CACHE = Path(tempfile.gettempdir()) / "vocation-benchmark-embeddings"


class Embedder:
    """An encoder in int8, with its embeddings kept on disk between runs."""

    def __init__(self, encoder: str) -> None:
        source = resolve_encoder(encoder)
        # Embeddings of one encoder must never be taken for those of another.
        weights = b"".join(path.read_bytes() for path in source.files())
        self.digest = hashlib.sha256(weights).hexdigest()[:16]
        self.name = source.name
        self._folder = CACHE / self.digest
        folder = source.exported or self._folder / "encoder"
        if source.exported is None and not (folder / "done").exists():
            export_encoder(source.folder, folder, "int8", source.name, lambda *_: None)
            (folder / "done").touch()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._encoder = load_encoder(folder, "benchmark", SideBySide(os.cpu_count() or 1))

    def __call__(self, texts: Sequence[str]) -> Embeddings:
        """Embeddings float32[n, d] of texts."""
        name = hashlib.sha256("\x1e".join(texts).encode()).hexdigest()[:24]
        path = self._folder / f"{name}.npy"
        if not path.exists():
            np.save(path, self._encoder.encode(texts).embeddings)
        loaded: Embeddings = np.load(path)
        return loaded
