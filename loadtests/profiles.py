"""What the users send: profiles of a scraping bot, single texts, occupations to register."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
# A third of the titles on profiles are ones that everybody has.
REPEATED_SHARE = 1 / 3
COMMON_TITLES = 200
EXPERIENCES = (5, 15)
DESCRIBED_SHARE = 0.5

# Names the file that the users write their requests to, where set.
EVENTS = "VOCATION_LOADTEST_EVENTS"

Fields = dict[str, Any]


class Profiles:
    """A seeded stream of experiences made of the bundled background and the bundled occupations."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - reproducible load, not secrecy
        rows = (ROOT / "models" / "background" / "background.jsonl").read_text().splitlines()
        self._titles = [json.loads(row)["title"] for row in rows]
        self._common = Random(0).sample(self._titles, COMMON_TITLES)  # noqa: S311 - as above
        self._descriptions: list[str] = []
        self._inside: dict[str, list[Fields]] = {}
        for path in sorted((ROOT / "models" / "occupations").glob("*.yaml")):
            occupation = yaml.safe_load(path.read_text())
            examples = occupation["examples"]
            self._descriptions += [e["description"] for e in examples if "description" in e]
            self._inside[path.stem] = [e for e in examples if e["label"] == "in"]

    def profile(self) -> list[Fields]:
        """The experiences of one profile: 5 to 15, a third of the titles met before."""
        return [self.experience() for _ in range(self._random.randint(*EXPERIENCES))]

    def experience(self) -> Fields:
        """One experience; a title that everybody has comes without a description."""
        chance = self._random
        if chance.random() < REPEATED_SHARE:
            return {"title": chance.choice(self._common)}
        # The number makes a title that was never sent before.
        title = f"{chance.choice(self._titles)} {chance.randrange(10**6)}"
        if chance.random() < DESCRIBED_SHARE:
            return {"title": title, "description": chance.choice(self._descriptions)}
        return {"title": title}

    def occupations(self) -> Iterator[Fields]:
        """Bodies of registrations, each of another occupation with 8 `in` examples."""
        number = 0
        while True:
            for name, inside in self._inside.items():
                number += 1
                yield {
                    "id": f"load-{number}-{self._random.randrange(10**9)}",
                    "name": name.replace("-", " "),
                    "examples": self._random.sample(inside, 8),
                    "training": {"method": "head"},
                }
