"""What is published with a fine-tuned version: where it comes from and how good it looked."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from service.training.cross_tuning import SPLITS
from service.training.gate import Verdict
from service.training.head import HYPER_PARAMETERS, HeadFit
from service.training.head_version import data_digest
from service.training.job_file import Job
from service.training.training_texts import TrainingTexts

_LIBRARIES = (
    "numpy", "torch", "transformers", "sentence-transformers", "setfit", "optimum-onnx", "onnx",
    "onnxruntime", "tokenizers",
)  # fmt: skip
_APPROXIMATIONS = (
    "folds are tuned on two thirds of the examples, which calibrates and judges cautiously",
    "folds embed with PyTorch and texts cut as in training, the champion with the served int8",
    "a seeded subset of the background calibrates and judges",
)


def tuned_manifest(
    job: Job,
    chosen: TrainingTexts,
    parity: Mapping[str, float],
    fit: HeadFit,
    verdict: Verdict,
    seconds: Mapping[str, float],
    background: int,
) -> dict[str, Any]:
    """The manifest of a fine-tuned version, all of it JSON."""
    metrics = {
        name: {key: round(value, 4) for key, value in asdict(interval).items()}
        for name, interval in (
            ("average_precision", fit.metrics.average_precision),
            ("f1", fit.metrics.f1),
            ("calibration_error", fit.metrics.calibration_error),
            ("log_loss", fit.metrics.log_loss),
        )
    }
    return {
        "data": {
            "digest": data_digest(job.examples),
            "examples_in": fit.metrics.positives,
            "examples_out": fit.metrics.negatives,
            "tuned_on": len(chosen.texts),
            "copies": chosen.copies,
            "contradictory": chosen.contradictory,
            "above_cap": chosen.above_cap,
            "borrowed_background": chosen.borrowed,
            "suggested": sum(example.suggested for example in job.examples),
            "background": background,
            "prevalence": job.prevalence,
            "name": job.name,
        },
        "encoder": {"name": job.encoder_name, "parity": dict(parity)},
        "head": {
            "threshold": fit.threshold,
            "uncertain": [fit.uncertain_low, fit.uncertain_high],
            "familiarity_floor": fit.familiarity_floor,
        },
        "hyper_parameters": {**asdict(job.settings), **HYPER_PARAMETERS, "folds": SPLITS},
        "metrics": metrics,
        "reference": fit.reference.as_json(),
        "gate": {**verdict.figures(), "reason": verdict.reason},
        "approximations": list(_APPROXIMATIONS),
        "durations_seconds": dict(seconds),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
