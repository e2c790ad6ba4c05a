"""The occupations that tasks ask about, for an encoder's training to leave out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.encoders_bench.task import fraction
from benchmarks.rows import Row, read_jsonl
from service.training.adapt.corpus import HoldOut


def held_out_rome_families(rows: Sequence[Row]) -> tuple[str, ...]:
    """Choose the 20 ROME families (three characters, like ``M18``) that the benchmark asks about.

    Families with at least 80 training and 30 judged titles, in hash order: no family is
    hand-picked.
    """
    sizes = Counter((row["occupation_code"][:3], row["split"]) for row in rows)
    families = {family for family, _ in sizes}
    large = [f for f in families if sizes[f, "train"] >= 80 and sizes[f, "test"] >= 30]
    return tuple(sorted(large, key=lambda family: fraction("rome" + family))[:20])


def held_out_isco_groups(rows: Sequence[Row]) -> tuple[str, ...]:
    """Choose the 12 ISCO three-digit groups of ESCO that the cross-language lines ask about."""
    sizes = Counter((row["isco4"][:3], row["lang"]) for row in rows)
    groups = {group for group, _ in sizes}
    large = [g for g in groups if sizes[g, "fr"] >= 120 and sizes[g, "en"] >= 120]
    return tuple(sorted(large, key=lambda group: fraction("isco" + group))[:12])


def hold_out(data: Path) -> HoldOut:
    """Choose every occupation that a task of this benchmark asks about, for training to leave out.

    The ROME families, the ISCO groups of the ESCO lines, and the ESCO and ROME codes that count as AI.
    """
    rome = list(read_jsonl(data / "occupation_titles_rome.jsonl"))
    esco = list(read_jsonl(data / "occupation_titles_esco.jsonl"))
    titles = list(read_jsonl(data / "titles_ai.jsonl"))
    ai_codes = frozenset(
        row["occupation_code"]
        for row in titles
        if row["label"] and row["source"] != "jobbert_vacancies"
    )
    return HoldOut(held_out_rome_families(rome), held_out_isco_groups(esco), ai_codes)
