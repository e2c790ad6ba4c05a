"""Which unlabelled experiences to label next: high scores, unlike each other.

Pure and deterministic: the same candidates in the same order give the same choice, and ties go to
the earlier one. Figures: docs/less-labelling.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.inference.head import IN, UNCERTAIN
from service.inference.suggestions import Reason

Floats = NDArray[np.float64]

# What each choice is believed to turn out as, in standard deviations from the mean score, and how
# far one label is believed (the variance of its noise, that of the scores being 1).
BELIEVED = -1.0
NOISE = 1.0


@dataclass(frozen=True, slots=True)
class Candidates:
    """Unlabelled experiences as one version sees them, in the order of the request.

    ``embeddings`` float32[n, d] of unit length, ``scores`` float64[n] (calibrated probabilities),
    ``labels`` int64[n] (indices as `service.inference.head` has them) and ``familiar`` bool[n].
    """

    embeddings: NDArray[np.float32]
    scores: Floats
    labels: NDArray[np.int64]
    familiar: NDArray[np.bool_]


def suggest(candidates: Candidates, limit: int) -> list[tuple[int, Reason]]:
    """The rows to label, at most ``limit``, the most useful first, each with its reason."""
    return [(row, _reason(candidates, row)) for row in choose(candidates, limit)]


def choose(candidates: Candidates, limit: int) -> list[int]:
    """At most ``limit`` rows: the highest score, then the highest after lowering what is like it.

    Each choice is believed to turn out outside, and lowers the others by how much they resemble
    it: one step of a Gaussian process whose covariance is the squared cosine similarity.

    Source: the constant liar of Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to
    parallelize optimization" (2010).
    """
    embeddings = candidates.embeddings
    expected = _standard_logits(candidates.scores)
    open_rows = np.ones(len(expected), dtype=np.bool_)
    steps: list[Floats] = []
    chosen: list[int] = []
    for _ in range(min(limit, len(expected))):
        row = int(np.argmax(np.where(open_rows, expected, -np.inf)))
        chosen.append(row)
        open_rows[row] = False
        # Dot by dot: a matrix product would wake BLAS's threads, and classify has those cores.
        cosines = np.vecdot(embeddings, embeddings[row]).astype(np.float64)
        shared: Floats = np.maximum(cosines, 0.0) ** 2
        for step in steps:
            shared = shared - step * step[row]
        doubt = float(shared[row]) + NOISE
        steps.append(shared / np.sqrt(doubt))
        expected = expected + shared / doubt * (BELIEVED - expected[row])
    return chosen


def _standard_logits(scores: Floats) -> Floats:
    inside = np.clip(scores, 1e-6, 1.0 - 1e-6)
    logits = np.log(inside / (1.0 - inside))
    standard: Floats = (logits - logits.mean()) / max(float(logits.std()), 1e-12)
    return standard


def _reason(candidates: Candidates, row: int) -> Reason:
    if not candidates.familiar[row]:
        return Reason.UNFAMILIAR
    if candidates.labels[row] == UNCERTAIN:
        return Reason.CLOSE_CALL
    return Reason.LIKELY_IN if candidates.labels[row] == IN else Reason.LIKELY_OUT
