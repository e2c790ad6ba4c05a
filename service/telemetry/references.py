"""What the champions were expected to answer when they were made, beside what they answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import Gauge

from service.telemetry.metrics import REFERENCE_LABELS, REFERENCE_SCORES
from service.telemetry.predictions import VersionKey

_GAUGES: Mapping[str, Gauge] = {"scores": REFERENCE_SCORES, "labels": REFERENCE_LABELS}

# The part of the reference, and the labels of a series: occupation, version, and `le` or `label`.
_Series = tuple[str, tuple[str, ...]]


class ShownReferences:
    """The references of one process's champions, as gauges.

    A series can be taken back by no process of several (prometheus-client's multiprocess mode keeps
    what was once written), so that of a former champion becomes not a number, which no comparison
    and no `max` of a query lets through.
    """

    def __init__(self) -> None:
        self._shown: set[_Series] = set()

    def show(self, champions: Mapping[VersionKey, Mapping[str, Any]]) -> None:
        """Show the references in the manifests of the champions, and take back all others.

        A manifest without one, of a version that was made before there were references, shows none.
        """
        wanted = dict(_series(champions))
        for part, labels in self._shown - wanted.keys():
            _GAUGES[part].labels(*labels).set(math.nan)
        for (part, labels), share in wanted.items():
            _GAUGES[part].labels(*labels).set(share)
        self._shown = set(wanted)


def _series(
    champions: Mapping[VersionKey, Mapping[str, Any]],
) -> Iterator[tuple[_Series, float]]:
    for (occupation, number), manifest in champions.items():
        reference = manifest.get("reference", {})
        for part in _GAUGES:
            for name, share in reference.get(part, {}).items():
                yield (part, (occupation, str(number), name)), float(share)
