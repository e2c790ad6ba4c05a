"""Tasks of titles: JobBERT by ISCO code, ROME by domain and by code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.dev_tasks.materials import Materials
from benchmarks.dev_tasks.task import Task
from benchmarks.rows import Row, distinct, half_of, read_jsonl

JOBBERT_TASKS, ROME_DOMAINS, ROME_CODES = 16, 10, 8


def title_tasks(materials: Materials) -> Iterator[Task]:
    """JobBERT by ISCO code, ROME by domain and by code."""
    jobbert = distinct(read_jsonl(materials.data / "occupation_titles_jobbert.jsonl"), "train")
    codes = [row["isco4"] for row in jobbert]
    groups = [row["text"] for row in jobbert]
    yield from code_tasks("jobbert", jobbert, codes, groups, JOBBERT_TASKS, materials)
    rome = distinct(read_jsonl(materials.data / "occupation_titles_rome.jsonl"), "train")
    codes = [row["occupation_code"] for row in rome]
    # Masculine and feminine of one name share a number, and so a half.
    groups = [f"{row['occupation_code']}{row['ogr']}" for row in rome]
    domains = [code[:3] for code in codes]
    yield from code_tasks("rome domain", rome, domains, groups, ROME_DOMAINS, materials)
    yield from code_tasks("rome code", rome, codes, groups, ROME_CODES, materials)


def code_tasks(
    family: str,
    rows: Sequence[Row],
    codes: Sequence[str],
    groups: Sequence[str],
    wanted: int,
    materials: Materials,
) -> Iterator[Task]:
    """A task for each of the most frequent codes; titles of the background are not judged."""
    embeddings = materials.embed([row["text"] for row in rows])
    texts = [row["text"].lower() for row in rows]
    halves = np.array([half_of(group) for group in groups])
    halves[(halves == 1) & np.array([text in materials.background for text in texts])] = 2
    judged = {text for text, half in zip(texts, halves, strict=True) if half == 1}
    # A ROME label beside the judged ones of its code would be half of the answer.
    labels = materials.labels(judged, with_rome=family == "jobbert")
    each = np.array(codes)
    for code, _ in Counter(codes).most_common(wanted):
        inside = each == code
        names = Counter(
            (row["occupation_label"], row["occupation_code"]) for row in np.array(rows)[inside]
        )
        name, occupation = names.most_common(1)[0][0]
        yield Task(
            family,
            f"{family} {code}",
            embeddings,
            inside,
            np.flatnonzero(halves == 0),
            np.flatnonzero(halves == 1),
            **materials.described(name, materials.descriptions.get(occupation), labels),
        )
