from __future__ import annotations

import pytest

from benchmarks.serving_bench.http import Reply, ReplyParser, UnreadableReply

REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 5\r\n\r\nhello"


def test_a_reply_is_read_whole() -> None:
    assert ReplyParser().feed(REPLY) == Reply(200, retry_after=False, body=b"hello")


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_a_reply_may_come_in_pieces_cut_anywhere(size: int) -> None:
    parser = ReplyParser()
    pieces = [REPLY[at : at + size] for at in range(0, len(REPLY), size)]
    found = [parser.feed(piece) for piece in pieces]
    assert found[:-1] == [None] * (len(pieces) - 1)
    assert found[-1] == Reply(200, retry_after=False, body=b"hello")


def test_what_follows_a_reply_is_kept_for_the_next() -> None:
    parser = ReplyParser()
    assert parser.feed(REPLY + REPLY[:20]) == Reply(200, retry_after=False, body=b"hello")
    assert parser.feed(REPLY[20:]) == Reply(200, retry_after=False, body=b"hello")


def test_an_empty_body_ends_with_the_head() -> None:
    parser = ReplyParser()
    assert parser.feed(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n") == Reply(503)


def test_a_refusal_tells_whether_it_says_when_to_come_back() -> None:
    head = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\ncontent-length: 0\r\n\r\n"
    assert ReplyParser().feed(head) == Reply(429, retry_after=True)


@pytest.mark.parametrize(
    "head",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_reply_with_a_length_is_refused(head: bytes) -> None:
    with pytest.raises(UnreadableReply):
        ReplyParser().feed(head)
