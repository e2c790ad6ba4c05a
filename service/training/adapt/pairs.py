"""Turn reference texts into training pairs: a text and the teacher texts it should match."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.training.adapt.corpus import Concept, Corpus
from service.training.adapt.synthesis import compose, near_skills, qualified_titles

Floats = npt.NDArray[np.float32]
Teacher = Callable[[Sequence[str]], Floats]
# Teacher texts with weights: the target is the normalised weighted mean of their embeddings.
Target = tuple[tuple[str, float], ...]

# An occupation's target averages at most this many English labels; more change it little.
LABELS_IN_TARGET = 6


@dataclass(frozen=True, slots=True)
class Ingredients:
    """Which pairs to build; each switch is one line of the ablation table."""

    has_skills: bool = True
    has_descriptions: bool = True
    has_rome_glosses: bool = True
    # English descriptions worded in French: running text, which no open parallel data has.
    has_glossed_descriptions: bool = False
    # What an alternative label keeps of its own meaning; the rest is its occupation's.
    own_share: float = 0.5
    french_experiences: int = 5_000
    english_experiences: int = 2_000
    qualified_titles: int = 4_000
    english_labels: int = 8_000


@dataclass(frozen=True, slots=True)
class Tutor:
    """What knows English: ``teach`` embeds texts as (n, d) unit rows.

    ``gloss`` words French in English, ``gloss_in_french`` English in French.
    """

    teach: Teacher
    gloss: Callable[[str], str]
    gloss_in_french: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Training texts and their targets.

    ``texts`` (n), ``target_numbers`` (n) into the rows of ``targets`` (m, d), unit length float32.
    ``sources`` (n) names the ingredient of each pair.
    """

    texts: tuple[str, ...]
    target_numbers: tuple[int, ...]
    targets: Floats
    sources: tuple[str, ...]


def build_pairs(corpus: Corpus, ingredients: Ingredients, tutor: Tutor, seed: int) -> Pairs:
    """Build every pair, seeded, and embed every teacher text once."""
    both = [c for c in corpus.occupations if "fr" in c.labels and "en" in c.labels]
    rows = list(_rows(corpus, both, ingredients, tutor, seed))
    numbers: dict[Target, int] = {}
    for _, target, _ in rows:
        numbers.setdefault(target, len(numbers))
    teacher_texts = sorted({text for target in numbers for text, _ in target})
    embedded = dict(zip(teacher_texts, tutor.teach(teacher_texts), strict=True))
    targets = np.stack(
        [sum(weight * embedded[text] for text, weight in target) for target in numbers]
    )
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    return Pairs(
        tuple(text for text, _, _ in rows),
        tuple(numbers[target] for _, target, _ in rows),
        targets.astype(np.float32),
        tuple(source for _, _, source in rows),
    )


def _rows(
    corpus: Corpus,
    both: Sequence[Concept],
    ingredients: Ingredients,
    tutor: Tutor,
    seed: int,
) -> Iterator[tuple[str, Target, str]]:
    yield from _labels(both, ingredients, tutor.gloss, seed)
    skills = [c for c in corpus.skills if "fr" in c.labels and "en" in c.labels]
    if ingredients.has_skills:
        yield from (
            (label, ((skill.labels["en"][0], 1.0),), "skills fr")
            for skill in skills
            for label in skill.labels["fr"]
        )
    if ingredients.has_descriptions:
        yield from (
            (d.text, ((d.text, 1.0),), "descriptions en")
            for d in corpus.descriptions
            if d.lang == "en"
        )
    if ingredients.has_glossed_descriptions:
        yield from (
            (tutor.gloss_in_french(d.text), ((d.text, 1.0),), "descriptions glossed in French")
            for d in corpus.descriptions
            if d.lang == "en"
        )
    if ingredients.has_rome_glosses:
        yield from _rome(corpus, tutor.gloss)
    yield from (
        (title.french, ((title.english, 1.0),), "qualified titles fr")
        for title in qualified_titles(both, ingredients.qualified_titles, seed + 1)
    )
    count = ingredients.french_experiences + ingredients.english_experiences
    if count:
        nearest = near_skills(
            tutor.teach([concept.labels["en"][0] for concept in both]),
            tutor.teach([skill.labels["en"][0] for skill in skills]),
        )
        for number, made in enumerate(compose(both, skills, nearest, count, seed + 2)):
            is_french = number < ingredients.french_experiences
            text = made.french if is_french else made.english
            source = "experiences fr" if is_french else "experiences en"
            yield text, ((made.english, 1.0),), source


def _labels(
    both: Sequence[Concept], ingredients: Ingredients, gloss: Callable[[str], str], seed: int
) -> Iterator[tuple[str, Target, str]]:
    english: list[tuple[str, Target, str]] = []
    for concept in both:
        for number, label in enumerate(concept.labels["fr"]):
            # The first French forms translate the first English label; the others have no
            # translation of their own, so a gloss speaks for them.
            is_translation = number < 2
            own = concept.labels["en"][0] if is_translation else gloss(label)
            yield label, _mixed(own, _concept_target(concept), ingredients.own_share), "labels fr"
        # English labels keep the teacher's own embedding: pulling them together made encoders
        # forget how to tell occupations apart that training had not shown.
        english += [(label, ((label, 1.0),), "labels en") for label in concept.labels["en"]]
    chooser = random.Random(seed)  # noqa: S311 - reproducible sampling, not secrecy
    yield from chooser.sample(english, min(len(english), ingredients.english_labels))


def _mixed(own: str, shared: Target, own_share: float) -> Target:
    return ((own, own_share), *((text, weight * (1 - own_share)) for text, weight in shared))


def _concept_target(concept: Concept) -> Target:
    labels = concept.labels["en"][:LABELS_IN_TARGET]
    # The preferred label counts half: it names the concept, the others widen it.
    rest = 0.5 / max(1, len(labels) - 1)
    return tuple((label, 0.5 if number == 0 else rest) for number, label in enumerate(labels))


def _rome(corpus: Corpus, gloss: Callable[[str], str]) -> Iterator[tuple[str, Target, str]]:
    names = {
        concept.code: [gloss(label) for label in concept.labels["fr"]] for concept in corpus.rome
    }
    for concept in corpus.rome:
        glossed = names[concept.code][: 2 * LABELS_IN_TARGET]
        shared = tuple((text, 0.5 / len(glossed)) for text in glossed)
        for label, own in zip(concept.labels["fr"], names[concept.code], strict=True):
            yield label, ((own, 0.5), *shared), "ROME labels fr"
    for description in corpus.descriptions:
        if description.lang == "fr":
            yield description.text, ((gloss(description.text), 1.0),), "descriptions fr"
