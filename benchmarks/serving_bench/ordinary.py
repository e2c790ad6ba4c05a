"""The int8 graph that a user would have for the peers: optimum's own dynamic quantisation.

``python -m benchmarks.serving_bench.ordinary SOURCE TARGET`` writes ``TARGET/model.onnx`` from an
encoder's weights: optimum's export, then its `ORTQuantizer`, dynamic, weights per channel. A
process of its own: PyTorch leaves with it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from service.inference.encoder_spec import MODEL_FILE
from service.training.encoder_export import export_graph, load_model, quantise_dynamically


def main(arguments: list[str]) -> None:
    """Export and quantise."""
    source, target = map(Path, arguments)
    with tempfile.TemporaryDirectory() as scratch:
        saved, exported = Path(scratch) / "model", Path(scratch) / "onnx"
        load_model(source).save_pretrained(str(saved))
        export_graph(saved, exported)
        quantise_dynamically(exported, target / MODEL_FILE)


if __name__ == "__main__":
    main(sys.argv[1:])
