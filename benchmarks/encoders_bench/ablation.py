"""Encoders adapted with the judged occupations held out, one ingredient more each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.encoders_bench.held_out import hold_out
from service.training.adapt.pairs import Ingredients
from service.training.adapt.run import adapt
from service.training.adapt.settings import AdaptSettings


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
