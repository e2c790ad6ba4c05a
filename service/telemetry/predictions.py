"""Predictions counted in memory and added to the metrics once a second."""

from __future__ import annotations

import threading

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
        self._labels: dict[VersionKey, NDArray[np.int64]] = {}
        self._scores: dict[VersionKey, NDArray[np.int64]] = {}

    def add(
        self, version: VersionKey, scores: NDArray[np.float64], labels: NDArray[np.int64]
    ) -> None:
        """Count one version's scores (float64[n]) and label indices (in, out, uncertain)."""
        bins = np.bincount(np.searchsorted(_EDGES, scores), minlength=len(_EDGES))[: len(_EDGES)]
        counts = np.bincount(labels, minlength=len(_LABELS))
        with self._lock:
            self._scores[version] = self._scores.get(version, 0) + bins
            self._labels[version] = self._labels.get(version, 0) + counts

    def flush(self) -> None:
        """Add what was counted since the last flush to the metrics."""
        with self._lock:
            labels, self._labels = self._labels, {}
            scores, self._scores = self._scores, {}
        for (occupation, number), counts in labels.items():
            for label, count in zip(_LABELS, counts, strict=True):
                if count:
                    PREDICTIONS.labels(occupation, number, label).inc(int(count))
        for (occupation, number), bins in scores.items():
            for bound, cumulative in zip(_BOUNDS, np.cumsum(bins), strict=True):
                SCORES.labels(occupation, number, bound).inc(int(cumulative))
            SCORES.labels(occupation, number, "+Inf").inc(int(bins.sum()))
