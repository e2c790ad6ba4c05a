"""Sentence-transformers encoders, with their embeddings kept between runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from benchmarks.arrays import Embeddings

Encode = Callable[[Sequence[str]], Embeddings]


def load_encoder(directory: Path, *, is_bf16: bool, cache: Path | None = None) -> Encode:
    """Load a sentence-transformers directory; embeddings come back unit length, float32.

    ``cache`` keeps embeddings by the weights' digest, so that a second table costs no encoding.
    """
    model = SentenceTransformer(str(directory)).float().eval()
    model.max_seq_length = 128
    weights = (directory / "model.safetensors").read_bytes()
    vocabulary = (directory / "tokenizer.json").read_bytes()
    digest = hashlib.sha256(weights + vocabulary + bytes([is_bf16])).hexdigest()[:16]
    kept = cache / f"{digest}.npz" if cache else None
    known: dict[str, Embeddings] = {}
    if kept and kept.exists():
        with np.load(kept) as arrays:
            kept_texts = arrays["texts"].tobytes().decode().split("\0")
            known = dict(zip(kept_texts, arrays["rows"], strict=True))

    def encode(texts: Sequence[str]) -> Embeddings:
        missing = [text for text in texts if text not in known]
        if missing:
            with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=is_bf16):
                rows = model.encode(missing, batch_size=32, normalize_embeddings=True)
            known.update(zip(missing, np.asarray(rows, dtype=np.float32), strict=True))
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                joined = np.frombuffer("\0".join(known).encode(), dtype=np.uint8)
                np.savez(kept, texts=joined, rows=np.stack(list(known.values())))
        return np.stack([known[text] for text in texts])

    return encode
