"""A fine-tuned encoder as it is served: a trunk shared by many, then a small tuned top."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import EncoderUnusable
from service.inference.encoder import Encoded, SideBySide, cpu_session
from service.inference.encoder_spec import read_spec
from service.inference.packing import keeps_apart, padded, shared_runs
from service.inference.tokenizer import Tokenizer, Tokens

_Feeds = dict[str, NDArray[np.int64] | NDArray[np.float32]]


class Trunk:
    """The frozen lower layers and the tokeniser, loaded once for every top that stands on them."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.digest = digest
        self.spec = read_spec(folder)
        self._tokenizer = Tokenizer(folder, self.spec)
        self._session = cpu_session(folder)

    def tokenise(self, text: str) -> Tokens:
        """Token ids of a text."""
        return self._tokenizer(text)

    def run(self, texts: Sequence[Tokens]) -> _Feeds:
        """What a top reads of a run's texts: their hidden states, and the inputs of the run.

        The states are float32[tokens, d] of a packed trunk, and of any other, which is given one
        text, float32[1, n, d].
        """
        ids, mask = padded([text.ids for text in texts], self.spec.pad_token_id)
        feeds: _Feeds = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
        }
        (feeds["hidden"],) = self._session.run(
            [self.spec.output], {name: feeds[name] for name in self.spec.inputs}
        )
        return feeds


class SplitEncoder:
    """Runs the trunk and then the top, several runs side by side.

    As in `CpuEncoder`, nobody else's text can move a score by a bit: texts share a run where the
    graphs are packed, and else run alone. Raises EncoderUnusable where only one of the two is
    packed.
    """

    def __init__(self, trunk: Trunk, folder: Path, digest: str, side_by_side: SideBySide) -> None:
        self.digest = digest
        self.spec = read_spec(folder)
        if self.spec.packed != trunk.spec.packed:
            raise EncoderUnusable(
                f"The encoder {digest} and its trunk {trunk.digest} do not fit: one of them is "
                "packed and the other is not."
            )
        self.trunk = trunk
        self.side_by_side = side_by_side
        self._top = cpu_session(folder)
        self.together = self.spec.packed and keeps_apart(
            trunk.tokenise, lambda texts: self.run_top(trunk.run(texts))
        )

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Embed texts."""
        return encode_tops({self.digest: (self, list(texts))})[self.digest]

    def run_top(self, feeds: _Feeds) -> NDArray[np.float32]:
        """The embeddings float32[rows, d] of a run's texts from what the trunk gave."""
        output: NDArray[np.float32] = self._top.run(
            [self.spec.output], {name: feeds[name] for name in self.spec.inputs}
        )[0]
        return output


def encode_tops(wanted: Mapping[str, tuple[SplitEncoder, Sequence[str]]]) -> dict[str, Encoded]:
    """Embed texts with several tops on one trunk: each distinct text runs the trunk once.

    ``wanted`` gives each top, by digest, the texts it is asked for; the answers come in their
    order. Texts that the same tops are asked for share runs, of the trunk and of each top. The
    seconds of the whole are told once, in the first answer.
    """
    first = next(iter(wanted.values()))[0]
    trunk, side_by_side = first.trunk, first.side_by_side
    started = time.perf_counter()
    tops_of: dict[str, list[str]] = {}
    for digest, (_, texts) in wanted.items():
        for text in dict.fromkeys(texts):
            tops_of.setdefault(text, []).append(digest)
    tokens = {text: trunk.tokenise(text) for text in tops_of}
    tokenised = time.perf_counter()
    rows: dict[str, dict[str, NDArray[np.float32]]] = {text: {} for text in tops_of}

    def run(run_texts: Sequence[str]) -> None:
        feeds = trunk.run([tokens[text] for text in run_texts])
        for digest in tops_of[run_texts[0]]:
            for text, row in zip(run_texts, wanted[digest][0].run_top(feeds), strict=True):
                rows[text][digest] = row

    together = all(top.together for top, _ in wanted.values())
    runs = _runs(tokens, tops_of, side_by_side.threads, together=together)
    side_by_side.map(run, runs)
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


def _runs(
    tokens: Mapping[str, Tokens],
    tops_of: Mapping[str, Sequence[str]],
    threads: int,
    *,
    together: bool,
) -> list[list[str]]:
    """The texts of each run, all of them for the same tops; those that take longest first."""
    same_tops: dict[tuple[str, ...], list[str]] = {}
    for text, tops in tops_of.items():
        same_tops.setdefault(tuple(tops), []).append(text)
    runs = [
        [texts[number] for number in numbers]
        for texts in same_tops.values()
        for numbers in shared_runs([len(tokens[t].ids) for t in texts], threads, together=together)
    ]
    return sorted(
        runs, key=lambda texts: -sum(len(tokens[t].ids) for t in texts) * len(tops_of[texts[0]])
    )
