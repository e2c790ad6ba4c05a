"""What a version is expected to answer: the reference that today's scores are compared with.

It describes the population that calibrates (``population.py``), not the examples as they were
given: these hold far more of the occupation than what will be scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.telemetry.predictions import SCORE_BOUNDS, SCORE_EDGES
from service.training.neighbours import UNFAMILIAR_RATE

Floats = NDArray[np.float64]

# Of a share: so that a manifest stays readable, and well below one text in all that are scored.
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Reference:
    """Shares that are expected at the declared prevalence, if the texts are those expected.

    `scores` are the shares with a score of at most 0.1, 0.2 ... 1.0 and of any score, as
    ``vocation_scores_total`` counts them; `inside`, `outside` and `uncertain` those of the labels.
    """

    scores: tuple[float, ...]
    inside: float
    outside: float
    uncertain: float

    def as_json(self) -> dict[str, Any]:
        """The reference as manifests hold it: shares by `le`, and by label."""
        return {
            "scores": dict(zip(SCORE_BOUNDS, self.scores, strict=True)),
            "labels": {"in": self.inside, "out": self.outside, "uncertain": self.uncertain},
        }


def expected_reference(
    chances: Floats, weights: Floats, threshold: float, low: float, high: float
) -> Reference:
    """The shares of scores and labels on the expected population.

    The scores are held out: each is of a fit that never saw its text. Unlikeness depends on the
    text and not on its score, so `uncertain` counts the band, and of all texts the share
    `UNFAMILIAR_RATE`, the rate that the familiarity floor was set for. Real texts are unfamiliar
    more often than that (docs/few-shot-heads.md, "Familiarity").

    Args:
        chances: float64[n] calibrated held-out scores of the expected population.
        weights: float64[n] their weights in it, of any scale.
        threshold: the score from which a text is `in`.
        low: the lowest score that is too close to call.
        high: the highest such score.
    """
    shares = weights / weights.sum()
    below = [float(shares[chances <= edge].sum()) for edge in SCORE_EDGES]
    close = (chances >= low) & (chances <= high)
    familiar = 1.0 - UNFAMILIAR_RATE
    inside = familiar * float(shares[(chances >= threshold) & ~close].sum())
    outside = familiar * float(shares[(chances < threshold) & ~close].sum())
    return Reference(
        scores=(*(round(min(share, 1.0), _DIGITS) for share in below), 1.0),
        inside=round(inside, _DIGITS),
        outside=round(outside, _DIGITS),
        uncertain=round(1.0 - inside - outside, _DIGITS),
    )
