"""Make room for French in a WordPiece vocabulary of fixed size, keeping the tokenizer's class."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from service.training.adapt.alignment import strongest, translation_table
from service.training.adapt.corpus import Corpus

EMBEDDING_KEY = "embeddings.word_embeddings.weight"
# A shared beginning this long (characters, and share of the word) marks the same French stem.
STEM_LENGTH, STEM_SHARE = 5, 0.65


@dataclass(frozen=True, slots=True)
class VocabularyReport:
    """What a rebuilt vocabulary changed; pieces per word are over the adaptation texts."""

    added: int
    translated: int
    from_stem: int
    from_pieces: int
    pieces_per_word_before: dict[str, float]
    pieces_per_word_after: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Give the fields for JSON."""
        return asdict(self)


class Words:
    """Split texts into words and words into pieces exactly as a saved tokenizer does."""

    def __init__(self, directory: Path) -> None:
        """Load ``tokenizer.json`` from an encoder directory."""
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._cache: dict[str, list[str]] = {}

    def words(self, text: str) -> list[str]:
        """Normalise (lower case, accents stripped) and split one text."""
        normal = self._tokenizer.normalizer.normalize_str(text)
        return [word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(normal)]

    def pieces(self, word: str) -> list[str]:
        """Give the word pieces of one normalised word."""
        if word not in self._cache:
            self._cache[word] = self._tokenizer.encode(word, add_special_tokens=False).tokens
        return self._cache[word]

    def pieces_per_word(self, texts: Iterable[str]) -> float:
        """Mean number of pieces over the alphabetic words of some texts."""
        counts = Counter(word for text in texts for word in self.words(text) if word.isalpha())
        return sum(len(self.pieces(w)) * n for w, n in counts.items()) / max(1, counts.total())


def rebuild(
    base: Path, out: Path, corpus: Corpus, *, least_count: int, most: int
) -> VocabularyReport:
    """Write ``base`` to ``out`` with French whole words in place of pieces no one will miss.

    A French word seen at least ``least_count`` times that the old vocabulary splits takes, most
    frequent first and ``most`` at most, the number of an unused piece, then of a piece in another
    script, then of the rarest English pieces (BERT's vocabulary is in order of frequency) that
    occur nowhere in the English texts. New embeddings start at the mean of the embeddings of the
    word's English translations (learnt by alignment on parallel labels), of its stem's, or of its
    old pieces.
    """
    old = Words(base)
    added = _wanted(old, corpus, least_count)[:most]
    shutil.copytree(base, out, dirs_exist_ok=True)
    specification = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    numbers: dict[str, int] = specification["model"]["vocab"]
    room = _replaceable(old, numbers, corpus)[: len(added)]
    added = added[: len(room)]

    weights = load_file(out / "model.safetensors")
    table = weights[EMBEDDING_KEY].float()
    starts = _Starts(old, numbers, table, corpus)
    rows = {word: starts.row(word) for word in added}
    for word, replaced in zip(added, room, strict=True):
        number = numbers.pop(replaced)
        numbers[word] = number
        table[number] = rows[word]
    weights[EMBEDDING_KEY] = table
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    ordered = dict(sorted(numbers.items(), key=lambda item: item[1]))
    specification["model"]["vocab"] = ordered
    (out / "tokenizer.json").write_text(
        json.dumps(specification, ensure_ascii=False), encoding="utf-8"
    )
    (out / "vocab.txt").write_text("".join(f"{piece}\n" for piece in ordered), encoding="utf-8")

    new = Words(out)
    return VocabularyReport(
        len(added),
        starts.translated,
        starts.from_stem,
        starts.from_pieces,
        {lang: old.pieces_per_word(corpus.texts(lang)) for lang in ("en", "fr")},
        {lang: new.pieces_per_word(corpus.texts(lang)) for lang in ("en", "fr")},
    )


def _wanted(old: Words, corpus: Corpus, least_count: int) -> list[str]:
    counts = Counter(
        word
        for text in corpus.texts("fr")
        for word in old.words(text)
        if word.isalpha() and word.isascii()
    )
    split = {w: n * (len(old.pieces(w)) - 1) for w, n in counts.items() if n >= least_count}
    return [w for w, saved in sorted(split.items(), key=lambda item: (-item[1], item[0])) if saved]


def _replaceable(old: Words, numbers: dict[str, int], corpus: Corpus) -> list[str]:
    in_use: set[str] = set()
    for lang in ("en", "fr"):
        for text in corpus.texts(lang):
            for word in old.words(text):
                in_use.update(old.pieces(word))
    rarest_first = sorted(numbers, key=lambda piece: -numbers[piece])
    free = [p for p in rarest_first if p not in in_use]
    unused = [p for p in free if p.startswith("[unused")]
    foreign = [p for p in free if not p.startswith("[") and not p.isascii()]
    # Pieces of one or two characters spell any word that is left: they stay.
    rare = [
        p for p in free if p.isascii() and not p.startswith("[") and len(p.removeprefix("##")) > 2
    ]
    return [*unused, *foreign, *rare]


class _Starts:
    """Starting embeddings of new words, and a count of where they came from."""

    def __init__(
        self, old: Words, numbers: dict[str, int], table: torch.Tensor, corpus: Corpus
    ) -> None:
        self._old, self._numbers, self._table = old, numbers, table.clone()
        pairs = [
            (old.words(french), [p for word in old.words(english) for p in old.pieces(word)])
            for concepts in (corpus.occupations, corpus.skills)
            for concept in concepts
            for french, english in parallel_labels(concept.labels)
        ]
        self._translations = {
            word: strongest(row) for word, row in translation_table(pairs).items()
        }
        self._translations = {word: row for word, row in self._translations.items() if row}
        self._by_beginning: dict[str, list[str]] = {}
        for word in sorted(self._translations):
            self._by_beginning.setdefault(word[:STEM_LENGTH], []).append(word)
        self.translated = self.from_stem = self.from_pieces = 0

    def row(self, word: str) -> torch.Tensor:
        """Give the starting embedding of one word."""
        if word in self._translations:
            self.translated += 1
            return self._mixed(word)
        if stem := self._stem(word):
            self.from_stem += 1
            return torch.stack([self._mixed(other) for other in stem]).mean(0)
        self.from_pieces += 1
        return self._table[[self._numbers[piece] for piece in self._old.pieces(word)]].mean(0)

    def _mixed(self, word: str) -> torch.Tensor:
        translated = self._translations[word]
        total = torch.zeros_like(self._table[0])
        for piece, weight in translated.items():
            total += weight * self._table[self._numbers[piece]]
        return total

    def _stem(self, word: str) -> list[str]:
        shared = {
            other: _common_beginning(word, other)
            for other in self._by_beginning.get(word[:STEM_LENGTH], [])
        }
        best = max(shared.values(), default=0)
        if best < max(STEM_LENGTH, STEM_SHARE * len(word)):
            return []
        return [other for other, length in shared.items() if length == best]


def _common_beginning(left: str, right: str) -> int:
    length = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        length += 1
    return length


def parallel_labels(labels: dict[str, tuple[str, ...]]) -> Sequence[tuple[str, str]]:
    """Pair an occupation's or skill's first French labels with its first English one."""
    if "fr" not in labels or "en" not in labels:
        return ()
    return [(french, labels["en"][0]) for french in labels["fr"][:2]]
