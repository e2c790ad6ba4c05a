"""Batches of like lengths under a budget of word pieces: little padding, steady step times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sentence_transformers.base.sampler import DefaultBatchSampler


class LengthBatches(DefaultBatchSampler):
    """Yield batches whose rows times longest row stay within ``pieces_per_batch``.

    Rows are shuffled by epoch, sorted by length within large windows, cut, and the batches
    shuffled: the same seed and epoch give the same batches, which is what resuming needs.
    """

    def __init__(
        self, lengths: Sequence[int], pieces_per_batch: int, rows_at_most: int, seed: int
    ) -> None:
        """Take the length in pieces of every row."""
        self.lengths = np.asarray(lengths)
        self.pieces_per_batch, self.rows_at_most, self.seed = pieces_per_batch, rows_at_most, seed
        self.epoch = 0
        self.batch_size = rows_at_most
        self.drop_last = False
        # The number of batches must not vary with the epoch: the learning-rate schedule counts it.
        self._cuts = self._cut(np.argsort(self.lengths, kind="stable"))

    def set_epoch(self, epoch: int) -> None:
        """Choose which shuffle comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of batches of any epoch."""
        return len(self._cuts)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield row numbers batch by batch."""
        random = np.random.default_rng([self.seed, self.epoch])
        # Ties in length are broken at random, so batches differ from epoch to epoch.
        jitter = random.random(len(self.lengths))
        order = np.lexsort((jitter, self.lengths))
        for number in random.permutation(len(self._cuts)):
            start, stop = self._cuts[number]
            yield [int(row) for row in order[start:stop]]

    def _cut(self, order: np.ndarray) -> list[tuple[int, int]]:
        cuts, start = [], 0
        for stop in range(1, len(order) + 1):
            is_last = stop == len(order)
            longest_next = 0 if is_last else int(self.lengths[order[stop]])
            rows_next = stop - start + 1
            if (
                is_last
                or rows_next > self.rows_at_most
                or rows_next * longest_next > self.pieces_per_batch
            ):
                cuts.append((start, stop))
                start = stop
        return cuts
