"""Nearest-neighbour rules: which background rows may be positives, and what is familiar."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]

# At most this share of the background is set aside, however scattered the positives are.
MOST_SET_ASIDE = 0.1

# Share of the background, each row left out in turn, that the familiarity floor would refuse.
UNFAMILIAR_RATE = 0.0025


def unlike_positives(
    positives: Embeddings, copies: NDArray[np.intp], background: Embeddings
) -> NDArray[np.bool_]:
    """Which background rows may stand for "everybody else": bool[m].

    A row nearer to a positive than the median positive is to its nearest other is likely to be one
    of them, and as a negative it would teach the head to refuse what it should find.

    Args:
        positives: float32[p, d] unit-length.
        copies: intp[p], equal for copies of one text, which are no neighbours of each other.
        background: float32[m, d] unit-length.
    """
    among = positives @ positives.T
    among[copies[:, None] == copies[None, :]] = -1.0
    nearest = (background @ positives.T).max(axis=1)
    limit = max(
        float(np.median(among.max(axis=1))), float(np.quantile(nearest, 1 - MOST_SET_ASIDE))
    )
    kept: NDArray[np.bool_] = nearest <= limit
    return kept


def familiarity_floor(background: Embeddings) -> float:
    """The largest similarity to anything seen below which a text is unfamiliar.

    All but `UNFAMILIAR_RATE` of the background rows are at least this near to another one.

    Args:
        background: float32[m, d] unit-length, m at least 2.
    """
    similarity = background @ background.T
    np.fill_diagonal(similarity, -1.0)
    return float(np.quantile(similarity.max(axis=1), UNFAMILIAR_RATE))
