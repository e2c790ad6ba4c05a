"""Tiny randomly initialised encoders of several architectures, in sentence-transformers' layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    MPNetTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLMRobertaTokenizerFast,
)

from service.training.encoder_export import PROBES
from tests.support.tiny_bert import INSIDE, LAYERS, OUTSIDE

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,."
_CHARACTERS = [*_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
_SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.2,
}


def write_tiny_architecture(folder: Path, architecture: str) -> Path:
    """Write an encoder of four layers, mean pooled; returns its folder."""
    plain = folder / "plain"
    plain.mkdir(parents=True)
    tokenizer, build = _ARCHITECTURES[architecture]
    made: Any = tokenizer(plain)
    made.save_pretrained(str(plain))
    torch.manual_seed(3)
    network: Any = build(len(made))
    network.save_pretrained(str(plain), safe_serialization=True)
    transformer = Transformer(str(plain), max_seq_length=64)
    model = SentenceTransformer(
        modules=[transformer, Pooling(32, pooling_mode="mean")], device="cpu"
    )
    model.save_pretrained(str(folder / "source"), create_model_card=False)
    return folder / "source"


def _word_pieces(plain: Path) -> Any:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_CHARACTERS]
    (plain / "vocab.txt").write_text("\n".join(tokens))
    tokenizer: Any = BertTokenizerFast
    return tokenizer(
        vocab_file=str(plain / "vocab.txt"), model_input_names=["input_ids", "attention_mask"]
    )


def _mpnet_pieces(plain: Path) -> Any:
    # The padding has id 1, as MPNet's positions are counted from there.
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "[UNK]", *_CHARACTERS]
    (plain / "vocab.txt").write_text("\n".join(tokens))
    tokenizer: Any = MPNetTokenizerFast
    return tokenizer(vocab_file=str(plain / "vocab.txt"))


def _sentence_pieces(plain: Path) -> Any:
    corpus = plain / "corpus.txt"
    corpus.write_text("\n".join([*PROBES, *INSIDE, *OUTSIDE] * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(plain / "spm"), vocab_size=90, minloglevel=2
    )
    tokenizer: Any = XLMRobertaTokenizerFast
    return tokenizer(vocab_file=str(plain / "spm.model"))


def _xlm_roberta(tokens: int) -> Any:
    network: Any = XLMRobertaModel
    configured: Any = XLMRobertaConfig
    return network(
        configured(vocab_size=tokens, max_position_embeddings=66, pad_token_id=1, **_SHAPE)
    )


def _mpnet(tokens: int) -> Any:
    network: Any = MPNetModel
    configured: Any = MPNetConfig
    return network(configured(vocab_size=tokens, max_position_embeddings=66, **_SHAPE))


def _distilbert(tokens: int) -> Any:
    network: Any = DistilBertModel
    configured: Any = DistilBertConfig
    return network(
        configured(
            vocab_size=tokens,
            dim=32,
            n_layers=LAYERS,
            n_heads=4,
            hidden_dim=64,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
    )


def _albert(tokens: int) -> Any:
    network: Any = AlbertModel
    configured: Any = AlbertConfig
    return network(
        configured(vocab_size=tokens, embedding_size=16, max_position_embeddings=64, **_SHAPE)
    )


_ARCHITECTURES: dict[str, tuple[Callable[[Path], Any], Callable[[int], Any]]] = {
    "xlm-roberta": (_sentence_pieces, _xlm_roberta),
    "mpnet": (_mpnet_pieces, _mpnet),
    "distilbert": (_word_pieces, _distilbert),
    "albert": (_word_pieces, _albert),
}
