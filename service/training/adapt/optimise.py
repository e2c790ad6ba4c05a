"""Run the optimiser: sentence-transformers' trainer, checkpoints, and going on after a kill."""

from __future__ import annotations

import json
import shutil
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)

from service.training.adapt.batching import LengthBatches
from service.training.adapt.objective import TeacherMatchLoss
from service.training.adapt.pairs import Pairs
from service.training.adapt.settings import AdaptSettings

# Written last by the trainer: a checkpoint without them was cut short.
CHECKPOINT_FILES = ("trainer_state.json", "optimizer.pt", "scheduler.pt")


@dataclass(frozen=True, slots=True)
class Run:
    """How an optimisation went: (step, loss) points, total steps, seconds of this process."""

    losses: tuple[tuple[int, float], ...]
    steps: int
    seconds: float
    is_resumed: bool


class _Trainer(SentenceTransformerTrainer):
    """The library's trainer over our batches; given here because its arguments are pickled."""

    def __init__(self, *, batches: LengthBatches, **arguments: Any) -> None:
        self._batches = batches
        super().__init__(**arguments)

    def get_batch_sampler(self, *_: Any, **__: Any) -> LengthBatches:
        """Give the batches of like lengths, whatever batch size was asked for."""
        return self._batches


def optimise(
    student: SentenceTransformer, pairs: Pairs, settings: AdaptSettings, *, is_bf16: bool
) -> Run:
    """Train ``student`` in place, from the last whole checkpoint if there is one."""
    _switch_dropout_off(student)
    pieces_at_most = min(settings.pieces_at_most, student.max_seq_length or settings.pieces_at_most)
    student.max_seq_length = pieces_at_most
    encoded = student.tokenizer(list(pairs.texts), truncation=True, max_length=pieces_at_most)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    checkpoints = settings.work / "checkpoints"

    batches = LengthBatches(
        lengths, settings.pieces_per_batch, settings.rows_per_batch_at_most, settings.seed
    )
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, len(batches) // 16),
        max_grad_norm=1.0,
        bf16=is_bf16,
        use_cpu=student.device.type == "cpu",
        save_strategy="steps",
        save_steps=settings.checkpoint_every_steps,
        save_total_limit=2,
        logging_steps=20,
        report_to=[],
        seed=settings.seed,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
    )
    trainer = _Trainer(
        batches=batches,
        model=student,
        args=arguments,
        train_dataset=Dataset.from_dict(
            {"text": list(pairs.texts), "label": list(pairs.target_numbers)}
        ),
        loss=TeacherMatchLoss(
            student,
            torch.from_numpy(pairs.targets).to(student.device),
            contrast_weight=settings.contrast_weight,
            temperature=settings.temperature,
        ),
    )
    trainer.optimizer = _optimiser(student, settings)
    last = last_whole_checkpoint(checkpoints)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    losses = tuple(
        (int(entry["step"]), float(entry["loss"]))
        for entry in trainer.state.log_history
        if "loss" in entry
    )
    return Run(losses, trainer.state.global_step, time.monotonic() - started, last is not None)


def _optimiser(student: SentenceTransformer, settings: AdaptSettings) -> torch.optim.AdamW:
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for name, parameter in student.named_parameters():
        groups["word_embeddings" in name].append(parameter)
    return torch.optim.AdamW(
        [
            # No decay on the embeddings: it would shrink words that no batch holds.
            {
                "params": groups[True],
                "lr": settings.embedding_learning_rate,
                "weight_decay": 0.0,
            },
            {"params": groups[False], "lr": settings.learning_rate, "weight_decay": 0.01},
        ],
        fused=True,
    )


def last_whole_checkpoint(directory: Path) -> Path | None:
    """Find the newest checkpoint that was written to its end; remove newer broken ones."""
    found = sorted(
        directory.glob("checkpoint-*"),
        key=lambda path: int(path.name.rpartition("-")[2]),
        reverse=True,
    )
    for path in found:
        if _is_whole(path):
            return path
        shutil.rmtree(path)
    return None


def _is_whole(path: Path) -> bool:
    try:
        json.loads((path / CHECKPOINT_FILES[0]).read_text(encoding="utf-8"))
        for name in CHECKPOINT_FILES[1:]:
            # torch's files are zip archives: their checksums tell, and nothing is unpickled.
            with zipfile.ZipFile(path / name) as archive:
                if archive.testzip() is not None:
                    return False
    except (OSError, ValueError, zipfile.BadZipFile):
        return False
    return any(path.glob("*.safetensors"))


def _switch_dropout_off(student: SentenceTransformer) -> None:
    # The targets are exact: noise buys no generalisation here, and drawing it costs a fifth of a
    # step.
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            vars(module)["dropout_prob"] = 0.0
