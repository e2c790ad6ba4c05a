"""A sentence encoder cut in two: a frozen trunk run once, and top layers that are trained.

The trunk's output for the few training texts is computed once and kept, so that a training step
runs the top layers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.input_module import InputModule
from torch import Tensor, nn

from service.domain.errors import EncoderUnusable

# Texts of like length go through together: at most this many padded tokens at once, which bounds
# memory and wastes little on padding.
_TOKENS_AT_ONCE = 1024


class SplitUnsupported(EncoderUnusable):
    """An encoder whose layers are not known well enough to be tuned and served apart."""


# Where each architecture keeps its layers (transformers 4.57). Others may keep them there too and
# pass them more than states, a mask and a bias (DeBERTa): those here are tested, or are built of
# the layers of one that is (RoBERTa and CamemBERT of XLM-R's).
_STACKS = {
    "bert": "encoder",
    "roberta": "encoder",
    "xlm-roberta": "encoder",
    "camembert": "encoder",
    "mpnet": "encoder",
    "distilbert": "transformer",
}


def _stack(model: SentenceTransformer) -> Any:
    """The module that holds the layers; raises SplitUnsupported."""
    network: Any = model[0].auto_model
    architecture = str(network.config.model_type)
    stack = getattr(network, _STACKS.get(architecture, ""), None)
    if not isinstance(getattr(stack, "layer", None), nn.ModuleList):
        raise SplitUnsupported(
            f"Encoders of the architecture {architecture} are not tuned layer by layer; known are "
            f"{', '.join(_STACKS)}."
        )
    return stack


def encoder_layers(model: SentenceTransformer) -> nn.ModuleList:
    """The transformer layers, bottom first; raises SplitUnsupported."""
    layers: nn.ModuleList = _stack(model).layer
    return layers


def _layer_call(model: SentenceTransformer) -> Callable[[nn.Module, Tensor, Tensor], Any]:
    """How a layer is called with states float32[n, t, d] and a mask int64[n, t]."""
    stack = _stack(model)
    network: Any = model[0].auto_model
    config = network.config

    def added(hidden: Tensor, mask: Tensor) -> Tensor:
        return (1.0 - mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(hidden.dtype).min

    def like_bert(layer: nn.Module, hidden: Tensor, mask: Tensor) -> Any:
        return layer(hidden, attention_mask=added(hidden, mask))

    def like_mpnet(layer: nn.Module, hidden: Tensor, mask: Tensor) -> Any:
        with torch.no_grad():
            # Shared by all layers, so it is part of the trunk.
            bias = stack.compute_position_bias(hidden)
        return layer(hidden, attention_mask=added(hidden, mask), position_bias=bias)

    def like_distilbert(layer: nn.Module, hidden: Tensor, mask: Tensor) -> Any:
        own = config._attn_implementation == "eager"  # noqa: SLF001 - it has no public name
        return layer(hidden, attn_mask=mask if own else added(hidden, mask))

    special = {"mpnet": like_mpnet, "distilbert": like_distilbert}
    return special.get(config.model_type, like_bert)


def token_ids(model: SentenceTransformer, texts: Sequence[str], max_tokens: int) -> list[Tensor]:
    """Token ids int64[n_i] of each text, cut to ``max_tokens``."""
    limit = min(max_tokens, model.max_seq_length or max_tokens)
    encoded = model.tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
    return [torch.tensor(ids, dtype=torch.int64) for ids in encoded]


@torch.no_grad()
def trunk_states(
    model: SentenceTransformer, trunk_layers: int, ids: Sequence[Tensor], *, bfloat16: bool = False
) -> list[Tensor]:
    """The output float32[n_i, d] of the first ``trunk_layers`` layers for each text.

    Without dropout, like everything that is frozen; ``bfloat16`` rounds its matrix products.
    """
    network: Any = model[0].auto_model
    stack, layers = _stack(model), encoder_layers(model)
    network.eval()
    states: list[Tensor] = [torch.empty(0)] * len(ids)
    stack.layer = layers[:trunk_layers]
    try:
        for chunk in by_length([len(text) for text in ids]):
            padded = nn.utils.rnn.pad_sequence(
                [ids[row] for row in chunk],
                batch_first=True,
                padding_value=float(network.config.pad_token_id or 0),
            )
            mask = _mask([len(ids[row]) for row in chunk])
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                hidden = network(input_ids=padded, attention_mask=mask).last_hidden_state
            for row, output in zip(chunk, hidden.float(), strict=True):
                states[row] = output[: len(ids[row])].clone()
    finally:
        stack.layer = layers
    return states


class CachedTop(InputModule):
    """The top layers and everything after them, fed with kept trunk states by row number.

    As the only module of a SentenceTransformer it lets setfit's Trainer train the top layers: a
    "text" is the decimal row number of a kept state.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        trunk_layers: int,
        states: Sequence[Tensor],
        *,
        bfloat16: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers = encoder_layers(model)[trunk_layers:]
        self.tail = nn.ModuleList(list(model)[1:])
        self._call = _layer_call(model)
        self._states = list(states)
        self._bfloat16 = bfloat16

    def preprocess(
        self, inputs: list[Any], prompt: str | None = None, **_: Any
    ) -> dict[str, Tensor]:
        """Row numbers int64[n] under the name that the trainer takes for a text's features."""
        del prompt
        return {"input_ids": torch.tensor([int(row) for row in inputs], dtype=torch.int64)}

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        """Add ``sentence_embedding`` float32[n, d]."""
        rows: list[int] = features["input_ids"].tolist()
        order, parts = [], []
        for chunk in by_length([len(self._states[row]) for row in rows]):
            order.extend(chunk)
            parts.append(self._embed([self._states[rows[place]] for place in chunk]))
        back = torch.empty(len(order), dtype=torch.int64)
        back[torch.tensor(order)] = torch.arange(len(order))
        return {**features, "sentence_embedding": torch.cat(parts)[back]}

    def _embed(self, states: Sequence[Tensor]) -> Tensor:
        hidden = nn.utils.rnn.pad_sequence(list(states), batch_first=True)
        mask = _mask([len(state) for state in states])
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            for layer in self.layers:
                output = self._call(layer, hidden, mask)
                hidden = output[0] if isinstance(output, tuple) else output
        pooled: dict[str, Any] = {"token_embeddings": hidden.float(), "attention_mask": mask}
        for module in self.tail:
            pooled = module(pooled)
        embedding: Tensor = pooled["sentence_embedding"]
        return embedding

    @torch.no_grad()
    def embed_rows(self, rows: Sequence[int]) -> Tensor:
        """Embeddings float32[n, d] of kept rows, without dropout."""
        training = self.training
        self.eval()
        embedded = self.forward({"input_ids": torch.tensor(list(rows), dtype=torch.int64)})
        self.train(training)
        return embedded["sentence_embedding"]

    def save(self, output_path: str, *_: Any, **__: Any) -> None:
        """Nothing is saved: the layers belong to the encoder that they were taken from."""


def by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Places grouped so that a group's texts are of like length and few in padded tokens."""
    groups: list[list[int]] = []
    longest = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not groups or (len(groups[-1]) + 1) * longest > _TOKENS_AT_ONCE:
            groups.append([])
            longest = max(lengths[place], 1)
        groups[-1].append(place)
    return groups


def _mask(lengths: Sequence[int]) -> Tensor:
    """An attention mask int64[n, longest]."""
    places = torch.arange(max(lengths))
    return (places[None, :] < torch.tensor(list(lengths))[:, None]).to(torch.int64)
