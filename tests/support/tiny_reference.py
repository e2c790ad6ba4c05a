"""Reference files of a handful of occupations, and a tiny base encoder that can be adapted."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

PAIRS = (
    ("baker", "boulanger"),
    ("pastry baker", "boulanger pâtissier"),
    ("pastry cook", "cuisinier pâtissier"),
    ("software engineer", "ingénieur logiciel"),
    ("data engineer", "ingénieur données"),
    ("data analyst", "analyste données"),
    ("software analyst", "analyste logiciel"),
    ("cook", "cuisinier"),
)
ENGLISH = ["baker", "pastry", "cook", "software", "engineer", "data", "analyst", "manage", "the"]


def write_reference_files(directory: Path) -> Path:
    """Reference files of a handful of occupations and skills, in the real layout."""
    titles, skills, descriptions = [], [], []
    for number, (english, french) in enumerate(PAIRS * 7):
        code = f"o{number:03d}"
        common = {"occupation_code": code, "isco4": f"25{number:02d}", "occupation_label": english}
        titles += [
            {"text": english, "lang": "en", "kind": "preferred", **common},
            {"text": french, "lang": "fr", "kind": "preferred", **common},
            {"text": f"senior {english}", "lang": "en", "kind": "alt", **common},
        ]
        descriptions.append(
            {"description": f"The {english} can {english}.", "lang": "en", "source": "s", **common}
        )
        for lang, label in (("en", f"manage {english}"), ("fr", f"gérer {french}")):
            skills.append({"code": f"s{number:03d}", "lang": lang, "label": label, "alt": []})
    rome = [
        {"text": french, "occupation_code": f"M18{n:02d}", "lang": "fr", "kind": "principale"}
        for n, (_, french) in enumerate(PAIRS)
    ]
    for name, rows in (
        ("occupation_titles_esco", titles),
        ("esco_skills", skills),
        ("occupation_descriptions", descriptions),
        ("occupation_titles_rome", rome),
    ):
        lines = "\n".join(json.dumps(row) for row in rows)
        (directory / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return directory


def write_tiny_base(directory: Path) -> Path:
    """A two-layer random BERT whose vocabulary has letters, a few words and spare pieces."""
    letters = [chr(code) for code in range(97, 123)]
    pieces = ["[PAD]", *(f"[unused{n}]" for n in range(12)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += [
        *letters,
        *("##" + letter for letter in letters),
        *ENGLISH,
        "ж",
        "##ж",
        ".",
        ":",
        "-",
        "zebra",
    ]
    (directory / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    tokenizer = BertTokenizerFast(  # type: ignore[no-untyped-call]
        vocab=str(directory / "vocab.txt"), vocab_file=str(directory / "vocab.txt")
    )
    torch.manual_seed(0)
    config = BertConfig(  # type: ignore[no-untyped-call]
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    bert = BertModel(config, add_pooling_layer=False)  # type: ignore[no-untyped-call]
    bert.save_pretrained(directory / "bert")
    tokenizer.save_pretrained(directory / "bert")
    transformer = Transformer(str(directory / "bert"), max_seq_length=48)
    model = SentenceTransformer(modules=[transformer, Pooling(16), Normalize()], device="cpu")
    model.save(str(directory / "encoder"), create_model_card=False)
    return directory / "encoder"
