r"""Draw the panels of the Grafana dashboard from a Prometheus that scrapes a service.

    python scripts/draw_dashboard.py --prometheus http://localhost:9090 \
        --service http://localhost:3000 --minutes 3 --out docs/images/dashboard.png

With ``--service`` it sends made-up experiences for that long first (``--key`` where keys are
configured). The panels, their queries and their places are those of ``deploy/grafana/vocation.json``.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, Formatter, PercentFormatter, StrMethodFormatter
from PIL import Image

DASHBOARD = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "vocation.json"

_SEED = 20
_COLUMNS = 24  # of Grafana's grid
_INCHES_PER_COLUMN, _INCHES_PER_ROW = 0.62, 0.24
_DOTS_PER_INCH = 92
_COLOURS = 48
_LEGEND_ENTRIES = 8
_STEPS = 90
_REQUESTS_PER_SECOND = 6.0

_TITLES = ("Cheffe de cuisine", "Data scientist", "Infirmier", "Software engineer", "Comptable")
_TASKS = (
    "Prise en charge des patients et tenue des dossiers.",
    "Built and deployed language models for document search.",
    "Gestion des stocks, commandes et relations fournisseurs.",
    "Led a team of six and reported to the board.",
    "Développement de services web en Python, tests et mise en production.",
)


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel: times in seconds before the end, and values, both float64[n]."""

    label: str
    times: np.ndarray[Any, np.dtype[np.float64]]
    values: np.ndarray[Any, np.dtype[np.float64]]


def main() -> None:
    """Send requests if asked to, then query and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prometheus", required=True, help="address of Prometheus")
    parser.add_argument("--service", help="address of a service to send requests to first")
    parser.add_argument("--key", help="the service's key")
    parser.add_argument("--job", default="vocation")
    parser.add_argument("--minutes", type=float, default=3.0, help="what is sent and drawn")
    parser.add_argument("--rate-interval", default="30s", help="what $__rate_interval stands for")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.service:
        send_requests(arguments.service, arguments.key, arguments.minutes * 60)
    variables = {
        "$__rate_interval": arguments.rate_interval,
        "$job": arguments.job,
        "$occupation": ".*",
    }
    with httpx.Client(base_url=arguments.prometheus, timeout=60) as prometheus:
        picture = draw(prometheus, variables, arguments.minutes * 60)
    arguments.out.write_bytes(picture)
    print(f"{arguments.out}: {len(picture) / 1000:.0f} kB")


def send_requests(service: str, key: str | None, seconds: float) -> None:
    """Post profiles of 5 to 15 experiences at random times, some of them seen before."""
    chance = random.Random(_SEED)  # noqa: S311  # no secret is made of it
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    ends = time.monotonic() + seconds
    with httpx.Client(base_url=service, headers=headers, timeout=60) as client:
        while time.monotonic() < ends:
            profile = [_experience(chance) for _ in range(chance.randint(5, 15))]
            client.post("/v1/classify", json={"experiences": profile})
            if chance.random() < 0.1:
                client.get(f"/v1/occupations/{chance.choice(('chef', 'astronaut'))}")
            if chance.random() < 0.02:
                httpx.get(f"{service}/v1/occupations", timeout=60)
            time.sleep(chance.expovariate(_REQUESTS_PER_SECOND))


def _experience(chance: random.Random) -> dict[str, str]:
    years = f"{chance.randint(1, 400)} mois"
    # Few are longer than the encoder reads.
    sentences = 40 if chance.random() < 0.02 else chance.randint(1, 3)
    tasks = " ".join(chance.choices(_TASKS, k=sentences))
    return {"title": chance.choice(_TITLES), "description": f"{tasks} {years}."}


def draw(prometheus: httpx.Client, variables: dict[str, str], seconds: float) -> bytes:
    """The dashboard's panels over the last ``seconds``, as the bytes of a PNG."""
    mpl.use("agg")
    mpl.rcParams.update({"font.size": 6.5, "axes.titlesize": 7.5, "axes.titleweight": "bold"})
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plt.figure(figsize=(_COLUMNS * _INCHES_PER_COLUMN, rows * _INCHES_PER_ROW))
    for panel in panels:
        place = panel["gridPos"]
        left, bottom = place["x"] / _COLUMNS, 1 - (place["y"] + place["h"]) / rows
        if panel["type"] == "row":
            figure.text(left + 0.004, bottom + 0.002, panel["title"], fontsize=10, weight="bold")
            continue
        # What is left of the cell holds the title and the numbers beside the axes.
        axes = figure.add_axes(
            (
                left + 0.032,
                bottom + 1.2 / rows,
                place["w"] / _COLUMNS - 0.042,
                (place["h"] - 2.7) / rows,
            )
        )
        _draw_panel(axes, panel, list(_query(prometheus, panel, variables, seconds)))
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=_DOTS_PER_INCH)
    plt.close(figure)
    small = io.BytesIO()
    Image.open(drawn).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(
        small, format="png", optimize=True
    )
    return small.getvalue()


def _query(
    prometheus: httpx.Client, panel: dict[str, Any], variables: dict[str, str], seconds: float
) -> Iterator[Series]:
    """Each series of each target of a panel; raises what the server answers to a wrong query."""
    now = time.time()
    window = {"start": now - seconds, "end": now, "step": max(1.0, seconds / _STEPS)}
    for target in panel["targets"]:
        expression = target["expr"]
        for name, value in variables.items():
            expression = expression.replace(name, value)
        reply = prometheus.get("/api/v1/query_range", params={"query": expression, **window})
        reply.raise_for_status()
        for found in reply.json()["data"]["result"]:
            label = target["legendFormat"]
            for name, value in found["metric"].items():
                label = label.replace("{{" + name + "}}", value)
            points = np.array(found["values"], dtype=np.float64)
            yield Series(label, points[:, 0] - now, points[:, 1])


def _draw_panel(axes: Axes, panel: dict[str, Any], series: Sequence[Series]) -> None:
    axes.set_title(panel["title"], loc="left")
    defaults = panel["fieldConfig"]["defaults"]
    if not any(np.isfinite(line.values).any() for line in series):
        axes.text(0.5, 0.5, "no data yet", ha="center", va="center", color="0.5")
        axes.set_axis_off()
    elif panel["type"] == "stat":
        value = series[0].values[-1]
        colour = _colour(value, defaults["thresholds"]["steps"])
        axes.text(0.0, 0.4, _text(value, defaults), fontsize=17, va="center", color=colour)
        axes.set_axis_off()
    elif panel["type"] == "heatmap":
        _draw_heatmap(axes, series)
    else:
        _draw_lines(axes, series, stacked=defaults["custom"]["stacking"]["mode"] == "normal")
        axes.yaxis.set_major_formatter(_formatter(defaults["unit"]))
        if "min" in defaults:
            axes.set_ylim(bottom=defaults["min"])


def _draw_lines(axes: Axes, series: Sequence[Series], *, stacked: bool) -> None:
    if stacked:
        times = np.unique(np.concatenate([line.times for line in series]))
        values = [np.interp(times, s.times, np.nan_to_num(s.values)) for s in series]
        axes.stackplot(times, values, labels=[line.label for line in series], alpha=0.7)
    else:
        for line in series:
            axes.plot(line.times, line.values, linewidth=0.9, label=line.label)
    handles, labels = axes.get_legend_handles_labels()
    kept = slice(_LEGEND_ENTRIES)
    axes.legend(
        handles[kept],
        labels[kept],
        loc="upper left",
        fontsize=5.5,
        framealpha=0.6,
        edgecolor="none",
        ncols=2,
    )
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g} s"))
    axes.grid(visible=True, linewidth=0.3)


def _draw_heatmap(axes: Axes, series: Sequence[Series]) -> None:
    bounds = sorted(series, key=lambda line: float(line.label))
    times = bounds[-1].times
    cumulative = np.array([np.interp(times, line.times, line.values) for line in bounds])
    counts = np.diff(cumulative, axis=0, prepend=0.0)[:-1].clip(min=0.0)
    axes.imshow(
        np.sqrt(counts),
        aspect="auto",
        origin="lower",
        cmap="Oranges",
        extent=(times[0], times[-1], 0.0, 1.0),
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g} s"))


def _colour(value: float, steps: Sequence[dict[str, Any]]) -> str:
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return f"tab:{reached[-1]}"


def _text(value: float, defaults: dict[str, Any]) -> str:
    if defaults["unit"] == "percentunit":
        return f"{value:.{defaults['decimals']}%}"
    return f"{value:.3g} s" if defaults["unit"] == "s" else f"{value:g}"


def _formatter(unit: str) -> Formatter:
    if unit == "percentunit":
        return PercentFormatter(1.0)
    if unit == "none":
        return StrMethodFormatter("{x:g}")
    if unit == "s":
        return EngFormatter("s")
    return EngFormatter({"reqps": "/s", "cps": "/s", "reqpm": "/min"}.get(unit, ""), sep="")


if __name__ == "__main__":
    main()
