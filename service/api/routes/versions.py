"""``/v1/occupations/{id}/versions`` and ``champion``: read versions, promote or roll back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from service.api.card import model_card
from service.api.context import Context, Cursor, Limit
from service.api.replies import version_fields
from service.api.schemas import ChampionIn, ChampionOut, ManifestOut, VersionOut, VersionsOut
from service.registry import occupations, versions

router = APIRouter(prefix="/v1/occupations/{id}", tags=["versions"])

Number = Annotated[int, Path(ge=1, le=2_147_483_647)]


@router.get("/versions", summary="List versions")
def list_all(id: str, context: Context, limit: Limit = 100, cursor: Cursor = None) -> VersionsOut:
    """Versions of an occupation, the newest first."""
    with context.database.read() as connection:
        occupations.get_occupation(connection, id)
        page = versions.list_versions(connection, id, limit, cursor)
        champion = versions.champion_number(connection, id)
    items = [VersionOut(**version_fields(version, champion)) for version in page.items]
    return VersionsOut(items=items, next_cursor=page.next_cursor)


@router.get("/versions/{number}", summary="Read a version's manifest")
def read(id: str, number: Number, context: Context) -> ManifestOut:
    """Everything that made a version: data digest, encoder, metrics, durations, libraries."""
    with context.database.read() as connection:
        occupations.get_occupation(connection, id)
        version = versions.get_version(connection, id, number)
        champion = versions.champion_number(connection, id)
    return ManifestOut(**version_fields(version, champion), manifest=dict(version.manifest))


@router.get(
    "/versions/{number}/card",
    summary="Read a version's model card",
    response_class=Response,
    responses={200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}},
)
def card(id: str, number: Number, context: Context) -> Response:
    """The model card in Markdown."""
    with context.database.read() as connection:
        occupation = occupations.get_occupation(connection, id)
        version = versions.get_version(connection, id, number)
    return Response(model_card(occupation, version), media_type="text/markdown; charset=utf-8")


@router.put("/champion", summary="Promote or roll back")
def promote(id: str, body: ChampionIn, context: Context) -> ChampionOut:
    """Make a version the one that answers, in every process."""
    with context.database.read() as connection:
        occupations.get_occupation(connection, id)
        version = versions.get_version(connection, id, body.version)
    # Ahead of the write, which nobody may wait for.
    context.cache.require_whole(version)
    with context.database.write() as connection:
        occupations.get_occupation(connection, id)
        versions.set_champion(connection, id, body.version)
    context.cache.refresh()
    return ChampionOut(occupation=id, version=body.version)
