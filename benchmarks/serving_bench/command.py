"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks.serving_bench import machine, peers, report
from benchmarks.serving_bench.contenders import ROOT
from benchmarks.serving_bench.figures import Cell, summary
from benchmarks.serving_bench.measure import Pace
from benchmarks.serving_bench.session import SECTIONS, Findings, Plan, Session
from benchmarks.serving_bench.texts import KINDS, Texts

_QUICK_CELLS = (Cell("titles", 1, 16), Cell("titles", 8, 16), Cell("experiences", 8, 16))
_SAMPLE = 1000


def main(documentation: str | None) -> None:
    """Run the benchmark and print its report."""
    options = _options(documentation)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As an interrupt does: contenders that were left stopped would outlive this process.
        signal.signal(number, lambda *_: sys.exit("ended by a signal"))
    plan = _plan(options)
    head = {
        "machine": machine.describe(),
        "libraries": machine.libraries(),
        "seed": plan.seed,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": options.quick,
        "rounds": plan.rounds,
        "peers_graph": "int8 by optimum, dynamic, per channel, exported in this run",
        "peers_texts_per_run": plan.texts_per_run,
        "window_seconds": plan.pace.seconds,
        "mean_tokens": _mean_tokens(plan.seed),
    }
    work = Path(tempfile.mkdtemp(prefix="vocation-serving-"))
    try:
        session = Session(plan, work, options.venvs)
        begun = time.monotonic()
        findings = session.run()
    except BaseException:
        print(f"logs are kept in {work}", file=sys.stderr)
        raise
    head["measured_in_seconds"] = round(time.monotonic() - begun, 1)
    _write(options, head, findings)
    shutil.rmtree(work)


def _write(options: argparse.Namespace, head: dict[str, Any], findings: Findings) -> None:
    ours = (findings.half_load or {}).get("vocation")
    figures = summary(findings.results, findings.peers, ours["poisson"] if ours else None)
    print(f"\n{report.markdown(head, figures, findings)}")
    if options.json:
        content = json.dumps(report.document(head, figures, findings), indent=1)
        options.json.write_text(content + "\n")
    if options.plot and findings.results:
        # Loaded only where a figure is wanted.
        from benchmarks.serving_bench.plot import write_plot  # noqa: PLC0415

        write_plot(findings.results, options.plot)


def _plan(options: argparse.Namespace) -> Plan:
    quick = options.quick
    cells = (Cell(*parts) for parts in product(KINDS, (1, 8), (1, 16, 64)))
    return Plan(
        sections=options.sections or (("peers",) if quick else SECTIONS),
        cells=_QUICK_CELLS if quick else tuple(cells),
        rounds=options.rounds or (2 if quick else 5),
        pace=Pace(0.3, 0.9) if quick else Pace(0.5, 4.0),
        half_load_seconds=5.0 if quick else 30.0,
        overload_seconds=8.0 if quick else 20.0,
        occupations=options.occupations,
        seed=options.seed,
        peers=options.peers,
        texts_per_run=options.texts_per_run,
        half_load_roles=("service",) if quick else ("service", "bare"),
    )


def _options(documentation: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="serving",
        description=documentation,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer cells and rounds: 4 minutes")
    parser.add_argument(
        "--sections", type=_names(SECTIONS), help=f"of {','.join(SECTIONS)}; quick: peers"
    )
    parser.add_argument("--peers", type=_names(peers.NAMES), default=peers.NAMES)
    parser.add_argument(
        "--texts-per-run",
        type=int,
        default=8,
        help="short texts that share an ONNX run in litserve and mlserver; 1: none, so that no score moves with its neighbours",
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--occupations", type=int, default=100, help="for the section starts")
    parser.add_argument("--venvs", type=Path, default=ROOT / "build" / "peers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    return parser.parse_args()


def _names(known: tuple[str, ...]) -> Any:
    def parse(value: str) -> tuple[str, ...]:
        names = tuple(name for name in value.split(",") if name)
        unknown = set(names) - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(f"not of {', '.join(known)}: {sorted(unknown)}")
        return names

    return parse


def _mean_tokens(seed: int) -> dict[str, float]:
    texts = Texts(ROOT, seed)
    tokenizer = Tokenizer.from_file(str(peers.ENCODER / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return {
        kind: sum(len(tokenizer.encode(texts.rendered(kind, n)).ids) for n in range(_SAMPLE))
        / _SAMPLE
        for kind in KINDS
    }
