"""What stands for a positive without being an example: name, description, near labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.arrays import Embeddings
from benchmarks.recipes.given import Given

Pick = Callable[[Given], Embeddings]


def name_only(given: Given) -> Embeddings:
    """The occupation's name, one row."""
    return given.name


def name_and_description(given: Given) -> Embeddings:
    """The name, and the description where there is one."""
    return np.concatenate([given.name, given.description])


def name_and_labels(count: int) -> Pick:
    """The name, the description and the ``count`` nearest reference labels, each a row."""
    return lambda given: np.concatenate([name_and_description(given), given.near[:count]])


def repeated(pick: Pick, times: int) -> Pick:
    """The same weak positives several times: each weighs as many examples."""
    return lambda given: np.repeat(pick(given), times, axis=0)


def one_hint(pick: Pick) -> Pick:
    """The mean of several weak positives as a single one: they weigh one example together."""

    def picked(given: Given) -> Embeddings:
        mean = pick(given).mean(axis=0, keepdims=True)
        unit: Embeddings = mean / np.linalg.norm(mean)
        return unit

    return picked
