"""A fine-tuned encoder as it is served: a trunk shared by many, then a small tuned top."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.inference.encoder import Encoded, SideBySide
from service.inference.encoder_spec import MODEL_FILE, read_spec
from service.inference.tokenizer import Tokenizer, Tokens

_Feeds = dict[str, NDArray[np.int64] | NDArray[np.float32]]


class Trunk:
    """The frozen lower layers and the tokeniser, loaded once for every top that stands on them."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.digest = digest
        self.spec = read_spec(folder)
        self._tokenizer = Tokenizer(folder, self.spec)
        self._session = _session(folder)

    def tokenise(self, text: str) -> Tokens:
        """Token ids of a text."""
        return self._tokenizer(text)

    def run(self, tokens: Tokens) -> _Feeds:
        """What a top reads of one text: its hidden states float32[1, n, d] and its inputs."""
        ids = tokens.ids[None, :]
        feeds: _Feeds = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        (feeds["hidden"],) = self._session.run(
            [self.spec.output], {name: feeds[name] for name in self.spec.inputs}
        )
        return feeds


class SplitEncoder:
    """Runs one text per run, the trunk and then the top, several texts side by side.

    As in `CpuEncoder`, nobody else's text can move a score by a bit.
    """

    def __init__(self, trunk: Trunk, folder: Path, digest: str, side_by_side: SideBySide) -> None:
        self.digest = digest
        self.spec = read_spec(folder)
        self.trunk = trunk
        self.side_by_side = side_by_side
        self._top = _session(folder)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Embed texts."""
        return encode_tops({self.digest: (self, list(texts))})[self.digest]

    def run_top(self, feeds: _Feeds) -> NDArray[np.float32]:
        """The embedding float32[d] of one text from what the trunk gave."""
        output: NDArray[np.float32] = self._top.run(
            [self.spec.output], {name: feeds[name] for name in self.spec.inputs}
        )[0][0]
        return output


def encode_tops(wanted: Mapping[str, tuple[SplitEncoder, Sequence[str]]]) -> dict[str, Encoded]:
    """Embed texts with several tops on one trunk: each distinct text runs the trunk once.

    ``wanted`` gives each top, by digest, the texts it is asked for; the answers come in their
    order. The seconds of the whole are told once, in the first answer.
    """
    first = next(iter(wanted.values()))[0]
    trunk, side_by_side = first.trunk, first.side_by_side
    started = time.perf_counter()
    tops_of: dict[str, list[str]] = {}
    for digest, (_, texts) in wanted.items():
        for text in texts:
            tops_of.setdefault(text, []).append(digest)
    tokens = {text: trunk.tokenise(text) for text in tops_of}
    tokenised = time.perf_counter()

    def run(text: str) -> dict[str, NDArray[np.float32]]:
        feeds = trunk.run(tokens[text])
        return {digest: wanted[digest][0].run_top(feeds) for digest in tops_of[text]}

    longest_first = sorted(tops_of, key=lambda text: -len(tokens[text].ids) * len(tops_of[text]))
    rows = dict(zip(longest_first, side_by_side.map(run, longest_first), strict=True))
    ended = time.perf_counter()
    encoded = {}
    for number, (digest, (_, texts)) in enumerate(wanted.items()):
        encoded[digest] = Encoded(
            embeddings=np.stack([rows[text][digest] for text in texts]),
            tokens=np.array([len(tokens[text].ids) for text in texts], dtype=np.int64),
            truncated=np.array([tokens[text].truncated for text in texts], dtype=np.bool_),
            tokenise_seconds=tokenised - started if number == 0 else 0.0,
            encode_seconds=ended - tokenised if number == 0 else 0.0,
        )
    return encoded


def _session(folder: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(
        str(folder / MODEL_FILE), options, providers=["CPUExecutionProvider"]
    )
