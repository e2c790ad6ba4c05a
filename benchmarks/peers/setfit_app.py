"""SetFit in PyTorch behind FastAPI: ``predict_proba`` on each request's texts, fp32.

The encoder's own weights and the served head as SetFit's logistic head. A plain ``def`` route runs
in FastAPI's thread pool, as its documentation advises for blocking work. One prediction at a time
with all of torch's threads: several at once share the same cores and only disturb each other.
"""

from __future__ import annotations

import argparse
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer
from setfit import SetFitModel
from sklearn.linear_model import LogisticRegression


class Texts(BaseModel):
    """The body of a request."""

    texts: list[str]


def load_model(encoder: Path, bundle: Path) -> SetFitModel:
    """SetFit with the served head."""
    rules = json.loads((bundle / "head.json").read_text())
    body = SentenceTransformer(
        str(encoder), device="cpu", model_kwargs={"torch_dtype": torch.float32}
    )
    head = LogisticRegression()
    head.classes_ = np.array([0, 1])
    head.coef_ = np.array([rules["weights"]], dtype=np.float32)
    head.intercept_ = np.array([rules["bias"]], dtype=np.float32)
    return SetFitModel(model_body=body, model_head=head)


def create_app(model: SetFitModel, threshold: float) -> FastAPI:
    """The application."""
    app = FastAPI()
    one_at_a_time = threading.Lock()

    @app.post("/classify")
    def classify(request: Texts) -> list[dict[str, Any]]:
        with one_at_a_time, torch.inference_mode():
            found = model.predict_proba(request.texts, as_numpy=True, show_progress_bar=False)
        return [
            {"score": float(score), "label": "in" if score >= threshold else "out"}
            for score in found[:, 1]
        ]

    @app.get("/ready")
    def ready() -> str:
        return "ok"

    return app


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_model(options.encoder, options.bundle)
    threshold = json.loads((options.bundle / "head.json").read_text())["threshold"]
    app = create_app(model, threshold)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
