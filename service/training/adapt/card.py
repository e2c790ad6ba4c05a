"""Tell a reader what an adapted encoder is: data, licences, recipe, figures, the loss curve."""

from __future__ import annotations

import hashlib
from pathlib import Path

from service.inference.encoder_spec import EncoderSpec
from service.training.adapt.settings import AdaptResult, AdaptSettings, Figures

TEMPLATE = """# Bilingual job encoder (French, English)

A 6-layer, 384-dimension sentence encoder for job titles and work experiences, adapted from
all-MiniLM-L6-v2. Texts in French and English of the same occupation land close together.

## Data and licences

{pairs:,} training pairs of ESCO (CC BY 4.0), ROME (Licence Ouverte 2.0) and O*NET (CC BY 4.0)
facts; see `NOTICE.md`. No job ad, resume, profile or vacancy title was trained on.

| pairs | number |
|---|---|
{sources}

## Recipe

Base weights SHA-256 `{base}`; vocabulary of the same size with {new_pieces:,} French words in place of unused,
non-Latin and rare English pieces; {steps:,} steps in {minutes:.0f} minutes{resumed}, seed {seed},
learning rate {learning_rate:g}
({embedding_learning_rate:g} for the word embeddings), {epochs:g} epoch(s), contrast weight {contrast:g}, temperature
{temperature:g}, starting weights' share {share:g}. Settings digest `{digest}`; weights SHA-256
`{sha256}`. {held_out}
## Figures by language

On ESCO skills kept out of training: does a label find its translation among all of them (top 1),
and how close (cosine) do English labels stay to the base encoder's embeddings?

| | base | this encoder |
|---|---|---|
| French finds English | {before.fr_to_en:.3f} | {after.fr_to_en:.3f} |
| English finds French | {before.en_to_fr:.3f} | {after.en_to_fr:.3f} |
| English kept | {before.english_kept:.3f} | {after.english_kept:.3f} |
| word pieces per word, French | {pieces_fr_before:.2f} | {pieces_fr_after:.2f} |
| word pieces per word, English | {pieces_en_before:.2f} | {pieces_en_after:.2f} |

{more}
![Training loss by step](curve.png)

## Limits

Short professional texts in French and English only; input is lower-cased and stripped of accents;
texts past 256 pieces are cut. Other languages lost the pieces that spelled their scripts.
"""

_SERVED = "## As it is served\n"
_AFTER = "## Limits\n"


def tell_served(card: Path, spec: EncoderSpec, size_bytes: int) -> None:
    """Write what the served graph is and how near to PyTorch, in place of what stood there."""
    text = card.read_text(encoding="utf-8")
    before, _, after = text.partition(_AFTER)
    kind = "packed int8" if spec.packed else spec.precision
    card.write_text(
        f"{before.partition(_SERVED)[0]}{_SERVED}\n"
        f"`onnx/model.onnx`, {kind}, {size_bytes / 1e6:.1f} MB. Cosine of its embeddings with "
        "PyTorch's in float32, over the\nprobes of the export: mean "
        f"{spec.parity['served_mean_cosine']:.4f}, least {spec.parity['served_min_cosine']:.4f}.\n\n"
        f"{_AFTER}{after}",
        encoding="utf-8",
    )


def write_card(result: AdaptResult, settings: AdaptSettings, path: Path, more: str = "") -> None:
    """Write the Markdown card; ``more`` is a section of task figures, where they were measured."""
    held = settings.hold_out
    counts = (len(held.rome_prefixes), len(held.isco_prefixes), len(held.codes))
    path.write_text(
        TEMPLATE.format(
            pairs=result.pairs,
            sources="\n".join(
                f"| {name} | {n:,} |" for name, n in sorted(result.pairs_by_source.items())
            ),
            base=hashlib.sha256((settings.base / "model.safetensors").read_bytes()).hexdigest()[
                :16
            ],
            new_pieces=result.new_pieces,
            steps=result.steps,
            minutes=result.train_seconds / 60,
            resumed=" (after a resume)" if result.is_resumed else "",
            seed=settings.seed,
            learning_rate=settings.learning_rate,
            embedding_learning_rate=settings.embedding_learning_rate,
            epochs=settings.epochs,
            contrast=settings.contrast_weight,
            temperature=settings.temperature,
            share=settings.start_share,
            digest=settings.digest(),
            sha256=result.weights_sha256,
            held_out="Held out: {} ROME families, {} ISCO groups, {} codes.\n".format(*counts)
            if any(counts)
            else "",
            before=result.before,
            after=result.after,
            pieces_fr_before=result.pieces_per_word_before["fr"],
            pieces_fr_after=result.pieces_per_word_after["fr"],
            pieces_en_before=result.pieces_per_word_before["en"],
            pieces_en_after=result.pieces_per_word_after["en"],
            more=more,
        ),
        encoding="utf-8",
    )


def plot_curve(
    losses: tuple[tuple[int, float], ...], before: Figures, after: Figures, path: Path
) -> None:
    """Draw the training loss over steps as PNG."""
    import matplotlib.figure as figures

    figure = figures.Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([step for step, _ in losses], [loss for _, loss in losses], linewidth=1.2)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (cosine distance + contrast)")
    axes.set_title(f"French finds English: {before.fr_to_en:.2f} -> {after.fr_to_en:.2f} (top 1)")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
