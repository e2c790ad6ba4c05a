"""The model card of a version (Mitchell et al., 2019, "Model Cards for Model Reporting")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain.types import ModelVersion, Occupation


def model_card(occupation: Occupation, version: ModelVersion) -> str:
    """A version's card in Markdown, from its manifest."""
    manifest = version.manifest
    # The version's: the occupation's own may have been changed since it was calibrated.
    prevalence = manifest.get("data", {}).get("prevalence", occupation.prevalence)
    sections = [
        f"# {occupation.name}: version {version.number}",
        f"`{occupation.id}@{version.number}`, made {version.created_at:%Y-%m-%d %H:%M} UTC "
        f"by the `{version.method.value}` method.",
        "## What it answers",
        occupation.description or "The occupation has no description.",
        f"The score is a probability calibrated for a prevalence of {prevalence:g}: "
        f"of 100 experiences scored 0.8, about 80 should be in the occupation, when "
        f"{prevalence:.1%} of all experiences are. The label is `in` from a score of "
        f"{_number(manifest.get('head', {}).get('threshold'))} on.",
        "## What it was trained on",
        _table(manifest.get("data", {})),
        *_erased(version.erased_examples),
        "## How good it is",
        "Measured out of fold on its own examples and the background, not on other data:",
        _table(manifest.get("metrics", {})),
        "## What to expect of it",
        *_expected(manifest.get("reference", {}), prevalence),
        "## What it is made of",
        f"Encoder `{version.encoder_digest}`, head `{version.artifact_digest}`.",
        _table(manifest.get("hyper_parameters", {})),
        "## Durations",
        _table(manifest.get("durations_seconds", {})),
        "## Libraries",
        _table(manifest.get("libraries", {})),
        "## Limits",
        "Few examples say little about the rarest forms of an occupation. Check a sample of each "
        "source before you publish counts, and correct mistakes by adding examples.",
    ]
    return "\n\n".join(sections) + "\n"


def _erased(examples: int) -> list[str]:
    if not examples:
        return []
    return [
        f"**{examples} of these examples {'has' if examples == 1 else 'have'} been erased since.** "
        "This version still answers as it was trained; add examples to train one without them."
    ]


def _expected(reference: Mapping[str, Any], prevalence: float) -> list[str]:
    """What the version was expected to answer; a version from before references has none."""
    if not reference:
        return ["Not recorded."]
    labels = {name: f"{share:.1%}" for name, share in reference["labels"].items()}
    scores = {f"up to {bound}": f"{share:.1%}" for bound, share in _tenths(reference["scores"])}
    return [
        f"Expected of held-out scores at a prevalence of {prevalence:g}, if what is scored is like "
        "the background and the examples. Answers far from these shares speak of other texts, or "
        "of another prevalence. Labels:",
        _table(labels),
        "Scores, cumulative:",
        _table(scores),
    ]


def _tenths(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    return [(bound, share) for bound, share in scores.items() if bound != "+Inf"]


def _table(values: Mapping[str, Any]) -> str:
    if not values:
        return "Not recorded."
    rows = [f"| {key.replace('_', ' ')} | {_number(value)} |" for key, value in values.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " to ".join(_number(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_number(item)}" for key, item in value.items())
    return str(value)
