"""Tasks of titles and occupation labels: ROME, JobBERT, LinkedIn, ESCO."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.encoders_bench.held_out import held_out_isco_groups, held_out_rome_families
from benchmarks.encoders_bench.task import Task, equal, fraction, make_task, starting
from benchmarks.rows import read_jsonl


def rome_tasks(data: Path) -> list[Task]:
    """French titles: is it in this ROME family? Rows of the data's own splits."""
    rows = list(read_jsonl(data / "occupation_titles_rome.jsonl"))
    pool = [row for row in rows if row["split"] == "train"]
    judged = [row for row in rows if row["split"] == "test"]
    families = [
        make_task(
            "ROME titles fr",
            family,
            pool,
            judged,
            starting("occupation_code", family),
        )
        for family in held_out_rome_families(rows)
    ]
    sizes = Counter(row["occupation_code"] for row in pool)
    codes = [
        make_task("ROME codes fr", code, pool, judged, equal("occupation_code", code))
        for code, size in sizes.most_common(20)
    ]
    return [*families, *codes]


def jobbert_tasks(data: Path) -> list[Task]:
    """English vacancy titles: is it in this ISCO group? Halved by hash, having no test rows."""
    rows = list(read_jsonl(data / "occupation_titles_jobbert.jsonl"))
    pool = [row for row in rows if fraction(row["text"].lower()) < 0.5]
    judged = [row for row in rows if fraction(row["text"].lower()) >= 0.5]
    sizes = Counter(row["isco4"] for row in pool)
    codes = [code for code, size in sizes.most_common() if size >= 64][:14]
    return [
        make_task("JobBERT titles en", code, pool, judged, equal("isco4", code)) for code in codes
    ]


def linkedin_tasks(data: Path) -> list[Task]:
    """Short profile titles: department or seniority; examples in English, judged in both."""
    rows = list(read_jsonl(data / "linkedin_titles_train.jsonl"))
    tasks = []
    for kind, labels in (
        ("department", ("Marketing", "Sales", "Information Technology")),
        ("seniority", ("Senior", "Lead", "Director", "Management")),
    ):
        of_kind = [row for row in rows if row["task"] == kind]
        english = [row for row in of_kind if row["lang"] == "en"]
        french = [row for row in of_kind if row["lang"] == "fr"]
        pool = [row for row in english if fraction(row["text"].lower()) < 0.5]
        judged = [row for row in english if fraction(row["text"].lower()) >= 0.5]
        for label in labels:
            positive = equal("label", label)
            tasks.append(make_task("LinkedIn titles en", label, pool, judged, positive))
            if sum(map(positive, french)) >= 15:
                tasks.append(make_task("LinkedIn titles en>fr", label, pool, french, positive))
    return tasks


def esco_tasks(data: Path) -> list[Task]:
    """Occupation labels by ISCO group, within and across languages; codes are split in halves."""
    rows = list(read_jsonl(data / "occupation_titles_esco.jsonl"))
    tasks = []
    chosen = [row for row in rows if row["lang"] == "fr" or fraction(row["text"]) < 0.4]
    halves = {
        (lang, half): [
            row
            for row in chosen
            if row["lang"] == lang and (fraction(row["occupation_code"]) < 0.5) == (half == "pool")
        ]
        for lang in ("en", "fr")
        for half in ("pool", "judged")
    }
    for source, target in (("en", "en"), ("fr", "fr"), ("en", "fr"), ("fr", "en")):
        group = f"ESCO labels {source}>{target}"
        tasks += [
            make_task(
                group,
                isco,
                halves[source, "pool"],
                halves[target, "judged"],
                starting("isco4", isco),
            )
            for isco in held_out_isco_groups(rows)
        ]
    return tasks
