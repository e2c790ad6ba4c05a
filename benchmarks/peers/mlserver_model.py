"""MLServer's custom runtime around the same graph and head, with adaptive batching.

Settings from MLServer's user guide: ``max_batch_size`` and ``max_batch_time`` turn adaptive batching
on; ``parallel_workers: 0`` where inference is light and releases the interpreter's lock, so that
nothing is copied between processes (user guide, parallel inference, "Overhead").
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# mlserver is in the peer's own environment.
from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.codecs import StringCodec  # type: ignore[import-not-found]
from mlserver.types import (  # type: ignore[import-not-found]
    InferenceRequest,
    InferenceResponse,
    ResponseOutput,
)

from benchmarks.peers.scoring import TextScorer


class OccupationModel(MLModel):  # type: ignore[misc]
    """Texts in, scores and labels out."""

    async def load(self) -> bool:
        """Load the graph and the head."""
        extra = self.settings.parameters.extra
        self._scorer = TextScorer(Path(extra["bundle"]), extra["threads"], extra["texts_per_run"])
        self._batches = ThreadPoolExecutor(1)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score a batch off the event loop."""
        texts = StringCodec.decode_input(payload.inputs[0])
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._batches, self._scorer.score, texts)
        scores = ResponseOutput(
            name="score", shape=[len(found)], datatype="FP64", data=[f["score"] for f in found]
        )
        labels = StringCodec.encode_output("label", [f["label"] for f in found])
        return InferenceResponse(model_name=self.name, outputs=[scores, labels])
