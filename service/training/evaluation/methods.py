"""Methods that make a version of examples, and what the version says of texts, as served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from service.domain.errors import EncoderUnusable, TrainingFailed
from service.domain.types import Example, Label
from service.inference.encoder import Encoder
from service.inference.encoder_cache import BACKGROUND_TENSORS
from service.inference.head import UNCERTAIN, Head, HeadStack, read_head
from service.inference.snapshot import SCORE_DIGITS
from service.settings import available_cpus
from service.training.child import NO_ROOM, REFUSED, UNUSABLE
from service.training.evaluation.judged import Answer
from service.training.evaluation.workbench import Workbench
from service.training.head import fit_head
from service.training.head_version import SEED, train_head

_CHILD = "service.training.setfit_child"
_ROWS_PER_PRODUCT = 2048
# Far above what the order of a float32 sum of 384 products of unit vectors can move.
_PRODUCT_ERROR = 1e-4


class EvaluatedMethod(StrEnum):
    """How the examples make a version: the two methods of a registration."""

    HEAD = "head"
    SETFIT = "setfit"


@dataclass(frozen=True, slots=True)
class Trained:
    """A version that is ready to score: encoder, background float32[m, d], head.

    ``gate`` says whether a registration that leaves the choice to the gate would have promoted a
    fine-tuned version; None for a head.
    """

    encoder: Encoder
    background: NDArray[np.float32]
    head: Head
    gate: bool | None = None

    def answer(self, texts: Sequence[str]) -> Answer:
        """What the service would answer: rounded scores, and which texts are `uncertain`."""
        stack = HeadStack([self.head])
        embeddings = self.encoder.encode(texts).embeddings
        scores = np.round(stack.scores(embeddings), SCORE_DIGITS)
        labels = stack.labels(scores, self._familiarity(embeddings))
        return Answer(scores[:, 0], self.head.threshold, labels[:, 0] == UNCERTAIN)

    def _familiarity(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Largest cosine similarity float32[n, 1] to the background or the examples.

        By matrix products; dot by dot, as the service, where another order of the sums could put
        a text on the other side of the floor.
        """
        texts = np.concatenate([self.background, self.head.examples])
        known = np.empty((len(embeddings), 1), dtype=np.float32)
        for start in range(0, len(embeddings), _ROWS_PER_PRODUCT):
            part = embeddings[start : start + _ROWS_PER_PRODUCT]
            known[start : start + len(part), 0] = (part @ texts.T).max(axis=1)
        close = np.abs(known[:, 0] - self.head.familiarity_floor) < _PRODUCT_ERROR
        for row in np.flatnonzero(close):
            known[row, 0] = np.vecdot(texts, embeddings[row]).max()
        return known


Method = Callable[[Workbench, Sequence[Example], float, str | None], Trained]


def by_head(
    bench: Workbench, examples: Sequence[Example], prevalence: float, name: str | None
) -> Trained:
    """The ``head`` method of a registration; without a name, no name pulls the direction."""
    if name is not None:
        trained = train_head(bench.encoder, bench.background, examples, prevalence, name)
        return Trained(bench.encoder, bench.background, trained.head)
    ordered = sorted(examples, key=lambda example: example.experience.digest)
    embeddings = bench.encoder.encode([e.experience.rendered for e in ordered]).embeddings
    labels = np.array([example.label is Label.IN for example in ordered])
    fit = fit_head(embeddings, labels, bench.background, prevalence=prevalence, seed=SEED)
    head = Head(
        weights=fit.weights,
        bias=fit.bias,
        threshold=fit.threshold,
        uncertain_low=fit.uncertain_low,
        uncertain_high=fit.uncertain_high,
        familiarity_floor=fit.familiarity_floor,
        examples=embeddings,
        example_digests=tuple(example.experience.digest for example in ordered),
        example_labels=tuple(example.label.value for example in ordered),
    )
    return Trained(bench.encoder, bench.background, head)


def by_setfit(
    bench: Workbench, examples: Sequence[Example], prevalence: float, name: str | None
) -> Trained:
    """The ``setfit`` method: the child process of a registration.

    Raises EncoderUnusable with the child's own words, or TrainingFailed.
    """
    # torch takes seconds to import, and the `head` method never needs it.
    from service.training.split_export import load_tuned  # noqa: PLC0415

    job = {
        "source": str(bench.source.folder),
        "base_encoder": str(bench.encoder_folder),
        "encoder_name": bench.source.name,
        "name": name,
        "examples": [
            {"text": example.experience.rendered, "label": example.label.value}
            for example in examples
        ],
        "background": list(bench.background_texts),
        "prevalence": prevalence,
        "method": "auto",
        "tuned_layers": bench.settings.tuned_layers,
        "threads": available_cpus(),
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "job.json").write_text(json.dumps(job))
        _run_child(folder)
        out = Path(folder) / "out"
        # ONNX Runtime has read the graphs when this returns: the folder may go.
        encoder = load_tuned(out, bench.side_by_side)
        background = load_file(out / BACKGROUND_TENSORS)["embeddings"]
        gate = bool(json.loads((out / "result.json").read_bytes())["promote"])
        return Trained(encoder, background, read_head(out), gate)


def _run_child(folder: str) -> None:
    child = subprocess.Popen(  # noqa: S603 - the command is our own module
        [sys.executable, "-m", _CHILD, folder],
        # Held open and never written to: the child ends when this process has ended.
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ,
    )
    try:
        # Not communicate(): it would close standard input first, and end the child.
        said = child.stderr.read().decode(errors="replace") if child.stderr else ""
        status = child.wait()
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stderr):
            if stream is not None:
                stream.close()
    if status == UNUSABLE and said.strip():
        raise EncoderUnusable(said.strip().splitlines()[-1])
    if status in (REFUSED, NO_ROOM) and said.strip():
        raise TrainingFailed(said.strip().splitlines()[-1])
    if status != 0:
        raise TrainingFailed(f"The training process ended with status {status}.")


METHODS: dict[EvaluatedMethod, Method] = {
    EvaluatedMethod.HEAD: by_head,
    EvaluatedMethod.SETFIT: by_setfit,
}
