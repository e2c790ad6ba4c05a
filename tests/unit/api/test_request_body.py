from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from tests.support.asgi import call
from tests.support.edge import JSON, MAX_BODY_BYTES, assert_problem, echo, edge


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_body_of_many_chunks_is_handed_on_whole(method: str) -> None:
    reply = call(edge(echo), method, "/v1/things", headers=JSON, chunks=[b"{", b'"a"', b":1}"])
    assert reply.json["body"] == reply.json["kept"] == '{"a":1}'


def test_a_body_of_exactly_the_limit_is_taken() -> None:
    body = b'"' + b"x" * (MAX_BODY_BYTES - 2) + b'"'
    reply = call(
        edge(echo), "POST", headers={**JSON, "Content-Length": str(MAX_BODY_BYTES)}, chunks=[body]
    )
    assert reply.status == 200


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "99999999999999", "-1", "many", ""])
def test_a_length_over_the_limit_is_413_before_anything_is_read(length: str) -> None:
    reply = call(edge(echo), "POST", headers={**JSON, "Content-Length": length})
    assert_problem(reply, 413, "body_too_large")
    assert reply.received == 0


@pytest.mark.parametrize("length", [None, "10"])
def test_a_streamed_body_is_read_up_to_the_limit_and_no_further(length: str | None) -> None:
    headers = JSON if length is None else {**JSON, "Content-Length": length}
    reply = call(edge(echo), "POST", headers=headers, chunks=(b"x" * 100 for _ in range(10_000)))
    assert_problem(reply, 413, "body_too_large")
    assert reply.received == MAX_BODY_BYTES // 100 + 1


def test_memory_does_not_follow_a_streamed_body() -> None:
    def megabytes() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * (1 << 20)

    call(edge(echo), "POST", headers=JSON, chunks=megabytes())
    tracemalloc.start()
    call(edge(echo), "POST", headers=JSON, chunks=megabytes())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_body_that_stops_half_way_is_408() -> None:
    app = edge(echo, body_timeout_seconds=0.05)
    reply = call(app, "POST", headers=JSON, chunks=[b"{"], stalls=True)
    assert_problem(reply, 408, "body_too_slow")


def test_a_connection_is_closed_after_a_slow_body() -> None:
    app = edge(echo, body_timeout_seconds=0.05)
    reply = call(app, "POST", headers=JSON, chunks=[b"{"], stalls=True)
    assert_problem(reply, 408, "body_too_slow")
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "identity, gzip", "\u00ff"])
def test_an_encoded_body_is_415_before_it_is_read(encoding: str) -> None:
    headers: dict[str, str | bytes] = {**JSON, "Content-Encoding": encoding.encode("latin-1")}
    reply = call(edge(echo), "POST", headers=headers, chunks=[b"{}"])
    assert_problem(reply, 415, "unsupported_media_type")
    assert reply.received == 0


def test_identity_is_no_encoding() -> None:
    reply = call(
        edge(echo), "POST", headers={**JSON, "Content-Encoding": "Identity"}, chunks=[b"{}"]
    )
    assert reply.status == 200


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"],
)
def test_a_body_that_is_not_json_by_its_type_is_415(media_type: str) -> None:
    reply = call(edge(echo), "POST", headers={"Content-Type": media_type}, chunks=[b"{}"])
    assert_problem(reply, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/v+json",
    ],
)
def test_json_is_taken_under_each_of_its_types(media_type: str) -> None:
    reply = call(edge(echo), "POST", headers={"Content-Type": media_type}, chunks=[b"{}"])
    assert reply.status == 200


def test_a_request_without_a_body_needs_no_type() -> None:
    assert call(edge(echo), "DELETE", headers={"Content-Type": "text/plain"}).status == 200
