"""Read the open reference texts (ESCO, ROME, O*NET) that an encoder is adapted on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ESCO_TITLES = "occupation_titles_esco.jsonl"
ROME_TITLES = "occupation_titles_rome.jsonl"
SKILLS = "esco_skills.jsonl"
DESCRIPTIONS = "occupation_descriptions.jsonl"


@dataclass(frozen=True, slots=True)
class Concept:
    """One occupation or skill: its labels in each language, the preferred ones first.

    ``labels`` maps ``"en"`` and ``"fr"`` to distinct labels; a language may be missing (ROME is
    French).
    """

    code: str
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def preferred(self, lang: str) -> str | None:
        """Give the first label of a language, or None."""
        labels = self.labels.get(lang, ())
        return labels[0] if labels else None


@dataclass(frozen=True, slots=True)
class Description:
    """One occupation's description, with the label it is published under."""

    code: str
    lang: str
    label: str
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Everything an encoder is adapted on, in a fixed order."""

    occupations: tuple[Concept, ...]
    rome: tuple[Concept, ...]
    skills: tuple[Concept, ...]
    descriptions: tuple[Description, ...]

    def texts(self, lang: str) -> Iterator[str]:
        """Give every text of one language, labels first."""
        for concepts in (self.occupations, self.rome, self.skills):
            for concept in concepts:
                yield from concept.labels.get(lang, ())
        for description in self.descriptions:
            if description.lang == lang:
                yield description.text


@dataclass(frozen=True, slots=True)
class HoldOut:
    """Concepts kept out of training so that a measurement on them is honest.

    ``rome_prefixes`` and ``isco_prefixes`` match the start of ROME and ISCO codes; ``codes`` are
    exact occupation codes of any source.
    """

    rome_prefixes: tuple[str, ...] = ()
    isco_prefixes: tuple[str, ...] = ()
    codes: frozenset[str] = frozenset()

    def covers(self, code: str, isco4: str = "") -> bool:
        """Tell whether an occupation is held out."""
        return (
            code in self.codes
            or code.startswith(self.rome_prefixes or ("\0",))
            or (bool(isco4) and isco4.startswith(self.isco_prefixes or ("\0",)))
        )


def read_corpus(data: Path, hold_out: HoldOut | None = None) -> Corpus:
    """Read the reference files under ``data``, leaving held-out occupations out.

    Raises ``FileNotFoundError`` when one of the four files is missing.
    """
    held = hold_out or HoldOut()
    return Corpus(
        occupations=_titles(data / ESCO_TITLES, held),
        rome=_titles(data / ROME_TITLES, held),
        skills=_skills(data / SKILLS),
        descriptions=tuple(
            Description(
                row["occupation_code"],
                row["lang"],
                row["occupation_label"],
                row["description"],
                row["source"],
            )
            for row in _rows(data / DESCRIPTIONS)
            if not held.covers(row["occupation_code"], row.get("isco4") or "")
        ),
    )


def split_genders(label: str) -> tuple[str, ...]:
    """Split "boulanger/boulangère" into its two forms, as ESCO and ROME write French labels.

    A slash between shared words ("agent / agente de tri") is left whole: both halves would be
    wrong.
    """
    halves = [half.strip() for half in label.split("/")]
    if len(halves) == 2 and len(halves[0].split()) == len(halves[1].split()) and all(halves):
        return (halves[0], halves[1])
    return (label,)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _titles(path: Path, held: HoldOut) -> tuple[Concept, ...]:
    labels: dict[str, dict[str, dict[str, None]]] = {}
    # Preferred labels first: they name the concept when only one label can.
    ranked = sorted(_rows(path), key=lambda row: row["kind"] not in {"preferred", "principale"})
    for row in ranked:
        code = row["occupation_code"]
        if held.covers(code, row.get("isco4") or ""):
            continue
        of_lang = labels.setdefault(code, {}).setdefault(row["lang"], {})
        for label in split_genders(row["text"]):
            of_lang.setdefault(label)
    return _concepts(labels)


def _skills(path: Path) -> tuple[Concept, ...]:
    labels: dict[str, dict[str, dict[str, None]]] = {}
    for row in _rows(path):
        of_lang = labels.setdefault(row["code"], {}).setdefault(row["lang"], {})
        for label in (row["label"], *row["alt"]):
            of_lang.setdefault(label)
    return _concepts(labels)


def _concepts(labels: dict[str, dict[str, dict[str, None]]]) -> tuple[Concept, ...]:
    return tuple(
        Concept(code, {lang: tuple(texts) for lang, texts in by_lang.items()})
        for code, by_lang in sorted(labels.items())
    )
