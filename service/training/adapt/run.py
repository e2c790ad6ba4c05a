"""Adapt an English encoder to French and English, from reference files to a shippable directory."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from service.inference.encoder_spec import MODEL_FILE
from service.settings import DEFAULT_ENCODER
from service.training.adapt.card import plot_curve, tell_served, write_card
from service.training.adapt.corpus import Corpus, read_corpus
from service.training.adapt.export import blend, write_checksums, write_encoder
from service.training.adapt.figures import embed, measure, set_skills_apart
from service.training.adapt.optimise import optimise
from service.training.adapt.pairs import Pairs, Tutor, build_pairs
from service.training.adapt.settings import AdaptResult, AdaptSettings
from service.training.adapt.teacher import glossers, teacher
from service.training.adapt.vocabulary import VocabularyReport, rebuild
from service.training.encoder_export import export_encoder

LOGGER = logging.getLogger(__name__)


def adapt(settings: AdaptSettings) -> AdaptResult:
    """Make the bilingual encoder and everything that ships with it.

    Started again with the same settings after an interruption, it goes on from the last checkpoint
    in ``settings.work``; with other settings it refuses (``ValueError``) rather than mix two
    recipes. Raises ``FileNotFoundError`` when a reference file or the base encoder is missing.
    """
    _claim(settings)
    device = _device(settings.device)
    is_bf16 = _is_bf16(settings.precision, device)
    torch.manual_seed(settings.seed)
    corpus, apart = set_skills_apart(read_corpus(settings.data, settings.hold_out))
    start, vocabulary = _start(settings, corpus)
    pairs = _pairs(settings, corpus, device, is_bf16=is_bf16)
    LOGGER.info("%d pairs, %d targets", len(pairs.texts), len(pairs.targets))

    student = SentenceTransformer(str(start), device=device)
    run = optimise(student, pairs, settings, is_bf16=is_bf16)
    started_from = SentenceTransformer(str(start), device=device).state_dict()
    blend(student, started_from, settings.start_share)
    sha256 = write_encoder(student, settings.out)

    base = SentenceTransformer(str(settings.base), device=device)
    english = embed(base, [skill.labels["en"][0] for skill in apart])
    result = AdaptResult(
        directory=settings.out,
        pairs=len(pairs.texts),
        pairs_by_source=dict(Counter(pairs.sources)),
        steps=run.steps,
        train_seconds=run.seconds,
        is_resumed=run.is_resumed,
        pieces_per_word_before=vocabulary.pieces_per_word_before,
        pieces_per_word_after=vocabulary.pieces_per_word_after,
        new_pieces=vocabulary.added,
        before=measure(base, apart, english),
        # What is measured is what was written: half-precision weights, read back.
        after=measure(SentenceTransformer(str(settings.out), device=device), apart, english),
        weights_sha256=sha256,
        losses=run.losses,
    )
    write_card(result, settings, settings.out / "CARD.md")
    plot_curve(result.losses, result.before, result.after, settings.out / "curve.png")
    ship(settings.out)
    return result


def ship(directory: Path) -> None:
    """Add the int8 graph that is served, compared with PyTorch, and the checksums of all."""
    graph = directory / "onnx"
    shutil.rmtree(graph, ignore_errors=True)
    spec = export_encoder(directory, graph, "int8", DEFAULT_ENCODER, lambda _step, _what: None)
    tell_served(directory / "CARD.md", spec, (graph / MODEL_FILE).stat().st_size)
    write_checksums(directory)


def _claim(settings: AdaptSettings) -> None:
    settings.work.mkdir(parents=True, exist_ok=True)
    claim = settings.work / "settings.digest"
    # The starting weights' share is applied after training: it may change over one training.
    training = replace(settings, start_share=0.0).digest()
    if claim.exists() and claim.read_text(encoding="utf-8") != training:
        message = f"{settings.work} holds another recipe's checkpoints: delete it or choose another"
        raise ValueError(message)
    claim.write_text(training, encoding="utf-8")


def _start(settings: AdaptSettings, corpus: Corpus) -> tuple[Path, VocabularyReport]:
    start, report = settings.work / "start", settings.work / "vocabulary.json"
    if report.exists():
        return start, VocabularyReport(**json.loads(report.read_text(encoding="utf-8")))
    shutil.rmtree(start, ignore_errors=True)
    made = rebuild(
        settings.base,
        start,
        corpus,
        least_count=settings.new_piece_least_count,
        most=settings.new_pieces_at_most,
    )
    _write_whole(report, json.dumps(made.as_dict()))
    return start, made


def _pairs(settings: AdaptSettings, corpus: Corpus, device: str, *, is_bf16: bool) -> Pairs:
    texts, targets = settings.work / "pairs.json", settings.work / "targets.npy"
    if texts.exists():
        kept = json.loads(texts.read_text(encoding="utf-8"))
        return Pairs(
            tuple(kept["texts"]),
            tuple(kept["target_numbers"]),
            np.load(targets),
            tuple(kept["sources"]),
        )
    teach = teacher(
        settings.base, pieces_at_most=settings.pieces_at_most, device=device, is_bf16=is_bf16
    )
    tutor = Tutor(teach, *glossers(corpus, settings.base))
    made = build_pairs(corpus, settings.ingredients, tutor, settings.seed)
    np.save(targets, made.targets)
    kept = {"texts": made.texts, "target_numbers": made.target_numbers, "sources": made.sources}
    # The texts are written last and in one rename: their presence says that both files are whole.
    _write_whole(texts, json.dumps(kept))
    return made


def _write_whole(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


def _is_bf16(wanted: str, device: str) -> bool:
    if wanted != "auto":
        return wanted == "bf16"
    if device != "cpu":
        return bool(torch.cuda.is_bf16_supported())
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    # Without these instructions bfloat16 is emulated, and slower than float32.
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16"))
