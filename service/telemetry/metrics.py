"""Every ``vocation_`` metric, in one place; ``docs/metrics.md`` is held to this module by a test.

With several processes (API workers, the Trainer) prometheus-client's multiprocess mode adds them
up: BentoML sets ``PROMETHEUS_MULTIPROC_DIR`` and serves the sum at ``/metrics``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge, Histogram

from service.domain.types import Label, RegistrationState

_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

STAGE_SECONDS = Histogram(
    "vocation_stage_seconds",
    "Time by stage: queue for each experience; tokenise, encode, head for each batch.",
    ["stage"],
    buckets=_FAST,
)
BATCH_EXPERIENCES = Histogram(
    "vocation_batch_experiences", "Experiences that one batch gathered.", buckets=_SIZES
)
EXPERIENCES = Counter(
    "vocation_experiences", "Experiences answered, by outcome (scored, error).", ["outcome"]
)
TOKENS = Counter("vocation_tokens", "Tokens encoded, special tokens included.")
TRUNCATIONS = Counter("vocation_truncations", "Texts longer than the encoder reads.")
PREDICTIONS = Counter(
    "vocation_predictions",
    "Scores given, by occupation, version and label.",
    ["occupation", "version", "label"],
)
SCORES = Counter(
    "vocation_scores",
    "Scores given, by occupation and version: cumulative in le, as histogram_quantile reads it.",
    ["occupation", "version", "le"],
)
ERRORS = Counter("vocation_errors", "Problem documents sent, by code.", ["code"])
MODELS_LOADED = Gauge(
    "vocation_models_loaded",
    "Encoders and versions that API processes hold in memory.",
    ["kind"],
    multiprocess_mode="livesum",
)
GENERATION = Gauge(
    "vocation_registry_generation",
    "Lowest registry generation that a process of a service serves.",
    # Labelled: a gauge without labels reads 0 in every process that only imports this module.
    ["service"],
    multiprocess_mode="livemin",
)
REGISTRATIONS = Gauge(
    "vocation_registrations",
    "Registrations in the registry, by state.",
    ["state"],
    multiprocess_mode="mostrecent",
)
TRAINING_SECONDS = Histogram(
    "vocation_training_seconds", "Time of a registration by stage.", ["stage"], buckets=_SLOW
)

ALL = (
    STAGE_SECONDS,
    BATCH_EXPERIENCES,
    EXPERIENCES,
    TOKENS,
    TRUNCATIONS,
    PREDICTIONS,
    SCORES,
    ERRORS,
    MODELS_LOADED,
    GENERATION,
    REGISTRATIONS,
    TRAINING_SECONDS,
)

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


def set_registrations(counts: Mapping[RegistrationState, int]) -> None:
    """Show how many registrations are in each state."""
    for state, count in counts.items():
        REGISTRATIONS.labels(state.value).set(count)


def set_generation(generation: int) -> None:
    """Show which registry generation this API process serves."""
    GENERATION.labels("vocation").set(generation)


def set_models_loaded(encoders: int, versions: int) -> None:
    """Show what this process holds in memory."""
    MODELS_LOADED.labels("encoder").set(encoders)
    MODELS_LOADED.labels("version").set(versions)


def observe_queue(seconds: Iterable[float]) -> None:
    """Record how long each experience of a batch waited for its batch."""
    queue = STAGE_SECONDS.labels("queue")
    for value in seconds:
        queue.observe(value)
