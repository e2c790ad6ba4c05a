"""Predictions counted in memory and added to the metrics once a second."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from service.domain.types import Label
from service.telemetry.metrics import PREDICTIONS, SCORES

_EDGES = np.linspace(0.1, 1.0, 10)
_BOUNDS = tuple(f"{edge:.1f}" for edge in _EDGES)
_LABELS = (Label.IN.value, Label.OUT.value, Label.UNCERTAIN.value)

VersionKey = tuple[str, int]


class PredictionTally:
    """Counts predictions in memory and adds them to the metrics once a second.

    One increment per score and occupation would cost as much as the heads themselves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By the versions that were asked for together: one addition for a whole batch.
        self._labels: dict[tuple[VersionKey, ...], NDArray[np.int64]] = {}
        self._scores: dict[tuple[VersionKey, ...], NDArray[np.int64]] = {}

    def add(
        self,
        versions: tuple[VersionKey, ...],
        scores: NDArray[np.float64],
        labels: NDArray[np.int64],
    ) -> None:
        """Count scores float64[n, versions] and label indices int64[n, versions].

        The indices are those of in, out and uncertain.
        """
        bins = _count(np.searchsorted(_EDGES, scores), len(_EDGES) + 1)[:, : len(_EDGES)]
        counts = _count(labels, len(_LABELS))
        with self._lock:
            self._scores[versions] = self._scores.get(versions, 0) + bins
            self._labels[versions] = self._labels.get(versions, 0) + counts

    def flush(self) -> None:
        """Add what was counted since the last flush to the metrics."""
        with self._lock:
            grouped_labels, self._labels = self._labels, {}
            grouped_scores, self._scores = self._scores, {}
        labels, scores = _by_version(grouped_labels), _by_version(grouped_scores)
        for (occupation, number), counts in labels.items():
            for label, count in zip(_LABELS, counts, strict=True):
                if count:
                    PREDICTIONS.labels(occupation, number, label).inc(int(count))
        for (occupation, number), bins in scores.items():
            for bound, cumulative in zip(_BOUNDS, np.cumsum(bins), strict=True):
                SCORES.labels(occupation, number, bound).inc(int(cumulative))
            SCORES.labels(occupation, number, "+Inf").inc(int(bins.sum()))


def _count(indices: NDArray[np.int64], kinds: int) -> NDArray[np.int64]:
    """How often each index below ``kinds`` stands in each column, int64[columns, kinds]."""
    columns = indices.shape[1]
    places = indices + kinds * np.arange(columns)
    return np.bincount(places.ravel(), minlength=columns * kinds).reshape(columns, kinds)


def _by_version(
    grouped: Mapping[tuple[VersionKey, ...], NDArray[np.int64]],
) -> dict[VersionKey, NDArray[np.int64]]:
    summed: dict[VersionKey, NDArray[np.int64]] = {}
    for versions, counts in grouped.items():
        for version, row in zip(versions, counts, strict=True):
            summed[version] = summed.get(version, 0) + row
    return summed
