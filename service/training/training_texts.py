"""Which of an occupation's examples a fine-tuning reads: distinct, consistent, capped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import TrainingFailed
from service.training.pair_loss import shared_out

FEWEST_POSITIVES = 4
MOST_BORROWED = 32


@dataclass(frozen=True, slots=True)
class TrainingTexts:
    """What is tuned on: distinct ``texts`` with ``labels`` bool[n], true for `in`.

    Counts of what was left out: further copies, texts under both labels, and texts above the cap.
    ``borrowed`` background texts stand at the end as `out` when the examples have none;
    ``suggested`` examples that are `out` stand there too: they teach, and nobody is judged by them.
    """

    texts: tuple[str, ...]
    labels: NDArray[np.bool_]
    copies: int
    contradictory: int
    above_cap: int
    borrowed: int
    suggested: int = 0

    @property
    def judged(self) -> int:
        """How many texts, from the first on, folds may leave out and judge by."""
        return len(self.texts) - self.borrowed - self.suggested


def choose_texts(
    texts: Sequence[str],
    labels: NDArray[np.bool_],
    background: Sequence[str],
    *,
    most: int,
    seed: int,
    suggested: Collection[str] = (),
) -> TrainingTexts:
    """Choose what to tune on; the same rows in any order give the same texts.

    Copies count once, and a text under both labels teaches nothing and is left out. Without any
    `out` text, as many background texts as there are `in` texts stand for the other class.

    Args:
        texts: of the examples, with labels bool[n], true for `in`.
        labels: see above.
        background: texts that may stand for the other class.
        most: texts to choose at most; more are sampled down, evenly by class.
        seed: of every choice.
        suggested: the texts among them that were chosen for a label.

    Raises:
        TrainingFailed: with fewer than four distinct `in` texts.
    """
    given: dict[str, set[bool]] = {}
    for text, label in sorted(zip(texts, labels.tolist(), strict=True)):
        given.setdefault(text, set()).add(label)
    contradictory = sum(len(found) > 1 for found in given.values())
    inside = [text for text, found in given.items() if found == {True}]
    outside = sorted(
        (text for text, found in given.items() if found == {False}),
        key=lambda text: (text in suggested, text),
    )
    drawn = sum(text not in suggested for text in outside)
    if len(inside) < FEWEST_POSITIVES:
        raise TrainingFailed(
            f"{len(inside)} distinct `in` examples whose text is not also labelled `out`; "
            f"fine-tuning needs at least {FEWEST_POSITIVES}."
        )
    generator = np.random.default_rng(seed)
    distinct = len(inside) + len(outside)
    borrowed = 0
    if not outside:
        known = set(inside)
        free = sorted({text for text in background if text not in known})
        borrowed = min(len(inside), MOST_BORROWED, len(free))
        outside = [free[row] for row in sorted(generator.permutation(len(free))[:borrowed])]
        drawn = borrowed
    if not outside:
        raise TrainingFailed("There are no `out` examples, and no background to stand for them.")
    counts = shared_out([len(inside), len(outside)], most)
    rows = [
        sorted(generator.permutation(len(group))[:count].tolist())
        for group, count in zip((inside, outside), counts, strict=True)
    ]
    return TrainingTexts(
        texts=(*(inside[row] for row in rows[0]), *(outside[row] for row in rows[1])),
        labels=np.arange(sum(counts)) < counts[0],
        copies=len(texts) - len(given),
        contradictory=contradictory,
        above_cap=distinct + borrowed - sum(counts),
        borrowed=borrowed,
        suggested=sum(row >= drawn for row in rows[1]),
    )
