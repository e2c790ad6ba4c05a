"""What to label next, and why; light to import, for the layers above."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Reason(StrEnum):
    """Why an experience is worth a label, in the order in which the reasons are looked at."""

    UNFAMILIAR = "unfamiliar"
    CLOSE_CALL = "close_call"
    LIKELY_IN = "likely_in"
    LIKELY_OUT = "likely_out"


WHY = MappingProxyType(
    {
        Reason.UNFAMILIAR: "It is unlike the examples and the background, so its score is a guess.",
        Reason.CLOSE_CALL: "Its score is too near to the threshold to call.",
        Reason.LIKELY_IN: "Its score says in: a label confirms or corrects what counts as in.",
        Reason.LIKELY_OUT: "Its score says out, but few of the others score higher: a miss would "
        "be found here.",
    }
)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One experience to label: its place in the request, its score and label by the version."""

    index: int
    score: float
    label: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Suggested:
    """The answer of one version, the most useful first.

    ``skipped`` experiences are examples of the occupation already; ``repeated`` ones have the
    text of an earlier one.
    """

    occupation: str
    version: int
    threshold: float
    items: tuple[Suggestion, ...]
    skipped: int
    repeated: int
