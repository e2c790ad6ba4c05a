"""The ceiling: the served graph with one text per run and one thread per CPU, without HTTP.

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
import onnxruntime as ort

from benchmarks.serving_bench.client import emit
from benchmarks.serving_bench.texts import Texts
from service.inference.encoder_spec import MODEL_FILE, read_spec
from service.inference.tokenizer import Tokenizer


class Ceiling:
    """Threads that tokenise and encode one text after the other."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._spec = read_spec(folder)
        self._tokenizer = Tokenizer(folder, self._spec)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(
            str(folder / MODEL_FILE), options, providers=["CPUExecutionProvider"]
        )
        self._threads = threads

    def run(self, texts: Sequence[str], warm_seconds: float, seconds: float) -> dict[str, Any]:
        """Encode for some seconds; the latencies of single texts within them."""
        started = time.perf_counter() + warm_seconds
        ended = started + seconds
        counted: list[list[float]] = [[] for _ in range(self._threads)]
        taken = iter(range(10**12))

        def work(latencies: list[float]) -> None:
            while (begin := time.perf_counter()) < ended:
                # Taking the next number is atomic: the iterator is written in C.
                self._encode(texts[next(taken) % len(texts)])
                if started <= begin and (now := time.perf_counter()) <= ended:
                    latencies.append(now - begin)

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

    def _encode(self, text: str) -> None:
        ids = self._tokenizer(text).ids[None, :]
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        if "token_type_ids" in self._spec.inputs:
            feeds["token_type_ids"] = np.zeros_like(ids)
        self._session.run([self._spec.output], feeds)


def main() -> None:
    """Answer jobs until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    texts = Texts(options.root, options.seed)
    ceiling = Ceiling(options.encoder, options.threads)
    for line in sys.stdin:
        job = json.loads(line)
        count = job["requests"] * job["per_request"]
        numbers = range(job["first"], job["first"] + count)
        rendered = [texts.rendered(job["kind"], number) for number in numbers]
        emit("done", **ceiling.run(rendered, job["warm_seconds"], job["seconds"]))


if __name__ == "__main__":
    main()
