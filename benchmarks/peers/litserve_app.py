"""LitServe around the same graph and head, with request batching.

Settings from LitServe's own documentation (docstrings of ``LitServer`` and ``LitServer.run``,
0.2.19): on CPU as many ``workers_per_device`` as there are cores, ``fast_queue`` above 100 requests
a second, ``max_batch_size`` with a short ``batch_timeout``; as many HTTP processes as workers is its
default.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

import litserve as ls  # type: ignore[import-not-found]  # in the peer's own environment

from benchmarks.peers.scoring import TextScorer


class OccupationApi(ls.LitAPI):  # type: ignore[misc]  # as above
    """Requests of texts; a batch joins the texts of several requests."""

    def __init__(self, bundle: Path, texts_per_run: int, **options: Any) -> None:
        super().__init__(**options)
        self._bundle, self._texts_per_run = bundle, texts_per_run
        self._sizes: list[int] = []

    def setup(self, device: Any) -> None:
        """Load; each worker has one thread of its own."""
        del device
        self._scorer = TextScorer(self._bundle, 1, self._texts_per_run)

    # Not annotated: LitServe takes an annotation for a schema that FastAPI shall validate.
    def decode_request(self, request, **_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN201
        """The texts of a request."""
        texts: list[str] = request["texts"]
        return texts

    def batch(self, inputs: list[list[str]], **_: Any) -> list[str]:
        """The texts of several requests."""
        self._sizes = [len(texts) for texts in inputs]
        return [text for texts in inputs for text in texts]

    def predict(self, texts: list[str], **_: Any) -> list[dict[str, Any]]:
        """Score the texts of a batch."""
        return self._scorer.score(texts)

    def unbatch(self, output: list[dict[str, Any]], **_: Any) -> list[list[dict[str, Any]]]:
        """The scores of each request."""
        rest = iter(output)
        return [list(islice(rest, size)) for size in self._sizes]

    def encode_response(self, output, **_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN201
        """The reply of a request."""
        return {"results": output}


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--texts-per-run", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    server = ls.LitServer(
        OccupationApi(options.bundle, options.texts_per_run, max_batch_size=8, batch_timeout=0.002),
        accelerator="cpu",
        workers_per_device=options.threads,
        fast_queue=True,
        timeout=120,
    )
    server.run(
        host="127.0.0.1",
        port=options.port,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
