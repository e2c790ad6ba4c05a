from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.types import Experience, RegistrationState


@pytest.mark.parametrize(
    ("experience", "rendered"),
    [
        (Experience(title="Sommelier"), "Sommelier"),
        (Experience(title="Sommelier", company="La Treille"), "Sommelier, La Treille"),
        (Experience(title="Sommelier", description="Tient la cave."), "Sommelier. Tient la cave."),
        (
            Experience(title="Sommelier", company="La Treille", description="Tient la cave."),
            "Sommelier, La Treille. Tient la cave.",
        ),
        (Experience(text="Sommelier, La Treille"), "Sommelier, La Treille"),
    ],
)
def test_an_experience_is_rendered_as_title_comma_company_stop_description(
    experience: Experience, rendered: str
) -> None:
    assert experience.rendered == rendered


@pytest.mark.parametrize(
    "experience",
    [
        Experience(text="  Chef\tsommelier \n\n La Treille  "),
        Experience(text="Chef\u00a0sommelier\u2003La\r\nTreille"),
    ],
)
def test_white_space_of_any_kind_is_folded_in_a_text(experience: Experience) -> None:
    assert experience.rendered == "Chef sommelier La Treille"


def test_white_space_is_folded_in_every_part() -> None:
    messy = Experience(
        title=" Chef  sommelier\n", company="\tLa   Treille ", description=" Tient\r\nla  cave. "
    )
    assert messy.rendered == "Chef sommelier, La Treille. Tient la cave."


@pytest.mark.parametrize("blank", [None, "", "  ", "\n\t"])
def test_a_blank_company_or_description_leaves_no_trace(blank: str | None) -> None:
    assert Experience(title="Sommelier", company=blank, description=blank).rendered == "Sommelier"


def test_two_experiences_that_render_alike_have_one_digest() -> None:
    in_parts = Experience(title="Sommelier", company="La Treille", description="Tient la cave.")
    in_one = Experience(text="Sommelier,   La Treille. Tient la cave.\n")
    assert in_parts.digest == in_one.digest


def test_case_and_accents_make_another_digest() -> None:
    digests = {Experience(text=text).digest for text in ("Comédien", "comédien", "Comedien")}
    assert len(digests) == 3


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_rendering_any_text_twice_changes_nothing_more(text: str) -> None:
    once = Experience(text=text).rendered
    assert Experience(text=once).rendered == once
    assert once == once.strip()
    assert "  " not in once


def test_only_queued_and_running_registrations_are_unfinished() -> None:
    unfinished = {state for state in RegistrationState if not state.finished}
    assert unfinished == {RegistrationState.QUEUED, RegistrationState.RUNNING}


def test_how_a_text_was_typed_does_not_make_it_another_text() -> None:
    typed = Experience(text="Détection d'anomalies")
    assert Experience(text="De\u0301tection d\u2019anomalies").rendered == typed.rendered
    assert Experience(text="De\u0301tection d\u2019anomalies").digest == typed.digest
