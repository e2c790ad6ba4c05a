"""What is shown of the champions' references, in one process and over several."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from service.telemetry.predictions import SCORE_BOUNDS, VersionKey
from service.telemetry.references import ShownReferences


@pytest.fixture
def version() -> VersionKey:
    return (uuid.uuid4().hex, 3)


def _manifest(below: float = 0.9) -> dict[str, Any]:
    scores = {bound: below if bound == "0.1" else 1.0 for bound in SCORE_BOUNDS}
    return {"reference": {"scores": scores, "labels": {"in": 0.02, "out": 0.97, "uncertain": 0.01}}}


def _shown(version: VersionKey, registry: CollectorRegistry = REGISTRY) -> dict[str, float | None]:
    labels = {"occupation": version[0], "version": str(version[1])}
    return {
        "0.1": registry.get_sample_value("vocation_reference_scores", {**labels, "le": "0.1"}),
        "+Inf": registry.get_sample_value("vocation_reference_scores", {**labels, "le": "+Inf"}),
        "in": registry.get_sample_value("vocation_reference_labels", {**labels, "label": "in"}),
    }


def test_a_champions_reference_is_shown_by_bound_and_by_label(version: VersionKey) -> None:
    ShownReferences().show({version: _manifest()})
    assert _shown(version) == {"0.1": 0.9, "+Inf": 1.0, "in": 0.02}


def test_a_former_champion_has_no_number_any_more_and_its_successor_has(
    version: VersionKey,
) -> None:
    shown, successor = ShownReferences(), (version[0], 4)
    shown.show({version: _manifest()})
    shown.show({successor: _manifest(0.8)})
    former = _shown(version).values()
    assert all(share is not None and math.isnan(share) for share in former)
    assert _shown(successor)["0.1"] == 0.8


def test_a_version_that_is_rolled_back_to_is_shown_again(version: VersionKey) -> None:
    shown, other = ShownReferences(), (version[0], 4)
    for champion in (version, other, version):
        shown.show({champion: _manifest()})
    assert _shown(version)["0.1"] == 0.9


def test_a_version_from_before_there_were_references_shows_none(version: VersionKey) -> None:
    ShownReferences().show({version: {"metrics": {}}})
    assert set(_shown(version).values()) == {None}


_SHOW = """
import json, sys
from service.telemetry.references import ShownReferences
shown = ShownReferences()
for champions in json.loads(sys.argv[1]):
    shown.show({(name, number): manifest for name, number, manifest in champions})
"""


def _show_in_a_process(folder: Path, snapshots: list[list[list[Any]]]) -> CollectorRegistry:
    """Let a process of its own show snapshots one after the other; what all have shown by then."""
    subprocess.run(
        [sys.executable, "-c", _SHOW, json.dumps(snapshots)],
        env={"PROMETHEUS_MULTIPROC_DIR": str(folder)},
        check=True,
    )
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]  # theirs
    return registry


def test_the_shares_of_several_processes_are_not_added_up_and_the_last_word_counts(
    version: VersionKey, tmp_path: Path
) -> None:
    """As BentoML's `/metrics` reads them: two API processes, of which one sees a promotion."""
    successor = (version[0], version[1] + 1)
    before, after = [[*version, _manifest()]], [[*successor, _manifest(0.8)]]
    _show_in_a_process(tmp_path, [before])
    agreed = _show_in_a_process(tmp_path, [before])
    assert _shown(version, agreed) == {"0.1": 0.9, "+Inf": 1.0, "in": 0.02}
    promoted = _show_in_a_process(tmp_path, [before, after])
    assert math.isnan(_shown(version, promoted)["0.1"] or 0.0)
    assert _shown(successor, promoted)["0.1"] == 0.8
