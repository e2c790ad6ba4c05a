"""What one adaptation is asked to do, and what it gives back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from service.training.adapt.corpus import HoldOut
from service.training.adapt.pairs import Ingredients


@dataclass(frozen=True, slots=True)
class AdaptSettings:
    """One reproducible adaptation of an English encoder to French and English.

    ``data`` holds the reference files, ``base`` a sentence-transformers directory of a BERT
    WordPiece encoder, ``out`` receives the adapted one, ``work`` keeps checkpoints and may be
    deleted after.
    """

    data: Path
    base: Path
    out: Path
    work: Path
    seed: int = 7
    epochs: float = 1.0
    # New words have far to go; the layers above them know their work and should move little.
    embedding_learning_rate: float = 3e-4
    learning_rate: float = 6e-5
    contrast_weight: float = 0.05
    temperature: float = 0.05
    # 1,536 pieces a step took 0.8 s on one core; larger steps gained no speed.
    pieces_per_batch: int = 1536
    rows_per_batch_at_most: int = 128
    # Longest text trained on, in pieces; the encoder still reads up to 256.
    pieces_at_most: int = 128
    new_pieces_at_most: int = 6000
    new_piece_least_count: int = 3
    # Share of the starting weights averaged into the result ("model soups", Wortsman et al., ICML
    # 2022).
    # A half gave back what French had cost on long texts and English titles (docs/encoder.md).
    start_share: float = 0.5
    checkpoint_every_steps: int = 100
    device: str = "auto"
    precision: str = "auto"
    ingredients: Ingredients = field(default_factory=Ingredients)
    hold_out: HoldOut = field(default_factory=HoldOut)

    def digest(self) -> str:
        """Name everything that decides the result, and nothing that does not (paths, device)."""
        decided = asdict(self)
        for place in (
            "data",
            "base",
            "out",
            "work",
            "device",
            "precision",
            "checkpoint_every_steps",
        ):
            del decided[place]
        decided["hold_out"]["codes"] = sorted(self.hold_out.codes)
        text = json.dumps(decided, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Figures:
    """Cheap figures of one encoder on skills kept out of training.

    ``fr_to_en`` and ``en_to_fr`` are top-1 retrieval accuracies between the two languages' labels;
    ``english_kept`` is the mean cosine between the encoder's and the base's English embeddings.
    """

    fr_to_en: float
    en_to_fr: float
    english_kept: float


@dataclass(frozen=True, slots=True)
class AdaptResult:
    """An adapted encoder on disk and how it came about."""

    directory: Path
    pairs: int
    pairs_by_source: dict[str, int]
    steps: int
    train_seconds: float
    is_resumed: bool
    pieces_per_word_before: dict[str, float]
    pieces_per_word_after: dict[str, float]
    new_pieces: int
    before: Figures
    after: Figures
    weights_sha256: str
    losses: tuple[tuple[int, float], ...]
