"""``fgbgpack models``: find, fetch, describe, try and compare depth models."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fgbgpack.cli import options
from fgbgpack.cli.card_answers import FIELDS
from fgbgpack.cli.console import print_json, say, show_error, show_warning
from fgbgpack.cli.parse import Parser
from fgbgpack.errors import DepthModelError, SpecError

app = typer.Typer(
    name="models",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Depth models: what there is, how to get them, and whether they are fed right.",
    epilog="Examples:\n\n  fgbgpack models list\n  fgbgpack models get depth-anything-v2-small\n"
    "  fgbgpack models check depth-anything-v2-small -o check.png",
)
imports = typer.Typer(
    name="import",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Bring a network of another format to ONNX, with its card.",
    epilog="Example:\n\n  fgbgpack models import densedepth nyu.h5",
)
app.add_typer(imports)

#: What stands before a model that is to run on backgrounds and guide another.
_GUIDED = "guided:"

_PRECISIONS: tuple[Literal["fp32", "fp16"], ...] = ("fp32", "fp16")
_WEIGHTS: tuple[Literal["nyu", "kitti"], ...] = ("nyu", "kitti")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of a model, as 'models list' has it.")]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model's name, or an ONNX file with its card beside it.")
]
Network = Annotated[Path, typer.Argument(metavar="FILE.onnx", help="The ONNX file of a network.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]


def _field(field: str, metavar: str) -> Any:
    option, _, question = FIELDS[field]
    return typer.Option(option, metavar=metavar, help=f"{question}.")


def _on_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty()


def _precision(parser: Parser, text: str | None) -> Literal["fp32", "fp16"]:
    """The value of ``--precision``."""
    for known in _PRECISIONS:
        if text == known:
            return known
    if text is not None:
        parser.problems.append(f"--precision: {text!r} is not one of {', '.join(_PRECISIONS)}")
    return "fp32"


def _check_picture(parser: Parser, path: Path | None) -> None:
    """Tell before the work whether its picture can be written."""
    if path is None:
        return
    if path.suffix.lower() != ".png":
        parser.problems.append(f"--output: {path} does not end with .png")
    if not path.parent.is_dir():
        parser.problems.append(f"--output: there is no folder {path.parent}")


@app.command(
    "list", epilog="Examples:\n\n  fgbgpack models list\n  FGBGPACK_MODELS=/data/models fgbgpack models list"
)
def list_(as_json: options.Json = False) -> None:
    """List the models that have a name: what they give, their licence, and whether they are here."""
    from fgbgpack.cli.model_summary import entry_facts, show_entries
    from fgbgpack.depth.registry import known_models, models_folder

    entries, problems = known_models()
    for problem in problems:
        show_warning(problem)
    if as_json:
        print_json({"folder": str(models_folder()), "models": [entry_facts(entry) for entry in entries]})
    else:
        show_entries(entries, models_folder())


@app.command(epilog="Example:\n\n  fgbgpack models show midas-v2.1-small")
def show(name: Name, as_json: options.Json = False) -> None:
    """Show a model's card: how it is fed, what comes out, who made it, and where its file is."""
    from fgbgpack.cli.model_summary import show_entry
    from fgbgpack.depth.registry import find, how_to_get

    entry = find(name)
    if as_json:
        where = {"path": str(entry.path), "here": entry.here, "embedded": entry.is_embedded}
        print_json({"name": entry.name, **where, "card_path": str(entry.card_path), "card": entry.card})
    else:
        show_entry(entry, "" if entry.here else how_to_get(entry))


@app.command(epilog="Example:\n\n  fgbgpack models get depth-anything-v2-small")
def get(name: Name, as_json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Download a model to the models folder; what was begun is resumed.

    The folder is FGBGPACK_MODELS if that is set, else a cache folder of yours. Other programs
    that want the same file at the same time wait for each other.
    """
    from fgbgpack.cli.model_summary import show_fetched
    from fgbgpack.cli.transfer import TransferDisplay
    from fgbgpack.depth import load_model
    from fgbgpack.depth.download import get_model

    try:
        with TransferDisplay(name, quiet=quiet) as display:
            fetched = get_model(name, on_progress=display.progress, on_notice=display.notice)
    except KeyboardInterrupt as exc:
        exc.add_note("What has come is kept: run the same command again to resume.")
        raise
    model = load_model(name)
    if as_json:
        facts = {"path": str(fetched.path), "sha256": fetched.sha256, "verified": fetched.verified}
        print_json({"name": name, **facts, "received": fetched.received})
    elif not quiet:
        show_fetched(name, fetched, model.card)


@app.command(
    epilog="Examples:\n\n  fgbgpack models check tcmonodepth-small\n"
    "  fgbgpack models check my-network.onnx -o check.png"
)
def check(
    model: Model,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.png",
            help="Also draw the pictures, true depth and the model's side by side.",
        ),
    ] = None,
    precision: options.Precision = None,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Run a model on rendered rooms of known depth: shapes, range, near and far, agreement, speed.

    A guided network gets figures on the floor of the rooms, their masks and the rooms' depth.

    Exits with 5 if what comes out cannot be depth as the card has it.
    """
    parser = Parser()
    where = parser.device(device)
    products = _precision(parser, precision)
    _check_picture(parser, output)
    parser.check()

    from fgbgpack.cli.model_summary import show_check
    from fgbgpack.depth import load_model
    from fgbgpack.visual.canvas import write_picture
    from fgbgpack.visual.model_check import check_model, render_check

    result = check_model(load_model(model), precision=products, device=where)
    if as_json:
        print_json(result.to_dict())
    else:
        show_check(result)
    if output is not None:
        write_picture(render_check(result), output)
        if not as_json:
            say(f"Wrote {output}")
    if result.problems:
        show_error("This is not the depth that the card promises:", result.problems)
        raise typer.Exit(DepthModelError.exit_status)


@app.command(
    epilog="Examples:\n\n  fgbgpack models card my-midas.onnx --like midas-v2.1-small\n"
    "  fgbgpack models card net.onnx --range 0,1 --mean imagenet --std imagenet "
    "--size 'multiple 32' --quantity inverse_depth"
)
def card(
    file: Network,
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="NAME", help="A model that is fed in the same way; lends its card."),
    ] = None,
    name: Annotated[str | None, _field("name", "NAME")] = None,
    quantity: Annotated[str | None, _field("output.quantity", "depth|inverse_depth")] = None,
    unit: Annotated[str | None, _field("output.unit", "m|none")] = None,
    value_range: Annotated[str | None, _field("input.range", "LOW,HIGH")] = None,
    mean: Annotated[str | None, _field("input.mean", "R,G,B")] = None,
    std: Annotated[str | None, _field("input.std", "R,G,B")] = None,
    size: Annotated[str | None, _field("input.size", "SIZE")] = None,
    channels: Annotated[str | None, _field("input.channels", "RGB|BGR")] = None,
    resize: Annotated[str | None, _field("input.filter", "nearest|bilinear|bicubic")] = None,
    transform: Annotated[str | None, _field("output.transform", "JSON")] = None,
    input_name: Annotated[str | None, _field("input.name", "TENSOR")] = None,
    output_name: Annotated[str | None, _field("output.name", "TENSOR")] = None,
    mask: Annotated[str | None, _field("guides.mask.name", "TENSOR")] = None,
    mask_range: Annotated[str | None, _field("guides.mask.range", "LOW,HIGH")] = None,
    background_depth: Annotated[str | None, _field("guides.background_depth.name", "TENSOR")] = None,
    of: Annotated[str | None, _field("output.of", "picture|foreground")] = None,
    licence: Annotated[str | None, _field("licence", "TEXT")] = None,
    source: Annotated[str | None, _field("source", "TEXT")] = None,
    force: Force = False,
) -> None:
    """Write a card for a network that has none: from its graph, your options, and your answers.

    What no graph tells and no option says is asked on a terminal. Nothing is guessed.
    """
    import json

    from fgbgpack import schema
    from fgbgpack.cli import card_answers
    from fgbgpack.cli.model_summary import show_card
    from fgbgpack.depth import load_model
    from fgbgpack.depth.draft import draft
    from fgbgpack.depth.onnx_file import read_graph
    from fgbgpack.depth.registry import find

    graph = read_graph(file).graph
    path = file.with_suffix(".json")
    if path.exists() and not force:
        raise SpecError(f"{path} is there already; --force replaces it.")
    given = {
        "name": name,
        "licence": licence,
        "source": source,
        "input.name": input_name,
        "output.name": output_name,
        "input.channels": channels,
        "input.range": value_range,
        "input.mean": mean,
        "input.std": std,
        "input.size": size,
        "input.filter": resize,
        "guides.mask.name": mask,
        "guides.mask.range": mask_range,
        "guides.background_depth.name": background_depth,
        "output.of": of,
        "output.quantity": quantity,
        "output.unit": unit,
        "output.transform": transform,
    }
    answers = card_answers.read(given)
    lender = None if like is None else find(like).card
    while (drafted := draft(file, graph, answers=answers, like=lender)).guessed:
        if not _on_terminal():
            raise card_answers.refusal(drafted.guessed)
        # One at a time: an answer may raise another question.
        answers[drafted.guessed[0]] = card_answers.ask(
            drafted.guessed[0], lambda question: str(typer.prompt(question, err=True))
        )
    problems = schema.problems("depth-model", drafted.card)
    if problems:
        raise SpecError("These values make no card:", problems)
    before = path.read_bytes() if path.exists() else None
    path.write_text(json.dumps(drafted.card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    try:
        load_model(file)
    except DepthModelError:
        # A card that does not fit is worth nothing: what was there before was better.
        path.unlink() if before is None else path.write_bytes(before)
        raise
    show_card(file, path)


@imports.command(
    epilog="Examples:\n\n  fgbgpack models import densedepth nyu.h5\n"
    "  fgbgpack models import densedepth weights.h5 --weights kitti -o models/densedepth-kitti.onnx"
)
def densedepth(
    file: Annotated[Path, typer.Argument(metavar="FILE.h5", help="DenseDepth's Keras file.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.onnx",
            help="The ONNX file to write (default: densedepth-nyu.onnx or densedepth-kitti.onnx in the "
            "models folder, so that the model has that name).",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="|".join(_WEIGHTS),
            help="What it was trained on, which sets its scale (default: the name of the file, if it says).",
        ),
    ] = None,
    bilinear: Annotated[
        str | None,
        typer.Option(
            "--bilinear",
            metavar="half_pixel|align_corners",
            help="How it enlarges: as TensorFlow 2 does, or TensorFlow 1 did (default half_pixel).",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Bring DenseDepth from Keras to ONNX; TensorFlow is not needed. Depth comes out in metres."""
    said = weights if weights is not None else file.stem.lower()
    which = next((known for known in _WEIGHTS if (said == known if weights else known in said)), None)
    if which is None:
        found = "not given" if weights is None else f"{weights!r} is not one of {', '.join(_WEIGHTS)}"
        raise SpecError(f"--weights: {found}; nyu and kitti give depth on different scales.")

    from fgbgpack.cli.model_summary import show_imported
    from fgbgpack.depth.keras import write_densedepth
    from fgbgpack.depth.registry import models_folder

    name = f"densedepth-{which}"
    out = output or models_folder() / f"{name}.onnx"
    there = [str(path) for path in (out, out.with_suffix(".json")) if path.exists()]
    if there and not force:
        raise SpecError(f"{' and '.join(there)} there already; --force replaces it.")
    if output is None:
        out.parent.mkdir(parents=True, exist_ok=True)
    convention: dict[str, Any] = {} if bilinear is None else {"bilinear": bilinear}
    write_densedepth(file, out, which, **convention)
    show_imported(out, name if output is None else None)


@app.command(
    epilog="Examples:\n\n  fgbgpack models compare midas-v2.1 depth-anything-v2-small --on lobby.zarr\n"
    "  fgbgpack models compare tcmonodepth-small@1 tcmonodepth-small@3 --on lobby.zarr -o compare.png\n"
    "  fgbgpack models compare guided:fgbgpack-scene guided:midas-v2.1@3 midas-v2.1@3 --on lobby.zarr"
)
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="[guided:]MODEL[@SCALE]...",
            help="Names or ONNX files, each with a depth scale if need be: 1 to 4 on samples, 1 to 16 with "
            "'guided:' before it on backgrounds; 'stored' is the dataset's own depth.",
        ),
    ],
    on: Annotated[str, typer.Option("--on", metavar="DATASET", help="A dataset that fgbgpack made.")],
    guide: Annotated[
        str | None,
        typer.Option(
            "--guide",
            metavar="NAME|FILE.onnx",
            help="The guided network beside all models that are 'guided:' (default fgbgpack-guided).",
        ),
    ] = None,
    samples: Annotated[
        str | None, typer.Option("--samples", metavar="N", help="How many samples to look at (default 64).")
    ] = None,
    seed: options.DrawSeed = None,
    true_depth: Annotated[
        Path | None,
        typer.Option(
            "--true-depth",
            metavar="DIR",
            help="Folder with true depth of the backgrounds: 16-bit PNG in millimetres, called the same "
            "(default: 'depth' beside the backgrounds, if it is there).",
        ),
    ] = None,
    backgrounds: options.Backgrounds = None,
    foregrounds: options.Foregrounds = None,
    masks: options.Masks = None,
    precision: options.Precision = None,
    device: options.Device = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.png", help="Also draw some samples side by side."),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare models on a dataset: how far they agree, and whether people stand out in their depth."""
    parser = Parser()
    count = parser.at_least("--samples", samples, 1, default=64)
    draw = parser.at_least("--seed", seed, 0, default=0)
    products = _precision(parser, precision)
    where = parser.device(device)
    _check_picture(parser, output)
    if guide is not None and not any(model.startswith(_GUIDED) for model in models):
        parser.problems.append(f"--guide: of no use where no model is {_GUIDED!r}")
    parser.check()

    from fgbgpack.cli.model_summary import show_comparison
    from fgbgpack.cli.progress import ProgressDisplay
    from fgbgpack.dataset.dataset import open_dataset
    from fgbgpack.depth.strategies import Networks
    from fgbgpack.pipeline import Progress
    from fgbgpack.spec import DepthSpec
    from fgbgpack.visual.canvas import write_picture
    from fgbgpack.visual.comparison import compare as run
    from fgbgpack.visual.comparison_picture import render_comparison

    dataset = open_dataset(on, allow_incomplete=True)
    chosen = []
    for reference in (model for model in models if model != "stored"):
        # A file's name may have an @ in it too, but not before a number at its end.
        match = re.fullmatch(r"(guided:)?(.+?)(?:@([0-9]{1,4}))?", reference, re.DOTALL)
        if match is None:
            raise SpecError(f"{reference!r} names no model.")
        depth = DepthSpec(
            match[2],
            mode="guided" if match[1] else "per-sample",
            guide=guide if match[1] else None,
            scale=int(match[3]) if match[3] else None,
        )
        chosen.append((Networks.load(depth), depth.resolved_scale(dataset.height, dataset.width)))
    with ProgressDisplay(quiet=quiet or as_json) as display:
        result = run(
            dataset,
            chosen,
            stored="stored" in models,
            samples=count,
            seed=draw,
            precision=products,
            device=where,
            true_depth=true_depth,
            backgrounds=backgrounds,
            foregrounds=foregrounds,
            masks=masks,
            on_map=lambda done, total: display(Progress("depth", done, total)),
        )
    if as_json:
        print_json(result.to_dict())
    elif not quiet:
        show_comparison(result)
    if output is not None:
        write_picture(render_comparison(dataset, result), output)
        if not (as_json or quiet):
            say(f"Wrote {output}")
