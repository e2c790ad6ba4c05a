"""What the child of a registration does: tune, export, calibrate, judge, and write the results."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from service.domain.errors import EncoderUnusable
from service.domain.types import Label
from service.inference.encoder import Encoder, SideBySide, load_encoder
from service.inference.encoder_cache import BACKGROUND_TENSORS
from service.inference.head import Head
from service.training.cross_tuning import CrossTuning
from service.training.encoder_export import load_model
from service.training.gate import judge
from service.training.head import HeadFit
from service.training.job_file import Job
from service.training.split_export import check_frozen, export_tuned
from service.training.top_layers import encoder_layers
from service.training.training_texts import TrainingTexts, choose_texts
from service.training.tuned_head import fit_tuned_head, held_out_scores
from service.training.tuned_manifest import tuned_manifest
from service.training.tuners import make_tuner

# The background is thousands of rows; these many, drawn by seed, calibrate and judge. Both are
# far more than the positives, which limit what can be known.
CALIBRATION_ROWS = 600
GATE_ROWS = 300

Report = Callable[[str, float], None]


def run_job(job: Job, out: Path, report: Report) -> None:
    """Do all stages and write ``out``, ``result.json`` last.

    Raises VocationError for what a user can act on.
    """
    clock = _Clock()
    # Before anything runs: a fork must not inherit a pool of threads in the middle of its work.
    torch.set_num_threads(1)
    chosen, crowd = _texts(job)
    hints = [job.name] if job.name else []
    side_by_side = SideBySide(job.settings.threads)
    with clock.stage("train"):
        base = load_encoder(job.base_encoder, "", side_by_side)
        model = load_model(job.source)
        judging = crowd[:GATE_ROWS]
        known = _background_embeddings(job, base, judging)
        own = CrossTuning(chosen, judging, known, hints, base, job.settings)
        tuner = make_tuner(model, own.texts, job.settings)
        if tuner.fallback is not None:
            job = replace(job, settings=replace(job.settings, tuned_layers="all"))
        frozen = _frozen(model, tuner.trunk_layers)
        champion, challenger = own.score(tuner, lambda done: report("train", 0.5 * done))
        tuner.start_again()
        rows = range(len(chosen.texts))
        tuner.train(
            rows, chosen.labels, job.settings, lambda done: report("train", 0.5 + 0.5 * done)
        )
        check_frozen(frozen, model)
    with clock.stage("export"):
        report("export", 0.0)
        export = export_tuned(model, tuner.trunk_layers, out, job.encoder_name, side_by_side)
        report("export", 1.0)
    with clock.stage("calibrate"):
        report("calibrate", 0.0)
        held_out = held_out_scores(own.folds, challenger, len(own.rows))
        head, fit = _head(job, export.encoder, crowd, hints, held_out, own.labels, out)
        report("calibrate", 1.0)
    with clock.stage("gate"):
        report("gate", 0.0)
        verdict = judge(champion, challenger, job.prevalence)
        report("gate", 1.0)
    promote, reason = verdict.promote, verdict.reason
    if job.method == "setfit":
        promote, reason = True, "the occupation's method is setfit"
    manifest = tuned_manifest(job, chosen, export.parity, fit, verdict, clock.seconds, len(crowd))
    if tuner.fallback is not None:
        manifest["fallback"] = tuner.fallback
    for name, content in head.files().items():
        (out / name).write_bytes(content)
    result = {"manifest": manifest, "promote": promote, "reason": reason}
    (out / "result.json").write_text(json.dumps(result, indent=1))


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a block."""
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)


def _texts(job: Job) -> tuple[TrainingTexts, list[str]]:
    """What to tune on, and the subset of the background, none of it an example."""
    texts = [example.experience.rendered for example in job.examples]
    labels = np.array([example.label is Label.IN for example in job.examples], dtype=np.bool_)
    chosen = choose_texts(
        texts,
        labels,
        job.background,
        most=job.settings.most_texts,
        seed=job.settings.seed,
        suggested={e.experience.rendered for e in job.examples if e.suggested},
    )
    known = {*texts, *chosen.texts}
    free = sorted({text for text in job.background if text not in known})
    order = np.random.default_rng(job.settings.seed).permutation(len(free))
    return chosen, [free[row] for row in order[:CALIBRATION_ROWS]]


def _background_embeddings(job: Job, base: Encoder, crowd: Sequence[str]) -> NDArray[np.float32]:
    """The base encoder's float32[len(crowd), d], read where they stand with the encoder."""
    if job.base_background is None:
        return base.encode(crowd).embeddings
    stored = load_file(job.base_background)["embeddings"]
    if len(stored) != len(job.background):
        raise EncoderUnusable("The base encoder's background has other rows than the job's.")
    row_of = {text: row for row, text in enumerate(job.background)}
    return np.ascontiguousarray(stored[[row_of[text] for text in crowd]])


def _frozen(model: Any, trunk_layers: int | None) -> dict[str, torch.Tensor]:
    """A copy of all weights that must not move."""
    if trunk_layers is None:
        return {}
    tuned = {value.data_ptr() for value in encoder_layers(model)[trunk_layers:].parameters()}
    return {
        name: value.clone()
        for name, value in model.state_dict().items()
        if value.data_ptr() not in tuned
    }


def _head(
    job: Job,
    encoder: Encoder,
    crowd: Sequence[str],
    hints: Sequence[str],
    held_out: NDArray[np.float64],
    held_out_labels: NDArray[np.bool_],
    out: Path,
) -> tuple[Head, HeadFit]:
    """Fit the head on the embeddings that will be served, and write the background's."""
    ordered = sorted(job.examples, key=lambda example: example.experience.digest)
    digests = [example.experience.digest for example in ordered]
    labels = np.array([example.label is Label.IN for example in ordered], dtype=np.bool_)
    embeddings = encoder.encode([example.experience.rendered for example in ordered]).embeddings
    background = encoder.encode(crowd).embeddings
    hinted = encoder.encode(hints).embeddings if hints else embeddings[:0]
    (out / BACKGROUND_TENSORS).write_bytes(save({"embeddings": background}))
    fit = fit_tuned_head(
        embeddings,
        labels,
        np.unique(digests, return_inverse=True)[1].reshape(-1),
        background,
        hinted,
        held_out,
        held_out_labels,
        prevalence=job.prevalence,
        seed=job.settings.seed,
        suggested=np.array([example.suggested for example in ordered]),
    )
    head = Head(
        weights=fit.weights,
        bias=fit.bias,
        threshold=fit.threshold,
        uncertain_low=fit.uncertain_low,
        uncertain_high=fit.uncertain_high,
        familiarity_floor=fit.familiarity_floor,
        examples=embeddings,
        example_digests=tuple(digests),
        example_labels=tuple(example.label.value for example in ordered),
    )
    return head, fit
