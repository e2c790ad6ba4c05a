"""The ceiling: the served graph with one thread per CPU, without HTTP.

With one text per run, or as many texts at a time as is asked for, which a packed graph runs together.

A process of its own that takes one JSON job a line: which texts, and for how long.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving_bench.client import emit
from benchmarks.serving_bench.texts import Texts
from service.inference.encoder import cpu_session
from service.inference.encoder_spec import read_spec
from service.inference.packing import padded, shared_runs
from service.inference.tokenizer import Tokenizer


class Ceiling:
    """Threads that tokenise and encode some texts after the other."""

    def __init__(self, folder: Path, threads: int, texts_at_once: int) -> None:
        self._spec = read_spec(folder)
        self._tokenizer = Tokenizer(folder, self._spec)
        self._session = cpu_session(folder)
        self._threads = threads
        self._texts_at_once = texts_at_once

    def run(self, texts: Sequence[str], warm_seconds: float, seconds: float) -> dict[str, Any]:
        """Encode for some seconds; the latencies within them, one for each text."""
        started = time.perf_counter() + warm_seconds
        ended = started + seconds
        counted: list[list[float]] = [[] for _ in range(self._threads)]
        size = self._texts_at_once
        taken = iter(range(0, 10**12, size))

        def work(latencies: list[float]) -> None:
            while (begin := time.perf_counter()) < ended:
                # Taking the next number is atomic: the iterator is written in C.
                first = next(taken)
                self._encode([texts[n % len(texts)] for n in range(first, first + size)])
                if started <= begin and (now := time.perf_counter()) <= ended:
                    latencies += [now - begin] * size

        threads = [threading.Thread(target=work, args=(mine,)) for mine in counted]
        for thread in threads:
            thread.start()
        time.sleep(max(0.0, started - time.perf_counter()))
        emit("mark")
        for thread in threads:
            thread.join()
        emit("mark")
        return {
            "seconds": seconds,
            "wall_seconds": seconds,
            "cpu_seconds": 0.0,
            "latencies": [latency for mine in counted for latency in mine],
            "errors": {},
            "repeated": next(taken) > len(texts),
        }

    def _encode(self, texts: Sequence[str]) -> None:
        tokens = [self._tokenizer(text) for text in texts]
        lengths = [len(text.ids) for text in tokens]
        for run in shared_runs(lengths, 1, together=self._spec.packed):
            ids, mask = padded([tokens[number].ids for number in run], self._spec.pad_token_id)
            feeds = {"input_ids": ids, "attention_mask": mask}
            if "token_type_ids" in self._spec.inputs:
                feeds["token_type_ids"] = np.zeros_like(ids)
            self._session.run([self._spec.output], feeds)


def main() -> None:
    """Answer jobs until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--texts-at-once", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    texts = Texts(options.root, options.seed)
    ceiling = Ceiling(options.encoder, options.threads, options.texts_at_once)
    for line in sys.stdin:
        job = json.loads(line)
        count = job["requests"] * job["per_request"]
        numbers = range(job["first"], job["first"] + count)
        rendered = [texts.rendered(job["kind"], number) for number in numbers]
        emit("done", **ceiling.run(rendered, job["warm_seconds"], job["seconds"]))


if __name__ == "__main__":
    main()
