"""Compose parallel experiences, French beside English, from titles and skills that share codes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.training.adapt.corpus import Concept
from service.training.adapt.phrases import CLOSINGS, INTRODUCTIONS, SENIORITY, SKILL_HEADINGS

Floats = npt.NDArray[np.float32]

# Skills a synthetic experience draws from: this many nearest to its occupation, by the teacher.
NEAREST_SKILLS = 48
# Shares of the composed texts; chosen once to look like profiles, not tuned.
SHARE_ODD_SKILL, SHARE_WITHOUT_TITLE, SHARE_QUALIFIED_TITLE = 0.15, 0.3, 0.3


@dataclass(frozen=True, slots=True)
class Parallel:
    """The same experience in both languages."""

    french: str
    english: str


def near_skills(
    occupations: Floats, skills: Floats, keep: int = NEAREST_SKILLS
) -> npt.NDArray[np.int64]:
    """Rank the ``keep`` nearest skills of each occupation.

    ``occupations`` (n, d) and ``skills`` (m, d) are unit rows of one encoder; returns (n, keep)
    skill numbers, nearest first. It stands in for ESCO's own relations, which the label files
    leave out.
    """
    ranked = np.argsort(-(occupations @ skills.T), axis=1, kind="stable")[:, :keep]
    return ranked.astype(np.int64)


def compose(
    occupations: Sequence[Concept],
    skills: Sequence[Concept],
    nearest: npt.NDArray[np.int64],
    count: int,
    seed: int,
) -> list[Parallel]:
    """Compose ``count`` parallel experiences of 2 to 6 skills, seeded.

    ``occupations`` and ``skills`` must have labels in both languages; ``nearest`` is row-aligned
    with ``occupations`` (see :func:`near_skills`).
    """
    chooser = random.Random(seed)  # noqa: S311 - reproducible sampling, not secrecy
    experiences = []
    for _ in range(count):
        row = chooser.randrange(len(occupations))
        pool = [int(number) for number in nearest[row]]
        chosen = [
            skills[chooser.randrange(len(skills)) if chooser.random() < SHARE_ODD_SKILL else number]
            for number in chooser.sample(pool, min(len(pool), chooser.randint(2, 6)))
        ]
        experiences.append(_experience(occupations[row], chosen, chooser))
    return experiences


def qualified_titles(occupations: Sequence[Concept], count: int, seed: int) -> list[Parallel]:
    """Compose titles with a seniority, a contract or a role around them, in both languages."""
    chooser = random.Random(seed)  # noqa: S311 - reproducible sampling, not secrecy
    titles = []
    for _ in range(count):
        occupation = chooser.choice(occupations)
        french, english = chooser.choice(SENIORITY)
        titles.append(
            Parallel(
                french.format(_label(occupation, "fr", chooser)),
                english.format(occupation.labels["en"][0]),
            )
        )
    return titles


def _label(concept: Concept, lang: str, chooser: random.Random) -> str:
    return chooser.choice(concept.labels[lang])


def _experience(occupation: Concept, skills: Sequence[Concept], chooser: random.Random) -> Parallel:
    title = (_label(occupation, "fr", chooser), occupation.labels["en"][0])
    if chooser.random() < SHARE_QUALIFIED_TITLE:
        french, english = chooser.choice(SENIORITY)
        title = (french.format(title[0]), english.format(title[1]))
    introduction, closing = chooser.choice(INTRODUCTIONS), chooser.choice(CLOSINGS)
    heading = chooser.choice(SKILL_HEADINGS)
    cut = chooser.randint(1, len(skills)) if chooser.random() < 0.4 else len(skills)
    style, case = chooser.randrange(5), chooser.randrange(4)
    has_title = chooser.random() >= SHARE_WITHOUT_TITLE

    def render(lang: int) -> str:
        names = [_title_case(skill.labels[("fr", "en")[lang]][0], case) for skill in skills]
        parts = (
            [_title_case(title[lang], case) + ("." if style != 1 else "\n")] if has_title else []
        )
        parts += [introduction[lang], _listed(names[:cut], style, lang)]
        if names[cut:]:
            parts += [heading[lang], _listed(names[cut:], style, lang)]
        return " ".join(part for part in (*parts, closing[lang]) if part)

    return Parallel(render(0), render(1))


def _title_case(text: str, case: int) -> str:
    return text[:1].upper() + text[1:] if case else text


def _listed(names: Sequence[str], style: int, lang: int) -> str:
    if style == 0:
        return " ".join(f"- {name}" for name in names)
    if style == 1:
        return " ".join(f"* {name}" for name in names)
    if style == 2:
        return ". ".join(names) + "."
    if style == 3:
        return " ; ".join(names) + "."
    last = (" et ", " and ")[lang] + names[-1] if len(names) > 1 else ""
    return ", ".join(names[:-1] if last else names) + last + "."
