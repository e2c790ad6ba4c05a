"""Export of an encoder to ONNX, run as a child process.

``python -m service.training.encoder_export SOURCE TARGET PRECISION NAME`` writes the files of an
encoder artifact to TARGET and a line ``step/steps what`` to standard output before each step.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import EncoderUnusable
from service.inference.encoder import SideBySide, load_encoder
from service.inference.encoder_spec import (
    MODEL_FILE,
    SPEC_FILE,
    TOKENIZER_FILE,
    EncoderSpec,
    Precision,
)
from service.training.child import end_with_parent
from service.training.encoder_source import library_versions

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

OUTPUT = "sentence_embedding"
MAX_TOKENS = 512
STEPS = 4

# The graph computes what PyTorch computes, up to the order of floating point sums.
MAX_FP32_DIFFERENCE = 1e-3
# int8 moves an embedding by a few thousandths (packed) or hundredths; a broken graph moves it
# anywhere.
MIN_SERVED_COSINE = 0.9

PROBES = (
    "Data scientist",
    "Infirmière diplômée d'État, CHU",
    "Chef de cuisine",
    "Ingénieur machine learning, Ferrovia. Détection d'anomalies sur les capteurs des rames.",
    "Senior backend engineer. Built payment APIs in Go; on call, mentoring, code review.",
    "Responsable comptable. Clôtures mensuelles, liasse fiscale, encadrement de 3 personnes.",
    "Warehouse operative, night shift. Picking, packing, forklift licence.",
    "Stagiaire",
)

Report = Callable[[int, str], None]


def export_encoder(
    source: Path, target: Path, precision: Precision, name: str, report: Report
) -> EncoderSpec:
    """Export, quantise (or convert) and verify an encoder; returns what was written.

    ``int8``: a packed graph where `packable` says so, else dynamic with per-channel weights
    (per-tensor weights were measured three times farther from fp32). ``fp16``: the fp32 graph
    converted, for CUDA. Raises EncoderUnusable when the graph does not compute what PyTorch
    computes, or is packed and does not keep texts apart.
    """
    from service.training.packed_graph import packable

    with tempfile.TemporaryDirectory() as scratch:
        report(1, "loading weights")
        model = load_model(source)
        saved = Path(scratch) / "model"
        model.save_pretrained(str(saved))
        report(2, "exporting to ONNX")
        exported = Path(scratch) / "onnx"
        export_graph(saved, exported)
        report(3, f"converting to {precision}")
        target.mkdir(parents=True, exist_ok=True)
        packed = precision == "int8" and packable(model)
        if packed:
            _write_packed(model, target / MODEL_FILE)
        elif precision == "int8":
            quantise_dynamically(exported, target / MODEL_FILE)
        else:
            _convert_to_fp16(exported, target / MODEL_FILE)
        if not (exported / TOKENIZER_FILE).exists():
            raise EncoderUnusable("The encoder has no fast tokenizer (tokenizer.json).")
        shutil.copyfile(exported / TOKENIZER_FILE, target / TOKENIZER_FILE)
        report(4, "comparing with PyTorch")
        return _verify(model, exported, target, precision, name, packed=packed)


def load_model(source: Path) -> SentenceTransformer:
    """Load an encoder on the CPU from safetensors, its embeddings normalised to length one."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize

    model: SentenceTransformer = SentenceTransformer(
        str(source), device="cpu", model_kwargs={"use_safetensors": True}, local_files_only=True
    )
    if not any(isinstance(module, Normalize) for module in model):
        # Similarities are dot products everywhere below: embeddings have length one.
        model.append(Normalize())
    model.max_seq_length = _max_tokens(model)
    return model


def _max_tokens(model: SentenceTransformer) -> int:
    transformer: Any = model[0]
    config = transformer.auto_model.config
    positions = int(getattr(config, "max_position_embeddings", MAX_TOKENS))
    if config.model_type in ("xlm-roberta", "roberta", "camembert", "mpnet"):
        # These count positions from the padding id on (transformers, create_position_ids).
        positions -= int(config.pad_token_id or 0) + 1
    return min(model.max_seq_length or MAX_TOKENS, positions, MAX_TOKENS)


def export_graph(saved: Path, exported: Path) -> None:
    """Export a saved encoder to a float32 ONNX graph and its tokeniser, with optimum."""
    from optimum.exporters.onnx import main_export

    main_export(
        str(saved),
        output=exported,
        task="feature-extraction",
        library_name="sentence_transformers",
        device="cpu",
        do_validation=False,
    )


def _convert_to_fp16(exported: Path, model_file: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    graph = convert_float_to_float16(
        onnx.load(exported / "model.onnx"), keep_io_types=True, disable_shape_infer=True
    )
    onnx.save(graph, model_file)


def quantise_dynamically(exported: Path, model_file: Path) -> None:
    """Quantise ``exported/model.onnx`` to int8: per channel, one activation scale for each run."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    quantiser = ORTQuantizer.from_pretrained(exported, file_name="model.onnx")
    configuration = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    quantiser.quantize(save_dir=exported / "int8", quantization_config=configuration)
    shutil.move(exported / "int8" / "model_quantized.onnx", model_file)


def _write_packed(model: SentenceTransformer, model_file: Path) -> None:
    from service.training.activation_ranges import measure_ranges
    from service.training.packed_graph import check_kept_apart, packed_graph

    model_file.write_bytes(packed_graph(model, measure_ranges(model)).SerializeToString())
    check_kept_apart([model_file], apart_probes(model))


def apart_probes(model: SentenceTransformer) -> list[NDArray[np.int64]]:
    """Token ids int64[n] of texts of unequal lengths, the longest as long as the encoder reads."""
    texts = [*PROBES, " ".join(PROBES * 8)]
    return [graph_inputs(model, text)["input_ids"][0] for text in texts]


def _verify(
    model: SentenceTransformer,
    exported: Path,
    target: Path,
    precision: Precision,
    name: str,
    *,
    packed: bool,
) -> EncoderSpec:
    from service.training.packed_graph import WHOLE_INPUTS

    inputs, fp32 = run_fp32(model, exported / "model.onnx")
    spec = EncoderSpec(
        name=name,
        precision=precision,
        dimensions=int(model.get_sentence_embedding_dimension() or 0),
        max_tokens=int(model.max_seq_length or MAX_TOKENS),
        pad_token_id=int(model.tokenizer.pad_token_id or 0),
        inputs=WHOLE_INPUTS if packed else inputs,
        output=OUTPUT,
        libraries=library_versions(),
        packed=packed,
    )
    (target / SPEC_FILE).write_bytes(spec.to_json())
    served = load_encoder(target, "", SideBySide(1)).encode(PROBES).embeddings
    reference = np.asarray(model.encode(list(PROBES), batch_size=1), dtype=np.float32)
    spec = replace(spec, parity=parity_with(reference, fp32, served))
    (target / SPEC_FILE).write_bytes(spec.to_json())
    return spec


def run_fp32(
    model: SentenceTransformer, graph_file: Path
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """The names of a float32 graph's inputs, and its embeddings float32[n, d] of the probes."""
    import onnxruntime as ort

    graph = ort.InferenceSession(str(graph_file), providers=["CPUExecutionProvider"])
    names = tuple(item.name for item in graph.get_inputs())
    rows = []
    for text in PROBES:
        feeds = {key: value for key, value in graph_inputs(model, text).items() if key in names}
        rows.append(graph.run([OUTPUT], feeds)[0])
    return names, np.concatenate(rows)


def graph_inputs(model: SentenceTransformer, text: str) -> dict[str, NDArray[np.int64]]:
    """One text as the inputs int64[1, n] that an exported graph may have."""
    features = model.tokenizer(
        text, return_tensors="np", truncation=True, max_length=model.max_seq_length
    )
    return {key: np.asarray(value, dtype=np.int64) for key, value in features.items()}


def parity_with(
    reference: NDArray[np.float32], fp32: NDArray[np.float32], served: NDArray[np.float32]
) -> dict[str, float]:
    """How far the graphs are from PyTorch, all float32[n, d] on the same texts.

    Raises EncoderUnusable when the float32 graph or the served one is too far.
    """
    difference = float(np.abs(reference - fp32).max())
    cosines = (reference * served).sum(axis=1)
    if not difference <= MAX_FP32_DIFFERENCE:
        raise EncoderUnusable(
            f"The exported graph differs from PyTorch by {difference:.2g} "
            f"(at most {MAX_FP32_DIFFERENCE:g} is accepted)."
        )
    if not float(cosines.mean()) >= MIN_SERVED_COSINE:
        raise EncoderUnusable(
            f"The converted graph's embeddings have a mean cosine of {cosines.mean():.3f} with "
            f"PyTorch's (at least {MIN_SERVED_COSINE:g} is accepted)."
        )
    return {
        "fp32_max_difference": difference,
        "served_mean_cosine": float(cosines.mean()),
        "served_min_cosine": float(cosines.min()),
    }


def main(arguments: list[str]) -> int:
    """Run as a child process; an error that a user can act on is the last line of stderr."""
    source, target, precision, name = arguments
    if precision not in ("int8", "fp16"):
        raise ValueError(precision)
    warnings.filterwarnings("ignore")
    end_with_parent()

    def report(step: int, what: str) -> None:
        print(f"{step}/{STEPS} {what}", flush=True)

    try:
        export_encoder(
            Path(source), Path(target), "int8" if precision == "int8" else "fp16", name, report
        )
    except EncoderUnusable as error:
        print(error.detail, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
