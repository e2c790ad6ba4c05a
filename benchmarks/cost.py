"""What more occupations cost: ten tuned ones beside one, a hundred ``head`` ones beside one.

One command: ``python -m benchmarks.cost [--tops 10] [--heads 100] [--rounds 15] [--json FILE]``.
Batches of 8 distinct texts go through the served scorer in this process, with nothing kept between
them. All contenders take turns in every round; a ratio is taken within a round, and the median
over the rounds is printed with its quartiles. The tuned encoders have the shape of a fine-tuning
(`service.training.split_export`); their weights are those of the base encoder, which changes
no time. ``separate`` runs as many whole encoders: what a service without a shared trunk would cost.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving_bench.texts import KINDS, Kind, Texts
from service.domain.types import Experience, Method, ModelVersion
from service.inference.batch import ScoringRequest
from service.inference.embedding_cache import EmbeddingCache
from service.inference.encoder import Encoder, SideBySide, load_encoder
from service.inference.encoder_cache import EncoderCache, LoadedEncoder
from service.inference.head import Head
from service.inference.scorer import Scorer
from service.inference.snapshot import LoadedVersion, Target, make_target
from service.inference.split_encoder import SplitEncoder, Trunk
from service.registry.database import Database
from service.settings import DEFAULT_ENCODER, available_cpus
from service.telemetry.predictions import PredictionTally
from service.training.background import read_background
from service.training.encoder_export import export_encoder, load_model
from service.training.encoder_source import resolve_encoder
from service.training.split_export import export_tuned
from service.training.top_layers import encoder_layers

PER_BATCH = 8
LIBRARIES = ("onnxruntime", "numpy", "tokenizers")


class LoadedEncoders(EncoderCache):
    """Encoders that are in memory already, each asked for by its name."""

    def __init__(self, loaded: Mapping[str, LoadedEncoder]) -> None:
        self._loaded_here = dict(loaded)

    def get(self, digest: str) -> LoadedEncoder:
        """The encoder of this name."""
        return self._loaded_here[digest]


def head(width: int, seed: int) -> Head:
    """A head with random weights and 32 random examples."""
    generator = np.random.default_rng(seed)
    examples = generator.standard_normal((32, width)).astype(np.float32)
    examples /= np.linalg.norm(examples, axis=1, keepdims=True)
    return Head(
        weights=generator.standard_normal(width).astype(np.float32),
        bias=-3.0,
        threshold=0.5,
        uncertain_low=0.49,
        uncertain_high=0.51,
        familiarity_floor=0.4,
        examples=examples,
        example_digests=tuple(str(n) for n in range(32)),
        example_labels=("in",) * 32,
    )


def target(encoders: Sequence[str], width: int) -> Target:
    """One occupation for each name of an encoder."""
    return make_target(
        [
            LoadedVersion(
                ModelVersion(
                    occupation=f"occupation-{number}",
                    number=1,
                    method=Method.HEAD,
                    encoder_digest=encoder,
                    artifact_digest="",
                    manifest={},
                    registration="",
                    created_at=datetime.now(UTC),
                ),
                head(width, number),
            )
            for number, encoder in enumerate(encoders)
        ]
    )


def prepare(
    scratch: Path, threads: int, tops: int, heads: int, background: Path
) -> tuple[Scorer, dict[str, Target]]:
    """Export the encoder whole and cut in two, load it as often as is asked, make the targets."""
    source = resolve_encoder(DEFAULT_ENCODER)
    side_by_side = SideBySide(threads)
    export_encoder(source.folder, scratch / "base", "int8", source.name, lambda *_: None)
    model = load_model(source.folder)
    layers = len(encoder_layers(model))
    export_tuned(model, layers - 2, scratch / "tuned", source.name, side_by_side)
    base = load_encoder(scratch / "base", "base", side_by_side)
    crowd = base.encode([row.rendered for row in read_background(background)]).embeddings
    trunk = Trunk(scratch / "tuned" / "trunk", "trunk")
    encoders: dict[str, Encoder] = {"base": base}
    for number in range(tops):
        name = f"top {number}"
        encoders[name] = SplitEncoder(trunk, scratch / "tuned" / "encoder", name, side_by_side)
        name = f"whole {number}"
        encoders[name] = load_encoder(scratch / "base", name, side_by_side)
    loaded = {name: LoadedEncoder(encoder, crowd, 0) for name, encoder in encoders.items()}
    scorer = Scorer(
        Database(f"sqlite:///{scratch / 'unused.sqlite'}"),
        LoadedEncoders(loaded),
        EmbeddingCache(0),
        PredictionTally(),
    )
    width = crowd.shape[1]
    return scorer, {
        "1 head": target(["base"], width),
        f"{heads} heads": target(["base"] * heads, width),
        "1 tuned": target(["top 0"], width),
        f"{tops} tuned": target([f"top {n}" for n in range(tops)], width),
        f"{tops} separate": target([f"whole {n}" for n in range(tops)], width),
    }


def batches(source: Texts, kind: Kind) -> Iterator[list[Experience]]:
    """Batches of texts that never come again."""
    index = 0
    while True:
        yield [Experience(**source.fields(kind, index + n)) for n in range(PER_BATCH)]
        index += PER_BATCH


def measure(
    scorer: Scorer,
    targets: Mapping[str, Target],
    made: Iterator[list[Experience]],
    rounds: int,
    repeats: int,
) -> dict[str, NDArray[np.float64]]:
    """Seconds of one batch by target, float64[rounds]: the median of ``repeats`` batches each."""
    seconds: dict[str, list[float]] = {name: [] for name in targets}
    for number in range(rounds + 1):
        # Every other round the other way round: what comes first in a round is no advantage.
        order = list(targets)[:: 1 if number % 2 else -1]
        for name in order:
            taken = []
            for _ in range(repeats):
                requests = [ScoringRequest(None, each, targets[name]) for each in next(made)]
                started = time.perf_counter()
                scorer.score(requests)
                taken.append(time.perf_counter() - started)
            # The first round warms up.
            if number:
                seconds[name].append(float(np.median(taken)))
    return {name: np.array(values) for name, values in seconds.items()}


def ratios(seconds: Mapping[str, NDArray[np.float64]], over: str, under: str) -> dict[str, float]:
    """Median and quartiles over the rounds of one target's cost over another's."""
    low, middle, high = np.percentile(seconds[over] / seconds[under], [25, 50, 75])
    return {"median": float(middle), "low": float(low), "high": float(high)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tops", type=int, default=10)
    parser.add_argument("--heads", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3, help="batches of a target in a round")
    parser.add_argument("--threads", type=int, default=available_cpus())
    parser.add_argument("--seed", type=int, default=0, help="of the texts")
    parser.add_argument(
        "--background", type=Path, default=Path("models/background/background.jsonl")
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(argv)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        scorer, targets = prepare(
            Path(scratch), options.threads, options.tops, options.heads, options.background
        )
        compared = (
            (f"{options.heads} heads", "1 head"),
            (f"{options.tops} tuned", "1 tuned"),
            (f"{options.tops} separate", "1 head"),
            ("1 tuned", "1 head"),
        )
        print("| texts | cost of | over that of | ratio | quartiles | ms a batch | ms a batch |")
        print("|---|---|---|---|---|---|---|")
        for kind in KINDS:
            made = batches(Texts(Path(), options.seed), kind)
            seconds = measure(scorer, targets, made, options.rounds, options.repeats)
            for over, under in compared:
                found = ratios(seconds, over, under)
                figures[f"{kind}: {over} / {under}"] = found
                print(
                    f"| {kind} | {over} | {under} | {found['median']:.2f} "
                    f"| {found['low']:.2f} to {found['high']:.2f} "
                    f"| {1000 * np.median(seconds[over]):.1f} "
                    f"| {1000 * np.median(seconds[under]):.1f} |"
                )
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    load = os.getloadavg()[0]
    print(
        f"batches of {PER_BATCH}; {options.rounds} rounds; {options.threads} threads; seed "
        f"{options.seed}; load average {load:.1f} at the end; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
    )
    if options.json:
        options.json.write_text(json.dumps({**figures, "versions": versions}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
