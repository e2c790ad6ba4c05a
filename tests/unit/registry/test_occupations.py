from __future__ import annotations

import pytest
from sqlalchemy import Connection

from service.domain.errors import OccupationExists, OccupationNotFound
from service.domain.types import Example, Experience, Label, Method, Origin
from service.registry import generation, occupations
from service.registry.database import Database
from tests.support.make import add_occupation, example


def test_an_occupation_is_read_back_as_it_was_registered(database: Database) -> None:
    with database.write() as connection:
        occupations.insert_occupation(
            connection,
            id="sommelier",
            name="Sommelier",
            description="Conseille les vins.",
            prevalence=0.01,
            method=Method.AUTO,
            origin=Origin.BUNDLED,
            source_digest="d" * 64,
        )
    with database.read() as connection:
        stored = occupations.get_occupation(connection, "sommelier")
        assert occupations.source_digests(connection) == {"sommelier": "d" * 64}
    assert (stored.name, stored.description) == ("Sommelier", "Conseille les vins.")
    assert (stored.prevalence, stored.method) == (0.01, Method.AUTO)
    assert stored.origin is Origin.BUNDLED
    assert stored.created_at == stored.updated_at


def test_an_id_is_taken_once(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier")
    with pytest.raises(OccupationExists), database.write() as connection:
        add_occupation(connection, "sommelier")


def test_what_is_not_registered_is_not_found(database: Database) -> None:
    with database.write() as connection:
        with pytest.raises(OccupationNotFound):
            occupations.get_occupation(connection, "sommelier")
        with pytest.raises(OccupationNotFound):
            occupations.update_occupation(connection, "sommelier", name="Sommelier")
        with pytest.raises(OccupationNotFound):
            occupations.delete_occupation(connection, "sommelier")


def test_registering_changing_and_deleting_each_move_the_generation(database: Database) -> None:
    seen = []
    with database.write() as connection:
        seen.append(generation.read(connection))
        add_occupation(connection, "sommelier")
        seen.append(generation.read(connection))
        occupations.update_occupation(connection, "sommelier", name="Other")
        seen.append(generation.read(connection))
        occupations.delete_occupation(connection, "sommelier")
        seen.append(generation.read(connection))
    assert seen == sorted(set(seen))


def test_added_examples_stand_beside_the_earlier_ones_in_their_order(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier", [example("un"), example("deux", Label.OUT)])
        occupations.put_examples(connection, "sommelier", [example("trois")])
        page = occupations.list_examples(connection, "sommelier", 10, None)
        counts = occupations.count_examples(connection, "sommelier")
    assert [item.example.experience.text for item in page.items] == ["un", "deux", "trois"]
    assert (counts.examples_in, counts.examples_out) == (2, 1)


def test_an_example_with_a_known_text_is_a_correction(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier", [example("Sommelier, La Treille")])
        before = occupations.all_examples(connection, "sommelier")
        in_parts = Experience(title="Sommelier", company="La Treille")
        occupations.put_examples(connection, "sommelier", [Example(in_parts, Label.OUT)])
        after = occupations.all_examples(connection, "sommelier")
    assert [item.id for item in after] == [item.id for item in before]
    assert after[0].example == Example(in_parts, Label.OUT)


def _labels(connection: Connection) -> dict[str | None, Label]:
    stored = occupations.all_examples(connection, "sommelier")
    return {item.example.experience.text: item.example.label for item in stored}


def test_a_changed_file_replaces_the_bundled_examples(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier")
        bundled = [example("un"), example("deux")]
        occupations.put_examples(connection, "sommelier", bundled, Origin.BUNDLED)
        changed = [example("deux", Label.OUT), example("trois")]
        occupations.replace_bundled_examples(connection, "sommelier", changed)
        assert _labels(connection) == {"deux": Label.OUT, "trois": Label.IN}


def test_a_changed_file_gives_way_to_what_a_researcher_added_or_corrected(
    database: Database,
) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier")
        bundled = [example("un"), example("deux")]
        occupations.put_examples(connection, "sommelier", bundled, Origin.BUNDLED)
        by_hand = [example("deux", Label.OUT), example("mine")]
        occupations.put_examples(connection, "sommelier", by_hand)
        changed = [example("un"), example("deux"), example("trois")]
        occupations.replace_bundled_examples(connection, "sommelier", changed)
        assert _labels(connection) == {
            "un": Label.IN,
            "deux": Label.OUT,
            "trois": Label.IN,
            "mine": Label.IN,
        }


def test_one_text_may_be_an_example_of_several_occupations(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "chef", [example("Chef sommelier", Label.OUT)])
        add_occupation(connection, "sommelier", [example("Chef sommelier", Label.IN)])
        digest = example("Chef sommelier").experience.digest
        labels = {
            id: occupations.examples_by_digest(connection, id, [digest])[digest].label
            for id in ("chef", "sommelier")
        }
    assert labels == {"chef": Label.OUT, "sommelier": Label.IN}


def test_the_order_of_all_examples_does_not_depend_on_their_arrival(database: Database) -> None:
    texts = ["un", "deux", "trois", "quatre"]
    with database.write() as connection:
        add_occupation(connection, "forwards", [example(text) for text in texts])
        add_occupation(connection, "backwards", [example(text) for text in reversed(texts)])
        orders = [
            [item.example for item in occupations.all_examples(connection, id)]
            for id in ("forwards", "backwards")
        ]
    assert orders[0] == orders[1]


def test_a_deleted_occupation_takes_its_examples_along(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier", [example("un")])
        occupations.delete_occupation(connection, "sommelier")
        add_occupation(connection, "sommelier")
        assert occupations.all_examples(connection, "sommelier") == []
