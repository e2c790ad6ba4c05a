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
from service.inference.encoder_spec import MODEL_FILE, EncoderSpec, Precision, read_spec
from service.inference.tokenizer import Tokenizer, Tokens
from service.settings import Device

T = TypeVar("T")
R = TypeVar("R")

CUDA = "CUDAExecutionProvider"

# The smallest ONNX model there is: y = Identity(x), float32[1].
_IDENTITY_GRAPH = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01'
    b"\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)

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
    """Runs one text per ONNX run, several runs side by side.

    Dynamic int8 takes one activation scale per run: with one text in a run, nobody else's text
    can move a score by a bit. It is also faster on CPU than padded batches.
    """

    def __init__(self, folder: Path, digest: str, side_by_side: SideBySide) -> None:
        self.digest = digest
        self.spec = read_spec(folder)
        self._tokenizer = Tokenizer(folder, self.spec)
        self._side_by_side = side_by_side
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            str(folder / MODEL_FILE), options, providers=["CPUExecutionProvider"]
        )

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Embed texts, the longest first so that no thread ends long after the others."""
        started = time.perf_counter()
        tokens = [self._tokenizer(text) for text in texts]
        tokenised = time.perf_counter()
        longest_first = sorted(range(len(texts)), key=lambda i: -len(tokens[i].ids))
        rows = self._side_by_side.map(self._run, [tokens[i] for i in longest_first])
        embeddings = np.empty((len(texts), self.spec.dimensions), dtype=np.float32)
        for index, row in zip(longest_first, rows, strict=True):
            embeddings[index] = row
        return _encoded(embeddings, tokens, started, tokenised)

    def _run(self, tokens: Tokens) -> NDArray[np.float32]:
        ids = tokens.ids[None, :]
        feeds = _feeds(self.spec, ids, np.ones_like(ids))
        output: NDArray[np.float32] = self._session.run([self.spec.output], feeds)[0][0]
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


def load_encoder(folder: Path, digest: str, side_by_side: SideBySide) -> Encoder:
    """Load an encoder artifact: fp16 graphs run on the GPU, int8 graphs on the CPU."""
    if read_spec(folder).precision == "fp16":
        return PaddedEncoder(folder, digest, CUDA)
    return CpuEncoder(folder, digest, side_by_side)


def precision_for(device: Device) -> Precision:
    """The precision that new encoders are built in for a device.

    Raises DeviceUnavailable for ``cuda`` where ONNX Runtime cannot start its CUDA provider.
    """
    if device == "cpu":
        return "int8"
    if CUDA not in ort.get_available_providers():
        if device == "cuda":
            raise DeviceUnavailable(
                "VOCATION_DEVICE=cuda, but ONNX Runtime has no CUDA provider here: install "
                "onnxruntime-gpu in place of onnxruntime on a machine with an NVIDIA GPU."
            )
        return "int8"
    if not _starts(CUDA):
        if device == "cuda":
            raise DeviceUnavailable(
                "VOCATION_DEVICE=cuda, but ONNX Runtime's CUDA provider does not start here: is "
                "there an NVIDIA GPU, with the driver and the CUDA libraries that it needs?"
            )
        return "int8"
    return "fp16"


def _starts(provider: str) -> bool:
    # The list of providers is that of the build; only a session tells what the machine has.
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(_IDENTITY_GRAPH, options, providers=[provider])
    return provider in session.get_providers()


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
