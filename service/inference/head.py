"""Heads: embedding to calibrated score, stored without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

HEAD_TENSORS = "head.safetensors"
HEAD_RULES = "head.json"

# Index of each label in the arrays of label indices, as telemetry counts them.
IN, OUT, UNCERTAIN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Head:
    """One version's head.

    ``score = sigmoid(weights . embedding + bias)`` is the calibrated probability at the declared
    prevalence. ``examples`` float32[n, d] are the embeddings of the examples it was trained on,
    ``example_digests`` the digests of their texts (the texts stay in the registry).
    A text is unfamiliar when its nearest neighbour among the examples and the background is
    farther than ``familiarity_floor`` (cosine similarity).
    """

    weights: NDArray[np.float32]
    bias: float
    threshold: float
    uncertain_low: float
    uncertain_high: float
    familiarity_floor: float
    examples: NDArray[np.float32]
    example_digests: tuple[str, ...]
    example_labels: tuple[str, ...]

    def files(self) -> Mapping[str, bytes]:
        """The head as the files of an artifact."""
        rules = {
            "bias": self.bias,
            "threshold": self.threshold,
            "uncertain_low": self.uncertain_low,
            "uncertain_high": self.uncertain_high,
            "familiarity_floor": self.familiarity_floor,
            "example_digests": self.example_digests,
            "example_labels": self.example_labels,
        }
        tensors = {
            "weights": np.ascontiguousarray(self.weights, dtype=np.float32),
            "examples": np.ascontiguousarray(self.examples, dtype=np.float32),
        }
        return {HEAD_TENSORS: save(tensors), HEAD_RULES: json.dumps(rules, indent=1).encode()}


def read_head(folder: Path) -> Head:
    """Read a head from an artifact's folder."""
    tensors = load_file(folder / HEAD_TENSORS)
    rules = json.loads((folder / HEAD_RULES).read_bytes())
    return Head(
        weights=tensors["weights"],
        bias=rules["bias"],
        threshold=rules["threshold"],
        uncertain_low=rules["uncertain_low"],
        uncertain_high=rules["uncertain_high"],
        familiarity_floor=rules["familiarity_floor"],
        examples=tensors["examples"],
        example_digests=tuple(rules["example_digests"]),
        example_labels=tuple(rules["example_labels"]),
    )


class HeadStack:
    """Several heads over one encoder, applied together."""

    def __init__(self, heads: Sequence[Head]) -> None:
        self._weights = np.stack([head.weights for head in heads])
        self._bias = np.array([head.bias for head in heads], dtype=np.float64)
        self.thresholds = np.array([head.threshold for head in heads])
        self._low = np.array([head.uncertain_low for head in heads])
        self._high = np.array([head.uncertain_high for head in heads])
        self.familiarity_floors = np.array([head.familiarity_floor for head in heads])

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities float64[n, heads] of embeddings float32[n, d].

        One dot product for each pair: a matrix product would order its sums by the shape of the
        batch, and a score must not depend on who else is in it, nor on how many heads there are.
        """
        logits = np.vecdot(embeddings[:, None, :], self._weights[None, :, :]) + self._bias
        scores: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
        return scores

    def labels(
        self, scores: NDArray[np.float64], familiarity: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        """Label indices int64[n, heads] of scores float64[n, heads].

        ``familiarity`` float32[n, heads] is each text's largest cosine similarity to anything the
        version was trained or calibrated on.
        """
        labels = np.where(scores >= self.thresholds, IN, OUT)
        close = (scores >= self._low) & (scores <= self._high)
        labels[close | (familiarity < self.familiarity_floors)] = UNCERTAIN
        return labels
