from __future__ import annotations

import threading
import uuid

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from service.domain.types import RegistrationState
from service.inference.head import IN, OUT, UNCERTAIN
from service.telemetry import metrics
from service.telemetry.predictions import PredictionTally, VersionKey

_BOUNDS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0", "+Inf")
_WHOLE, _CUT = False, True


@pytest.fixture
def version() -> VersionKey:
    return (uuid.uuid4().hex, 3)


def _labels(version: VersionKey) -> dict[str, float | None]:
    return {
        label: REGISTRY.get_sample_value(
            "vocation_predictions_total",
            {"occupation": version[0], "version": str(version[1]), "label": label},
        )
        for label in ("in", "out", "uncertain")
    }


def _cumulative(version: VersionKey) -> list[float | None]:
    return [
        REGISTRY.get_sample_value(
            "vocation_scores_total",
            {"occupation": version[0], "version": str(version[1]), "le": bound},
        )
        for bound in _BOUNDS
    ]


def _truncated(version: VersionKey) -> float | None:
    return REGISTRY.get_sample_value(
        "vocation_truncated_predictions_total",
        {"occupation": version[0], "version": str(version[1])},
    )


def _whole(texts: int) -> NDArray[np.bool_]:
    return np.full(texts, _WHOLE)


def _add(tally: PredictionTally, version: VersionKey, scores: list[float]) -> None:
    labels = np.array([[IN]] * len(scores))
    tally.add((version,), np.array([scores]).T, labels, _whole(len(scores)))


def test_labels_are_counted_at_the_flush_and_not_before(version: VersionKey) -> None:
    tally = PredictionTally()
    labels = np.array([[IN], [OUT], [IN]])
    tally.add((version,), np.array([[0.9], [0.1], [0.8]]), labels, _whole(3))
    tally.add((version,), np.array([[0.5]]), np.array([[UNCERTAIN]]), _whole(1))
    assert set(_labels(version).values()) == {None}
    tally.flush()
    assert _labels(version) == {"in": 2, "out": 1, "uncertain": 1}


def test_a_second_flush_adds_nothing_that_was_counted_before(version: VersionKey) -> None:
    tally = PredictionTally()
    _add(tally, version, [0.9])
    tally.flush()
    tally.flush()
    assert _labels(version)["in"] == 1
    _add(tally, version, [0.9])
    tally.flush()
    assert _labels(version)["in"] == 2


def test_scores_are_cumulative_in_le(version: VersionKey) -> None:
    tally = PredictionTally()
    _add(tally, version, [0.05, 0.35, 0.36, 0.99])
    tally.flush()
    assert _cumulative(version) == [1, 1, 1, 3, 3, 3, 3, 3, 3, 4, 4]


def test_a_score_on_an_edge_is_less_or_equal_to_it(version: VersionKey) -> None:
    tally = PredictionTally()
    _add(tally, version, [round(0.1 * n, 6) for n in range(1, 11)])
    tally.flush()
    assert _cumulative(version) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10]


def test_the_ends_of_the_scale_are_counted(version: VersionKey) -> None:
    tally = PredictionTally()
    _add(tally, version, [0.0, 1.0])
    tally.flush()
    assert _cumulative(version) == [1] * 9 + [2, 2]


def test_versions_are_counted_apart(version: VersionKey) -> None:
    other = (version[0], 4)
    tally = PredictionTally()
    _add(tally, version, [0.9, 0.9])
    _add(tally, other, [0.9])
    tally.flush()
    assert (_labels(version)["in"], _labels(other)["in"]) == (2, 1)


def test_versions_of_one_batch_are_counted_each_by_its_column(version: VersionKey) -> None:
    other = (version[0], 5)
    tally = PredictionTally()
    scores = np.array([[0.05, 0.95], [0.25, 0.95]])
    tally.add((version, other), scores, np.array([[OUT, IN], [UNCERTAIN, IN]]), _whole(2))
    tally.add((other,), np.array([[0.45]]), np.array([[OUT]]), _whole(1))
    tally.flush()
    assert _labels(version) == {"in": None, "out": 1, "uncertain": 1}
    assert _labels(other) == {"in": 2, "out": 1, "uncertain": None}
    assert _cumulative(version) == [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    assert _cumulative(other) == [0, 0, 0, 0, 1, 1, 1, 1, 1, 3, 3]


def test_a_cut_text_counts_for_every_version_that_it_was_scored_for(version: VersionKey) -> None:
    other = (version[0], 6)
    tally = PredictionTally()
    scores, labels = np.full((3, 2), 0.5), np.full((3, 2), OUT)
    tally.add((version, other), scores, labels, np.array([_CUT, _WHOLE, _CUT]))
    tally.add((other,), scores[:1, :1], labels[:1, :1], np.array([_CUT]))
    tally.flush()
    tally.flush()
    assert (_truncated(version), _truncated(other)) == (2, 3)


def test_versions_that_met_no_cut_text_show_zero(version: VersionKey) -> None:
    tally = PredictionTally()
    _add(tally, version, [0.5])
    tally.flush()
    assert _truncated(version) == 0


def test_nothing_is_lost_between_threads_that_add_and_flush(version: VersionKey) -> None:
    tally = PredictionTally()

    def add_and_flush() -> None:
        for _ in range(100):
            _add(tally, version, [0.2, 0.7])
            tally.flush()

    threads = [threading.Thread(target=add_and_flush) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _labels(version)["in"] == 800
    assert _cumulative(version)[-1] == 800


def test_registrations_and_models_are_shown_by_state_and_kind() -> None:
    metrics.set_registrations({RegistrationState.QUEUED: 2, RegistrationState.FAILED: 0})
    metrics.set_models_loaded(encoders=1, versions=7)
    shown = [
        REGISTRY.get_sample_value("vocation_registrations", {"state": "queued"}),
        REGISTRY.get_sample_value("vocation_registrations", {"state": "failed"}),
        REGISTRY.get_sample_value("vocation_models_loaded", {"kind": "encoder"}),
        REGISTRY.get_sample_value("vocation_models_loaded", {"kind": "version"}),
    ]
    assert shown == [2, 0, 1, 7]
