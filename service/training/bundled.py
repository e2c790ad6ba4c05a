"""Bundled occupations: plain YAML files that a researcher can edit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.domain.errors import InvalidFields
from service.domain.types import Example, Experience, Label, Method, NewOccupation


class _ExampleEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    label: Label
    title: Annotated[str, Field(min_length=1)]
    company: str | None = None
    description: str | None = None


class _OccupationFile(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    id: str
    name: str
    description: str
    prevalence: Annotated[float, Field(gt=0, lt=1)]
    # Seven tunings behind a first start would take the CPUs for minutes.
    method: Method = Method.HEAD
    examples: list[_ExampleEntry]


@dataclass(frozen=True, slots=True)
class BundledOccupation:
    """An occupation as its file says, and the digest of the file."""

    occupation: NewOccupation
    file_digest: str


def read_bundled(folder: Path) -> list[BundledOccupation]:
    """Read every ``*.yaml`` of a folder; raises InvalidFields that names the file."""
    return [read_file(path) for path in sorted(folder.glob("*.yaml"))]


def read_file(path: Path) -> BundledOccupation:
    """Read one file; raises InvalidFields that names the file and the field."""
    content = path.read_bytes()
    try:
        entry = _OccupationFile.model_validate(yaml.safe_load(content))
    except (ValidationError, yaml.YAMLError) as error:
        raise InvalidFields(f"{path.name}: {error}") from None
    examples = tuple(
        Example(Experience(item.title, item.company, item.description), item.label)
        for item in entry.examples
    )
    new = NewOccupation(
        id=entry.id,
        name=entry.name,
        description=entry.description.strip(),
        prevalence=entry.prevalence,
        method=entry.method,
        examples=examples,
    )
    return BundledOccupation(new, hashlib.sha256(content).hexdigest())
