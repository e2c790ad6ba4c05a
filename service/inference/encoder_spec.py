"""What an encoder artifact says of itself in ``encoder.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from service.domain.errors import EncoderUnusable
from service.inference.artifact_fields import (
    Kind,
    is_flag,
    is_object,
    is_text,
    is_texts,
    is_whole,
    read_fields,
)

SPEC_FILE = "encoder.json"
MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"

Precision = Literal["int8", "fp16"]


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """The parts of an encoder that serving needs, and how it was checked.

    ``inputs`` are the names of the graph's int64 inputs (no ``token_type_ids`` for XLM-R);
    ``output`` names its float32[batch, dimensions] output, pooled and normalised as the source's
    own pooling says. A trunk's output is ``hidden``, float32[batch, tokens, dimensions]; a tuned
    top reads it beside ``attention_mask`` and ``input_ids``, and ``trunk`` is the digest of the
    trunk's artifact, which also holds the tokeniser. A whole encoder has no trunk.

    A ``packed`` graph keeps texts apart: whatever stands beside a text in a run, padding included,
    its embedding is the same to the bit. Its trunk's ``hidden`` is float32[tokens, dimensions],
    the tokens of all texts one after the other without padding, and its top reads ``hidden`` and
    ``attention_mask`` alone. Graphs that are not packed run one text at a time.
    """

    name: str
    precision: Precision
    dimensions: int
    max_tokens: int
    pad_token_id: int
    inputs: tuple[str, ...]
    output: str
    parity: Mapping[str, float] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    trunk: str | None = None
    packed: bool = False

    def to_json(self) -> bytes:
        """The content of ``encoder.json``."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()


def _is_precision(value: Any) -> bool:
    return value in get_args(Precision)


def _is_digest_or_null(value: Any) -> bool:
    return value is None or is_text(value)


_REQUIRED: Mapping[str, Kind] = {
    "name": is_text,
    "precision": _is_precision,
    "dimensions": is_whole,
    "max_tokens": is_whole,
    "pad_token_id": is_whole,
    "inputs": is_texts,
    "output": is_text,
}
_OPTIONAL: Mapping[str, Kind] = {
    "parity": is_object,
    "libraries": is_object,
    "trunk": _is_digest_or_null,
    "packed": is_flag,
}


def read_spec(folder: Path) -> EncoderSpec:
    """Read ``encoder.json`` from an artifact's folder.

    Raises EncoderUnusable, which names the field, for what this release does not know.
    """
    fields = read_fields(folder / SPEC_FILE, _REQUIRED, _OPTIONAL, EncoderUnusable)
    return EncoderSpec(**{**fields, "inputs": tuple(fields["inputs"])})
