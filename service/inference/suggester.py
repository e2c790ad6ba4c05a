"""Suggest calls: embed unlabelled experiences in small steps, score them, choose what to label."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import CancelledError
from threading import Event

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import (
    OccupationNotFound,
    OccupationNotReady,
    VersionUnavailable,
)
from service.domain.types import Experience
from service.inference.embedding import embed_texts
from service.inference.embedding_cache import EmbeddingCache
from service.inference.encoder_cache import LoadedEncoder
from service.inference.model_cache import ModelCache
from service.inference.scorer import LABELS, familiarity_of
from service.inference.snapshot import SCORE_DIGITS, EncoderGroup, Snapshot, Target, make_target
from service.inference.suggesting import Candidates, suggest
from service.inference.suggestions import Suggested, Suggestion
from service.registry.database import Database
from service.registry.occupations import examples_by_digest

logger = logging.getLogger(__name__)

# Texts encoded at once. On CPU a run or two, which is soon over: between them a call that was given
# up is seen. A GPU runs a padded batch of 32 anyhow.
TEXTS_AT_ONCE = {"int8": 8, "fp16": 32}


class Suggester:
    """Says which of many experiences are worth a label, without keeping any of them."""

    def __init__(self, database: Database, cache: ModelCache, embeddings: EmbeddingCache) -> None:
        self._database = database
        self._cache = cache
        self._embeddings = embeddings

    def suggest(
        self,
        occupation: str,
        version: int | None,
        experiences: Sequence[Experience],
        limit: int,
        given_up: Event,
    ) -> Suggested:
        """Choose at most ``limit`` experiences for a version, the champion when None.

        Repeated texts count once, and examples of the occupation are left out. Stops with
        CancelledError soon after ``given_up`` is set.

        Raises OccupationNotFound, OccupationNotReady, VersionNotFound or VersionUnavailable.
        """
        target = self._target(occupation, version)
        first: dict[str, int] = {}
        for index, experience in enumerate(experiences):
            first.setdefault(experience.digest, index)
        with self._database.read() as connection:
            known = examples_by_digest(connection, occupation, list(first))
        places = [index for digest, index in first.items() if digest not in known]
        texts = [experiences[index].rendered for index in places]
        return Suggested(
            occupation=occupation,
            version=target.versions[0].version.number,
            threshold=target.groups[0].thresholds[0],
            items=self._choose(target.groups[0], texts, places, limit, given_up),
            skipped=sum(experience.digest in known for experience in experiences),
            repeated=sum(
                first[experience.digest] != index and experience.digest not in known
                for index, experience in enumerate(experiences)
            ),
        )

    def _choose(
        self,
        group: EncoderGroup,
        texts: Sequence[str],
        places: Sequence[int],
        limit: int,
        given_up: Event,
    ) -> tuple[Suggestion, ...]:
        if not texts:
            return ()
        embeddings, background_similarity = self._embed(group, texts, given_up)
        scores = np.round(group.stack.scores(embeddings), SCORE_DIGITS)
        familiarity = familiarity_of(group, embeddings, background_similarity)
        labels = group.stack.labels(scores, familiarity)[:, 0]
        head = group.versions[0].head
        chosen = suggest(
            Candidates(
                embeddings=embeddings,
                scores=scores[:, 0],
                labels=labels,
                familiar=familiarity[:, 0] >= head.familiarity_floor,
            ),
            limit,
        )
        return tuple(
            Suggestion(places[row], float(scores[row, 0]), LABELS[int(labels[row])], reason)
            for row, reason in chosen
        )

    def _target(self, occupation: str, version: int | None) -> Target:
        snapshot = self._cache.snapshot()
        try:
            return self._resolve(snapshot, occupation, version)
        except (OccupationNotFound, OccupationNotReady):
            # It may be seconds old: look before denying it, as admission does for classify.
            self._cache.refresh()
            if self._cache.snapshot() is snapshot:
                raise
            return self._resolve(self._cache.snapshot(), occupation, version)

    def _resolve(self, snapshot: Snapshot, occupation: str, version: int | None) -> Target:
        # An id never holds an @, and what is not an id is not parsed as a reference.
        if version is None or occupation not in snapshot.occupations:
            return make_target([snapshot.champion(occupation)])
        return self._cache.resolve(snapshot, [f"{occupation}@{version}"])

    def _embed(
        self, group: EncoderGroup, texts: Sequence[str], given_up: Event
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeddings float32[n, d] and largest similarities to the background float32[n]."""
        digest = group.encoder_digest
        loaded = self._encoder(digest)
        at_once = TEXTS_AT_ONCE[loaded.encoder.spec.precision]
        embeddings, similarities = [], []
        for start in range(0, len(texts), at_once):
            if given_up.is_set():
                raise CancelledError
            part = texts[start : start + at_once]
            embedded = embed_texts({digest: part}, {digest: loaded}, self._embeddings)[digest]
            embeddings.append(embedded.embeddings)
            similarities.append(embedded.background_similarity)
        return np.concatenate(embeddings), np.concatenate(similarities)

    def _encoder(self, digest: str) -> LoadedEncoder:
        try:
            return self._cache.encoders.get(digest)
        except Exception:
            logger.exception("an encoder cannot be loaded", extra={"encoder": digest})
            raise VersionUnavailable("This version's encoder cannot be loaded.") from None
