"""What a recipe is given of a draw, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.arrays import Embeddings, Floats, Labels


@dataclass(frozen=True, slots=True)
class Answer:
    """Scores of the judged rows and where `in` begins; the band is empty where there is none.

    ``probability`` is false for scores that rank and promise nothing else.
    """

    scores: Floats
    threshold: float
    low: float = 1.0
    high: float = 0.0
    probability: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What a recipe is given; embeddings are float32[n, d] of unit length.

    ``description`` is empty where the occupation has none. ``near`` are the reference labels
    (ESCO, ROME) nearest to the name, nearest first, and ``reference`` all of them.
    """

    rows: Embeddings
    labels: Labels
    crowd: Embeddings
    prevalence: float
    name: Embeddings
    judged: Embeddings
    description: Embeddings
    near: Embeddings
    reference: Embeddings


@dataclass(frozen=True, slots=True)
class Ranked:
    """One family's scores float64: examples and background held out, then the judged rows."""

    examples: Floats
    crowd: Floats
    judged: Floats


Recipe = Callable[[Given], Answer]
