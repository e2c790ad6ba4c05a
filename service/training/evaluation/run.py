"""The two evaluations: one version on labelled rows, or a method on draws from them."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from service.domain.types import Example, NewOccupation
from service.inference.encoder import SideBySide
from service.settings import Settings
from service.telemetry.progress import Progress
from service.training.evaluation.baselines import KEYWORDS, Baselines, by_keywords
from service.training.evaluation.comparison import (
    JudgedRows,
    calibration,
    fixed_rows,
    number_rows,
    precision_curve,
)
from service.training.evaluation.drawn import judge_draws
from service.training.evaluation.draws import Partition, partition
from service.training.evaluation.judged import REDRAWS
from service.training.evaluation.labelled import (
    Labelled,
    check_both_labels,
    outside,
    read_labelled,
)
from service.training.evaluation.occupation import (
    JudgedVersion,
    is_file,
    load_version,
    read_occupation,
    train_version,
)
from service.training.evaluation.request import Request
from service.training.evaluation.result import Curves, Evaluation
from service.training.evaluation.workbench import background_texts, open_workbench
from service.training.head_version import data_digest

_LIBRARIES = ("numpy", "scipy", "scikit-learn", "onnxruntime", "tokenizers")
_TUNING_LIBRARIES = ("torch", "transformers", "sentence-transformers", "setfit", "optimum-onnx")


def evaluate(request: Request, settings: Settings) -> Evaluation:
    """Judge what the request names.

    Raises InvalidFields for what is wrong in a file, and what loading or training raises.
    """
    labelled = read_labelled(request.labelled, request.field, request.only)
    check_both_labels(labelled.rows, labelled.name)
    background = background_texts(settings)
    with ExitStack() as stack:
        # Threads of small fits wait for each other on a busy machine.
        stack.enter_context(threadpool_limits(limits=1, user_api="blas"))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        side_by_side = SideBySide(settings.resolved_threads)
        stack.callback(side_by_side.close)
        if request.shots:
            return _draws(request, settings, labelled, background, scratch, side_by_side)
        return _version(request, settings, labelled, background, scratch, side_by_side)


def _version(
    request: Request,
    settings: Settings,
    labelled: Labelled,
    background: frozenset[str],
    scratch: Path,
    side_by_side: SideBySide,
) -> Evaluation:
    version = _judged_version(request, settings, scratch, side_by_side)
    unknown = [row for row in labelled.rows if row.experience.digest not in version.known]
    rows = outside(unknown, background)
    check_both_labels(rows, f"{labelled.name}, the rows that the version has not seen")
    left_out = {
        "by_conditions": labelled.filtered,
        "examples_of_the_version": len(labelled.rows) - len(unknown),
        "in_the_background": len(unknown) - len(rows),
    }
    judging = number_rows(rows, request.prevalence, request.seed)
    name = version.about["occupation"]
    if version.about["version"] is not None:
        name = f"{name}@{version.about['version']}"
    answers = {name: version.trained.answer(judging.texts)}
    if request.keywords:
        answers[KEYWORDS] = by_keywords(request.keywords, judging.texts)
    figures = []
    with Progress("redrawing rows", total=len(answers)) as progress:
        for method, answer in answers.items():
            figures += fixed_rows(judging, method, answer)
            progress.advance(1)
    return Evaluation(
        title=f"{version.about['name']} on {labelled.name}",
        mode="version",
        method=name,
        command=request.command,
        data=_data(labelled, judging, left_out),
        judged={**version.about, "weighted_to_prevalence": request.prevalence},
        seed=request.seed,
        redraws=REDRAWS,
        libraries=library_versions(tuning=version.about["method"] != "head"),
        figures=tuple(figures),
        differences=(),
        curves=Curves(
            tuple(precision_curve(judging, method, None, [a]) for method, a in answers.items()),
            calibration(judging, [answers[name]]),
        ),
        notes=(),
    )


def _judged_version(
    request: Request, settings: Settings, scratch: Path, side_by_side: SideBySide
) -> JudgedVersion:
    reference = request.occupation or ""
    if not is_file(reference):
        return load_version(settings, reference, side_by_side)
    occupation = read_occupation(reference)
    workbench = open_workbench(settings, scratch, side_by_side)
    with Progress(f"training by {request.method.value}", total=1):
        return train_version(workbench, occupation, request.method)


def _draws(
    request: Request,
    settings: Settings,
    labelled: Labelled,
    background: frozenset[str],
    scratch: Path,
    side_by_side: SideBySide,
) -> Evaluation:
    parts = partition(labelled, request.seed).without(background)
    parts.check(labelled.name, request.shots)
    named = _named(request)
    judging = number_rows(parts.judged, request.prevalence, request.seed)
    left_out = {
        "by_conditions": labelled.filtered,
        "texts_drawn_from": parts.left_out,
        "in_the_background": parts.in_background,
    }
    workbench = open_workbench(settings, scratch, side_by_side)
    drawn = judge_draws(request, workbench, parts, judging, named)
    pool = [row.example for row in parts.pool]
    return Evaluation(
        title=f"{named or 'Examples'} of {labelled.name}, {request.method.value}",
        mode="draws",
        method=request.method.value,
        command=request.command,
        data={**_data(labelled, judging, left_out), "drawn_from": _pool(parts, pool)},
        judged={
            "method": request.method.value,
            "name": named,
            "shots": list(request.shots),
            "draws": request.draws,
            "prevalence": drawn.prevalence,
            "weighted_to_prevalence": request.prevalence,
            "gate_promotes": drawn.gates,
            "encoder": {"name": workbench.source.name, "digest": workbench.encoder.digest},
        },
        seed=request.seed,
        redraws=REDRAWS,
        libraries=library_versions(
            tuning=request.method.value != "head" or request.baselines is Baselines.STOCK
        ),
        figures=drawn.figures,
        differences=drawn.differences,
        curves=drawn.curves,
        notes=drawn.notes,
    )


def _named(request: Request) -> str | None:
    """The occupation's name, which a registration gives its head as a hint."""
    if request.name is not None or request.occupation is None:
        return request.name
    occupation: NewOccupation = read_occupation(request.occupation)
    return occupation.name


def _pool(parts: Partition, pool: Sequence[Example]) -> dict[str, Any]:
    inside = sum(example.label == "in" for example in pool)
    return {
        "how": parts.how,
        "texts_in": inside,
        "texts_out": len(pool) - inside,
        "contradictory": parts.contradictory,
        "digest": data_digest(pool),
    }


def _data(labelled: Labelled, judging: JudgedRows, left_out: dict[str, int]) -> dict[str, Any]:
    given: dict[str, set[bool]] = {}
    for row in judging.rows:
        given.setdefault(row.experience.digest, set()).add(row.inside)
    return {
        "file": labelled.name,
        "file_digest": labelled.file_digest,
        "digest": data_digest([row.example for row in judging.rows]),
        "field": labelled.field.value,
        "only": [str(condition) for condition in labelled.only],
        "rows": len(judging.rows),
        "rows_in": int(judging.inside.sum()),
        "texts": len(given),
        "contradictory": sum(len(labels) > 1 for labels in given.values()),
        "left_out": left_out,
    }


def library_versions(*, tuning: bool) -> dict[str, str]:
    """Versions of what makes the figures; with ``tuning``, of what fine-tunes too."""
    names = (*_LIBRARIES, *(_TUNING_LIBRARIES if tuning else ()))
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"vocation": importlib.metadata.version("vocation"), **versions}
