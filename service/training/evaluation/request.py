"""What an evaluation is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.domain.errors import InvalidFields
from service.training.evaluation.baselines import Baselines
from service.training.evaluation.labelled import Condition, Field
from service.training.evaluation.methods import EvaluatedMethod
from service.training.evaluation.occupation import is_file
from service.training.head import FEWEST_POSITIVES


@dataclass(frozen=True, slots=True)
class Request:
    """The command's arguments; raises InvalidFields, naming the option, where they do not fit.

    ``occupation`` is a file or an id of the registry. With ``shots`` the labelled rows give the
    examples, and an occupation's file its name alone. ``command`` is what the report states.
    """

    labelled: Path
    field: Field
    only: tuple[Condition, ...]
    occupation: str | None
    shots: tuple[int, ...]
    draws: int
    method: EvaluatedMethod
    prevalence: float | None
    baselines: Baselines
    keywords: tuple[str, ...]
    name: str | None
    seed: int
    command: str

    def __post_init__(self) -> None:
        registered = self.occupation is not None and not is_file(self.occupation)
        tuned = self.method is EvaluatedMethod.SETFIT
        problems = {
            "--occupation, or --shots to draw examples from the file itself, is needed.": (
                not self.shots and self.occupation is None
            ),
            f"--shots: at least {FEWEST_POSITIVES} examples of each label are needed.": (
                bool(self.shots) and self.shots[0] < FEWEST_POSITIVES
            ),
            "--occupation: with --shots, a file that gives the name.": (
                bool(self.shots) and registered
            ),
            "--name: it goes with --shots; an occupation has its own.": (
                not self.shots and self.name is not None
            ),
            "--method: a version of the registry has been trained already.": (
                not self.shots and registered and tuned
            ),
            "--prevalence: a share between 0 and 1, both excluded, is needed.": (
                self.prevalence is not None and not 0.0 < self.prevalence < 1.0
            ),
        }
        for problem, found in problems.items():
            if found:
                raise InvalidFields(problem)


def read_conditions(texts: Sequence[str]) -> tuple[Condition, ...]:
    """Read ``column=value`` conditions; raises InvalidFields."""
    conditions = []
    for text in texts:
        column, equals, value = text.partition("=")
        if not column or not equals:
            raise InvalidFields("--only: column=value is needed.")
        conditions.append(Condition(column, value))
    return tuple(conditions)
