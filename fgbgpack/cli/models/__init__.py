"""``fgbgpack models``: list, download, describe, check and compare networks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fgbgpack.cli import options
from fgbgpack.cli.console import say, say_rows, say_text, say_title, show_warning
from fgbgpack.cli.help import HelpfulGroup
from fgbgpack.cli.models import card, compare, densedepth
from fgbgpack.cli.models.common import NAME, meaning, say_what_to_do
from fgbgpack.cli.options import command, show_examples
from fgbgpack.cli.output import Output
from fgbgpack.terminal import amount

if TYPE_CHECKING:
    from fgbgpack.depth import Card
    from fgbgpack.depth.download import Fetched
    from fgbgpack.depth.registry import Entry

app = typer.Typer(
    name="models",
    no_args_is_help=True,
    cls=HelpfulGroup,
    help="Networks for depth and cut-outs: which there are, how to get them, whether their cards are right.",
    epilog=show_examples(
        "fgbgpack models list",
        "fgbgpack models get depth-anything-v2-small",
        "fgbgpack models check depth-anything-v2-small -o check.png",
    ),
)


@command(app, "fgbgpack models list", "FGBGPACK_MODELS=/data/models fgbgpack models list", name="list")
def list_(as_json: bool = options.JSON) -> None:
    """List the models that have a name: their output, their licence, and whether their files are here."""
    from fgbgpack.depth.registry import known_models, models_folder

    entries, problems = known_models()
    for problem in problems:
        show_warning(problem)
    folder, models = models_folder(), [_describe(entry) for entry in entries]
    listed = {"folder": str(folder), "models": models}
    Output(as_json).show(listed, lambda: _show_list(entries, models, folder))


@command(app, "fgbgpack models show midas-v2.1-small")
def show(name: str = NAME, as_json: bool = options.JSON) -> None:
    """Show a model's card: its input, its output, who made it, and where its file is."""
    from fgbgpack.depth.registry import find, how_to_get

    entry = find(name)
    described = {
        "name": entry.name,
        "path": str(entry.path),
        "here": entry.here,
        "embedded": entry.is_embedded,
        "card_path": str(entry.card_path),
        "card": entry.card.document,
    }
    Output(as_json).show(described, lambda: _show_entry(entry, "" if entry.here else how_to_get(entry)))


@command(app, "fgbgpack models get depth-anything-v2-small")
def get(name: str = NAME, as_json: bool = options.JSON, quiet: bool = options.QUIET) -> None:
    """Download a model to the models folder, or resume its download.

    The folder is FGBGPACK_MODELS if that is set, else in your cache folder. Programs that download the same
    file at the same time wait for each other.
    """
    from fgbgpack.cli.progress import TransferDisplay
    from fgbgpack.depth import load_model
    from fgbgpack.depth.download import get_model

    try:
        with TransferDisplay(name, quiet=quiet) as display:
            fetched = get_model(name, on_progress=display.progress, on_notice=display.notice)
    except KeyboardInterrupt as exc:
        exc.add_note("What has arrived is kept: run the same command again to resume.")
        raise
    model = load_model(name, None)
    result = {
        "name": name,
        "path": str(fetched.path),
        "sha256": fetched.sha256,
        "verified": fetched.verified,
        "received": fetched.received,
    }
    Output(as_json, quiet).show(result, lambda: _show_fetched(name, fetched, model.card))


for _module in (compare, card, densedepth):
    app.add_typer(_module.app)


def _describe(entry: Entry) -> dict[str, Any]:
    model_card = entry.card
    return {
        "name": entry.name,
        "quantity": model_card.output.quantity,
        "unit": model_card.output.unit,
        "guided": model_card.is_guided,
        "licence": model_card.licence,
        "size": entry.path.stat().st_size if entry.here else model_card.size,
        "source": model_card.source,
        "here": entry.here,
        "embedded": entry.is_embedded,
        "path": str(entry.path),
    }


def _show_list(entries: Sequence[Entry], models: Sequence[Mapping[str, Any]], folder: Path) -> None:
    rows = [("name", "output", "licence", "size", "file")]
    for entry, model in zip(entries, models, strict=True):
        where = "models get" if entry.card.download else "by hand"
        if entry.here:
            where = "included" if entry.is_embedded else "here"
        size = amount(model["size"]) if model["size"] else "-"
        result = "foregrounds" if model["guided"] else meaning(model["quantity"], model["unit"])
        rows.append((entry.name, result, model["licence"] or "not stated", size, where))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    header, *lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    say_title(header)
    for line, model in zip(lines, models, strict=True):
        say(line)
        # Below: addresses are long, and have to be copied whole.
        if model["source"]:
            say_text(model["source"], indent="    ", style="dim")
    say(f"\nFiles are looked for in {folder}")
    say("fgbgpack models show NAME describes one model, and how to get it.")


def _show_entry(entry: Entry, how_to_get: str) -> None:
    model_card = entry.card
    say_title(f"{entry.name}: {model_card.title or 'a network'}")
    if model_card.description:
        say_text(model_card.description)
    result = meaning(model_card.output.quantity, model_card.output.unit)
    if model_card.is_guided:
        result = "depth of a pasted foreground; runs after a network for the depth of backgrounds"
    file = str(entry.path) if entry.here else "not here yet"
    say_rows(
        [
            ("output", result),
            ("made by", model_card.made_by or "not stated"),
            ("licence", model_card.licence or "not stated"),
            ("source", model_card.source or "not stated"),
            ("SHA-256", model_card.sha256 or "not stated: the file cannot be verified"),
            *_convention(model_card),
            ("card", "comes with fgbgpack" if entry.is_ours else str(entry.card_path)),
            ("file", f"{file}, comes with fgbgpack" if entry.is_embedded else file),
        ]
    )
    if entry.here:
        say_what_to_do(entry.name, is_guided=model_card.is_guided, is_cutout=model_card.kind == "cutout")
    else:
        say(f"\n{how_to_get}")


def _convention(model_card: Card) -> list[tuple[str, str]]:
    """How the network is fed and how its raw output is converted, in a row each."""
    picture, output, guides = model_card.input, model_card.output, model_card.guides
    values = [picture.layout, picture.channels, _range(picture.range), picture.dtype]
    for key, triple in (("mean", picture.mean), ("std", picture.std)):
        values += [f"{key} {', '.join(f'{v:g}' for v in triple)}"] if triple is not None else []
    rows = [("input", "; ".join(values))]
    if model_card.takes_mask:
        rows.append(("mask", _range(guides["mask"].range)))
    if model_card.is_guided:
        rows.append(("background", "inverse depth, minus its median, divided by its mean absolute deviation"))
    converted = f", then {json.dumps(output.transform)}" if output.transform else ""
    return [
        *rows,
        ("input size", f"{picture.size}; resized {picture.filter}"),
        ("raw output", f"{output.axes}, of the {output.of}{converted}"),
    ]


def _range(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:g} to {bounds[1]:g}"


def _show_fetched(name: str, fetched: Fetched, model_card: Card) -> None:
    done = "Downloaded" if fetched.received else "Already there:"
    say_title(f"{done} {fetched.path} ({amount(fetched.path.stat().st_size)})")
    say(f"SHA-256 {fetched.sha256}")
    unverified = "Not verified: the card states no digest. Compare it with one that you trust."
    say("It is the digest that the card states." if fetched.verified else unverified)
    say_what_to_do(name, is_guided=model_card.is_guided, is_cutout=model_card.kind == "cutout")
