from __future__ import annotations

from math import gcd
from pathlib import Path

import orjson
import pytest

from benchmarks.serving_bench.bodies import encode_body, encode_request
from benchmarks.serving_bench.texts import _STEP, KINDS, Kind, Texts
from service.api.classify import parse

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts(ROOT, seed=7)


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_numbers_give_as_many_different_texts(texts: Texts, kind: Kind) -> None:
    assert len({texts.rendered(kind, number) for number in range(10_000)}) == 10_000


def test_the_step_visits_every_title_once(texts: Texts) -> None:
    assert gcd(_STEP, texts.capacity) == 1


def test_equal_seeds_give_equal_texts_and_other_seeds_others(texts: Texts) -> None:
    again, other = Texts(ROOT, seed=7), Texts(ROOT, seed=8)
    numbers = range(50)
    assert [again.fields("experiences", n) for n in numbers] == [
        texts.fields("experiences", n) for n in numbers
    ]
    assert all(other.rendered("titles", n) != texts.rendered("titles", n) for n in numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_the_service_takes_the_body_that_asks_for_one_occupation(texts: Texts, kind: Kind) -> None:
    parsed = parse(encode_body(texts, "vocation", "chef", kind, range(8)))
    assert [item.occupations for item in parsed.experiences] == [["chef"]] * 8
    rendered = [item.experience().rendered for item in parsed.experiences]
    assert rendered == [texts.rendered(kind, number) for number in range(8)]


def test_every_dialect_asks_for_the_same_texts(texts: Texts) -> None:
    expected = [texts.rendered("experiences", number) for number in range(3, 6)]

    def body(dialect: object) -> dict[str, object]:
        encoded = encode_body(texts, dialect, "chef", "experiences", range(3, 6))  # type: ignore[arg-type]  # one of three
        decoded: dict[str, object] = orjson.loads(encoded)
        return decoded

    assert body("texts")["texts"] == expected
    assert body("openai")["input"] == expected
    assert body("v2")["inputs"] == [
        {"name": "texts", "shape": [3], "datatype": "BYTES", "data": expected}
    ]


def test_a_request_says_how_long_its_body_is() -> None:
    head, _, body = encode_request("/v1/classify", "é".encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/classify HTTP/1.1\r\n")
    assert b"Content-Length: 2" in head.split(b"\r\n")
    assert body == "é".encode()
