from __future__ import annotations

import asyncio

from service.api import classify
from service.api.classify_route import _admit
from service.inference.batch import ScoringRequest
from service.inference.encoder import SideBySide
from service.inference.model_cache import ModelCache
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from tests.support.make import add_served, head


class Overtaken(ModelCache):
    """The process's own follower is always a moment ahead of whoever calls ``refresh``."""

    def refresh(self) -> bool:
        super().refresh()
        return super().refresh()


def test_an_occupation_that_the_follower_has_just_loaded_is_not_denied(
    database: Database,
    artifacts: ArtifactStore,
    side_by_side: SideBySide,
    base_encoder: EncoderRecord,
) -> None:
    cache = Overtaken(database, artifacts, side_by_side, version_entries=4, encoder_bytes=1 << 30)
    assert not cache.refresh()
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    body = b'{"experiences": [{"text": "a", "occupations": ["sommelier"]}]}'
    (item,) = asyncio.run(_admit(classify.parse(body), cache))
    assert isinstance(item, ScoringRequest)
