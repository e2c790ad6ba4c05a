"""The bare server: Starlette on uvicorn around the service's own encoder and head.

The floor of any Python service: the body is decoded and nothing else of it is checked; nothing is
counted or logged. There are as many threads as CPUs. A request runs on one of them while others keep
the rest busy, its texts packed into shared ONNX runs as the service's are, and is cut into parts when
it is alone. Its replies equal the service's to the byte.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvicorn
from safetensors.numpy import load_file
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.domain.types import Experience
from service.inference.encoder import SideBySide, load_encoder
from service.inference.encoder_cache import BACKGROUND_TENSORS
from service.inference.head import HeadStack, read_head
from service.inference.scorer import LABELS
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import background_of
from service.registry.versions import champions


class BareScorer:
    """The encoder and the head of one occupation's champion, read from a service's home."""

    def __init__(self, home: Path, occupation: str) -> None:
        database = Database(f"sqlite:///{home / 'registry.sqlite'}")
        artifacts = ArtifactStore(str(home / "artifacts"), home / "cache")
        with database.read() as connection:
            version = next(v for v in champions(connection) if v.occupation == occupation)
            background = background_of(connection, version.encoder_digest)
        database.close()
        head = read_head(artifacts.open_local(version.artifact_digest))
        self._stack, self._examples = HeadStack([head]), head.examples
        self._answer = {
            "occupation": occupation,
            "version": version.number,
            "threshold": round(head.threshold, 6),
        }
        folder = artifacts.open_local(version.encoder_digest)
        # Side by side with nobody: each thread runs its own texts.
        self._encoder = load_encoder(folder, version.encoder_digest, SideBySide(1))
        self._background = load_file(artifacts.open_local(background) / BACKGROUND_TENSORS)[
            "embeddings"
        ]

    def score(self, experiences: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The reply's items of some of a request's experiences."""
        texts = [
            Experience(e.get("title"), e.get("company"), e.get("description"), e.get("text"))
            for e in experiences
        ]
        encoded = self._encoder.encode([text.rendered for text in texts])
        stack, rows = self._stack, encoded.embeddings
        scores = np.round(stack.scores(rows), 6)
        familiarity = np.array(
            [[self._familiarity(row, stack.familiarity_floors[0])] for row in rows]
        )
        labels = stack.labels(scores, familiarity)
        return [
            {
                "id": experience.get("id"),
                "truncated": bool(truncated),
                "scores": [
                    {
                        "occupation": self._answer["occupation"],
                        "version": self._answer["version"],
                        "score": float(score[0]),
                        "label": LABELS[int(label[0])],
                        "threshold": self._answer["threshold"],
                    }
                ],
            }
            for experience, truncated, score, label in zip(
                experiences, encoded.truncated, scores, labels, strict=True
            )
        ]

    def _familiarity(self, row: Any, floor: float) -> float:
        nearest = float(np.vecdot(self._background, row).max())
        if nearest < floor:
            nearest = max(nearest, float(np.vecdot(self._examples, row).max(initial=-1.0)))
        return nearest


def create_app(scorer: BareScorer, threads: int) -> Starlette:
    """The application."""
    pool = ThreadPoolExecutor(threads)
    in_progress = 0

    async def classify(request: Request) -> Response:
        nonlocal in_progress
        experiences = orjson.loads(await request.body())["experiences"]
        loop = asyncio.get_running_loop()
        in_progress += 1
        size = -(-len(experiences) // max(1, threads // in_progress))
        parts = [experiences[at : at + size] for at in range(0, len(experiences), size)]
        try:
            scored = await asyncio.gather(
                *(loop.run_in_executor(pool, scorer.score, part) for part in parts)
            )
        finally:
            in_progress -= 1
        body = orjson.dumps([item for part in scored for item in part])
        return Response(body, media_type="application/json")

    async def ready(_: Request) -> Response:
        return Response("ok")

    routes = [Route("/v1/classify", classify, methods=["POST"]), Route("/readyz", ready)]
    return Starlette(routes=routes)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--occupation", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    app = create_app(BareScorer(options.home, options.occupation), options.threads)
    # As the service does: full collections over the objects of the start would stall requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
