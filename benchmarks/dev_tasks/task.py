"""One yes/no question over embedded rows, and draws of examples of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.arrays import Embeddings, Labels


@dataclass(frozen=True, slots=True)
class Task:
    """One yes/no question over one set of embeddings."""

    family: str
    name: str
    embeddings: Embeddings
    inside: Labels
    pool: NDArray[np.intp]
    judged: NDArray[np.intp]
    name_embedding: Embeddings
    description: Embeddings
    near: Embeddings
    reference: Embeddings

    @property
    def prevalence(self) -> float:
        """Share of positives among the judged rows."""
        return float(self.inside[self.judged].mean())


def drawn(one: Task, shots: int, seed: int, *, outs: bool) -> tuple[Embeddings, Labels]:
    """``shots`` positives and as many or no negatives, the same for every recipe."""
    generator = np.random.default_rng([seed, shots, zlib.crc32(one.name.encode())])
    inside = generator.permutation(one.pool[one.inside[one.pool]])[:shots]
    outside = generator.permutation(one.pool[~one.inside[one.pool]])[: shots if outs else 0]
    chosen = np.concatenate([inside, outside])
    return one.embeddings[chosen], np.arange(len(chosen)) < len(inside)
