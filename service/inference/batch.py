"""What goes into a batch and what comes out of it; light to import, for the layers above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from service.domain.errors import VocationError
from service.domain.types import Experience

if TYPE_CHECKING:
    from service.inference.snapshot import Target


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """One admitted experience, and what to score it for."""

    id: str | None
    experience: Experience
    target: Target
    explain: bool = False


@dataclass(frozen=True, slots=True)
class RefusedExperience:
    """An experience that cannot be scored; it passes through the batch to keep the order."""

    id: str | None
    error: VocationError


BatchItem = ScoringRequest | RefusedExperience


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An example near the scored text."""

    text: str
    label: str
    similarity: float


class Score(NamedTuple):
    """One version's answer; a tuple, since a request for a hundred occupations makes a hundred."""

    occupation: str
    version: int
    score: float
    label: str
    threshold: float
    nearest: tuple[Neighbour, ...] | None = None


@dataclass(frozen=True, slots=True)
class ScoredExperience:
    """The answer for one experience."""

    id: str | None
    truncated: bool
    scores: tuple[Score, ...]


Answer = ScoredExperience | RefusedExperience
