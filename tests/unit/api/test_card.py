"""What the model card says a version is calibrated for, and expected to answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from service.api.card import model_card
from service.domain.types import Method, ModelVersion, Occupation, Origin

_MADE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def _card(manifest: Mapping[str, Any]) -> str:
    occupation = Occupation("chef", "Chef", "", 0.03, Method.HEAD, Origin.API, _MADE, _MADE)
    version = ModelVersion("chef", 2, Method.HEAD, "e", "a", manifest, "r", _MADE)
    return model_card(occupation, version)


def _section(card: str, title: str) -> str:
    return card.split(f"## {title}\n\n")[1].split("\n\n## ", maxsplit=1)[0]


def test_a_card_gives_the_expected_shares_in_per_cent() -> None:
    reference = {
        "scores": {"0.1": 0.9501, "1.0": 1.0, "+Inf": 1.0},
        "labels": {"in": 0.033, "out": 0.91, "uncertain": 0.057},
    }
    said = _section(_card({"reference": reference}), "What to expect of it")
    assert "prevalence of 0.03" in said
    assert "| in | 3.3% |" in said
    assert "| uncertain | 5.7% |" in said
    assert "| up to 0.1 | 95.0% |" in said
    assert "Inf" not in said


def test_the_card_of_a_version_from_before_there_were_references_says_that_none_is_recorded() -> (
    None
):
    assert _section(_card({"metrics": {}}), "What to expect of it") == "Not recorded."


def test_a_card_states_the_prevalence_that_the_version_was_calibrated_for() -> None:
    """The occupation declares another one since (0.03): the version's scores are what they were."""
    reference = {"scores": {"+Inf": 1.0}, "labels": {"in": 1.0}}
    card = _card({"data": {"prevalence": 0.2}, "reference": reference})
    assert "calibrated for a prevalence of 0.2: " in _section(card, "What it answers")
    assert "when 20.0% of all experiences are" in card
    assert "at a prevalence of 0.2," in _section(card, "What to expect of it")
    assert "0.03" not in card
