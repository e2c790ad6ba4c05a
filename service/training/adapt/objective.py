"""The distillation loss: match the teacher, and tell its target from the batch's other targets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn


class TeacherMatchLoss(nn.Module):
    """Cosine distance to the teacher plus in-batch contrast between targets.

    The cosine term is multilingual distillation (Reimers and Gurevych, "Making Monolingual Sentence
    Embeddings Multilingual using Knowledge Distillation", EMNLP 2020); the contrastive term is
    InfoNCE with the other rows' *teacher* embeddings as negatives, so a text is encoded once.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        targets: Tensor,
        *,
        contrast_weight: float = 0.05,
        temperature: float = 0.05,
    ) -> None:
        """Hold ``targets`` (m, d), unit rows; a label is a row number of it."""
        super().__init__()
        self.model = model
        # Kept out of the state: it is data, rebuilt from the seed on resume.
        self.register_buffer("targets", targets, persistent=False)
        self.contrast_weight = contrast_weight
        self.temperature = temperature

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor) -> Tensor:
        """Give the mean loss of one batch; ``labels`` (n) are row numbers of the targets."""
        features = next(iter(sentence_features))
        embedded = self.model(features)["sentence_embedding"].float()
        embedded = nn.functional.normalize(embedded, dim=-1)
        wanted = self.targets[labels]  # type: ignore[index]
        similarity = embedded @ wanted.T
        distance = (1.0 - similarity.diagonal()).mean()
        if not self.contrast_weight:
            return distance
        # Two texts of one target are not each other's negatives.
        is_same = labels[:, None] == labels[None, :]
        is_other = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        logits = (similarity / self.temperature).masked_fill(is_same & is_other, -1e4)
        rows = torch.arange(len(labels), device=labels.device)
        return distance + self.contrast_weight * nn.functional.cross_entropy(logits, rows)

    def get_config_dict(self) -> dict[str, Any]:
        """Describe the loss for the model card."""
        return {"contrast_weight": self.contrast_weight, "temperature": self.temperature}
