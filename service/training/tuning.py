"""Fine-tuning of a sentence encoder on an occupation's examples, with setfit's Trainer.

By default a trunk is frozen and the top layers are tuned, every pair of the examples taking part
in every step; ``tuned_layers="all"`` is setfit as it ships, with its sampled pairs.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.linear_model import LogisticRegression
from torch import nn
from transformers import TrainerCallback

from service.training.pair_loss import AllPairsLoss, StratifiedBatches
from service.training.top_layers import CachedTop

Report = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class TuningSettings:
    """Hyper-parameters; `benchmarks/training.py` measures the defaults.

    ``tuned_layers`` top layers are trained, or ``all`` of the encoder with setfit's own pairs.
    A step takes ``texts_per_step`` texts, cut to ``max_tokens``; there are as many steps as let
    every text be seen ``visits`` times, within ``fewest_steps`` and ``most_steps``. More than
    ``most_texts`` are sampled down, evenly by class. The gate's folds are drawn ``fold_repeats``
    times, and are tuned as what is served is: held-out scores of a gentler tuning would not
    calibrate it.
    """

    tuned_layers: int | Literal["all"] = 2
    fewest_steps: int = 8
    most_steps: int = 32
    visits: int = 4
    fold_repeats: int = 2
    learning_rate: float = 4e-4
    max_tokens: int = 64
    texts_per_step: int = 16
    most_texts: int = 512
    bfloat16: bool = False
    seed: int = 20
    threads: int = 2
    stock_iterations: int = 20
    stock_batch: int = 16
    stock_learning_rate: float = 2e-5

    def steps(self, texts: int) -> int:
        """How many steps a tuning on so many texts takes."""
        wanted = -(-self.visits * texts // self.texts_per_step)
        return min(max(wanted, self.fewest_steps), self.most_steps)


class PairTrainer(Trainer):  # type: ignore[misc]
    """setfit's Trainer with every pair of a batch in the loss, in place of sampled pairs."""

    batches: StratifiedBatches

    def get_dataset(
        self, x: Sequence[str], y: Sequence[int], args: TrainingArguments, max_pairs: int = -1
    ) -> tuple[Dataset, nn.Module]:
        """The texts and their labels, each text once, and the loss over their pairs."""
        del args, max_pairs
        self.st_trainer.args.batch_sampler = self.batches.as_sampler
        dataset = Dataset.from_dict({"sentence": list(x), "label": list(y)})
        return dataset, AllPairsLoss(self.model.model_body)


class _Progress(TrainerCallback):
    """Reports the fraction of the steps that are done."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after each step."""
        del args, control
        self._report(state.global_step / max(state.max_steps, 1))


def make_deterministic(settings: TuningSettings) -> None:
    """Seed every generator and fix the order of sums: equal examples, equal weights."""
    random.seed(settings.seed)
    np.random.seed(settings.seed)  # noqa: NPY002 - setfit samples its pairs by the old generator
    torch.manual_seed(settings.seed)
    # On the few texts of a step a second thread costs what it brings.
    torch.set_num_threads(settings.threads if settings.tuned_layers == "all" else 1)
    torch.use_deterministic_algorithms(mode=True)


def tune_top(
    top: CachedTop,
    rows: Sequence[int],
    labels: NDArray[np.bool_],
    settings: TuningSettings,
    report: Report = lambda _: None,
) -> None:
    """Train the top layers in place on kept trunk states.

    Args:
        top: the layers, with the trunk's output for every row.
        rows: numbers of the training rows among the kept states.
        labels: bool[len(rows)], both classes present.
        settings: hyper-parameters and seed.
        report: called with the fraction done.
    """
    targets = labels.astype(int).tolist()
    body = SentenceTransformer(modules=[top], device="cpu")
    trainer = _trainer(PairTrainer, body, settings, report, learning_rate=settings.learning_rate)
    trainer.batches = StratifiedBatches(
        targets, settings.texts_per_step, settings.steps(len(rows)), settings.seed
    )
    for parameter in top.tail.parameters():
        parameter.requires_grad_(False)
    # After the trainer is made: making it seeds every generator with a number of its own.
    make_deterministic(settings)
    trainer.train_embeddings([str(row) for row in rows], targets, args=trainer.args)
    top.eval()


def tune_all(
    model: SentenceTransformer,
    texts: Sequence[str],
    labels: NDArray[np.bool_],
    settings: TuningSettings,
    report: Report = lambda _: None,
) -> None:
    """Train the whole encoder in place by setfit's stock recipe of sampled pairs."""
    read = model.max_seq_length
    model.max_seq_length = min(settings.max_tokens, read or settings.max_tokens)
    trainer = _trainer(Trainer, model, settings, report, learning_rate=settings.stock_learning_rate)
    make_deterministic(settings)
    trainer.train_embeddings(list(texts), labels.astype(int).tolist(), args=trainer.args)
    model.max_seq_length = read
    model.eval()


def _trainer(
    kind: type[Trainer],
    body: SentenceTransformer,
    settings: TuningSettings,
    report: Report,
    *,
    learning_rate: float,
) -> Any:
    arguments = TrainingArguments(
        # Nothing is saved; the trainer wants a name.
        output_dir=tempfile.gettempdir(),
        batch_size=settings.texts_per_step if kind is PairTrainer else settings.stock_batch,
        num_epochs=1,
        num_iterations=settings.stock_iterations,
        body_learning_rate=learning_rate,
        seed=settings.seed,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        show_progress_bar=False,
    )
    # The classifier that setfit would fit is replaced by our calibrated head.
    model = SetFitModel(model_body=body, model_head=LogisticRegression())
    trainer = kind(model=model, args=arguments)
    trainer.st_trainer.args.disable_tqdm = True
    trainer.st_trainer.args.dataloader_pin_memory = False
    for callback in list(trainer.st_trainer.callback_handler.callbacks):
        if type(callback).__name__ in ("ProgressCallback", "PrinterCallback", "ModelCardCallback"):
            trainer.st_trainer.remove_callback(callback)
    trainer.add_callback(_Progress(report))
    return trainer
