"""The cross-validation of the gate: a fine-tuning for each fold, beside the base encoder's head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from service.inference.encoder import Encoder
from service.training.forked import Forked
from service.training.gate import Fold, FoldScores, make_folds, score_fold, standing_background
from service.training.training_texts import TrainingTexts
from service.training.tuners import Tuner
from service.training.tuning import TuningSettings

SPLITS = 3
_ARRAYS = tuple(field.name for field in fields(FoldScores))


class CrossTuning:
    """The folds over the distinct examples, and the scores of both methods in them.

    ``texts`` are those that the tuner must know, in this order: what is tuned on, the background,
    the hints. ``rows`` are the examples among them, ``labels`` bool[len(rows)] theirs.
    ``crowd_embeddings`` float32[len(crowd), d] are the background's by ``base``.
    """

    def __init__(
        self,
        chosen: TrainingTexts,
        crowd: Sequence[str],
        crowd_embeddings: NDArray[np.float32],
        hints: Sequence[str],
        base: Encoder,
        settings: TuningSettings,
    ) -> None:
        own = chosen.judged
        self.rows = list(range(own))
        self.labels = chosen.labels[:own]
        self.folds = make_folds(self.labels, SPLITS, settings.fold_repeats, settings.seed)
        self._processes = settings.threads
        self._settings = replace(settings, threads=1)
        self._chosen = chosen
        self._size = len(chosen.texts)
        self.texts = [*chosen.texts, *crowd, *hints]
        self._hints = range(self._size + len(crowd), len(self.texts))
        embeddings = base.encode([*chosen.texts[:own], *hints]).embeddings
        self._examples, self._hint_embeddings = np.split(embeddings, [own])
        self._crowd = crowd_embeddings
        # Decided by the champion's encoder, for both.
        self._standing = np.flatnonzero(
            standing_background(self._examples[self.labels], self._crowd)
        )

    def score(
        self, tuner: Tuner, report: Callable[[float], None]
    ) -> tuple[list[FoldScores], list[FoldScores]]:
        """Scores by fold of the champion (a head on the base encoder) and the challenger.

        Folds run side by side, in as many processes as there may be threads.
        """
        standing = self._crowd[self._standing]
        champion = [
            score_fold(self._examples, self.labels, standing, self._hint_embeddings, fold)
            for fold in self.folds
        ]
        shares = shared_folds(len(self.folds), self._processes)
        forked = [Forked(partial(self._as_bytes, tuner, share)) for share in shares[1:]]
        found: dict[int, FoldScores] = {}
        try:
            for done, number in enumerate(shares[0]):
                report(done / len(shares[0]))
                found[number] = self._challenger(tuner, self.folds[number])
            for share, process in zip(shares[1:], forked, strict=True):
                found.update(zip(share, _from_bytes(process.result(), len(share)), strict=True))
        finally:
            for process in forked:
                process.stop()
        return champion, [found[number] for number in range(len(self.folds))]

    def _challenger(self, tuner: Tuner, fold: Fold) -> FoldScores:
        train = [*fold.train.tolist(), *range(len(self.rows), self._size)]
        tuner.start_again()
        tuner.train(train, self._chosen.labels[train], self._settings, lambda _: None)
        examples = tuner.embed(self.rows)
        crowd = tuner.embed((self._size + self._standing).tolist())
        hints = tuner.embed(self._hints)
        return score_fold(examples, self.labels, crowd, hints, fold)

    def _as_bytes(self, tuner: Tuner, share: Sequence[int]) -> bytes:
        scored = [self._challenger(tuner, self.folds[number]) for number in share]
        return save(
            {
                f"{name} {place}": np.ascontiguousarray(getattr(scores, name))
                for place, scores in enumerate(scored)
                for name in _ARRAYS
            }
        )


def shared_folds(folds: int, processes: int) -> list[list[int]]:
    """Which folds each process does, at most ``processes`` of them.

    The first has one tuning more to do: that of the version, when the folds are done.
    """
    shares: list[list[int]] = [[] for _ in range(max(1, min(processes, folds)))]
    for number in range(folds):
        least = min(shares[1:], key=len, default=shares[0])
        (least if len(least) <= len(shares[0]) else shares[0]).append(number)
    return shares


def _from_bytes(content: bytes, count: int) -> list[FoldScores]:
    arrays = load(content)
    return [
        FoldScores(**{name: arrays[f"{name} {place}"] for name in _ARRAYS})
        for place in range(count)
    ]
