"""What tasks are made with: the background, and the labels of ESCO and ROME."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arrays import Embeddings
from benchmarks.dev_tasks.embedder import Embedder
from benchmarks.rows import distinct, read_jsonl
from service.domain.types import Experience

NEAR_LABELS = 20
SAME_TEXT = 0.999


def embed_background(path: Path, embed: Embedder) -> tuple[Embeddings, frozenset[str]]:
    """Embeddings float32[n, d] of a background's rows, and their titles in lower case."""
    rows = list(read_jsonl(path))
    crowd = embed([Experience(row["title"], None, row.get("description")).rendered for row in rows])
    return crowd, frozenset(row["title"].lower() for row in rows)


class Materials:
    """What tasks are made with: rows, embeddings, and the labels of ESCO and ROME (train rows)."""

    def __init__(self, data: Path, embed: Embedder, background: frozenset[str]) -> None:
        self.data, self.embed, self.background = data, embed, background
        esco = distinct(read_jsonl(data / "occupation_titles_esco.jsonl"), "train")
        rome = distinct(read_jsonl(data / "occupation_titles_rome.jsonl"), "train")
        self._labels = [row["text"] for row in (*esco, *rome)]
        self._esco = np.arange(len(self._labels)) < len(esco)
        self.descriptions = {
            row["occupation_code"]: row["description"]
            for row in read_jsonl(data / "occupation_descriptions.jsonl")
        }

    def labels(self, judged: set[str], *, with_rome: bool) -> Embeddings:
        """Embeddings of the reference labels that are not judged (``judged``: in lower case)."""
        kept = np.array([text.lower() not in judged for text in self._labels])
        return self.embed(self._labels)[kept & (with_rome | self._esco)]

    def described(self, name: str, text: str | None, labels: Embeddings) -> dict[str, Any]:
        """A task's fields that say what the occupation is, with the nearest of ``labels``."""
        query = self.embed([name])
        similarity = labels @ query[0]
        similarity[similarity > SAME_TEXT] = -1.0
        return {
            "name_embedding": query,
            "description": self.embed([text]) if text else query[:0],
            "near": labels[np.argsort(-similarity, kind="stable")[:NEAR_LABELS]],
            "reference": labels,
        }
