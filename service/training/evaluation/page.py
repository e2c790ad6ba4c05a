"""The page of an evaluation: one HTML file that needs nothing else, and no script."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from service.training.evaluation.plots import Plot
from service.training.evaluation.result import Evaluation
from service.training.evaluation.tables import UNDEFINED, Table, make_notes, make_tables, summary

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
  color: CanvasText; background: Canvas; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums;
  margin: 1rem 0; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .7rem; text-align: left;
  vertical-align: top; }
thead th { background: var(--soft); }
figure { margin: 1.5rem 0; }
img { max-width: 100%; background: #fff; padding: .5rem; border-radius: .4rem; }
code { overflow-wrap: anywhere; }
"""

_OVER_ROWS = (
    "Intervals over rows: 95 % of {redraws:,} redraws of the judged rows, rows of one text drawn "
    "together. They tell what other rows of the same kind would have changed."
)
_OVER_DRAWS = (
    "Intervals over draws: the mean over the draws of examples, and 95 % of {redraws:,} redraws "
    "of the draws. They tell what other examples would have changed; the judged rows stay. "
    "Baselines that no draw changes have intervals over rows."
)
_MEANINGS = (
    ("precision", "share of the rows called in that are labelled in"),
    ("recall", "share of the rows labelled in that are called in"),
    ("F1", "harmonic mean of the two, at the threshold"),
    ("average precision", "precision averaged over the ranking; no threshold is in it"),
    ("accuracy", "share of rows called as they are labelled"),
    (
        "calibration error",
        "mean gap between the score and the share that is in, over 15 bins of the score",
    ),
    ("threshold", "score from which a row is called in; baselines are called from 0.5"),
    (
        "uncertain",
        "share of rows that the service would label uncertain; the other figures call them by "
        "their score all the same",
    ),
)


def make_page(evaluation: Evaluation, plots: Sequence[Plot]) -> str:
    """The page; it shows names, counts and figures, and no text of an experience."""
    over = _OVER_DRAWS if evaluation.mode == "draws" else _OVER_ROWS
    body = [
        f"<h1>{escape(evaluation.title)}</h1>",
        f"<p>{escape(summary(evaluation))}</p>",
        *(f"<p>{escape(note)}</p>" for note in make_notes(evaluation)),
        "<h2>Figures</h2>",
        *(_table(table) for table in make_tables(evaluation)),
        f"<p>{escape(over.format(redraws=evaluation.redraws))} A figure that is not defined is "
        f"shown as {UNDEFINED}</p>",
        *(_figure(plot) for plot in plots),
        "<h2>What the figures mean</h2>",
        _pairs(_MEANINGS),
        "<h2>How it was made</h2>",
        f"<p><code>{escape(evaluation.command)}</code></p>",
        *(_facts(name, facts) for name, facts in _made_of(evaluation)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(evaluation.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _made_of(evaluation: Evaluation) -> list[tuple[str, Mapping[str, Any]]]:
    return [
        ("Data", evaluation.data),
        ("What was judged", evaluation.judged),
        ("Seeds", {"seed": evaluation.seed, "redraws": evaluation.redraws}),
        ("Versions of libraries", evaluation.libraries),
    ]


def _table(table: Table) -> str:
    header = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return (
        f'<div class="wide"><table><caption>{escape(table.caption)}</caption>\n'
        f"<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _figure(plot: Plot) -> str:
    content = base64.b64encode(plot.content).decode()
    return (
        f'<figure><img alt="{escape(plot.caption)}" src="data:image/png;base64,{content}">'
        f"<figcaption>{escape(plot.caption)}</figcaption></figure>"
    )


def _facts(name: str, facts: Mapping[str, Any]) -> str:
    return f"<h3>{escape(name)}</h3>\n" + _pairs(
        (key.replace("_", " "), _said(value)) for key, value in facts.items()
    )


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in pairs
    )
    return f'<div class="wide"><table><tbody>\n{rows}\n</tbody></table></div>'


def _said(value: Any) -> str:
    if value is None:
        return UNDEFINED
    if isinstance(value, Mapping):
        return "; ".join(f"{str(k).replace('_', ' ')}: {_said(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_said(item) for item in value) or UNDEFINED
    return f"{value:.4g}" if isinstance(value, float) else str(value)
