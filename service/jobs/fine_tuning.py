"""The ``setfit`` method's stages: a child process tunes, then the result is published whole."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import shutil
import time
from pathlib import Path

from service.domain.errors import (
    EncoderUnusable,
    RegistrationCancelled,
    TrainingFailed,
    VocationError,
)
from service.domain.types import Method, Stage
from service.inference.encoder_cache import BACKGROUND_TENSORS
from service.jobs.training_child import Ended, run_child
from service.jobs.tuned_version import discard, publish, read_outcome, store
from service.registry import encoders, occupations, registrations, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.settings import Settings, available_cpus
from service.telemetry import metrics
from service.training.background import read_background
from service.training.child import NO_ROOM, REFUSED, UNUSABLE
from service.training.encoder_source import resolve_encoder

logger = logging.getLogger(__name__)

# A child that is killed (by the kernel for its memory, by a person) is started again: twice, since
# one that is too large for the machine would be killed for ever.
_ATTEMPTS = 3


class FineTuning:
    """Tunes one registration after another in ``<home>/jobs/<registration>``."""

    def __init__(self, settings: Settings, database: Database, artifacts: ArtifactStore) -> None:
        self._settings = settings
        self._database = database
        self._artifacts = artifacts
        self._jobs = settings.home.resolve() / "jobs"

    def wanted(self, registration: str) -> bool:
        """Whether a registration goes on after its ``head`` version."""
        with self._database.read() as connection:
            method = registrations.get_registration(connection, registration).method
        return method is Method.SETFIT or (
            method is Method.AUTO and self._settings.fine_tuning == "auto"
        )

    def sweep(self) -> None:
        """Remove the folders of registrations that have ended; safe while others run."""
        # Listed before the registry is read: a folder is made by a registration that is active.
        folders = list(self._jobs.glob("*"))
        if not folders:
            return
        with self._database.read() as connection:
            active = set(registrations.active_ids(connection))
        for folder in folders:
            if folder.name not in active:
                shutil.rmtree(folder, ignore_errors=True)

    async def tune(self, registration: str) -> None:
        """Run the child; what it made stands in the job's folder when this returns.

        The child is killed when this is cancelled. Raises RegistrationCancelled, OSError where
        the disk is full, and TrainingFailed or EncoderUnusable with the child's own words.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            folder = await asyncio.to_thread(self._write_job, registration)
            ended = await run_child(
                folder,
                lambda stage, progress: self._advance(registration, stage, progress),
                lambda: self._active(registration),
            )
            if not await asyncio.to_thread(self._active, registration):
                raise RegistrationCancelled("The registration was cancelled.")
            if ended.status >= 0:
                _check(ended)
                return
            logger.warning(
                "the training process was killed by signal %d, %d of %d times",
                -ended.status,
                attempt,
                _ATTEMPTS,
                extra={"registration": registration},
            )
        raise TrainingFailed(
            f"The training process was killed {_ATTEMPTS} times, last by signal {-ended.status}; "
            "the kernel does so where memory runs out."
        )

    def publish(self, registration: str) -> None:
        """Store the tuned encoder and its head, and promote the version if the gate says so."""
        started = time.perf_counter()
        with self._database.write() as connection:
            if versions.find_published(connection, registration, Method.SETFIT) is not None:
                return
            if not registrations.advance(connection, registration, Stage.PUBLISH, 0.96):
                raise RegistrationCancelled("The registration was cancelled.")
        folder = self._jobs / registration
        outcome = read_outcome(folder / "out")
        made: list[str] = []
        try:
            stored = store(self._artifacts, folder / "out", made)
            with self._database.write() as connection:
                publish(connection, registration, outcome, stored, self._settings.keep_versions)
        except Exception:
            discard(self._database, self._artifacts, made)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        for stage, seconds in outcome.manifest["durations_seconds"].items():
            metrics.TRAINING_SECONDS.labels(stage).observe(seconds)
        metrics.TRAINING_SECONDS.labels(Stage.PUBLISH.value).observe(time.perf_counter() - started)

    def _write_job(self, registration: str) -> Path:
        with self._database.write() as connection:
            if not registrations.advance(connection, registration, Stage.TRAIN, 0.2):
                raise RegistrationCancelled("The registration was cancelled.")
            job = registrations.get_registration(connection, registration)
            occupation = occupations.get_occupation(connection, job.occupation)
            examples = occupations.all_examples(connection, job.occupation)
            base = encoders.base_encoder(connection)
        if base is None:
            raise TrainingFailed("The base encoder is not built.")
        source = resolve_encoder(self._settings.encoder)
        background = read_background(self._settings.background)
        content = {
            "source": str(source.folder),
            "base_encoder": str(self._artifacts.open_local(base.digest)),
            "encoder_name": source.name,
            "name": occupation.name,
            "examples": [
                {
                    "text": item.example.experience.rendered,
                    "label": item.example.label.value,
                    "suggested": item.example.suggested,
                    "digest": item.example.experience.digest,
                }
                for item in examples
            ],
            "background": [row.rendered for row in background],
            "base_background": str(
                self._artifacts.open_local(base.background_digest) / BACKGROUND_TENSORS
            ),
            "prevalence": occupation.prevalence,
            "method": job.method.value,
            "tuned_layers": self._settings.tuned_layers,
            # Tuning every layer takes minutes a fold.
            "fold_repeats": 1 if self._settings.tuned_layers == "all" else 2,
            "threads": available_cpus(),
        }
        folder = self._jobs / registration
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps(content))
        return folder

    def _advance(self, registration: str, stage: Stage, progress: float) -> None:
        # Work does not stop because nobody can be told how far it is.
        with contextlib.suppress(VocationError), self._database.write() as connection:
            registrations.advance(connection, registration, stage, round(progress, 3))

    def _active(self, registration: str) -> bool:
        with self._database.read() as connection:
            return registrations.is_active(connection, registration)


def _check(ended: Ended) -> None:
    """Raise what an exit status stands for."""
    if ended.status == UNUSABLE:
        raise EncoderUnusable(ended.last_line)
    if ended.status == REFUSED:
        raise TrainingFailed(ended.last_line)
    if ended.status == NO_ROOM:
        raise OSError(errno.ENOSPC, ended.last_line)
    if ended.status != 0:
        logger.error("the child's last words: %s", ended.said[-4000:])
        raise TrainingFailed(f"The training process ended with status {ended.status}.")
