"""How what waits to be scored is shared out: by number, and by the length of the texts."""

from __future__ import annotations

from dataclasses import dataclass

from service.inference.batch import BatchItem, RefusedExperience

# A part of fewer short texts is not cut further: four titles take half to two thirds of the time in
# one run that they take in four. A request of 8 titles alone was answered in .6, .8 and 1.0 of the
# time that it took when its last parts were single titles (three measurements, a noisy machine).
_FEW = 4
_FEW_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Sharing:
    """How what waits is shared out among threads.

    A thread takes one of ``shares`` equal parts of what waits (as many as threads by default), at
    most ``most_at_once`` items, and none after ``most_characters`` of text. With more shares than
    threads something is left, which keeps a thread busy while the callers that the batches in hand
    answer send their next requests.
    """

    threads: int
    most_at_once: int
    shares: int | None = None
    most_characters: float = float("inf")


class Room:
    """What a thread has taken, and whether it takes more."""

    __slots__ = ("_characters", "_items", "_share", "_sharing")

    def __init__(self, sharing: Sharing, waiting: int) -> None:
        self._sharing = sharing
        self._share = -(-waiting // (sharing.shares or sharing.threads))
        self._items = self._characters = 0

    @property
    def left(self) -> bool:
        """Whether another item is taken."""
        items, characters = self._items, self._characters
        if items >= self._sharing.most_at_once or characters >= self._sharing.most_characters:
            return False
        return items < self._share or (items < _FEW and characters < _FEW_CHARACTERS)

    def take(self, item: BatchItem) -> None:
        """Count an item."""
        self._items += 1
        self._characters += _characters(item)


def _characters(item: BatchItem) -> int:
    if isinstance(item, RefusedExperience):
        return 0
    written = item.experience
    parts = (written.title, written.company, written.description, written.text)
    return sum(len(part) for part in parts if part)
