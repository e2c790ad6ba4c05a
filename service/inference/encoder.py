"""Texts to embeddings on CPU or GPU, each text's embedding independent of its batch mates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.domain.errors import DeviceUnavailable
from service.inference.device import CUDA
from service.inference.encoder_spec import MODEL_FILE, EncoderSpec, read_spec
from service.inference.packing import keeps_apart, padded, shared_runs
from service.inference.tokenizer import Tokenizer, Tokens

T = TypeVar("T")
R = TypeVar("R")

# A text's padded length depends on its own tokens only, and every GPU run has the same number of
# rows: the shape of the matrix products, and so the order of their sums, never depends on who
# else is in the batch.
_PADDED_LENGTHS = (16, 32, 64, 128, 256, 512)
_PADDED_ROWS = 32


@dataclass(frozen=True, slots=True)
class Encoded:
    """Embeddings float32[n, d], tokens int64[n] and truncated bool[n], in the order of the texts."""

    embeddings: NDArray[np.float32]
    tokens: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    tokenise_seconds: float
    encode_seconds: float


class Encoder(Protocol):
    """Turns texts into embeddings."""

    digest: str
    spec: EncoderSpec

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Embed texts."""
        ...


class SideBySide:
    """Runs a function over items on a fixed number of threads, the caller's included."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="encode")

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """``[function(item) for item in items]``, each thread taking the next item when free."""
        results: dict[int, R] = {}
        pending = enumerate(items)
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    taken = next(pending, None)
                if taken is None:
                    return
                index, item = taken
                results[index] = function(item)

        helpers = min(self.threads, len(items)) - 1
        futures = [self._pool.submit(work) for _ in range(helpers)]
        work()
        for future in futures:
            future.result()
        return [results[index] for index in range(len(items))]

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False)


class CpuEncoder:
    """Runs packs of texts of a packed graph, and one text per run of any other, side by side.

    Ordinary dynamic int8 takes one activation scale per run: only a text that runs alone keeps
    its score whatever is beside it. A packed graph keeps texts apart itself, where the machine's
    kernels do as they did when it was made: that is tried here.
    """

    def __init__(self, folder: Path, digest: str, side_by_side: SideBySide) -> None:
        self.digest = digest
        self.spec = read_spec(folder)
        self._tokenizer = Tokenizer(folder, self.spec)
        self._side_by_side = side_by_side
        self._session = cpu_session(folder)
        self._together = self.spec.packed and keeps_apart(self._tokenizer, self._run)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Embed texts, the longest first so that no thread ends long after the others."""
        started = time.perf_counter()
        tokens = [self._tokenizer(text) for text in texts]
        tokenised = time.perf_counter()
        threads = self._side_by_side.threads
        runs = shared_runs([len(t.ids) for t in tokens], threads, together=self._together)
        embeddings = np.empty((len(texts), self.spec.dimensions), dtype=np.float32)

        def run(numbers: list[int]) -> None:
            embeddings[numbers] = self._run([tokens[number] for number in numbers])

        self._side_by_side.map(run, runs)
        return _encoded(embeddings, tokens, started, tokenised)

    def _run(self, texts: Sequence[Tokens]) -> NDArray[np.float32]:
        ids, mask = padded([text.ids for text in texts], self.spec.pad_token_id)
        output: NDArray[np.float32] = self._session.run(
            [self.spec.output], _feeds(self.spec, ids, mask)
        )[0]
        return output


class PaddedEncoder:
    """Runs a graph in padded batches of one shape per length: the way of GPUs."""

    def __init__(self, folder: Path, digest: str, provider: str) -> None:
        self.digest = digest
        self.spec = read_spec(folder)
        self._tokenizer = Tokenizer(folder, self.spec)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            str(folder / MODEL_FILE), options, providers=[provider]
        )
        # ONNX Runtime falls back to the CPU without a word when a provider cannot start.
        if provider not in self._session.get_providers():
            raise DeviceUnavailable(f"ONNX Runtime could not start its {provider}.")

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Embed texts, those of one padded length together."""
        started = time.perf_counter()
        tokens = [self._tokenizer(text) for text in texts]
        tokenised = time.perf_counter()
        embeddings = np.empty((len(texts), self.spec.dimensions), dtype=np.float32)
        for indices, length in _equal_shapes(tokens, self.spec.max_tokens):
            ids = np.full((_PADDED_ROWS, length), self.spec.pad_token_id, dtype=np.int64)
            mask = np.zeros_like(ids)
            # Rows without a text keep one token: a mean over no token is not a number.
            mask[:, 0] = 1
            for row, index in enumerate(indices):
                count = len(tokens[index].ids)
                ids[row, :count] = tokens[index].ids
                mask[row, :count] = 1
            feeds = _feeds(self.spec, ids, mask)
            output = self._session.run([self.spec.output], feeds)[0]
            embeddings[indices] = output[: len(indices)]
        return _encoded(embeddings, tokens, started, tokenised)


def cpu_session(folder: Path) -> ort.InferenceSession:
    """A graph on the CPU with one thread inside a run: several runs go side by side."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # ONNX Runtime's arena hands a buffer that one thread's run gave back to another's: it moves from
    # processor to processor. In half of the measured seconds two runs side by side took a third
    # longer for it; with the allocator of the C library, which keeps threads apart, in none.
    options.enable_cpu_mem_arena = False
    return ort.InferenceSession(
        str(folder / MODEL_FILE), options, providers=["CPUExecutionProvider"]
    )


def load_encoder(folder: Path, digest: str, side_by_side: SideBySide) -> Encoder:
    """Load an encoder artifact: fp16 graphs run on the GPU, int8 graphs on the CPU."""
    if read_spec(folder).precision == "fp16":
        return PaddedEncoder(folder, digest, CUDA)
    return CpuEncoder(folder, digest, side_by_side)


def _feeds(
    spec: EncoderSpec, ids: NDArray[np.int64], mask: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    feeds = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in spec.inputs:
        feeds["token_type_ids"] = np.zeros_like(ids)
    return {name: feeds[name] for name in spec.inputs}


def _equal_shapes(tokens: Sequence[Tokens], max_tokens: int) -> Iterable[tuple[list[int], int]]:
    by_length: dict[int, list[int]] = {}
    for index, item in enumerate(tokens):
        fitting = (n for n in _PADDED_LENGTHS if n >= len(item.ids))
        length = min(next(fitting, max_tokens), max_tokens)
        by_length.setdefault(length, []).append(index)
    for length, indices in by_length.items():
        for start in range(0, len(indices), _PADDED_ROWS):
            yield indices[start : start + _PADDED_ROWS], length


def _encoded(
    embeddings: NDArray[np.float32], tokens: Sequence[Tokens], started: float, tokenised: float
) -> Encoded:
    return Encoded(
        embeddings=embeddings,
        tokens=np.array([len(item.ids) for item in tokens], dtype=np.int64),
        truncated=np.array([item.truncated for item in tokens], dtype=np.bool_),
        tokenise_seconds=tokenised - started,
        encode_seconds=time.perf_counter() - tokenised,
    )
