"""Distinct synthetic texts, made from the bundled background and the bundled occupations."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Literal

import yaml

from service.domain.types import Experience

Kind = Literal["titles", "experiences"]
KINDS: tuple[Kind, ...] = ("titles", "experiences")

# Parts that lengthen a title to about 11 tokens and make more than a million of them.
_RANKS = (
    "Senior", "Junior", "Lead", "Assistant", "Deputy", "Stage", "Alternance", "Freelance",
    "Interim", "Trainee", "Remplacement", "Temporary",
)  # fmt: skip
_PLACES = (
    "Lyon", "Nantes", "Lille", "Toulouse", "Rennes", "Grenoble", "Bordeaux", "Marseille",
    "Strasbourg", "Dijon", "Angers", "Reims", "Leeds", "Bristol", "Dublin", "Glasgow", "Cardiff",
    "Brussels", "Geneva", "Lausanne", "Montreal", "Boston", "Toronto", "London", "Paris",
    "Berlin", "Madrid", "Lisbon", "Milan", "Vienna", "Oslo", "Helsinki", "Warsaw", "Prague",
    "Athens", "Porto", "Turin", "Ghent", "Basel", "Cork",
)  # fmt: skip
# A prime that divides none of the lists' lengths: steps of it visit every combination once.
_STEP = 1_000_003
# Characters of a description that make about 95 tokens with title and company.
_DESCRIPTION_CHARACTERS = 270
_MASK = (1 << 64) - 1


class Texts:
    """Text number ``index`` of a kind; other indices give other texts, equal seeds equal texts."""

    def __init__(self, root: Path, seed: int) -> None:
        self._seed = seed
        rows = (root / "models" / "background" / "background.jsonl").read_text().splitlines()
        titles = {row["title"].casefold(): row["title"] for row in map(json.loads, rows)}
        # A title that begins with a rank could be met again as a rank and a shorter title.
        self._titles = [title for title in titles.values() if not title.startswith(_RANKS)]
        self._companies: list[str] = []
        self._sentences: list[str] = []
        for path in sorted((root / "models" / "occupations").glob("*.yaml")):
            for example in yaml.safe_load(path.read_text())["examples"]:
                if "company" in example:
                    self._companies.append(example["company"])
                for sentence in example.get("description", "").split(". "):
                    if len(sentence) > 20:
                        self._sentences.append(sentence.rstrip(". ") + ".")

    @cached_property
    def capacity(self) -> int:
        """Number of distinct texts of a kind."""
        return len(self._titles) * len(_RANKS) * len(_PLACES)

    def fields(self, kind: Kind, index: int) -> dict[str, str]:
        """The fields of an experience."""
        title = self._title(index)
        if kind == "titles":
            return {"title": title}
        state = _mix(self._seed * 0x9E3779B97F4A7C15 + index)
        company = self._companies[state % len(self._companies)]
        description = ""
        while len(description) < _DESCRIPTION_CHARACTERS:
            state = _mix(state)
            description += self._sentences[state % len(self._sentences)] + " "
        return {"title": title, "company": company, "description": description.strip()}

    def rendered(self, kind: Kind, index: int) -> str:
        """The one text that an encoder reads."""
        return Experience(**self.fields(kind, index)).rendered

    def _title(self, index: int) -> str:
        place = (index * _STEP + self._seed) % self.capacity
        place, title = divmod(place, len(self._titles))
        city, rank = divmod(place, len(_RANKS))
        return f"{_RANKS[rank]} {self._titles[title]} - {_PLACES[city]}"


def _mix(value: int) -> int:
    """One step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
