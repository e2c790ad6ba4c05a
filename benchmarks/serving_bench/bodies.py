"""The same texts as each contender wants to be asked: whole HTTP requests, encoded ahead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import orjson

from benchmarks.serving_bench.texts import Kind, Texts

Dialect = Literal["vocation", "texts", "v2", "openai"]

Fields = dict[str, str]


def _vocation(occupation: str, fields: Sequence[Fields], _: Sequence[str]) -> Any:
    return {"experiences": [{**item, "occupations": [occupation]} for item in fields]}


def _texts(_: str, __: Sequence[Fields], rendered: Sequence[str]) -> Any:
    return {"texts": rendered}


def _v2(_: str, __: Sequence[Fields], rendered: Sequence[str]) -> Any:
    # The Open Inference Protocol, as MLServer speaks it.
    tensor = {"name": "texts", "shape": [len(rendered)], "datatype": "BYTES", "data": rendered}
    return {"inputs": [tensor]}


def _openai(_: str, __: Sequence[Fields], rendered: Sequence[str]) -> Any:
    # base64 spares the server a decimal number for each dimension.
    return {"model": "encoder", "input": rendered, "encoding_format": "base64"}


_DIALECTS: dict[Dialect, Callable[[str, Sequence[Fields], Sequence[str]], Any]] = {
    "vocation": _vocation,
    "texts": _texts,
    "v2": _v2,
    "openai": _openai,
}


def encode_body(
    texts: Texts, dialect: Dialect, occupation: str, kind: Kind, indices: Sequence[int]
) -> bytes:
    """The JSON body that asks for some texts."""
    fields = [texts.fields(kind, index) for index in indices]
    rendered = [texts.rendered(kind, index) for index in indices]
    return orjson.dumps(_DIALECTS[dialect](occupation, fields, rendered))


def encode_request(path: str, body: bytes) -> bytes:
    """A whole HTTP/1.1 request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
