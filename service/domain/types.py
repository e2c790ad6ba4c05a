"""The words of the design as plain, immutable types."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Label(StrEnum):
    """What a researcher says of an example, and what a version answers."""

    IN = "in"
    OUT = "out"
    UNCERTAIN = "uncertain"


class Method(StrEnum):
    """How a version is trained; ``auto`` lets the gate decide."""

    AUTO = "auto"
    HEAD = "head"
    SETFIT = "setfit"


class RegistrationState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether no stage will run any more."""
        return self not in (RegistrationState.QUEUED, RegistrationState.RUNNING)


class Stage(StrEnum):
    HEAD = "head"
    TRAIN = "train"
    EXPORT = "export"
    CALIBRATE = "calibrate"
    GATE = "gate"
    PUBLISH = "publish"


class Origin(StrEnum):
    """Where an occupation comes from: a caller of the API or a bundled file."""

    API = "api"
    BUNDLED = "bundled"


_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'"})


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).translate(_APOSTROPHES).split())


@dataclass(frozen=True, slots=True)
class Experience:
    """What is scored: either ``text``, or ``title`` with optional company and description."""

    title: str | None = None
    company: str | None = None
    description: str | None = None
    text: str | None = None

    @property
    def rendered(self) -> str:
        """The one text that the encoder reads.

        White space, typographic apostrophes and Unicode's composed forms are folded: how a text
        was typed must not move its score.
        """
        if self.text is not None:
            return _fold(self.text)
        title, company, body = (
            _fold(part or "") for part in (self.title, self.company, self.description)
        )
        head = ", ".join(part for part in (title, company) if part)
        if not body:
            return head
        return f"{head}. {body}" if head else body

    @property
    def digest(self) -> str:
        """SHA-256 of the rendered text: two examples with one digest are the same example."""
        return hashlib.sha256(self.rendered.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Example:
    """An experience with its label (``in`` or ``out``).

    ``suggested`` ones were chosen for a label, and are no sample of what will be scored.
    """

    experience: Experience
    label: Label
    suggested: bool = False


@dataclass(frozen=True, slots=True)
class Occupation:
    """One binary question that experiences are scored for."""

    id: str
    name: str
    description: str
    prevalence: float
    method: Method
    origin: Origin
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewOccupation:
    """What a researcher sends to register an occupation."""

    id: str
    name: str
    description: str
    prevalence: float
    method: Method
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """The immutable result of one training."""

    occupation: str
    number: int
    method: Method
    encoder_digest: str
    artifact_digest: str
    manifest: Mapping[str, Any]
    registration: str
    created_at: datetime
    # Examples it was trained on that have been erased since.
    erased_examples: int = 0


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """A version as a registration reports it."""

    number: int
    method: Method
    champion: bool


@dataclass(frozen=True, slots=True)
class Registration:
    """The durable job that makes a ModelVersion."""

    id: str
    occupation: str
    method: Method
    state: RegistrationState
    stage: Stage | None
    progress: float
    error: Mapping[str, Any] | None
    created_at: datetime
    updated_at: datetime
    versions: tuple[PublishedVersion, ...] = field(default=())
