"""The ``vocation evaluate`` command: arguments in, a table and a report out."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from service.domain.errors import VocationError

_ARGUMENTS = f"{__name__}.arguments"
_SHOTS = "--shots"


class EvaluateCommand(TyperCommand):
    """``--shots 8 16 32`` as well as ``--shots 8 --shots 16 --shots 32``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each of its numbers; keep the arguments for the report."""
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, list(_spread(args)))


def evaluate(
    ctx: typer.Context,
    labelled: Annotated[
        Path,
        typer.Argument(
            metavar="LABELLED",
            help="JSON lines or CSV: text, or title with company and description; label; "
            "language, source, split where they are known.",
        ),
    ],
    occupation: Annotated[
        str | None,
        typer.Option(
            help="What is judged: an id of the registry in VOCATION_HOME, id@version, or a file "
            "of examples as in models/occupations. With --shots, a file that gives the name."
        ),
    ] = None,
    shots: Annotated[
        list[int] | None,
        typer.Option(help="Examples of each label drawn from LABELLED itself; several: a curve."),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws for each number of shots.")] = 5,
    method: Annotated[
        Literal["head", "setfit"], typer.Option(help="How examples make a version.")
    ] = "head",
    field: Annotated[
        Literal["text", "title", "description"],
        typer.Option(help="What of an experience is judged; text is all of it."),
    ] = "text",
    only: Annotated[
        list[str] | None,
        typer.Option(help="Take only rows whose column holds a value: --only split=test."),
    ] = None,
    prevalence: Annotated[
        float | None,
        typer.Option(
            help="Share of positives that the figures are of, and that drawn heads are trained "
            "for; by default that of the judged rows."
        ),
    ] = None,
    baselines: Annotated[
        Literal["usual", "stock", "none"],
        typer.Option(help="With --shots: what people use without Vocation; stock adds SetFit."),
    ] = "usual",
    keywords: Annotated[
        str | None, typer.Option(help="Keyword rule to stand beside: words between commas.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The occupation's name, with --shots.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of halves, draws and intervals.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for evaluation.json, the plots and one page.")
    ] = None,
) -> None:
    """Judge a version, or a method, on labelled experiences."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("service").setLevel(logging.INFO)
    # numpy, scikit-learn and ONNX Runtime take seconds: --help must not wait for them.
    from service.settings import Settings  # noqa: PLC0415
    from service.training.evaluation.baselines import Baselines  # noqa: PLC0415
    from service.training.evaluation.labelled import Field  # noqa: PLC0415
    from service.training.evaluation.methods import EvaluatedMethod  # noqa: PLC0415
    from service.training.evaluation.report import report  # noqa: PLC0415
    from service.training.evaluation.request import Request, read_conditions  # noqa: PLC0415

    try:
        request = Request(
            labelled=labelled,
            field=Field(field),
            only=read_conditions(only or ()),
            occupation=occupation,
            shots=tuple(sorted(set(shots or ()))),
            draws=draws,
            method=EvaluatedMethod(method),
            prevalence=prevalence,
            baselines=Baselines(baselines),
            keywords=tuple(word.strip() for word in (keywords or "").split(",") if word.strip()),
            name=name,
            seed=seed,
            command=_stated(ctx.meta[_ARGUMENTS]),
        )
        typer.echo(report(request, Settings(), out), nl=False)
    except VocationError as error:
        typer.echo(f"vocation: {error.title}: {error.detail}", err=True)
        raise typer.Exit(2) from None
    if out is not None:
        typer.echo(f"written to {out}", err=True)


def _spread(arguments: Iterable[str]) -> Iterator[str]:
    """Repeat ``--shots`` before each number that follows it."""
    following = lone = False
    for argument in arguments:
        if following and argument.isdecimal():
            yield from (_SHOTS, argument)
            lone = False
            continue
        if lone:
            yield _SHOTS
        following = lone = argument == _SHOTS
        if not following:
            yield argument
    if lone:
        yield _SHOTS


def _stated(arguments: Iterable[str]) -> str:
    """The command as a report states it: of a folder of this machine, the last name alone."""
    parts = []
    for argument in arguments:
        option, equals, value = (
            argument.partition("=") if argument[:2] == "--" else ("", "", argument)
        )
        path = Path(value)
        parts.append(option + equals + (path.name if path.is_absolute() else value))
    return shlex.join(["vocation", "evaluate", *parts])
