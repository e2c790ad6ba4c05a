"""The champions of one registry generation, immutable, and what a request is scored for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.domain.errors import OccupationNotFound, OccupationNotReady, VersionUnavailable
from service.domain.types import ModelVersion
from service.inference.head import Head, HeadStack

# Digits of a score, and of the threshold that it is compared with, in an answer.
SCORE_DIGITS = 6


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version ready to score; its encoder is had from the encoder cache when a batch needs it."""

    version: ModelVersion
    head: Head

    @property
    def key(self) -> tuple[str, int]:
        """Occupation and number, as metrics label them."""
        return self.version.occupation, self.version.number


@dataclass(frozen=True, slots=True)
class EncoderGroup:
    """The versions of one target that share an encoder, and their places in the answer.

    ``keys`` and ``thresholds`` are what every answer says of them, in the same order.
    """

    encoder_digest: str
    stack: HeadStack
    versions: tuple[LoadedVersion, ...]
    positions: tuple[int, ...]
    keys: tuple[tuple[str, int], ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """The versions that one experience is scored for, in the order of the answer."""

    versions: tuple[LoadedVersion, ...]
    groups: tuple[EncoderGroup, ...]


@dataclass(frozen=True)
class Snapshot:
    """The champions of one registry generation."""

    generation: int
    occupations: frozenset[str]
    champions: dict[str, LoadedVersion]
    unavailable: frozenset[str]
    _targets: dict[tuple[str, ...] | None, Target] = field(default_factory=dict)

    def champion(self, occupation: str) -> LoadedVersion:
        """The version that answers for an occupation.

        Raises OccupationNotFound, OccupationNotReady or VersionUnavailable.
        """
        loaded = self.champions.get(occupation)
        if loaded is not None:
            return loaded
        if occupation in self.unavailable:
            raise VersionUnavailable("The champion of this occupation cannot be loaded.")
        if occupation in self.occupations:
            raise OccupationNotReady("This occupation has no version yet: it is being trained.")
        raise OccupationNotFound("No occupation with this id is registered.")

    def all_champions(self) -> Target:
        """Every champion, by occupation id."""
        target = self._targets.get(None)
        if target is None:
            target = make_target([self.champions[name] for name in sorted(self.champions)])
            self._targets[None] = target
        return target


def make_target(loaded: Sequence[LoadedVersion]) -> Target:
    """Group versions by encoder, their heads stacked."""
    by_encoder: dict[str, list[int]] = {}
    for position, version in enumerate(loaded):
        by_encoder.setdefault(version.version.encoder_digest, []).append(position)
    groups = []
    for positions in by_encoder.values():
        members = tuple(loaded[position] for position in positions)
        groups.append(
            EncoderGroup(
                encoder_digest=members[0].version.encoder_digest,
                stack=HeadStack([member.head for member in members]),
                versions=members,
                positions=tuple(positions),
                keys=tuple(member.key for member in members),
                thresholds=tuple(round(member.head.threshold, SCORE_DIGITS) for member in members),
            )
        )
    return Target(tuple(loaded), tuple(groups))
