"""Compare frozen encoders as few-shot features: titles and experiences, French, English, across.

One command: ``python -m benchmarks.encoders NAME=DIRECTORY ... [--data ../shared/data]``; with
``--ablation WORK`` it first adapts one encoder a recipe with the judged concepts held out.
Protocol: ``n`` positives and ``n`` negatives are drawn from a task's training rows, a logistic
head is fitted on the frozen embeddings, average precision is taken on the task's other rows at
their real share of positives. Draws are seeded by task and number, so every encoder sees the same
rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from service.training.adapt.corpus import HoldOut
from service.training.adapt.pairs import Ingredients
from service.training.adapt.run import adapt
from service.training.adapt.settings import AdaptSettings

Row = dict[str, Any]
Floats = npt.NDArray[np.float32]
Positive = Callable[[Row], bool]
Encode = Callable[[Sequence[str]], Floats]

SHOTS = (8, 16, 32, 64)
LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """One yes/no question: rows to draw examples from, rows to judge on, and which are positive.

    ``group`` names the line of the table the task is averaged into.
    """

    group: str
    name: str
    pool_texts: tuple[str, ...]
    pool_is_positive: tuple[bool, ...]
    judged_texts: tuple[str, ...]
    judged_is_positive: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """Mean average precision of one group at one number of shots, with a 95 % interval.

    The interval is a bootstrap over draws (each draw averaged over the group's tasks).
    """

    mean: float
    low: float
    high: float


def equal(field: str, value: str) -> Positive:
    """Ask of a row whether a field has a value."""
    return lambda row: bool(row[field] == value)


def starting(field: str, beginning: str) -> Positive:
    """Ask of a row whether a field starts with some characters."""
    return lambda row: str(row[field]).startswith(beginning)


def read_rows(path: Path) -> list[Row]:
    """Read one JSON object a line."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def fraction(key: str) -> float:
    """Map a key to [0, 1) by a fixed hash: a split that no library version can move."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32


def _task(
    group: str,
    name: str,
    pool: Iterable[Row],
    judged: Iterable[Row],
    positive: Positive,
) -> Task:
    pool_rows, judged_rows = list(pool), list(judged)
    return Task(
        group,
        name,
        tuple(row["text"] for row in pool_rows),
        tuple(positive(row) for row in pool_rows),
        tuple(row["text"] for row in judged_rows),
        tuple(positive(row) for row in judged_rows),
    )


def held_out_rome_families(rows: Sequence[Row]) -> tuple[str, ...]:
    """Choose the 20 ROME families (three characters, like ``M18``) that the benchmark asks about.

    Families with at least 64 training and 30 judged titles, in hash order: no family is
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


def rome_tasks(data: Path) -> list[Task]:
    """French titles: is it in this ROME family? Rows of the data's own splits."""
    rows = read_rows(data / "occupation_titles_rome.jsonl")
    pool = [row for row in rows if row["split"] == "train"]
    judged = [row for row in rows if row["split"] == "test"]
    families = [
        _task(
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
        _task("ROME codes fr", code, pool, judged, equal("occupation_code", code))
        for code, size in sizes.most_common(20)
    ]
    return [*families, *codes]


def jobbert_tasks(data: Path) -> list[Task]:
    """English vacancy titles: is it in this ISCO group? Halved by hash, having no test rows."""
    rows = read_rows(data / "occupation_titles_jobbert.jsonl")
    pool = [row for row in rows if fraction(row["text"].lower()) < 0.5]
    judged = [row for row in rows if fraction(row["text"].lower()) >= 0.5]
    sizes = Counter(row["isco4"] for row in pool)
    codes = [code for code, size in sizes.most_common() if size >= 64][:14]
    return [_task("JobBERT titles en", code, pool, judged, equal("isco4", code)) for code in codes]


def linkedin_tasks(data: Path) -> list[Task]:
    """Short profile titles: department or seniority; examples in English, judged in both."""
    rows = read_rows(data / "linkedin_titles_train.jsonl")
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
            tasks.append(_task("LinkedIn titles en", label, pool, judged, positive))
            if sum(map(positive, french)) >= 15:
                tasks.append(_task("LinkedIn titles en>fr", label, pool, french, positive))
    return tasks


def esco_tasks(data: Path) -> list[Task]:
    """Occupation labels by ISCO group, within and across languages; codes are split in halves."""
    rows = read_rows(data / "occupation_titles_esco.jsonl")
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
            _task(
                group,
                isco,
                halves[source, "pool"],
                halves[target, "judged"],
                starting("isco4", isco),
            )
            for isco in held_out_isco_groups(rows)
        ]
    return tasks


def experience_tasks(data: Path, *, use_test_rows: bool) -> list[Task]:
    """Title + description and description alone: is it AI work? In each language and across.

    Without ``use_test_rows`` the training rows alone are halved by hash, so that choices never
    look at the test rows. ``suspect`` and ``boilerplate_in_train`` rows are left out. French
    negatives and positives come from one source (``radar_france_travail``), as the data's own page
    advises.
    """
    rows = [
        row
        for row in read_rows(data / "experiences_ai.jsonl")
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
                _task(
                    f"{title} {arrow}",
                    "ai",
                    [row | {"text": row[field]} for row in pool if keep_pool(row)],
                    [row | {"text": row[field]} for row in judged if keep_judged(row)],
                    lambda row: bool(row["label"]),
                )
            )
    return tasks


def all_tasks(data: Path, *, use_test_rows: bool) -> list[Task]:
    """Every task of the table."""
    return [
        *rome_tasks(data),
        *jobbert_tasks(data),
        *linkedin_tasks(data),
        *esco_tasks(data),
        *experience_tasks(data, use_test_rows=use_test_rows),
    ]


def draw(is_positive: npt.NDArray[np.bool_], shots: int, seed: int) -> npt.NDArray[np.int64] | None:
    """Draw ``shots`` positive and as many negative row numbers; None when there are too few."""
    positives, negatives = np.flatnonzero(is_positive), np.flatnonzero(~is_positive)
    if min(len(positives), len(negatives)) < shots:
        return None
    random = np.random.default_rng(seed)
    chosen = [random.choice(rows, shots, replace=False) for rows in (positives, negatives)]
    return np.concatenate(chosen).astype(np.int64)


def judge(task: Task, embedded: dict[str, Floats], shots: int, draws: int) -> list[float]:
    """Average precision of each draw of one task; empty when the pool has too few rows."""
    pool_labels = np.array(task.pool_is_positive)
    judged_labels = np.array(task.judged_is_positive)
    pool = np.stack([embedded[text] for text in task.pool_texts])
    judged = np.stack([embedded[text] for text in task.judged_texts])
    scores = []
    for number in range(draws):
        rows = draw(
            pool_labels,
            shots,
            zlib.crc32(f"{task.group.split('>')[0]}/{task.name}/{number}".encode()),
        )
        if rows is None:
            return []
        head = LogisticRegression(C=1.0, max_iter=300).fit(pool[rows], pool_labels[rows])
        scores.append(float(average_precision_score(judged_labels, head.decision_function(judged))))
    return scores


def summarise(draws_by_task: Sequence[Sequence[float]]) -> Cell:
    """Average tasks within a draw, then draws; 95 % bootstrap interval over the draws."""
    by_draw = np.mean(np.array(draws_by_task, dtype=np.float64), axis=0)
    random = np.random.default_rng(0)
    resampled = random.choice(by_draw, (2000, len(by_draw))).mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Cell(float(by_draw.mean()), float(low), float(high))


def evaluate(encode: Encode, tasks: Sequence[Task], draws: int) -> dict[str, dict[int, Cell]]:
    """Encode each distinct text once and judge every task: group -> shots -> cell."""
    texts = sorted({text for task in tasks for text in (*task.pool_texts, *task.judged_texts)})
    matrix = encode(texts)
    embedded = dict(zip(texts, matrix, strict=True))
    table: dict[str, dict[int, Cell]] = {}
    for group in dict.fromkeys(task.group for task in tasks):
        for shots in SHOTS:
            scored = [judge(task, embedded, shots, draws) for task in tasks if task.group == group]
            if kept := [scores for scores in scored if scores]:
                table.setdefault(group, {})[shots] = summarise(kept)
    return table


def load_encoder(directory: Path, *, is_bf16: bool, cache: Path | None = None) -> Encode:
    """Load a sentence-transformers directory; embeddings come back unit length, float32.

    ``cache`` keeps embeddings by the weights' digest, so that a second table costs no encoding.
    """
    model = SentenceTransformer(str(directory)).float().eval()
    model.max_seq_length = 128
    weights = (directory / "model.safetensors").read_bytes()
    vocabulary = (directory / "tokenizer.json").read_bytes()
    digest = hashlib.sha256(weights + vocabulary + bytes([is_bf16])).hexdigest()[:16]
    kept = cache / f"{digest}.npz" if cache else None
    known: dict[str, Floats] = {}
    if kept and kept.exists():
        with np.load(kept) as arrays:
            kept_texts = arrays["texts"].tobytes().decode().split("\0")
            known = dict(zip(kept_texts, arrays["rows"], strict=True))

    def encode(texts: Sequence[str]) -> Floats:
        missing = [text for text in texts if text not in known]
        if missing:
            with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=is_bf16):
                rows = model.encode(missing, batch_size=32, normalize_embeddings=True)
            known.update(zip(missing, np.asarray(rows, dtype=np.float32), strict=True))
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                joined = np.frombuffer("\0".join(known).encode(), dtype=np.uint8)
                np.savez(kept, texts=joined, rows=np.stack(list(known.values())))
        return np.stack([known[text] for text in texts])

    return encode


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


def hold_out(data: Path) -> HoldOut:
    """Choose every occupation that a task of this benchmark asks about, for training to leave out.

    The ROME families, the ISCO groups of the ESCO lines, and the ESCO and ROME codes that count as AI.
    """
    rome = read_rows(data / "occupation_titles_rome.jsonl")
    esco = read_rows(data / "occupation_titles_esco.jsonl")
    titles = read_rows(data / "titles_ai.jsonl")
    ai_codes = frozenset(
        row["occupation_code"]
        for row in titles
        if row["label"] and row["source"] != "jobbert_vacancies"
    )
    return HoldOut(held_out_rome_families(rome), held_out_isco_groups(esco), ai_codes)


def recipes(settings: AdaptSettings) -> dict[str, AdaptSettings]:
    """Build the ablation's recipes up, one ingredient a line; the last but one is shipped."""
    labels = Ingredients(
        has_skills=False,
        has_descriptions=False,
        has_rome_glosses=False,
        french_experiences=0,
        english_experiences=0,
        qualified_titles=0,
    )
    skills = replace(labels, has_skills=True, qualified_titles=Ingredients().qualified_titles)
    glosses = replace(skills, has_rome_glosses=True)
    chosen = {
        "labels, old vocabulary": replace(settings, ingredients=labels, new_pieces_at_most=0),
        "labels": replace(settings, ingredients=labels),
        "+ skills, qualified titles": replace(settings, ingredients=skills),
        "+ ROME glosses": replace(settings, ingredients=glosses),
        "+ experiences, descriptions": settings,
        "+ descriptions glossed in French": replace(
            settings, ingredients=replace(settings.ingredients, has_glossed_descriptions=True)
        ),
    }
    return {
        name: replace(recipe, out=settings.out / str(n), work=settings.work / str(n))
        for n, (name, recipe) in enumerate(chosen.items())
    }


def adapt_recipes(data: Path, base: Path, work: Path) -> dict[str, Path]:
    """Adapt one held-out encoder a recipe: name -> directory, the bare vocabulary among them."""
    settings = AdaptSettings(
        data=data, base=base, out=work / "out", work=work / "work", hold_out=hold_out(data)
    )
    made = {name: (adapt(recipe).directory, recipe) for name, recipe in recipes(settings).items()}
    directories = {name: directory for name, (directory, _) in made.items()}
    return {"new vocabulary, no training": made["labels"][1].work / "start", **directories}


def main() -> None:
    """Command line entry: print the table, and save the figures as JSON when asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("encoders", nargs="+", help="NAME=DIRECTORY; the first is the base")
    parser.add_argument("--ablation", type=Path, help="adapt held-out encoders in this directory")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument(
        "--groups", default="", help="only groups containing one of these, comma separated"
    )
    parser.add_argument(
        "--test-rows", action="store_true", help="judge experiences on the test rows"
    )
    parser.add_argument(
        "--bf16", action="store_true", help="encode in bfloat16: faster, for choosing"
    )
    parser.add_argument("--cache", type=Path, help="keep embeddings here between runs")
    parser.add_argument("--json", type=Path, help="save the figures here")
    arguments = parser.parse_args()
    wanted = [part for part in arguments.groups.split(",") if part]
    tasks = [
        task
        for task in all_tasks(arguments.data, use_test_rows=arguments.test_rows)
        if not wanted or any(part in task.group for part in wanted)
    ]
    results: dict[str, dict[str, dict[int, Cell]]] = {}
    directories = {
        name: Path(path) for name, _, path in (named.partition("=") for named in arguments.encoders)
    }
    if arguments.ablation:
        base = next(iter(directories.values()))
        directories |= adapt_recipes(arguments.data, base, arguments.ablation)
    for name, directory in directories.items():
        encode = load_encoder(directory, is_bf16=arguments.bf16, cache=arguments.cache)
        results[name] = evaluate(encode, tasks, arguments.draws)
    print(markdown(results))
    if arguments.json:
        figures = {
            name: {
                group: {n: vars_of(cell) for n, cell in row.items()} for group, row in table.items()
            }
            for name, table in results.items()
        }
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def vars_of(cell: Cell) -> list[float]:
    """Flatten a cell to ``[mean, low, high]``."""
    return [round(value, 4) for value in (cell.mean, cell.low, cell.high)]


if __name__ == "__main__":
    main()
