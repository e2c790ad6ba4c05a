"""Tasks of job ads cut to experiences: is it AI work, yes or no."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.dev_tasks.materials import Materials
from benchmarks.dev_tasks.task import Task
from benchmarks.rows import half_of, read_jsonl
from service.domain.types import Experience

AI_NAME = "Artificial intelligence, machine learning, data science"
# What a researcher would write; as in models/occupations/ai-engineering.yaml.
AI_DESCRIPTION = (
    "Builds, researches or runs machine learning and AI systems: data scientists, machine learning "
    "and MLOps engineers, research and applied scientists, PhD candidates and interns in AI, and "
    "NLP, computer vision or LLM engineers, at every level."
)


def experience_tasks(materials: Materials, *, final: bool) -> Iterator[Task]:
    """Job ads as experiences; ``final`` judges the test rows with all train rows to draw from."""
    embed = materials.embed
    rows = [
        row
        for row in read_jsonl(materials.data / "experiences_ai.jsonl")
        if not row["suspect"]
        and not row.get("boilerplate_in_train")
        and (final or row["split"] == "train")
    ]
    inside = np.array([row["label"] == 1 for row in rows])
    if final:
        halves = np.array([int(row["split"] == "test") for row in rows])
    else:
        halves = np.array([half_of(row["description"]) for row in rows])
    french = np.array([row["source"] == "radar_france_travail" for row in rows])
    both = embed([Experience(None, None, None, row["text"]).rendered for row in rows])
    alone = embed([Experience(None, None, None, row["description"]).rendered for row in rows])
    labels = materials.labels(set(), with_rome=True)
    described = materials.described(AI_NAME, AI_DESCRIPTION, labels)
    for kind, embeddings, where in (
        ("title + description", both, halves),
        ("description", alone, halves),
        ("description, one source", alone, np.where(french, halves, 2)),
    ):
        family = f"{kind}, test" if final else kind
        pool, judged = np.flatnonzero(where == 0), np.flatnonzero(where == 1)
        yield Task(family, kind, embeddings, inside, pool, judged, **described)
