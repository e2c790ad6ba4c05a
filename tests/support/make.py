"""Small real things for tests: occupations, examples, heads and published versions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from service.domain.types import Example, Experience, Label, Method, Origin
from service.inference.encoder import Encoder
from service.inference.head import Head
from service.registry import occupations, registrations, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from tests.support.tiny_encoder import DIMENSIONS


def example(text: str, label: Label = Label.IN) -> Example:
    return Example(Experience(text=text), label)


def add_occupation(connection: Connection, id: str, examples: Sequence[Example] = ()) -> None:
    occupations.insert_occupation(
        connection,
        id=id,
        name=id.title(),
        description="",
        prevalence=0.05,
        method=Method.HEAD,
        origin=Origin.API,
    )
    occupations.put_examples(connection, id, examples)


def direction(seed: int) -> NDArray[np.float32]:
    """A random unit vector float32[d]."""
    vector = np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
    unit: NDArray[np.float32] = vector / np.linalg.norm(vector)
    return unit


def head(seed: int, *, floor: float = -1.0) -> Head:
    """A head with random weights, 0.5 as its threshold, and no examples."""
    return Head(
        weights=direction(seed),
        bias=0.25,
        threshold=0.5,
        uncertain_low=0.49,
        uncertain_high=0.51,
        familiarity_floor=floor,
        examples=np.empty((0, DIMENSIONS), dtype=np.float32),
        example_digests=(),
        example_labels=(),
    )


def head_with_examples(encoder: Encoder, examples: Sequence[Example], seed: int = 1) -> Head:
    """A head that remembers what it was trained on, as the trained ones do."""
    made = head(seed)
    return Head(
        weights=made.weights,
        bias=made.bias,
        threshold=made.threshold,
        uncertain_low=made.uncertain_low,
        uncertain_high=made.uncertain_high,
        familiarity_floor=made.familiarity_floor,
        examples=encoder.encode([item.experience.rendered for item in examples]).embeddings,
        example_digests=tuple(item.experience.digest for item in examples),
        example_labels=tuple(item.label.value for item in examples),
    )


def publish(
    database: Database,
    artifacts: ArtifactStore,
    base: EncoderRecord,
    occupation: str,
    made: Head,
    *,
    promote: bool = True,
) -> int:
    """Publish a head as the next version of an occupation that is registered already."""
    digest = artifacts.put(made.files())
    with database.write() as connection:
        return versions.publish(
            connection,
            occupation=occupation,
            method=Method.HEAD,
            encoder_digest=base.digest,
            trunk_digest=None,
            artifact_digest=digest,
            manifest={},
            registration=registrations.insert_registration(connection, occupation, Method.HEAD),
            promote=promote,
        )


def add_served(
    database: Database,
    artifacts: ArtifactStore,
    base: EncoderRecord,
    occupation: str,
    made: Head,
) -> int:
    """Register an occupation and publish its first version."""
    with database.write() as connection:
        add_occupation(connection, occupation)
    return publish(database, artifacts, base, occupation, made)
