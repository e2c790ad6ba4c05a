"""Tasks of texts: half of the training rows to draw from, some of the others to judge."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.arrays import Labels
from benchmarks.dev_tasks.experiences import AI_NAME
from benchmarks.rows import Row, distinct, half_of, read_jsonl
from service.domain.types import Example, Experience, Label


@dataclass(frozen=True, slots=True)
class Task:
    """One question: texts to draw examples from and texts to judge, with bool labels.

    ``title`` is the occupation's name, as a researcher would give it.
    """

    name: str
    title: str
    pool: tuple[str, ...]
    pool_inside: Labels
    judged: tuple[str, ...]
    judged_inside: Labels

    @property
    def prevalence(self) -> float:
        """Share of positives among the judged texts."""
        return float(self.judged_inside.mean())

    def draw(self, shots: int, seed: int) -> list[Example]:
        """As many `in` and `out` examples as shots."""
        generator = np.random.default_rng([seed, shots, zlib.crc32(self.name.encode())])
        inside = generator.permutation(np.flatnonzero(self.pool_inside))[:shots]
        outside = generator.permutation(np.flatnonzero(~self.pool_inside))[:shots]
        return [
            Example(Experience(text=self.pool[row]), label)
            for rows, label in ((inside, Label.IN), (outside, Label.OUT))
            for row in rows
        ]


def read_rows(path: Path) -> list[Row]:
    """The training rows of a JSON lines file, one for each text."""
    rows = distinct((row for row in read_jsonl(path) if not row.get("suspect")), "train")
    return [row for row in rows if not row.get("boilerplate_in_train")]


def tasks(data: Path, wanted: Sequence[str], rows: int, most_codes: int = 5) -> Iterator[Task]:
    """The tasks asked for; ``jobbert`` stands for the most frequent occupation codes."""
    ads = read_rows(data / "experiences_ai.jsonl")
    for name, field in (("title + description", "text"), ("description", "description")):
        if name in wanted:
            inside = np.array([row["label"] == 1 for row in ads])
            texts = [" ".join(row[field].split()) for row in ads]
            groups = [row["description"] for row in ads]
            yield task(name, AI_NAME, texts, groups, inside, rows)
    if "jobbert" in wanted:
        titles = read_rows(data / "occupation_titles_jobbert.jsonl")
        codes = [row["isco4"] for row in titles]
        texts = [row["text"] for row in titles]
        for code, _ in Counter(codes).most_common(most_codes):
            inside = np.array(codes) == code
            labels = Counter(row["occupation_label"] for row in np.array(titles)[inside])
            title = labels.most_common(1)[0][0]
            yield task(f"jobbert {code}", title, texts, texts, inside, rows)


def task(
    name: str,
    title: str,
    texts: Sequence[str],
    groups: Sequence[str],
    inside: Labels,
    rows: int,
) -> Task:
    """Split texts by a hash of their group into a pool and, at most ``rows``, judged ones."""
    half = np.array([half_of(group) for group in groups])
    pool, judged = np.flatnonzero(half == 0), np.flatnonzero(half == 1)
    judged = np.random.default_rng(0).permutation(judged)[:rows]
    return Task(
        name,
        title,
        tuple(texts[int(row)] for row in pool),
        inside[pool],
        tuple(texts[int(row)] for row in judged),
        inside[judged],
    )
