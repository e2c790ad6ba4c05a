"""The groups that figures are given for: all rows, each language, each source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.training.evaluation.labelled import LabelledRow

ALL = "all"
LABEL = "label"
DECIDED = "not uncertain"
_WITHOUT = "(none)"
_OTHERS = "(others)"
# More are no groups, and a column of texts by mistake must not fill a page.
_MOST_VALUES = 20
_LONGEST_VALUE = 60


@dataclass(frozen=True, slots=True)
class Group:
    """The rows bool[n] whose column ``by`` holds ``value``."""

    by: str
    value: str
    rows: NDArray[np.bool_]


def find_groups(rows: Sequence[LabelledRow]) -> list[Group]:
    """All rows, then one group for each value of a column that holds several."""
    columns = {
        "language": [row.language for row in rows],
        "source": [row.source for row in rows],
    }
    groups = [Group(ALL, "", np.ones(len(rows), dtype=np.bool_))]
    for by, values in columns.items():
        groups += _by_value(by, [_WITHOUT if value is None else value for value in values])
    return groups


def _by_value(by: str, values: Sequence[str]) -> list[Group]:
    counts = Counter(values)
    if len(counts) < 2:
        return []
    # By size and then by name: the order of the rows changes nothing.
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    named = [value for value in ranked if len(value) <= _LONGEST_VALUE][:_MOST_VALUES]
    shown = set(named)
    labels = np.array([value if value in shown else _OTHERS for value in values])
    if len(shown) < len(counts):
        named.append(_OTHERS)
    return [Group(by, value, labels == value) for value in named]
