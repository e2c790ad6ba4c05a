"""The load client, a process of its own: one JSON job a line in, JSON events a line out.

Bodies are encoded before a job's load begins, so its own CPU time is that of sending and reading.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.serving_bench.bodies import encode_body, encode_request
from benchmarks.serving_bench.http import Reply, connect
from benchmarks.serving_bench.loads import ClosedLoad, OpenLoad
from benchmarks.serving_bench.texts import Texts


class Client:
    """Answers jobs over one set of texts, which ask for one occupation."""

    def __init__(self, texts: Texts, occupation: str) -> None:
        self._texts = texts
        self._occupation = occupation
        # The contenders of a round ask for the same bodies one after the other.
        self._bodies = lru_cache(maxsize=4)(self._encode)

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do a job: ``once``, ``closed`` or ``open``."""
        bodies = self._bodies(
            job["dialect"], job["kind"], job["per_request"], job["first"], job["requests"]
        )
        requests = [encode_request(job["path"], body) for body in bodies]
        # The bodies live until the next job: no collection needs to look at them meanwhile.
        gc.collect()
        gc.freeze()
        if job["mode"] == "once":
            return asyncio.run(_once(job["port"], requests[0]))
        repeated = Counted(requests)
        if job["mode"] == "closed":
            load = ClosedLoad(job["port"], repeated, job["connections"], lambda: emit("mark"))
            window = asyncio.run(load.run(job["warm_seconds"], job["seconds"]))
            found = {**asdict(window), "errors": dict(window.errors)}
        else:
            emit("mark")
            arrivals = OpenLoad(job["port"], repeated, job["connections"])
            answers = asyncio.run(arrivals.run(job["times"]))
            found = {
                "answers": [(a.meant, a.lag, a.latency, a.status, a.retry_after) for a in answers]
            }
        return {**found, "repeated": repeated.taken > len(requests)}

    def _encode(
        self, dialect: Any, kind: Any, per_request: int, first: int, requests: int
    ) -> list[bytes]:
        starts = range(first, first + requests * per_request, per_request)
        return [
            encode_body(
                self._texts, dialect, self._occupation, kind, range(start, start + per_request)
            )
            for start in starts
        ]


class Counted(Iterator[bytes]):
    """Requests over and over, with the number that was taken."""

    def __init__(self, requests: list[bytes]) -> None:
        self.taken = 0
        self._requests = itertools.cycle(requests)

    def __next__(self) -> bytes:
        """The next request."""
        self.taken += 1
        return next(self._requests)


async def _once(port: int, request: bytes) -> dict[str, Any]:
    replies: asyncio.Queue[Reply] = asyncio.Queue()
    connection = await connect(port, lambda _, reply: replies.put_nowait(reply))
    connection.send(request, 0.0)
    reply = await asyncio.wait_for(replies.get(), 60)
    connection.close()
    return {"status": reply.status, "body": reply.body.decode()}


def emit(event: str, **content: Any) -> None:
    """Tell the process that measures."""
    print(json.dumps({"event": event, **content}), flush=True)


def main() -> None:
    """Answer jobs until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--occupation", required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    client = Client(Texts(options.root, options.seed), options.occupation)
    for line in sys.stdin:
        try:
            emit("done", **client.run(json.loads(line)))
        except (OSError, TimeoutError) as error:
            emit("failed", reason=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
