"""Tasks of experiences: is it AI work, asked in each language and across."""

from __future__ import annotations

from pathlib import Path

from benchmarks.encoders_bench.task import Positive, Task, fraction, make_task
from benchmarks.rows import read_jsonl


def experience_tasks(data: Path, *, use_test_rows: bool) -> list[Task]:
    """Title + description and description alone: is it AI work? In each language and across.

    Without ``use_test_rows`` the training rows alone are halved by hash, so that choices never
    look at the test rows. ``suspect`` and ``boilerplate_in_train`` rows are left out. French
    negatives and positives come from one source (``radar_france_travail``), as the data's own page
    advises.
    """
    rows = [
        row
        for row in read_jsonl(data / "experiences_ai.jsonl")
        if not row["suspect"] and not row.get("boilerplate_in_train")
    ]
    if use_test_rows:
        pool = [row for row in rows if row["split"] == "train"]
        judged = [row for row in rows if row["split"] == "test"]
    else:
        train = [row for row in rows if row["split"] == "train"]
        pool = [row for row in train if fraction(row["id"]) < 0.5]
        judged = [row for row in train if fraction(row["id"]) >= 0.5]
    in_language: dict[str, Positive] = {
        "fr": lambda row: row["source"] == "radar_france_travail" and row["lang"] == "fr",
        "en": lambda row: row["lang"] == "en",
        "all": lambda _: True,
    }
    tasks = []
    for field, title in (("text", "title+description"), ("description", "description")):
        for source, target in (
            ("all", "all"),
            ("en", "en"),
            ("fr", "fr"),
            ("en", "fr"),
            ("fr", "en"),
        ):
            arrow = source if source == target == "all" else f"{source}>{target}"
            keep_pool, keep_judged = in_language[source], in_language[target]
            tasks.append(
                make_task(
                    f"{title} {arrow}",
                    "ai",
                    [row | {"text": row[field]} for row in pool if keep_pool(row)],
                    [row | {"text": row[field]} for row in judged if keep_judged(row)],
                    lambda row: bool(row["label"]),
                )
            )
    return tasks
