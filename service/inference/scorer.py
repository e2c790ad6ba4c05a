"""One batch: encode each distinct text once per encoder, apply all heads, answer per experience."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import VersionUnavailable
from service.domain.types import Label
from service.inference.batch import (
    Answer,
    BatchItem,
    Neighbour,
    RefusedExperience,
    Score,
    ScoredExperience,
    ScoringRequest,
)
from service.inference.embedding import EmbeddedTexts, embed_texts
from service.inference.embedding_cache import EmbeddingCache
from service.inference.encoder_cache import EncoderCache, LoadedEncoder
from service.inference.head import IN, OUT, UNCERTAIN
from service.inference.snapshot import SCORE_DIGITS, EncoderGroup, LoadedVersion
from service.registry.database import Database
from service.registry.occupations import examples_by_digest
from service.telemetry import metrics
from service.telemetry.predictions import PredictionTally

logger = logging.getLogger(__name__)

LABELS = {IN: Label.IN.value, OUT: Label.OUT.value, UNCERTAIN: Label.UNCERTAIN.value}
NEAREST = 3


class Scorer:
    """Scores batches; a score depends on the text and the version alone."""

    def __init__(
        self,
        database: Database,
        encoders: EncoderCache,
        embeddings: EmbeddingCache,
        tally: PredictionTally,
    ) -> None:
        self._database = database
        self._encoders = encoders
        self._embeddings = embeddings
        self._tally = tally

    def score(self, batch: Sequence[BatchItem]) -> list[Answer]:
        """Answer a batch in its order; a refused item never fails its neighbours."""
        requests = [item for item in batch if isinstance(item, ScoringRequest)]
        metrics.EXPERIENCES.labels("error").inc(len(batch) - len(requests))
        if not requests:
            return [item for item in batch if isinstance(item, RefusedExperience)]
        scored = iter(self._score(requests))
        return [item if isinstance(item, RefusedExperience) else next(scored) for item in batch]

    def _score(self, requests: Sequence[ScoringRequest]) -> list[Answer]:
        metrics.BATCH_EXPERIENCES.observe(len(requests))
        loaded, unusable = self._load_encoders(requests)
        answerable = [r for r in requests if not _encoders_of(r) & unusable]
        texts = [request.experience.rendered for request in answerable]
        embedded = embed_texts(_wanted(answerable, texts), loaded, self._embeddings)
        heads_started = time.perf_counter()
        answers = iter(self._apply_heads(answerable, texts, embedded))
        metrics.STAGE_SECONDS.labels("head").observe(time.perf_counter() - heads_started)
        metrics.EXPERIENCES.labels("scored").inc(len(answerable))
        metrics.EXPERIENCES.labels("error").inc(len(requests) - len(answerable))
        unavailable = VersionUnavailable("This version's encoder cannot be loaded.")
        return [
            RefusedExperience(r.id, unavailable) if _encoders_of(r) & unusable else next(answers)
            for r in requests
        ]

    def _load_encoders(
        self, requests: Sequence[ScoringRequest]
    ) -> tuple[dict[str, LoadedEncoder], set[str]]:
        loaded: dict[str, LoadedEncoder] = {}
        unusable: set[str] = set()
        for digest in {digest for request in requests for digest in _encoders_of(request)}:
            try:
                loaded[digest] = self._encoders.get(digest)
            except Exception:
                # Whatever is wrong with it, the others of the batch are answered.
                logger.exception("an encoder cannot be loaded", extra={"encoder": digest})
                unusable.add(digest)
        return loaded, unusable

    def _apply_heads(
        self,
        requests: Sequence[ScoringRequest],
        texts: Sequence[str],
        embedded: dict[str, EmbeddedTexts],
    ) -> list[ScoredExperience]:
        scores: list[list[Score | None]] = [[None] * len(r.target.versions) for r in requests]
        truncated = [False] * len(requests)
        by_target: dict[int, list[int]] = {}
        for index, request in enumerate(requests):
            by_target.setdefault(id(request.target), []).append(index)
        for indices in by_target.values():
            for group in requests[indices[0]].target.groups:
                known = embedded[group.encoder_digest]
                rows = [known.rows[texts[index]] for index in indices]
                for index, row in zip(indices, rows, strict=True):
                    truncated[index] |= bool(known.truncated[row])
                self._apply_group(
                    group,
                    known.embeddings[rows],
                    known.background_similarity[rows],
                    known.truncated[rows],
                    [requests[index].explain for index in indices],
                    [scores[index] for index in indices],
                )
        metrics.TRUNCATIONS.inc(sum(truncated))
        return [
            ScoredExperience(request.id, cut, tuple(s for s in row if s is not None))
            for request, cut, row in zip(requests, truncated, scores, strict=True)
        ]

    def _apply_group(
        self,
        group: EncoderGroup,
        embeddings: NDArray[np.float32],
        background_similarity: NDArray[np.float32],
        truncated: NDArray[np.bool_],
        explain: Sequence[bool],
        answers: Sequence[list[Score | None]],
    ) -> None:
        scores = np.round(group.stack.scores(embeddings), SCORE_DIGITS)
        familiarity = familiarity_of(group, embeddings, background_similarity)
        labels = group.stack.labels(scores, familiarity)
        self._tally.add(group.keys, scores, labels, truncated)
        occupations, numbers = zip(*group.keys, strict=True)
        for row, answer in enumerate(answers):
            nearest: Iterable[tuple[Neighbour, ...] | None] = (
                [self._nearest(version, embeddings[row]) for version in group.versions]
                if explain[row]
                else repeat(None, len(group.versions))
            )
            names = [LABELS[label] for label in labels[row].tolist()]
            found = zip(
                occupations,
                numbers,
                scores[row].tolist(),
                names,
                group.thresholds,
                nearest,
                strict=True,
            )
            for position, score in zip(group.positions, map(Score._make, found), strict=True):
                answer[position] = score

    def _nearest(
        self, version: LoadedVersion, embedding: NDArray[np.float32]
    ) -> tuple[Neighbour, ...]:
        """The version's most similar examples that still stand in the registry.

        Their texts are read now and not kept with the version: an erased example is gone at once.
        """
        head = version.head
        if not len(head.examples):
            return ()
        similarities = np.vecdot(head.examples, embedding)
        order = np.argsort(-similarities, kind="stable")[:NEAREST]
        with self._database.read() as connection:
            stored = examples_by_digest(
                connection, version.version.occupation, [head.example_digests[i] for i in order]
            )
        return tuple(
            Neighbour(
                text=stored[digest].experience.rendered,
                label=head.example_labels[i],
                similarity=round(float(similarities[i]), 4),
            )
            for i in order
            if (digest := head.example_digests[i]) in stored
        )


def _encoders_of(request: ScoringRequest) -> set[str]:
    return {group.encoder_digest for group in request.target.groups}


def _wanted(requests: Sequence[ScoringRequest], texts: Sequence[str]) -> dict[str, list[str]]:
    """The texts of each encoder, by its digest."""
    wanted: dict[str, list[str]] = {}
    for request, text in zip(requests, texts, strict=True):
        for digest in _encoders_of(request):
            wanted.setdefault(digest, []).append(text)
    return wanted


def familiarity_of(
    group: EncoderGroup,
    embeddings: NDArray[np.float32],
    background_similarity: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Largest cosine similarity float32[n, versions] to the background or a version's examples.

    The examples are asked only for a text that the background does not make familiar already.
    """
    familiarity = np.repeat(background_similarity[:, None], len(group.versions), axis=1)
    for row, column in np.argwhere(familiarity < group.stack.familiarity_floors):
        examples = group.versions[column].head.examples
        own = np.vecdot(examples, embeddings[row]).max(initial=-1.0)
        familiarity[row, column] = max(familiarity[row, column], own)
    return familiarity
