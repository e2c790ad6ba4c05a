"""What a fine-tuning made becomes a version: stored by digest, then published in one transaction."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from service.domain.errors import RegistrationCancelled, VocationError
from service.domain.types import Method, ModelVersion, Stage
from service.inference.encoder_cache import BACKGROUND_TENSORS
from service.inference.encoder_spec import SPEC_FILE
from service.inference.head import HEAD_RULES, HEAD_TENSORS
from service.registry import encoders, registrations, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the child decided, and the digests of the examples that it was given."""

    manifest: Mapping[str, Any]
    promote: bool
    reason: str
    trained_on: Sequence[str]


@dataclass(frozen=True, slots=True)
class Stored:
    """Digests of a tuned version's artifacts; a whole encoder has no trunk."""

    trunk: str | None
    encoder: str
    head: str


def read_outcome(out: Path) -> Outcome:
    """Read what the child decided from the folder it wrote."""
    result = json.loads((out / "result.json").read_bytes())
    rules = json.loads((out / HEAD_RULES).read_bytes())
    return Outcome(
        result["manifest"],
        result["promote"],
        result["reason"],
        rules["example_digests"],
    )


def store(artifacts: ArtifactStore, out: Path, made: list[str]) -> Stored:
    """Store the trunk, the encoder that stands on it, and the head.

    ``made`` is given their digests one by one, so that it tells them where a later one fails.
    """
    trunk = None
    if (out / "trunk").exists():
        trunk = artifacts.put({path.name: path for path in (out / "trunk").iterdir()})
        made.append(trunk)
    files: dict[str, bytes | Path] = {path.name: path for path in (out / "encoder").iterdir()}
    spec = json.loads((out / "encoder" / SPEC_FILE).read_bytes())
    files[SPEC_FILE] = json.dumps({**spec, "trunk": trunk}, indent=1, sort_keys=True).encode()
    files[BACKGROUND_TENSORS] = out / BACKGROUND_TENSORS
    encoder = artifacts.put(files)
    made.append(encoder)
    head = artifacts.put({name: out / name for name in (HEAD_TENSORS, HEAD_RULES)})
    made.append(head)
    return Stored(trunk, encoder, head)


def publish(
    connection: Connection, registration: str, outcome: Outcome, stored: Stored, keep_versions: int
) -> None:
    """Publish a stored version, and promote it if the gate says so.

    Raises RegistrationCancelled, or OccupationNotFound when the occupation was deleted meanwhile.
    """
    if not registrations.advance(connection, registration, Stage.PUBLISH, 0.98):
        raise RegistrationCancelled("The registration was cancelled.")
    job = registrations.get_registration(connection, registration)
    promote, reason = _verdict(connection, job.occupation, registration, outcome)
    manifest = {
        **outcome.manifest,
        "encoder": {
            **outcome.manifest["encoder"],
            "digest": stored.encoder,
            "trunk": stored.trunk,
        },
        "decision": {"promoted": promote, "reason": reason},
    }
    versions.publish(
        connection,
        occupation=job.occupation,
        method=Method.SETFIT,
        encoder_digest=stored.encoder,
        trunk_digest=stored.trunk,
        artifact_digest=stored.head,
        manifest=manifest,
        registration=registration,
        promote=promote,
        trained_on=outcome.trained_on,
    )
    if not promote:
        _prefer_own_head(connection, job.occupation, registration, outcome)
    versions.prune(connection, job.occupation, keep_versions)


def discard(database: Database, artifacts: ArtifactStore, made: Iterable[str]) -> None:
    """Remove of ``made`` what no version refers to; for the one process that tunes.

    What cannot be removed now is swept at the next start.
    """
    with contextlib.suppress(VocationError, OSError):
        with database.read() as connection:
            used = versions.referenced_artifacts(connection)
            used |= encoders.referenced_artifacts(connection)
        for digest in set(made) - used:
            artifacts.remove(digest)


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
