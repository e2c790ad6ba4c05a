"""The stages of a registration: each may run again after a crash, and publishes once."""

from __future__ import annotations

import logging
import time
from typing import Any

from sqlalchemy.exc import OperationalError

from service.domain.errors import RegistrationCancelled, StorageUnavailable, VocationError
from service.domain.types import (
    Example,
    Method,
    Occupation,
    Origin,
    RegistrationState,
    Stage,
)
from service.inference.model_cache import ModelCache
from service.registry import occupations, registrations, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.telemetry import metrics
from service.training.head_version import TrainedVersion, train_head

logger = logging.getLogger(__name__)

# Progress when the head version is published: fine-tuning, where it follows, begins at 0.2.
_PUBLISHED = 0.15


class Stages:
    """What the workflow calls, stage by stage."""

    def __init__(self, database: Database, artifacts: ArtifactStore, cache: ModelCache) -> None:
        self._database = database
        self._artifacts = artifacts
        self._cache = cache

    def head(self, registration: str) -> None:
        """Train and publish the ``head`` version.

        It becomes the champion when the occupation has none, or one of the same method: a
        fine-tuned champion is only replaced by the gate.
        """
        started = time.perf_counter()
        occupation, examples = self._begin(registration, Stage.HEAD, 0.1)
        base = self._cache.base_encoder()
        trained = train_head(
            base.encoder, base.background, examples, occupation.prevalence, occupation.name
        )
        metrics.TRAINING_SECONDS.labels(Stage.HEAD.value).observe(time.perf_counter() - started)
        started = time.perf_counter()
        self._publish(registration, occupation, trained, base.encoder.digest)
        metrics.TRAINING_SECONDS.labels(Stage.PUBLISH.value).observe(time.perf_counter() - started)

    def is_bundled(self, registration: str) -> bool:
        """Whether a registration is of an occupation that the project ships."""
        with self._database.read() as connection:
            job = registrations.get_registration(connection, registration)
            occupation = occupations.get_occupation(connection, job.occupation)
        return occupation.origin is Origin.BUNDLED

    def succeed(self, registration: str) -> None:
        """End a registration that has done all its stages."""
        with self._database.write() as connection:
            registrations.finish(connection, registration, RegistrationState.SUCCEEDED)

    def fail(self, registration: str, code: str, title: str, detail: str) -> None:
        """End a registration with a problem; the champion goes on."""
        problem: dict[str, Any] = {
            "type": f"urn:vocation:problem:{code}",
            "title": title,
            "status": 500,
            "detail": detail,
            "code": code,
        }
        with self._database.write() as connection:
            registrations.finish(connection, registration, RegistrationState.FAILED, problem)

    def _begin(
        self, registration: str, stage: Stage, progress: float
    ) -> tuple[Occupation, list[Example]]:
        with self._database.write() as connection:
            if not registrations.advance(connection, registration, stage, progress):
                raise RegistrationCancelled("The registration was cancelled.")
            job = registrations.get_registration(connection, registration)
            occupation = occupations.get_occupation(connection, job.occupation)
            stored = occupations.all_examples(connection, job.occupation)
        return occupation, [item.example for item in stored]

    def _publish(
        self, registration: str, occupation: Occupation, trained: TrainedVersion, encoder: str
    ) -> None:
        artifact = self._artifacts.put(trained.head.files())
        with self._database.write() as connection:
            if not registrations.advance(connection, registration, Stage.PUBLISH, _PUBLISHED):
                raise RegistrationCancelled("The registration was cancelled.")
            champion = versions.champion_number(connection, occupation.id)
            promote = (
                champion is None
                or versions.get_version(connection, occupation.id, champion).method is Method.HEAD
            )
            versions.publish(
                connection,
                occupation=occupation.id,
                method=Method.HEAD,
                encoder_digest=encoder,
                trunk_digest=None,
                artifact_digest=artifact,
                manifest=trained.manifest,
                registration=registration,
                promote=promote,
                trained_on=trained.head.example_digests,
            )


def describe_failure(error: Exception) -> tuple[str, str, str]:
    """Code, title and detail of a failed registration; foreign errors' words are not repeated."""
    if isinstance(error, VocationError):
        return error.code, error.title, error.detail
    if isinstance(error, OperationalError):
        # dbos, which writes to the same database, raises the driver's own.
        return describe_failure(
            StorageUnavailable(f"The registry's database answered: {error.orig}")
        )
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
        detail = f"{reason}. What answered before goes on answering."
        return "storage_unavailable", "An artifact cannot be written", detail
    return "training_failed", "Training failed", f"{type(error).__name__}; see the Trainer's log."
