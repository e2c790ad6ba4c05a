"""Draws of examples from labelled rows: which are drawn from, which are judged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import InvalidFields
from service.domain.types import Example
from service.training.evaluation.labelled import (
    Labelled,
    LabelledRow,
    check_both_labels,
    outside,
)

_TRAIN = "train"


@dataclass(frozen=True, slots=True)
class Partition:
    """Rows to draw examples from and rows to judge, with no text in both.

    ``pool`` holds each text once, and none that is under both labels: a registration would take
    it under neither; ``contradictory`` counts these. ``left_out`` and ``in_background`` count rows
    that are not judged, for their text is in the part that is drawn from or in the background.
    """

    pool: tuple[LabelledRow, ...]
    judged: tuple[LabelledRow, ...]
    how: str
    left_out: int
    contradictory: int
    in_background: int = 0

    def without(self, background: frozenset[str]) -> Partition:
        """The same with no judged row whose text is in the background, case folded."""
        kept = outside(self.judged, background)
        return replace(self, judged=kept, in_background=len(self.judged) - len(kept))

    def check(self, name: str, shots: Sequence[int]) -> None:
        """Raise InvalidFields when there are too few rows to draw, or one label to judge."""
        check_both_labels(self.judged, f"{name}, the rows to judge")
        wanted = max(shots)
        for inside, label in ((True, "in"), (False, "out")):
            found = sum(row.inside is inside for row in self.pool)
            if found < wanted:
                raise InvalidFields(
                    f"{name}, the rows to draw from, label: {wanted} different `{label}` texts "
                    f"are needed, {found} are there."
                )

    def draw(self, shots: int, number: int, seed: int) -> list[Example]:
        """``shots`` examples of each label; of one draw, fewer shots are the first of more."""
        generator = np.random.default_rng([seed, number])
        inside = np.array([row.inside for row in self.pool])
        examples = []
        for rows in (np.flatnonzero(inside), np.flatnonzero(~inside)):
            chosen: NDArray[np.intp] = generator.permutation(rows)[:shots]
            examples += [self.pool[row].example for row in chosen]
        return examples


def partition(labelled: Labelled, seed: int) -> Partition:
    """Part the rows by their split column, or into seeded halves.

    Rows of the split ``train`` are drawn from and all others are judged. Without the column, or
    with one split alone, half of the texts are drawn from and the others judged, by a hash of the
    text and the seed: equal texts are in one half.
    """
    splits = {row.split for row in labelled.rows}
    if _TRAIN in splits and len(splits) > 1:
        how = "drawn from the split `train`, judged on the other rows"
        train = [row.split == _TRAIN for row in labelled.rows]
    else:
        how = f"drawn from half of the texts, judged on the others (hash of the text, seed {seed})"
        train = [_half(row.experience.digest, seed) == 0 for row in labelled.rows]
    return part(labelled.rows, train, how)


def part(rows: Sequence[LabelledRow], train: Sequence[bool], how: str) -> Partition:
    """Part rows into those to draw from, where ``train`` says so, and those to judge."""
    drawn = [row for row, chosen in zip(rows, train, strict=True) if chosen]
    others = [row for row, chosen in zip(rows, train, strict=True) if not chosen]
    given: dict[str, set[bool]] = {}
    for row in drawn:
        given.setdefault(row.experience.digest, set()).add(row.inside)
    first = {row.experience.digest: row for row in reversed(drawn)}
    judged = tuple(row for row in others if row.experience.digest not in given)
    return Partition(
        # In the order of the digests: the order of the file changes no draw.
        pool=tuple(first[digest] for digest in sorted(given) if len(given[digest]) == 1),
        judged=judged,
        how=how,
        left_out=len(others) - len(judged),
        contradictory=sum(len(labels) > 1 for labels in given.values()),
    )


def _half(digest: str, seed: int) -> int:
    return hashlib.sha256(f"{seed} {digest}".encode()).digest()[0] % 2
