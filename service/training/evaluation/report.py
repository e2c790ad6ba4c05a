"""The files of an evaluation, written whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.domain.errors import InvalidFields
from service.settings import Settings
from service.training.evaluation.request import Request
from service.training.evaluation.result import Evaluation
from service.training.evaluation.run import evaluate
from service.training.evaluation.tables import markdown

JSON_FILE = "evaluation.json"
PAGE_FILE = "evaluation.html"
_PLOT_FILES = ("learning-curve.png", "calibration.png", "precision-recall.png")


def report(request: Request, settings: Settings, out: Path | None) -> str:
    """Evaluate, write the report where a folder is given, and return its tables in Markdown.

    Raises InvalidFields for a wrong argument, file or folder, and what `evaluate` raises.
    """
    if out is None:
        return markdown(evaluate(request, settings))
    with staging(out) as folder:
        evaluation = evaluate(request, settings)
        write_report(evaluation, folder, out)
    return markdown(evaluation)


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write to, gone at the end.

    Raises InvalidFields, before any work is done, where nothing can be written.
    """
    try:
        if out.exists() and not out.is_dir():
            raise InvalidFields(f"--out: {out.name} is a file.")
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".evaluation-", dir=out.parent))
    except OSError as error:
        raise InvalidFields(f"--out: {error.strerror}.") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_report(evaluation: Evaluation, folder: Path, out: Path) -> None:
    """Write the JSON, the plots and the page to ``folder``, then move them to ``out``."""
    # matplotlib is loaded only where there is something to draw.
    from service.training.evaluation.page import make_page  # noqa: PLC0415
    from service.training.evaluation.plots import make_plots  # noqa: PLC0415

    plots = make_plots(evaluation)
    for plot in plots:
        (folder / plot.file).write_bytes(plot.content)
    (folder / PAGE_FILE).write_text(make_page(evaluation, plots), encoding="utf-8")
    content = json.dumps(evaluation.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / JSON_FILE).write_text(content + "\n", encoding="utf-8")
    # mkdtemp keeps others out; a report is to be read.
    out.mkdir(exist_ok=True)
    written = {path.name for path in folder.iterdir()}
    for name in sorted(written):
        (folder / name).replace(out / name)
    for name in set(_PLOT_FILES) - written:
        (out / name).unlink(missing_ok=True)
