"""The ``setfit`` method's stages: a child process tunes, then the result is published whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from service.domain.errors import EncoderUnusable, RegistrationCancelled, TrainingFailed
from service.domain.types import Method, ModelVersion, Stage
from service.inference.encoder_cache import BACKGROUND_TENSORS
from service.inference.encoder_spec import SPEC_FILE
from service.inference.head import HEAD_RULES, HEAD_TENSORS
from service.registry import encoders, occupations, registrations, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.settings import Settings, available_cpus
from service.telemetry import metrics
from service.training.background import read_background
from service.training.encoder_source import resolve_encoder

logger = logging.getLogger(__name__)

_CHILD = "service.training.setfit_child"
# Where the stages of the child begin and end within a registration's progress.
_PROGRESS = {
    Stage.TRAIN: (0.2, 0.6),
    Stage.EXPORT: (0.6, 0.8),
    Stage.CALIBRATE: (0.8, 0.9),
    Stage.GATE: (0.9, 0.95),
}
_STAGES = frozenset(stage.value for stage in _PROGRESS)
_REPORT_SECONDS = 0.5
_CANCEL_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the child decided."""

    manifest: Mapping[str, Any]
    promote: bool
    reason: str


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
        """Remove the folders of registrations that have finished."""
        with self._database.read() as connection:
            active = set(registrations.active_ids(connection))
        for folder in self._jobs.glob("*"):
            if folder.name not in active:
                shutil.rmtree(folder, ignore_errors=True)

    async def tune(self, registration: str) -> None:
        """Run the child; what it made stands in the job's folder when this returns.

        The child is killed when this is cancelled. Raises RegistrationCancelled, TrainingFailed,
        or EncoderUnusable with the child's own words.
        """
        folder = await asyncio.to_thread(self._write_job, registration)
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _CHILD,
            str(folder),
            # Held open and never written to: the child ends when this process has ended.
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        errors = asyncio.create_task(_read_all(child.stderr))
        watch = asyncio.create_task(self._end_when_cancelled(registration, child))
        try:
            await self._follow(registration, child)
            status = await child.wait()
            said = await errors
        finally:
            watch.cancel()
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        if not await asyncio.to_thread(self._active, registration):
            raise RegistrationCancelled("The registration was cancelled.")
        if status == 2:
            raise EncoderUnusable(said.strip().splitlines()[-1])
        if status != 0:
            logger.error("the child's last words: %s", said[-4000:])
            raise TrainingFailed(f"The training process ended with status {status}.")

    def publish(self, registration: str) -> None:
        """Store the tuned encoder and its head, and promote the version if the gate says so."""
        started = time.perf_counter()
        with self._database.read() as connection:
            if versions.find_published(connection, registration, Method.SETFIT) is not None:
                return
        folder = self._jobs / registration
        out = folder / "out"
        result = json.loads((out / "result.json").read_bytes())
        outcome = Outcome(result["manifest"], result["promote"], result["reason"])
        trunk = self._put_trunk(out)
        encoder = self._put_encoder(out, trunk)
        head = self._artifacts.put({name: out / name for name in (HEAD_TENSORS, HEAD_RULES)})
        manifest = {
            **outcome.manifest,
            "encoder": {**outcome.manifest["encoder"], "digest": encoder, "trunk": trunk},
        }
        for stage, seconds in manifest["durations_seconds"].items():
            metrics.TRAINING_SECONDS.labels(stage).observe(seconds)
        with self._database.write() as connection:
            if not registrations.advance(connection, registration, Stage.PUBLISH, 0.97):
                raise RegistrationCancelled("The registration was cancelled.")
            job = registrations.get_registration(connection, registration)
            promote, reason = _verdict(connection, job.occupation, registration, outcome)
            versions.publish(
                connection,
                occupation=job.occupation,
                method=Method.SETFIT,
                encoder_digest=encoder,
                trunk_digest=trunk,
                artifact_digest=head,
                manifest={**manifest, "decision": {"promoted": promote, "reason": reason}},
                registration=registration,
                promote=promote,
            )
            if not promote:
                _prefer_own_head(connection, job.occupation, registration, outcome)
            versions.prune(connection, job.occupation, self._settings.keep_versions)
        shutil.rmtree(folder, ignore_errors=True)
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
                    "digest": item.example.experience.digest,
                }
                for item in examples
            ],
            "background": [row.rendered for row in background],
            "prevalence": occupation.prevalence,
            "method": job.method.value,
            "tuned_layers": self._settings.tuned_layers,
            "threads": available_cpus(),
        }
        folder = self._jobs / registration
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps(content))
        return folder

    async def _follow(self, registration: str, child: asyncio.subprocess.Process) -> None:
        reported = 0.0
        async for line in _lines(child.stdout):
            name, _, fraction = line.decode().strip().partition(" ")
            if name not in _STAGES or time.monotonic() - reported < _REPORT_SECONDS:
                continue
            stage = Stage(name)
            low, high = _PROGRESS[stage]
            progress = low + (high - low) * float(fraction)
            reported = time.monotonic()
            await asyncio.to_thread(self._advance, registration, stage, progress)

    async def _end_when_cancelled(
        self, registration: str, child: asyncio.subprocess.Process
    ) -> None:
        # dbos looks once a second for a cancelled workflow; a caller was promised one second.
        while await asyncio.to_thread(self._active, registration):  # noqa: ASYNC110 - no event
            await asyncio.sleep(_CANCEL_POLL_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            child.kill()

    def _advance(self, registration: str, stage: Stage, progress: float) -> None:
        with self._database.write() as connection:
            registrations.advance(connection, registration, stage, round(progress, 3))

    def _active(self, registration: str) -> bool:
        with self._database.read() as connection:
            return registrations.is_active(connection, registration)

    def _put_trunk(self, out: Path) -> str | None:
        trunk = out / "trunk"
        if not trunk.exists():
            return None
        return self._artifacts.put({path.name: path for path in trunk.iterdir()})

    def _put_encoder(self, out: Path, trunk: str | None) -> str:
        files: dict[str, bytes | Path] = {path.name: path for path in (out / "encoder").iterdir()}
        spec = json.loads((out / "encoder" / SPEC_FILE).read_bytes())
        files[SPEC_FILE] = json.dumps({**spec, "trunk": trunk}, indent=1, sort_keys=True).encode()
        files[BACKGROUND_TENSORS] = out / BACKGROUND_TENSORS
        return self._artifacts.put(files)


def _verdict(
    connection: Connection, occupation: str, registration: str, outcome: Outcome
) -> tuple[bool, str]:
    champion = _champion(connection, occupation)
    # Ids of registrations sort by the time of their making.
    if champion is not None and champion.registration > registration:
        return False, "a newer registration's version answers"
    return outcome.promote, outcome.reason


def _prefer_own_head(
    connection: Connection, occupation: str, registration: str, outcome: Outcome
) -> None:
    """Where the gate refused, the head on the new examples replaces an older tuned champion."""
    champion = _champion(connection, occupation)
    head = versions.find_published(connection, registration, Method.HEAD)
    if (
        head is not None
        and champion is not None
        and not outcome.promote
        and champion.method is Method.SETFIT
        and champion.registration < registration
    ):
        versions.set_champion(connection, occupation, head.number)


def _champion(connection: Connection, occupation: str) -> ModelVersion | None:
    number = versions.champion_number(connection, occupation)
    return versions.get_version(connection, occupation, number) if number is not None else None


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[bytes]:
    if stream is not None:
        async for line in stream:
            yield line


async def _read_all(stream: asyncio.StreamReader | None) -> str:
    return (await stream.read()).decode(errors="replace") if stream is not None else ""
