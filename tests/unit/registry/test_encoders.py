from __future__ import annotations

import pytest

from service.domain.errors import EncoderUnusable
from service.registry import encoders, generation
from service.registry.database import Database
from service.registry.encoders import EncoderRecord

_RECORD = EncoderRecord("fingerprint", "digest", "background")


def test_no_encoder_is_the_base_before_the_first_start(database: Database) -> None:
    with database.read() as connection:
        assert encoders.base_encoder(connection) is None
        assert encoders.find_encoder(connection, "fingerprint") is None


def test_what_was_built_is_found_again_and_can_be_built_anew(database: Database) -> None:
    rebuilt = EncoderRecord("fingerprint", "digest 2", "background 2")
    with database.write() as connection:
        encoders.record_encoder(connection, _RECORD)
        assert encoders.find_encoder(connection, "fingerprint") == _RECORD
        encoders.record_encoder(connection, rebuilt)
        assert encoders.find_encoder(connection, "fingerprint") == rebuilt
        assert encoders.referenced_artifacts(connection) == {"digest 2", "background 2"}


def test_choosing_another_base_moves_the_generation_and_the_same_one_does_not(
    database: Database,
) -> None:
    with database.write() as connection:
        encoders.record_encoder(connection, _RECORD)
        before = generation.read(connection)
        encoders.set_base_encoder(connection, "fingerprint")
        chosen = generation.read(connection)
        encoders.set_base_encoder(connection, "fingerprint")
        assert before < chosen == generation.read(connection)
        assert encoders.base_encoder(connection) == _RECORD


def test_the_background_of_an_artifact_is_that_of_its_first_record_whichever_is_used(
    database: Database,
) -> None:
    other = EncoderRecord("another fingerprint", "digest", "another background")
    with database.write() as connection:
        encoders.record_encoder(connection, _RECORD)
        encoders.record_encoder(connection, other)
        for used in (other, _RECORD, other, _RECORD):
            encoders.record_encoder(connection, used)
            encoders.set_base_encoder(connection, used.fingerprint)
            assert encoders.base_encoder(connection) == used
            assert encoders.background_of(connection, "digest") == "background"
        assert encoders.first_record(connection, "digest") == _RECORD
        assert encoders.first_record(connection, "another") is None


def test_the_background_of_an_encoder_is_known_by_its_digest(database: Database) -> None:
    with database.write() as connection:
        encoders.record_encoder(connection, _RECORD)
        assert encoders.background_of(connection, "digest") == "background"
        with pytest.raises(EncoderUnusable):
            encoders.background_of(connection, "another")
