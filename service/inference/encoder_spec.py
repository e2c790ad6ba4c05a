"""What an encoder artifact says of itself in ``encoder.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

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


def read_spec(folder: Path) -> EncoderSpec:
    """Read ``encoder.json`` from an artifact's folder."""
    fields: dict[str, Any] = json.loads((folder / SPEC_FILE).read_bytes())
    return EncoderSpec(**{**fields, "inputs": tuple(fields["inputs"])})
