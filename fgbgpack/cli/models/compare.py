"""``fgbgpack models check`` and ``compare``: depth of models on rendered rooms, and on a dataset."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fgbgpack.cli import completion, options
from fgbgpack.cli.console import say, say_rows, say_title, show_error
from fgbgpack.cli.models.common import DRAWING, meaning
from fgbgpack.cli.options import argument, command, option
from fgbgpack.cli.output import Output
from fgbgpack.cli.parse import DEVICES, PRECISIONS, Parser
from fgbgpack.errors import DepthModelError
from fgbgpack.sources.names import counted
from fgbgpack.spec import DepthMode, DepthSpec

if TYPE_CHECKING:
    from fgbgpack.visual.comparison import Comparison
    from fgbgpack.visual.model_check import ModelCheck
    from fgbgpack.visual.statistics import Spread

#: Stands before a model that runs on backgrounds and guides another.
_GUIDED = "guided:"
_LAYERED = "layered:"
#: Stands for the dataset's own depth.
_STORED = "stored"

app = typer.Typer()


@command(app, "fgbgpack models check tcmonodepth-small", "fgbgpack models check my-network.onnx -o check.png")
def check(
    model: str = argument(
        "MODEL", "A model's name, or an ONNX file with its card beside it.", completion.models
    ),
    output: Path | None = DRAWING,
    precision: str | None = options.PRECISION,
    device: str | None = options.DEVICE,
    as_json: bool = options.JSON,
) -> None:
    """Run a model on rendered rooms of known depth: shapes, range, near and far, agreement, speed.

    A guided network gets figures on the floor of the rooms, their masks and the rooms' depth.

    The exit status is 5 if its output cannot be the depth that its card states.
    """
    parser = Parser()
    where = parser.choice("--device", device, DEVICES)
    arithmetic = parser.choice("--precision", precision, PRECISIONS)
    parser.picture(output)
    parser.check()

    from fgbgpack.depth import load_model
    from fgbgpack.visual.canvas import write_picture
    from fgbgpack.visual.model_check import check_model, render_check

    result = check_model(load_model(model), precision=arithmetic, device=where)
    if output is not None:
        write_picture(render_check(result), output)
    printed = Output(as_json)
    printed.show(result, lambda: _show_check(result))
    if output is not None and printed.is_text:
        say(f"Wrote {output}")
    if result.problems:
        show_error("This is not the depth that the card states:", result.problems)
        raise typer.Exit(DepthModelError.exit_status)


@command(
    app,
    "fgbgpack models compare midas-v2.1 depth-anything-v2-small --on lobby.zarr",
    "fgbgpack models compare dpt-large@1 dpt-large@3 --on lobby.zarr -o dpt.png",
    "fgbgpack models compare guided:fgbgpack-scene stored --on lobby.zarr",
)
def compare(
    models: list[str] = argument(
        "MODEL",
        "Names or ONNX files. MODEL@SCALE sets the depth scale, 1 to 4; guided:MODEL and layered:MODEL run "
        "it on backgrounds, at scales up to 16; stored is the dataset's own depth.",
        completion.models_or(_GUIDED, _LAYERED, _STORED),
    ),
    on: str = option("--on DATASET", "A dataset that fgbgpack made.", default=...),
    guide: str | None = option(
        "--guide MODEL",
        "The guided network that runs after each guided:MODEL (default fgbgpack-guided).",
        complete=completion.models,
    ),
    samples: str | None = option("--samples N", "Number of samples to compare (default 64)."),
    seed: str | None = options.DRAW_SEED,
    true_depth: Path | None = option(
        "--true-depth DIR",
        "Folder with true depth of the backgrounds: 16-bit PNG in millimetres, with the same names (default: "
        "'depth' beside the backgrounds, if it is there).",
    ),
    backgrounds: str | None = options.BACKGROUNDS,
    foregrounds: str | None = options.FOREGROUNDS,
    masks: str | None = options.MASKS,
    precision: str | None = options.PRECISION,
    device: str | None = options.DEVICE,
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    output: Path | None = DRAWING,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Compare models on a dataset: how far they agree, and whether people stand out in their depth."""
    parser = Parser()
    count = parser.at_least("--samples", samples, 1, default=64)
    key = parser.at_least("--seed", seed, 0, default=0)
    arithmetic = parser.choice("--precision", precision, PRECISIONS)
    where = parser.choice("--device", device, DEVICES)
    storage_options = parser.storage_options(storage_option)
    parser.picture(output)
    if guide is not None and not any(model.startswith(_GUIDED) for model in models):
        parser.problems.append(f"--guide: needs a model with {_GUIDED!r} before it")
    depths = _depths(parser, models, guide)
    parser.check()

    from fgbgpack.dataset.dataset import open_dataset
    from fgbgpack.depth.strategies import Networks
    from fgbgpack.pipeline import Progress
    from fgbgpack.visual.canvas import write_picture
    from fgbgpack.visual.comparison import compare as run
    from fgbgpack.visual.comparison_picture import render_comparison

    dataset = open_dataset(on, allow_incomplete=True, storage_options=storage_options)
    chosen = [(Networks.load(depth), depth.resolved_scale(dataset.height, dataset.width)) for depth in depths]
    result = Output(quiet=quiet or as_json).run(
        lambda on_event: run(
            dataset,
            chosen,
            stored=_STORED in models,
            samples=count,
            seed=key,
            precision=arithmetic,
            device=where,
            true_depth=true_depth,
            backgrounds=backgrounds,
            foregrounds=foregrounds,
            masks=masks,
            on_map=lambda done, total: on_event(Progress("depth", done, total)),
        )
    )
    if output is not None:
        write_picture(render_comparison(dataset, result), output)
    printed = Output(as_json, quiet)
    printed.show(result, lambda: _show_comparison(result))
    if output is not None and printed.is_text:
        say(f"Wrote {output}")


def _depths(parser: Parser, models: Sequence[str], guide: str | None) -> list[DepthSpec]:
    """How each model fills depth, from ``[guided:|layered:]MODEL[@SCALE]``."""
    depths = []
    for reference in (model for model in models if model != _STORED):
        # A file's name may contain an @, but not before a number at its end.
        match = re.fullmatch(r"(guided:|layered:)?(.+?)(?:@([0-9]{1,4}))?", reference, re.DOTALL)
        if match is None:
            parser.problems.append(f"MODEL: {reference!r} names no model")
            continue
        scale = int(match[3]) if match[3] else None
        if match[1] == _GUIDED:
            depths.append(DepthSpec(match[2], mode="guided", guide=guide, scale=scale))
        else:
            mode: DepthMode = "layered" if match[1] == _LAYERED else "per-sample"
            depths.append(DepthSpec(match[2], mode=mode, scale=scale))
    return depths


def _show_check(check: ModelCheck) -> None:
    say_title(f"{check.model}: {'something is wrong' if check.problems else 'its depth can be used'}")
    height, width = check.picture
    people = ", with one figure each" if check.figures is not None else ""
    agreement = f"{min(check.agreement):.2f} to {max(check.agreement):.2f}"
    gradient = f"a plain gradient reaches {check.gradient:.2f}"
    rows = [
        ("file", check.path),
        ("pictures", f"{len(check.agreement)} rendered rooms of {width}x{height}{people}"),
        ("network's input", f"{check.network[1]}x{check.network[0]} (width x height)"),
        ("output", meaning(check.quantity, check.unit)),
        ("range", f"{check.minimum:.4g} to {check.maximum:.4g}, no NaN"),
        ("nearer is nearer", "yes" if check.rank > 0 else "NO: nearer comes out farther"),
        ("rank agreement", f"{check.rank:.2f} with true depth, {agreement}; {gradient}"),
    ]
    if (figures := check.figures) is not None:
        errors = f"{min(figures.each_off):.0%} to {max(figures.each_off):.0%}"
        rows += [
            ("figures' distance", f"{figures.off:.0%} off (median), {errors}"),
            ("step at the outline", f"{figures.step:.2f}; true depth has {figures.true_step:.2f}"),
        ]
    if check.metres is not None:
        rows.append(("metres", f"{check.metres:.3g} times the true ones (median)"))
    rows.append(("speed", f"{check.rate:,.1f} pictures/s on {check.provider}, {check.precision}"))
    say_rows(rows)


def _show_comparison(comparison: Comparison) -> None:
    """Print the figures of each model, then their agreement: medians, with quartiles in brackets."""
    say_title(f"{counted(len(comparison.samples), 'sample')} of {comparison.dataset}")
    for model in comparison.models:
        say_title(f"\n{model.label}")
        result = meaning(model.quantity, model.unit)
        rows = [
            ("output", f"{result}; scale {model.scale}, {model.provider}, {model.precision}"),
            ("step at the outline", _spread(model.step)),
        ]
        if model.truth is not None:
            rows.append(("rank agreement with truth", _spread(model.truth)))
        if model.truth_error is not None:
            rows.append(("error of depth, fitted", _spread(model.truth_error, ".1%")))
        say_rows(rows)
    if comparison.agreement:
        say_title("\nRank agreement with each other")
        say_rows([(f"{pair.first}, {pair.second}", _spread(pair.rank)) for pair in comparison.agreement])
    say(
        "\nThe step is how much nearer a person is than what is beside the outline, in standard deviations "
        "of the map: near 0 people melt into the scene, above 1 they stand out."
    )
    if comparison.true_depth is not None:
        say(f"True depth: {comparison.true_depth}")


def _spread(spread: Spread | None, form: str = ".2f") -> str:
    return (
        "-" if spread is None else f"{spread.median:{form}} ({spread.lower:{form}} to {spread.upper:{form}})"
    )
