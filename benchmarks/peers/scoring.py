"""The ordinary int8 graph of the served encoder and one head, for peers that run a model of the user's own.

``texts_per_run`` short texts of similar length share a padded run, on several threads; longer ones
run alone, for padding costs them more than a shared run saves. Where texts share a run, the score
of one moves with the others. Needs nothing but numpy, onnxruntime and tokenizers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

SHORT_TOKENS = 16


class TextScorer:
    """Texts to scores of one occupation."""

    def __init__(self, bundle: Path, threads: int, texts_per_run: int) -> None:
        spec = json.loads((bundle / "encoder" / "encoder.json").read_text())
        head = json.loads((bundle / "head.json").read_text())
        self._inputs, self._output, self._pad = spec["inputs"], spec["output"], spec["pad_token_id"]
        self._weights = np.array(head["weights"], dtype=np.float32)
        self._bias, self._threshold = head["bias"], head["threshold"]
        self._tokenizer = Tokenizer.from_file(str(bundle / "encoder" / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec["max_tokens"])
        options = ort.SessionOptions()
        # Several runs side by side are faster than one run on several threads.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # As in the service: one arena for runs side by side moves buffers between processors.
        options.enable_cpu_mem_arena = False
        self._session = ort.InferenceSession(
            str(bundle / "encoder" / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._texts_per_run = texts_per_run

    def score(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """A score and a label for each text, in order."""
        tokens = [self._tokenizer.encode(text).ids for text in texts]
        order = sorted(range(len(texts)), key=lambda index: -len(tokens[index]))
        short = [index for index in order if len(tokens[index]) <= SHORT_TOKENS]
        size = self._texts_per_run
        groups = [[index] for index in order[: len(order) - len(short)]]
        groups += [short[at : at + size] for at in range(0, len(short), size)]
        runs = self._pool.map if self._pool else map
        scores = np.empty(len(texts))
        batches = [[tokens[index] for index in group] for group in groups]
        for group, found in zip(groups, runs(self._run, batches), strict=True):
            scores[group] = found
        return [
            {"score": float(score), "label": "in" if score >= self._threshold else "out"}
            for score in scores
        ]

    def _run(self, tokens: Sequence[Sequence[int]]) -> Any:
        ids = np.full((len(tokens), len(tokens[0])), self._pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, found in enumerate(tokens):
            ids[row, : len(found)] = found
            mask[row, : len(found)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        embeddings = self._session.run([self._output], {n: feeds[n] for n in self._inputs})[0]
        return 1.0 / (1.0 + np.exp(-(embeddings @ self._weights + self._bias)))
