"""Build the background: short ESCO and ROME texts that stand for "everybody else".

    python scripts/build_background.py ../shared/data --out models/background

The rows read like the experiences that will be scored: half are bare titles, half are a title with
one to three sentences of description, in the styles people use (third person, first person, notes).
Every choice is the order of a keyed hash, so the same inputs and seed give the same bytes on any
Python version.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Row = dict[str, Any]

ROWS_PER_PART = 650
ROME_BARE_TITLES = 430
MAX_SENTENCES = 3
MAX_DESCRIPTION_CHARACTERS = 420
SEED = 20250101

FRENCH_INFINITIVES = {
    "accueille": "accueillir",
    "achète": "acheter",
    "complète": "compléter",
    "conduit": "conduire",
    "conçoit": "concevoir",
    "définit": "définir",
    "effectue": "effectuer",
    "entretient": "entretenir",
    "établit": "établir",
    "fait": "faire",
    "garantit": "garantir",
    "gère": "gérer",
    "intervient": "intervenir",
    "maintient": "maintenir",
    "met": "mettre",
    "opère": "opérer",
    "produit": "produire",
    "promeut": "promouvoir",
    "prévient": "prévenir",
    "recueille": "recueillir",
    "suit": "suivre",
    "traduit": "traduire",
    "transmet": "transmettre",
    "vend": "vendre",
}

TITLE_STYLES: dict[str, tuple[str, ...]] = {
    # Most titles stay as they are; the others wear what people add to them.
    "en": ("{}",) * 8 + ("Senior {}", "{} (m/f)", "Junior {}", "{} - freelance", "{} intern"),
    "fr": ("{}",) * 8 + ("{} H/F", "{} (F/H)", "{} confirmé", "{} - CDI", "{} indépendant"),
}


def digest(seed: int, *parts: str) -> int:
    """Return the 64-bit keyed hash that every choice in this script is made from."""
    key = f"{seed}\x1f" + "\x1f".join(parts)
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def read_jsonl(path: Path) -> Iterator[Row]:
    """Yield the records of a JSON lines file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def round_robin(
    rows: Iterable[Row], stratum: Callable[[Row], str], seed: int, limit: int
) -> list[Row]:
    """Take up to `limit` rows, one per stratum at a time, so that every sector is covered."""
    strata: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        strata[stratum(row)].append(row)
    queues = [
        sorted(members, key=lambda row: digest(seed, row["occupation_code"], row["text"]))
        for _, members in sorted(strata.items(), key=lambda item: digest(seed, item[0]))
    ]
    depth = max((len(queue) for queue in queues), default=0)
    taken = [queue[level] for level in range(depth) for queue in queues if level < len(queue)]
    return taken[:limit]


def sentences(text: str) -> list[str]:
    """Split a description where a full stop ends a sentence, not an abbreviation."""
    clean = re.sub(r"\s+", " ", text.replace("\\n", " ").replace("''", "'")).strip()
    parts = re.split(r"(?<=[^.\s]{3}\.)\s+(?=[A-ZÀ-Ý])", clean)
    return [part.strip() for part in parts if len(part.strip()) > 20]


def upper_first(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def english_verb_phrase(sentence: str, label: str) -> str:
    """Drop the subject ("Bakers make bread" -> "make bread"), or return "" where none is seen."""
    words = label.lower().split()
    plural = r"\s+".join([*map(re.escape, words[:-1]), re.escape(words[-1].rstrip("sy")) + r"\w*"])
    match = re.match(
        rf"(?:{plural}|they)\s+(?!are\b|is\b|can\b|may\b)(.+)", sentence, re.IGNORECASE
    )
    return match.group(1) if match else ""


def english_style(sentence: str, label: str, style: int) -> str:
    """Write an ESCO sentence as it is (0, 1), as notes (2, 3), or in the first person (4)."""
    phrase = english_verb_phrase(sentence, label)
    if not phrase or style < 2:
        return sentence
    phrase = re.sub(r"\btheir\b", "my", phrase) if style == 4 else phrase
    return f"I {phrase}" if style == 4 else upper_first(phrase)


def french_style(sentence: str, _label: str, style: int) -> str:
    """Write a ROME sentence in the third person (0, 1) or in the infinitive (2, 3, 4)."""
    if style < 2:
        return sentence
    verb, _, rest = re.sub(r"^Peut\s+", "", sentence).partition(" ")
    lower = verb.lower()
    regular = lower + "r" if re.search(r"[^è][^è]?e$", lower) and "è" not in lower else lower
    return f"{upper_first(FRENCH_INFINITIVES.get(lower, regular))} {rest}"


def described(row: Row, description: str, seed: int, part: int) -> str:
    """Return one to three consecutive sentences in one style; `part` 1 starts further down."""
    pieces = sentences(description)
    choice = digest(seed, row["text"], description, str(part))
    pieces = pieces[:MAX_SENTENCES] if part == 0 else pieces[1 : 1 + MAX_SENTENCES]
    pieces = pieces[: 1 + choice % MAX_SENTENCES]
    write = french_style if row["lang"] == "fr" else english_style
    style = (choice >> 8) % 5
    written = [write(piece, row["occupation_label"], style) for piece in pieces]
    separator = "\n- " if style == 3 and len(written) > 1 else " "
    text = ("- " if separator != " " else "") + separator.join(written)
    if len(text) <= MAX_DESCRIPTION_CHARACTERS:
        return text
    return text[:MAX_DESCRIPTION_CHARACTERS].rsplit(" ", 1)[0]


def as_title(row: Row, seed: int) -> str:
    """Dress a label as a title: first letter in upper case, sometimes seniority or status."""
    choice = digest(seed, "title", row["text"])
    styles = TITLE_STYLES[row["lang"]]
    title = styles[choice % len(styles)].format(row["text"].strip())
    return title if (choice >> 8) % 4 == 0 else upper_first(title)


def background_row(row: Row, seed: int, description: str = "") -> Row:
    """Return one background row in its published shape."""
    made: Row = {"title": as_title(row, seed)}
    if description:
        made["description"] = description
    source = "rome" if row["source"].startswith("rome") else "esco"
    return made | {"lang": row["lang"], "source": source, "code": row["occupation_code"]}


def build(esco: list[Row], rome: list[Row], descriptions: dict[str, str], seed: int) -> list[Row]:
    """Return the four parts (English and French, bare and described) without repeated titles."""
    english = [row for row in esco if row["lang"] == "en"]
    french = [row for row in esco if row["lang"] == "fr"]
    en_bare = round_robin(english, lambda row: row["isco4"], seed, ROWS_PER_PART)
    fr_bare = round_robin(rome, lambda row: row["occupation_code"][:3], seed, ROME_BARE_TITLES)
    fr_bare += round_robin(french, lambda row: row["isco4"], seed, ROWS_PER_PART - ROME_BARE_TITLES)
    used = {row["text"].lower() for row in en_bare + fr_bare}
    rest_en = [r for r in english if r["text"].lower() not in used]
    rest_fr = [r for r in rome if r["text"].lower() not in used]
    with_text = [r for r in rest_en if descriptions.get(r["occupation_code"])]
    made = [background_row(row, seed) for row in en_bare + fr_bare]
    for row in round_robin(with_text, lambda row: row["isco4"], seed + 1, ROWS_PER_PART):
        text = described(row, descriptions[row["occupation_code"]], seed, part=0)
        made.append(background_row(row, seed, text))
    # ROME has fewer descriptions than rows asked for: a second row of a code takes other sentences.
    with_text = [r for r in rest_fr if descriptions.get(r["occupation_code"])]
    seen: dict[str, int] = defaultdict(int)
    french_rows = 0
    for row in round_robin(with_text, lambda row: row["occupation_code"], seed + 1, len(with_text)):
        code = row["occupation_code"]
        text = described(row, descriptions[code], seed, part=seen[code]) if seen[code] < 2 else ""
        seen[code] += 1
        if text and french_rows < ROWS_PER_PART:
            made.append(background_row(row, seed, text))
            french_rows += 1
    return made


def main(argv: list[str] | None = None) -> int:
    """Read the ESCO and ROME files, write `background.jsonl`, print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with the ESCO and ROME files")
    parser.add_argument("--esco-titles", default="occupation_titles_esco.jsonl")
    parser.add_argument("--rome-titles", default="occupation_titles_rome.jsonl")
    parser.add_argument("--descriptions", default="occupation_descriptions.jsonl")
    parser.add_argument("--out", type=Path, default=Path("models/background"))
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(argv)

    def titles(name: str) -> list[Row]:
        return [row for row in read_jsonl(options.data / name) if row["split"] == "train"]

    descriptions = {
        row["occupation_code"]: row["description"]
        for row in read_jsonl(options.data / options.descriptions)
        if row["source"].startswith(("esco", "rome"))
    }
    rows = build(
        titles(options.esco_titles), titles(options.rome_titles), descriptions, options.seed
    )
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (options.out / "background.jsonl").write_text("".join(lines), encoding="utf-8")
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    for row in rows:
        register = "described" if "description" in row else "bare"
        counts[row["lang"], row["source"], register] += 1
    for key, count in sorted(counts.items()):
        sys.stdout.write(f"{' '.join(key):>20} {count:6d}\n")
    sys.stdout.write(f"{'rows':>20} {len(rows):6d}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
