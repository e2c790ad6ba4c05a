"""The table of encoders, and its figures as plain numbers."""

from __future__ import annotations

from benchmarks.encoders_bench.judge import SHOTS, Cell


def markdown(results: dict[str, dict[str, dict[int, Cell]]]) -> str:
    """Lay the results out: one line a group and encoder, one column a number of shots."""
    lines = [
        "| task | encoder | " + " | ".join(map(str, SHOTS)) + " |",
        "|---|---|" + "---|" * len(SHOTS),
    ]
    for group in dict.fromkeys(group for table in results.values() for group in table):
        for name, table in results.items():
            cells = [table.get(group, {}).get(shots) for shots in SHOTS]
            shown = [f"{c.mean:.3f} [{c.low:.3f}, {c.high:.3f}]" if c else "-" for c in cells]
            lines.append(f"| {group} | {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def vars_of(cell: Cell) -> list[float]:
    """Flatten a cell to ``[mean, low, high]``."""
    return [round(value, 4) for value in (cell.mean, cell.low, cell.high)]
