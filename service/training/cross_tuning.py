"""The cross-validation of the gate: a fine-tuning for each fold, beside the base encoder's head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from service.inference.encoder import Encoder
from service.training.gate import FoldScores, make_folds, score_fold, standing_background
from service.training.training_texts import TrainingTexts
from service.training.tuners import Tuner
from service.training.tuning import TuningSettings

SPLITS = 3


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
        self._settings = settings
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
        """Scores by fold of the champion (a head on the base encoder) and the challenger."""
        always = list(range(len(self.rows), self._size))
        champion, challenger = [], []
        for number, fold in enumerate(self.folds):
            crowd = self._crowd[self._standing]
            champion.append(
                score_fold(self._examples, self.labels, crowd, self._hint_embeddings, fold)
            )
            train = [*fold.train.tolist(), *always]
            tuner.start_again()
            tuner.train(
                train,
                self._chosen.labels[train],
                self._settings,
                lambda done, number=number: report((number + done) / len(self.folds)),  # type: ignore[misc]
            )
            examples = tuner.embed(self.rows)
            crowd = tuner.embed((self._size + self._standing).tolist())
            hints = tuner.embed(self._hints)
            challenger.append(score_fold(examples, self.labels, crowd, hints, fold))
        return champion, challenger
