"""``/v1/occupations/{id}/suggest``: which of many unlabelled experiences to label next."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter

from service.api.context import Context
from service.api.suggest_schemas import SuggestedOut, SuggestIn, SuggestionOut
from service.inference.suggestions import WHY

router = APIRouter(prefix="/v1/occupations/{id}", tags=["occupations"])


@router.post("/suggest", summary="Suggest what to label next")
async def suggest(id: str, body: SuggestIn, context: Context) -> SuggestedOut:
    """Choose the experiences whose labels would teach the occupation most, each with the reason.

    Nothing is stored: label what is suggested, and add it with `POST .../examples`.
    """
    experiences = [item.experience() for item in body.experiences]
    suggested = await context.aside.run(
        partial(context.suggester.suggest, id, body.version, experiences, body.limit)
    )
    return SuggestedOut(
        occupation=suggested.occupation,
        version=suggested.version,
        threshold=suggested.threshold,
        items=[
            SuggestionOut(
                index=item.index,
                id=body.experiences[item.index].id,
                score=item.score,
                label=item.label,
                reason=item.reason,
                why=WHY[item.reason],
            )
            for item in suggested.items
        ],
        skipped=suggested.skipped,
        repeated=suggested.repeated,
    )
