from __future__ import annotations

import hashlib
import re

import pytest

from service.domain.keys import (
    KeyScope,
    digest_secret,
    granted,
    is_key_name,
    make_key,
    split_key,
)

SECRET = "A" * 43


def test_a_key_has_a_prefix_that_scanners_can_find_an_id_and_a_secret_of_256_bits() -> None:
    new = make_key()
    assert re.fullmatch(r"voc_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", new.text)
    assert new.text[4:12] == new.id


def test_no_two_keys_share_a_secret_or_an_id() -> None:
    made = [make_key() for _ in range(500)]
    assert len({new.text[13:] for new in made}) == 500
    assert len({new.id for new in made}) == 500


def test_a_key_splits_into_its_id_and_the_secret_whose_digest_is_kept() -> None:
    new = make_key()
    parts = split_key(new.text.encode())
    assert parts is not None
    id, secret = parts
    assert id.decode() == new.id
    assert digest_secret(secret) == new.secret_digest == hashlib.sha256(secret).digest()


def test_neither_a_key_nor_its_digest_is_shown_by_repr() -> None:
    new = make_key()
    assert new.text[13:] not in repr(new)
    assert repr(new.secret_digest) not in repr(new)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "voc_",
        f"voc_abcdefgh_{SECRET}A",
        f"voc_abcdefgh_{SECRET[1:]}",
        f"VOC_abcdefgh_{SECRET}",
        f"voc-abcdefgh_{SECRET}",
        f"voc_abcdefgh-{SECRET}",
        f"voc_abcdefghi_{SECRET[1:]}A",
        "x" * 56,
        f" voc_abcdefgh_{SECRET[1:]}",
    ],
)
def test_what_has_not_the_form_of_a_key_is_none(text: str) -> None:
    assert split_key(text.encode()) is None


@pytest.mark.parametrize(
    ("scopes", "held"),
    [
        ({KeyScope.CLASSIFY}, {KeyScope.CLASSIFY}),
        ({KeyScope.REGISTER}, {KeyScope.CLASSIFY, KeyScope.REGISTER}),
        ({KeyScope.ADMIN}, set(KeyScope)),
        ({KeyScope.CLASSIFY, KeyScope.ADMIN}, set(KeyScope)),
        (set(), set()),
    ],
)
def test_each_scope_holds_the_ones_before_it(scopes: set[KeyScope], held: set[KeyScope]) -> None:
    assert granted(scopes) == held


@pytest.mark.parametrize("name", ["a", "bot", "bot-2027.1_x", "A" * 64, "7"])
def test_a_name_is_letters_digits_dots_dashes_and_underscores(name: str) -> None:
    assert is_key_name(name)


@pytest.mark.parametrize(
    "name", ["", "A" * 65, "two words", "é", "-bot", ".bot", 'a"b', "a\n", "a{b}"]
)
def test_a_name_that_could_spoil_a_log_or_a_label_is_refused(name: str) -> None:
    assert not is_key_name(name)
