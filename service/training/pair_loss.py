"""Every pair of a batch as one training signal, and batches that hold both classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.utils.data import BatchSampler


class AllPairsLoss(nn.Module):
    """Squared error of the cosine of every pair, against 1 for one label and 0 for two.

    Pairs of one label and pairs of two labels weigh the same in total, as in SetFit's sampling,
    where they are drawn equally often.

    Source: Tunstall et al., "Efficient few-shot learning without prompts" (SetFit, 2022), section
    3.1 (the pairs) and sentence-transformers' CosineSimilarityLoss (the error); n texts encoded
    once give n(n - 1)/2 pairs, where the original encodes both texts of every sampled pair.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss of one batch, float32[]; labels int64[n]."""
        (batch,) = features
        embeddings = nn.functional.normalize(self.model(batch)["sentence_embedding"], dim=1)
        first, second = torch.triu_indices(len(labels), len(labels), offset=1)
        same = (labels[first] == labels[second]).to(embeddings.dtype)
        errors = ((embeddings @ embeddings.T)[first, second] - same) ** 2
        alike = (errors * same).sum() / same.sum().clamp(min=1.0)
        apart = (errors * (1.0 - same)).sum() / (1.0 - same).sum().clamp(min=1.0)
        return (alike + apart) / 2.0


class StratifiedBatches(BatchSampler):
    """A fixed number of batches, each holding both classes as evenly as their sizes allow.

    With no more texts than a batch holds, every batch is all of them. Otherwise each class hands
    out its texts in shuffled rounds, so that all are seen about equally often.
    """

    def __init__(self, labels: Sequence[int], size: int, steps: int, seed: int) -> None:
        self._classes = [
            np.flatnonzero(np.asarray(labels) == label) for label in sorted(set(labels))
        ]
        self._counts = shared_out([len(members) for members in self._classes], size)
        self._steps = steps
        self._seed = seed

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng(self._seed)
        queues: list[NDArray[np.intp]] = [members[:0] for members in self._classes]
        for _ in range(self._steps):
            batch: list[int] = []
            for number, (members, count) in enumerate(
                zip(self._classes, self._counts, strict=True)
            ):
                while len(queues[number]) < count:
                    queues[number] = np.concatenate(
                        [queues[number], generator.permutation(members)]
                    )
                batch += queues[number][:count].tolist()
                queues[number] = queues[number][count:]
            # Copies from two rounds in one batch would be a pair that teaches nothing.
            yield sorted(set(batch))

    def set_epoch(self, epoch: int) -> None:
        """There is one epoch."""

    def as_sampler(self, _dataset: Any, **_: Any) -> StratifiedBatches:
        """What the trainer calls with its own arguments to get its batch sampler."""
        return self


def shared_out(sizes: Sequence[int], most: int) -> list[int]:
    """How many of each class to take: all if they fit, else equally, up to what there is."""
    taken = [0] * len(sizes)
    left = min(most, sum(sizes))
    for place in sorted(range(len(sizes)), key=lambda place: sizes[place]):
        open_classes = sum(1 for other in range(len(sizes)) if taken[other] == 0)
        taken[place] = min(sizes[place], -(-left // open_classes))
        left -= taken[place]
    return taken
