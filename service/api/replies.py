"""Domain types as the fields of replies."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from sqlalchemy import Connection

from service.api.schemas import ExampleCountsOut, PublishedVersionOut, RegistrationOut
from service.domain.types import ModelVersion, Occupation, Registration
from service.registry import occupations, versions


def accepted(registration: Registration, response: Response) -> RegistrationOut:
    """A 202's body and headers."""
    response.headers["Location"] = f"/v1/registrations/{registration.id}"
    response.headers["Retry-After"] = "1"
    return registration_reply(registration)


def registration_reply(registration: Registration) -> RegistrationOut:
    """A registration as callers read it."""
    return RegistrationOut(
        id=registration.id,
        occupation=registration.occupation,
        state=registration.state,
        stage=registration.stage,
        progress=registration.progress,
        versions=[
            PublishedVersionOut(version=v.number, method=v.method, champion=v.champion)
            for v in registration.versions
        ],
        error=dict(registration.error) if registration.error is not None else None,
        created_at=registration.created_at,
        updated_at=registration.updated_at,
    )


def occupation_fields(connection: Connection, occupation: Occupation) -> dict[str, Any]:
    """An occupation's fields with its champion and example counts."""
    counts = occupations.count_examples(connection, occupation.id)
    return {
        "id": occupation.id,
        "name": occupation.name,
        "description": occupation.description,
        "prevalence": occupation.prevalence,
        "method": occupation.method,
        "origin": occupation.origin.value,
        "champion": versions.champion_number(connection, occupation.id),
        "examples": ExampleCountsOut(**{"in": counts.examples_in, "out": counts.examples_out}),
        "created_at": occupation.created_at,
        "updated_at": occupation.updated_at,
    }


def version_metrics(version: ModelVersion) -> dict[str, Any]:
    """A version's metrics as its manifest holds them."""
    return dict(version.manifest.get("metrics", {}))


def version_fields(version: ModelVersion, champion: int | None) -> dict[str, Any]:
    """A version's fields."""
    return {
        "occupation": version.occupation,
        "version": version.number,
        "method": version.method,
        "champion": version.number == champion,
        "encoder": version.encoder_digest,
        "registration": version.registration,
        "metrics": version_metrics(version),
        "erased_examples": version.erased_examples,
        "created_at": version.created_at,
    }
