"""A tiny randomly initialised BERT of four layers, and a fine-tuning job on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Pooling, Transformer
from torch import nn
from transformers import BertConfig, BertModel, BertTokenizerFast

LAYERS = 4
INSIDE = [f"Sommelier, cave numéro {number}, vins de Loire" for number in range(8)]
OUTSIDE = [f"Plombier chauffagiste, chantier {number}" for number in range(8)]
BACKGROUND = [f"Métier {number} dans le secteur {number % 9}" for number in range(120)]


def write_tiny_bert(folder: Path, dimensions: int | None = None) -> None:
    """Write it in sentence-transformers' layout, mean pooled; the tokens are characters.

    ``dimensions`` widens the embeddings from 32 by a random projection.
    """
    plain = folder / "plain"
    plain.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789,."
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    (plain / "vocab.txt").write_text("\n".join(tokens))
    tokenizer: Any = BertTokenizerFast
    tokenizer(vocab_file=str(plain / "vocab.txt")).save_pretrained(str(plain))
    torch.manual_seed(3)
    # Half typed: their constructors are no functions to mypy.
    configured: Any = BertConfig
    network: Any = BertModel
    configuration = configured(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    network(configuration).save_pretrained(str(plain), safe_serialization=True)
    transformer = Transformer(str(plain), max_seq_length=64)
    modules: list[nn.Module] = [transformer, Pooling(32, pooling_mode="mean")]
    if dimensions is not None:
        modules.append(Dense(32, dimensions, activation_function=nn.Tanh()))
    model = SentenceTransformer(modules=modules, device="cpu")
    model.save_pretrained(str(folder / "source"), create_model_card=False)


def write_job(folder: Path, source: Path, base_encoder: Path, **changes: Any) -> None:
    """Write ``job.json`` for eight examples of either class."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(text, "in") for text in INSIDE] + [(text, "out") for text in OUTSIDE]
    job = {
        "source": str(source),
        "base_encoder": str(base_encoder),
        "encoder_name": "tiny-bert",
        "name": "Sommelier",
        "examples": [{"text": text, "label": label, "digest": ""} for text, label in rows],
        "background": BACKGROUND,
        "prevalence": 0.05,
        "method": "auto",
        "tuned_layers": 2,
        "seed": 20,
        "threads": 2,
        "fewest_steps": 3,
        "visits": 1,
        **changes,
    }
    (folder / "job.json").write_text(json.dumps(job))
