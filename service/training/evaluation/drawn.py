"""A method and the baselines on the same draws of examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.domain.types import Example, Label
from service.telemetry.progress import Progress
from service.training.evaluation.baselines import (
    FROZEN,
    KEYWORDS,
    STOCK,
    WORDS,
    WORDS_OF_ALL,
    Baselines,
    by_frozen_encoder,
    by_keywords,
    by_stock_setfit,
    by_words,
)
from service.training.evaluation.comparison import (
    JudgedRows,
    calibration,
    difference,
    drawn_rows,
    fixed_rows,
    precision_curve,
)
from service.training.evaluation.draws import Partition
from service.training.evaluation.groups import ALL
from service.training.evaluation.judged import Answer
from service.training.evaluation.methods import METHODS
from service.training.evaluation.request import Request
from service.training.evaluation.result import Curves, Difference, FigureRow
from service.training.evaluation.workbench import Workbench

Judge = Callable[[Sequence[Example]], Answer]
Answers = dict[str, dict[int, list[Answer]]]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What draws gave. ``gates`` counts, by shots, the tuned versions that the gate promotes."""

    prevalence: float
    figures: tuple[FigureRow, ...]
    differences: tuple[Difference, ...]
    curves: Curves
    gates: Mapping[int, int] | None
    notes: tuple[str, ...]


def judge_draws(
    request: Request, workbench: Workbench, parts: Partition, judging: JudgedRows, name: str | None
) -> Drawn:
    """Draw, train and judge; all methods meet the same draws and the same rows."""
    prevalence = judging.prevalence or float(judging.inside.mean())
    own = request.method.value
    gates: list[tuple[int, bool]] = []
    # Once and at first: nobody's draw waits for it, and its progress is its own.
    workbench.encoder.encode([row.experience.rendered for row in (*parts.pool, *parts.judged)])

    def train(examples: Sequence[Example]) -> Answer:
        trained = METHODS[request.method](workbench, examples, prevalence, name)
        if trained.gate is not None:
            gates.append((len(examples) // 2, trained.gate))
        return trained.answer(judging.texts)

    judges = {own: train, **_drawn_baselines(request.baselines, workbench, judging)}
    answers = _answers(request, parts, judges)
    fixed = _fixed_baselines(request, parts, judging)
    figures = [
        row
        for method, by_shots in answers.items()
        for shots, found in by_shots.items()
        for row in drawn_rows(judging, method, shots, found)
    ]
    figures += [
        row for method, answer in fixed.items() for row in fixed_rows(judging, method, answer)
    ]
    most = max(request.shots)
    curves = [
        precision_curve(judging, method, most, found[most]) for method, found in answers.items()
    ]
    curves += [precision_curve(judging, method, None, [answer]) for method, answer in fixed.items()]
    return Drawn(
        prevalence=prevalence,
        figures=tuple(figures),
        differences=tuple(_differences(own, figures, judging.seed)),
        curves=Curves(tuple(curves), calibration(judging, answers[own][most])),
        gates=_count(gates) if gates else None,
        notes=_notes(request, name),
    )


def _answers(request: Request, parts: Partition, judges: Mapping[str, Judge]) -> Answers:
    answers: Answers = {method: {} for method in judges}
    steps = len(request.shots) * request.draws * len(judges)
    with Progress("judging draws", total=steps) as progress:
        for shots in request.shots:
            for number in range(request.draws):
                examples = parts.draw(shots, number, request.seed)
                for method, judge in judges.items():
                    answers[method].setdefault(shots, []).append(judge(examples))
                    progress.advance(1)
    return answers


def _drawn_baselines(
    wanted: Baselines, workbench: Workbench, judging: JudgedRows
) -> dict[str, Judge]:
    if wanted is Baselines.NONE:
        return {}
    texts = judging.texts

    def words(examples: Sequence[Example]) -> Answer:
        return by_words(_texts(examples), _labels(examples), texts)

    def frozen(examples: Sequence[Example]) -> Answer:
        rows = workbench.encoder.encode(_texts(examples)).embeddings
        judged = workbench.encoder.encode(texts).embeddings
        return by_frozen_encoder(rows, _labels(examples), judged)

    def stock(examples: Sequence[Example]) -> Answer:
        return by_stock_setfit(workbench, _texts(examples), _labels(examples), texts)

    judges: dict[str, Judge] = {WORDS: words, FROZEN: frozen}
    return {**judges, STOCK: stock} if wanted is Baselines.STOCK else judges


def _fixed_baselines(request: Request, parts: Partition, judging: JudgedRows) -> dict[str, Answer]:
    """Baselines that no draw changes."""
    answers = {}
    if request.keywords:
        answers[KEYWORDS] = by_keywords(request.keywords, judging.texts)
    if request.baselines is not Baselines.NONE:
        everything = [row.example for row in parts.pool]
        answers[WORDS_OF_ALL] = by_words(_texts(everything), _labels(everything), judging.texts)
    return answers


def _differences(own: str, figures: Sequence[FigureRow], seed: int) -> Iterator[Difference]:
    whole = [row for row in figures if row.by == ALL]
    for mine in (row for row in whole if row.method == own):
        for other in whole:
            if other.method != own and other.shots in (mine.shots, None):
                yield difference(mine, other, seed)


def _count(gates: Sequence[tuple[int, bool]]) -> dict[int, int]:
    return {
        shots: sum(promotes for size, promotes in gates if size == shots)
        for shots in sorted({size for size, _ in gates})
    }


def _notes(request: Request, name: str | None) -> tuple[str, ...]:
    notes = []
    if name is None:
        notes.append("No name of the occupation was given; a registration always has one.")
    if request.baselines is not Baselines.NONE and not request.keywords:
        notes.append("No keyword rule: no keywords were given.")
    if request.draws < 5:
        notes.append(f"{request.draws} draws: an interval over so few is too narrow.")
    return tuple(notes)


def _texts(examples: Sequence[Example]) -> list[str]:
    return [example.experience.rendered for example in examples]


def _labels(examples: Sequence[Example]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([example.label is Label.IN for example in examples], dtype=np.bool_)
