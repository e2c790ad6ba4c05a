"""Predictions counted in memory and added to the metrics once a second."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from service.domain.types import Label
from service.telemetry.metrics import PREDICTIONS, SCORES, TRUNCATED_PREDICTIONS

# Upper bounds of the score that are counted, float64[10], and their names; the last has no bound.
SCORE_EDGES = np.linspace(0.1, 1.0, 10)
SCORE_BOUNDS = (*(f"{edge:.1f}" for edge in SCORE_EDGES), "+Inf")
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
        self._truncated: dict[tuple[VersionKey, ...], int] = {}

    def add(
        self,
        versions: tuple[VersionKey, ...],
        scores: NDArray[np.float64],
        labels: NDArray[np.int64],
        truncated: NDArray[np.bool_],
    ) -> None:
        """Count scores float64[n, versions], label indices int64[n, versions], cut texts bool[n].

        The indices are those of in, out and uncertain. A text is cut by the encoder, so for all
        of these versions or for none.
        """
        edges = len(SCORE_EDGES)
        bins = _count(np.searchsorted(SCORE_EDGES, scores), edges + 1)[:, :edges]
        counts = _count(labels, len(_LABELS))
        cut = int(np.count_nonzero(truncated))
        with self._lock:
            self._scores[versions] = self._scores.get(versions, 0) + bins
            self._labels[versions] = self._labels.get(versions, 0) + counts
            self._truncated[versions] = self._truncated.get(versions, 0) + cut

    def flush(self) -> None:
        """Add what was counted since the last flush to the metrics."""
        with self._lock:
            grouped_labels, self._labels = self._labels, {}
            grouped_scores, self._scores = self._scores, {}
            truncated, self._truncated = self._truncated, {}
        labels, scores = _by_version(grouped_labels), _by_version(grouped_scores)
        for (occupation, number), counts in labels.items():
            for label, count in zip(_LABELS, counts, strict=True):
                if count:
                    PREDICTIONS.labels(occupation, number, label).inc(int(count))
        for (occupation, number), bins in scores.items():
            below = np.append(np.cumsum(bins), bins.sum())
            for bound, cumulative in zip(SCORE_BOUNDS, below, strict=True):
                SCORES.labels(occupation, number, bound).inc(int(cumulative))
        for versions, cut in truncated.items():
            for occupation, number in versions:
                # By 0 too: a share of cut texts is asked for before the first is cut.
                TRUNCATED_PREDICTIONS.labels(occupation, number).inc(cut)


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
