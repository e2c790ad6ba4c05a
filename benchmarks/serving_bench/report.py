"""What a run found, as Markdown tables and as one JSON document."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from benchmarks.serving_bench.figures import (
    Cell,
    Measurement,
    Results,
    best_of,
    cell_ratio,
    medians,
    rate,
)
from benchmarks.serving_bench.session import Findings
from benchmarks.serving_bench.variants import CACHED, WORKERS

_MEGABYTE = 1e6
_NOISY = 0.10

Row = Sequence[str]


def document(
    head: Mapping[str, Any], figures: Mapping[str, float | None], findings: Findings
) -> dict[str, Any]:
    """The JSON document: the figures at the top level, everything behind them below."""
    behind = {field.name: getattr(findings, field.name) for field in fields(findings)}
    for name in ("results", "workers", "cache"):
        behind[name] = _plain(behind[name])
    whole: dict[str, Any] = _finite({**figures, **head, **behind})
    return whole


def table(header: Row, rows: Sequence[Row]) -> str:
    """A Markdown table, the first column left and the others right aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figures_table(figures: Mapping[str, float | None]) -> str:
    """The summary."""
    rows = [(name, "missing" if v is None else f"{v:.3f}") for name, v in figures.items()]
    return table(("figure", "value"), rows)


def results_tables(results: Results, peers: Sequence[str]) -> str:
    """One table a cell."""
    cells = sorted({cell for measured in results.values() for cell in measured})
    parts = []
    for cell in cells:
        best = best_of(results, peers, cell)
        rows = [
            _row(name, measured[cell], cell_ratio(results, "vocation", name, cell), name == best)
            for name, measured in results.items()
            if measured.get(cell)
        ]
        parts.append(f"### {str(cell).capitalize()}\n\n{table(_HEADER, rows)}")
    return "\n\n".join(parts)


_HEADER = (
    "contender", "req/s", "exp/s", "p50 ms", "p99 ms", "CPU s per 1,000", "PSS MB", "server CPU",
    "client CPU", "other CPU", "errors", "vocation over it",
)  # fmt: skip


def _row(name: str, measured: Sequence[Measurement], ratio: float | None, best: bool) -> Row:
    def middle(value: Callable[[Measurement], float]) -> float:
        return medians(measured, value)

    other = middle(lambda m: m.other_cpu_share)
    return (
        f"{name} (best peer)" if best else name,
        f"{middle(lambda m: m.requests_per_second):,.1f}",
        f"{middle(rate):,.1f}",
        f"{1000 * middle(lambda m: m.latency_p50):,.2f}",
        f"{1000 * middle(lambda m: m.latency_p99):,.2f}",
        f"{middle(lambda m: m.cpu_seconds_per_1000):.2f}",
        f"{max(m.memory_pss for m in measured) / _MEGABYTE:,.0f}",
        f"{middle(lambda m: m.server_cpu_share):.0%}",
        f"{middle(lambda m: m.client_cpu_share):.1%}",
        f"{other:.1%}" + (" (noisy)" if other > _NOISY else ""),
        str(sum(sum(m.errors.values()) for m in measured)),
        "" if ratio is None else f"{ratio:.2f}",
    )


def half_load_table(half_load: Mapping[str, Any]) -> str:
    """Latencies at half of the load, in milliseconds."""
    header = ("contender, arrivals", "req/s", "p50", "p90", "p99", "p99.9", "max", "p99/p50",
              "errors", "client late p99")  # fmt: skip
    rows = []
    for name, found in half_load.items():
        for pattern in ("poisson", "paced"):
            at = found[pattern]
            shown = [f"{1000 * at[key]:.2f}" for key in ("p50", "p90", "p99", "p999", "max")]
            rows.append((
                f"{name}, {pattern}", f"{found['requests_per_second']:.1f}", *shown,
                f"{at['p99'] / at['p50']:.2f}", str(at["errors"]), f"{1000 * at['lag_p99']:.2f}",
            ))  # fmt: skip
    return table(header, rows)


def facts_table(facts: Mapping[str, Any]) -> str:
    """Names and values; nested names are joined."""
    return table(("what", "value"), [(name, value) for name, value in _flat(facts)])


def agreement_table(agreement: Mapping[str, Mapping[str, Any]]) -> str:
    """How far scores are from the service's."""
    rows = [
        (name, f"{a['largest_difference']:.6f}", "yes" if a["equal_replies"] else "no")
        for name, a in agreement.items()
    ]
    return table(("contender", "largest difference of a score", "equal replies"), rows)


def variant_table(results: Results, variant: str) -> str:
    """The service against a variant of itself."""
    rows = [
        (
            str(cell),
            f"{medians(measured, rate):,.1f}",
            f"{medians(results[variant][cell], rate):,.1f}",
            f"{cell_ratio(results, variant, 'vocation', cell) or math.nan:.2f}",
            f"{max(m.memory_pss for m in measured) / _MEGABYTE:,.0f}",
            f"{max(m.memory_pss for m in results[variant][cell]) / _MEGABYTE:,.0f}",
        )
        for cell, measured in results["vocation"].items()
    ]
    header = ("cell", "default exp/s", f"{variant} exp/s", "ratio", "PSS MB", f"{variant} PSS MB")
    return table(header, rows)


def markdown(
    head: Mapping[str, Any], figures: Mapping[str, float | None], findings: Findings
) -> str:
    """The whole report."""
    missing = "\n".join(f"- `{name}` is missing: {why}" for name, why in findings.missing.items())
    parts = [("Machine and run", facts_table(head)), ("Missing", missing)]
    if findings.half_load:
        parts += [
            ("Summary", figures_table(figures)),
            ("Agreement with the service", agreement_table(findings.agreement)),
            ("Closed loop", results_tables(findings.results, findings.peers)),
            ("Half load, milliseconds", half_load_table(findings.half_load)),
        ]
    if findings.overload:
        parts.append(("Overload", facts_table(findings.overload)))
    if findings.workers:
        parts.append(("An API worker per CPU", variant_table(findings.workers, WORKERS)))
    if findings.cache:
        parts.append(("Repeated texts with cache", variant_table(findings.cache, CACHED)))
    if findings.registration:
        parts.append(("A fine-tuning beside full load", facts_table(findings.registration)))
    if findings.collections:
        parts.append(("Garbage collections under load", facts_table(findings.collections)))
    if findings.starts:
        parts.append(("Starts and memory", facts_table(findings.starts)))
    return "\n\n".join(f"## {title}\n\n{content}" for title, content in parts if content)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        label = f"{prefix}{name}"
        if isinstance(value, Mapping):
            rows += _flat(value, f"{label}.")
        elif isinstance(value, float):
            rows.append((label, f"{value:,.4g}" if abs(value) < 100 else f"{value:,.0f}"))
        else:
            rows.append((label, json.dumps(value) if isinstance(value, list) else str(value)))
    return rows


def _plain(results: Mapping[str, Mapping[Cell, Sequence[Measurement]]] | None) -> Any:
    if results is None:
        return None
    return [
        {"contender": name, **asdict(cell), "rounds": [asdict(m) for m in measured]}
        for name, cells in results.items()
        for cell, measured in cells.items()
    ]


def _finite(value: Any) -> Any:
    # JSON has no NaN: what could not be measured is null.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
