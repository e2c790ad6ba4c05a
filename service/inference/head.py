"""Heads: embedding to calibrated score, stored without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from service.domain.errors import VersionUnavailable
from service.inference.artifact_fields import Kind, is_number, is_texts, read_fields

HEAD_TENSORS = "head.safetensors"
HEAD_RULES = "head.json"

_RULES: Mapping[str, Kind] = {
    "bias": is_number,
    "threshold": is_number,
    "uncertain_low": is_number,
    "uncertain_high": is_number,
    "familiarity_floor": is_number,
    "example_digests": is_texts,
    "example_labels": is_texts,
}
_TENSORS = ("weights", "examples")

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
    """Read a head from an artifact's folder.

    Raises VersionUnavailable, which names the field or tensor, for what this release does not know.
    """
    rules = read_fields(folder / HEAD_RULES, _RULES, {}, VersionUnavailable)
    weights, examples = _read_tensors(folder / HEAD_TENSORS)
    digests, labels = tuple(rules["example_digests"]), tuple(rules["example_labels"])
    if not len(digests) == len(labels) == len(examples):
        raise VersionUnavailable(
            f"{HEAD_RULES} names {len(digests)} examples and {len(labels)} labels, and "
            f"{HEAD_TENSORS} holds {len(examples)}."
        )
    return Head(
        weights=weights,
        bias=rules["bias"],
        threshold=rules["threshold"],
        uncertain_low=rules["uncertain_low"],
        uncertain_high=rules["uncertain_high"],
        familiarity_floor=rules["familiarity_floor"],
        examples=examples,
        example_digests=digests,
        example_labels=labels,
    )


def _read_tensors(file: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights float32[d] and examples float32[n, d]."""
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise VersionUnavailable(f"{file.name} cannot be read: {type(error).__name__}.") from error
    for name in tensors:
        if name not in _TENSORS:
            raise VersionUnavailable(
                f"{file.name} has a tensor that this release does not know, {name!r}: "
                "a newer one made it."
            )
    for name in _TENSORS:
        if name not in tensors:
            raise VersionUnavailable(f"{file.name} has no tensor {name!r}.")
    weights, examples = tensors["weights"], tensors["examples"]
    for name, tensor, shape in (
        ("weights", weights, (weights.size,)),
        ("examples", examples, (*examples.shape[:1], weights.size)),
    ):
        if tensor.dtype != np.float32 or tensor.shape != shape:
            raise VersionUnavailable(
                f"{file.name}: {name!r} is {tensor.dtype}{list(tensor.shape)}, which this release "
                "cannot read."
            )
    return weights, examples


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
