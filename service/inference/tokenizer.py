"""Text to token ids with the Rust ``tokenizers`` library alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as RustTokenizer

from service.inference.encoder_spec import TOKENIZER_FILE, EncoderSpec


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of one text, int64[n], cut to what the encoder reads."""

    ids: NDArray[np.int64]
    truncated: bool


class Tokenizer:
    """Tokenises one text at a time; safe to share between threads."""

    def __init__(self, folder: Path, spec: EncoderSpec) -> None:
        self._tokenizer = RustTokenizer.from_file(str(folder / TOKENIZER_FILE))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_tokens)

    def __call__(self, text: str) -> Tokens:
        """Tokenise a text."""
        encoding = self._tokenizer.encode(text)
        return Tokens(np.array(encoding.ids, dtype=np.int64), bool(encoding.overflowing))
