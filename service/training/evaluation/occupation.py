"""The version that is judged: of the registry, or made now from an occupation's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.domain.errors import InvalidFields, VersionNotFound
from service.domain.types import NewOccupation
from service.inference.encoder import SideBySide
from service.inference.head import read_head
from service.registry import versions
from service.registry.occupations import get_occupation
from service.settings import Settings
from service.training.bundled import read_file
from service.training.evaluation.methods import METHODS, EvaluatedMethod, Trained
from service.training.evaluation.workbench import (
    KnownTexts,
    Workbench,
    open_registry,
    registry_encoders,
)
from service.training.head import FEWEST_POSITIVES
from service.training.head_version import data_digest

_FILES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class JudgedVersion:
    """A version, and what a report says of it.

    ``known`` are the digests of the texts that it was trained on: they are not judged.
    """

    trained: Trained
    known: frozenset[str]
    about: Mapping[str, Any]


def is_file(reference: str) -> bool:
    """Whether a reference names a file and not an occupation of the registry."""
    return Path(reference).suffix.lower() in _FILES


def read_occupation(reference: str) -> NewOccupation:
    """Read an occupation's file; raises InvalidFields that names the file and the field."""
    path = Path(reference)
    try:
        occupation = read_file(path).occupation
    except OSError as error:
        raise InvalidFields(f"{path.name}: {error.strerror}.") from None
    labels: dict[str, set[str]] = {}
    for example in occupation.examples:
        labels.setdefault(example.experience.digest, set()).add(example.label.value)
    if {"in", "out"} in labels.values():
        raise InvalidFields(f"{path.name}, examples: a text stands under both labels.")
    inside = sum(found == {"in"} for found in labels.values())
    if inside < FEWEST_POSITIVES:
        raise InvalidFields(
            f"{path.name}, examples: {inside} different `in` texts, at least "
            f"{FEWEST_POSITIVES} are needed."
        )
    return occupation


def train_version(
    bench: Workbench, occupation: NewOccupation, method: EvaluatedMethod
) -> JudgedVersion:
    """Make the version that a registration of the occupation would make."""
    examples = occupation.examples
    trained = METHODS[method](bench, examples, occupation.prevalence, occupation.name)
    inside = sum(example.label == "in" for example in examples)
    about = {
        "occupation": occupation.id,
        "name": occupation.name,
        "version": None,
        "method": method.value,
        "examples_in": inside,
        "examples_out": len(examples) - inside,
        "examples_digest": data_digest(examples),
        "prevalence": occupation.prevalence,
        "gate_promotes": trained.gate,
        "encoder": {"name": bench.source.name, "digest": bench.encoder.digest},
    }
    return JudgedVersion(trained, frozenset(trained.head.example_digests), about)


def load_version(settings: Settings, reference: str, side_by_side: SideBySide) -> JudgedVersion:
    """Load ``id`` (its champion) or ``id@version`` from the registry.

    Raises OccupationNotFound, VersionNotFound, ArtifactCorrupted, or InvalidFields for a version
    that is no number.
    """
    occupation, _, number = reference.partition("@")
    if number and not number.isdecimal():
        raise InvalidFields("--occupation: a version is a number, as in sommelier@2.")
    database, artifacts = open_registry(settings)
    try:
        with database.read() as connection:
            registered = get_occupation(connection, occupation)
            chosen = int(number) if number else versions.champion_number(connection, occupation)
            if chosen is None:
                raise VersionNotFound("The occupation has no version yet.")
            version = versions.get_version(connection, occupation, chosen)
        head = read_head(artifacts.open_local(version.artifact_digest))
        cache = registry_encoders(settings, database, artifacts, side_by_side)
        loaded = cache.get(version.encoder_digest)
    finally:
        database.close()
    trained = Trained(KnownTexts(loaded.encoder), loaded.background, head)
    data: Mapping[str, Any] = version.manifest["data"]
    about = {
        "occupation": occupation,
        "name": registered.name,
        "version": version.number,
        "method": version.method.value,
        "examples_in": data["examples_in"],
        "examples_out": data["examples_out"],
        "examples_digest": data["digest"],
        "prevalence": data["prevalence"],
        "gate_promotes": None,
        "encoder": {"name": loaded.encoder.spec.name, "digest": version.encoder_digest},
    }
    return JudgedVersion(trained, frozenset(head.example_digests), about)
