"""``fgbgpack diff``: what differs between two datasets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from fgbgpack.cli import options
from fgbgpack.cli.console import say, say_rows, say_text, say_title
from fgbgpack.cli.options import argument, command, option
from fgbgpack.cli.output import Output
from fgbgpack.cli.parse import Parser
from fgbgpack.errors import FgbgError
from fgbgpack.sources.names import counted

if TYPE_CHECKING:
    from fgbgpack.pipeline import ArrayComparison, Comparison, Difference

app = typer.Typer()

#: What this command exits with where two datasets differ, and where they cannot be compared, as others do
#: that compare.
_DIFFERENT, _TROUBLE = 1, 2
_SHOWN, _LONGEST = 8, 60


@command(
    app,
    "fgbgpack diff lobby.zarr lobby.h5",
    "fgbgpack diff lobby.zarr s3://bucket/lobby.zarr --samples 20",
)
def diff(
    first: str = argument("A", "A dataset that fgbgpack made."),
    second: str = argument("B", "Another one."),
    samples: str | None = option("--samples N", "How many samples that differ are shown (default 5)."),
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Show what differs between two datasets: spec, sources, recipe, depth, arrays, and the first samples.

    Exits with 0 if they hold the same, even where it is cut, encoded or composed otherwise; with 1 if they
    differ, and with 2 if they cannot be compared.
    """
    parser = Parser()
    shown = parser.at_least("--samples", samples, 0, default=5)
    storage_options = parser.storage_options(storage_option)
    parser.check()
    from fgbgpack import pipeline

    output = Output(as_json, quiet)
    work = partial(pipeline.diff, first, second, samples=shown, storage_options=storage_options)
    try:
        found: Comparison = output.run(work)
    except FgbgError as exc:
        exc.exit_status = _TROUBLE
        raise
    output.show(found, lambda: _show(found))
    if not found.equal:
        raise typer.Exit(_DIFFERENT)


def _show(found: Comparison) -> None:
    if found.equal:
        form = ", in another form" if found.layout else ""
        say_title(f"{found.first} and {found.second} hold the same{form}")
    else:
        say_title(f"{found.first} and {found.second} differ")
    for name, differences in (
        ("Spec", found.spec),
        ("Sources", found.sources),
        ("Recipe", found.recipe),
        ("Depth", found.depth),
        ("Splits", found.splits),
        ("Form (the same samples)", found.layout),
    ):
        if differences:
            say(f"\n{name}")
            _show_differences(differences)
    say("\nArrays")
    say_rows([(name, _outcome(array)) for name, array in found.arrays.items()])
    if found.samples:
        say("\nFirst samples that differ")
        for sample in found.samples:
            say_text(f"{sample.sample:,}: {', '.join(sample.arrays)}", indent="  ", hanging="    ")
            if sample.first == sample.second:
                say_text(_made_of(sample.first), indent="      ")
            else:
                _say_both(_made_of(sample.first), _made_of(sample.second))


def _show_differences(differences: tuple[Difference, ...]) -> None:
    for one in differences[:_SHOWN]:
        first, second = (_value(value) for value in (one.first, one.second))
        if len(first) + len(second) + len(one.what) < _LONGEST:
            say(f"  {one.what}: {first}, {second}")
        else:
            say(f"  {one.what}")
            _say_both(first, second)
    if len(differences) > _SHOWN:
        say(f"  and {len(differences) - _SHOWN} more")


def _say_both(first: str, second: str) -> None:
    for name, text in (("A", first), ("B", second)):
        say_text(f"{name} {text}", indent="    ", hanging="  ")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _outcome(array: ArrayComparison) -> str:
    match array.outcome:
        case "same":
            by = {"checksums": "by the checksums of all chunks", "recipe": "composed of the same recipe"}
            return f"the same, {by.get(array.by or '', 'by all values')}"
        case "differs":
            apart = "" if array.largest is None else f", by {array.largest:g} at most"
            return f"{array.samples:,} of {array.of:,} differ{apart}"
        case "shape":
            return "of another shape or type"
        case "first only":
            return "only in A"
    return "only in B"


def _made_of(sample: Mapping[str, Any]) -> str:
    """What a sample is made of, on one line."""
    if not sample:
        return "there is none"
    if "name" in sample:
        return str(sample["name"])
    if "objects" in sample:
        objects = sample["objects"]
        words = ", ".join(f"{one['foreground']} y {one['y']} x {one['x']}" for one in objects)
        return f"{sample['background']}, {counted(len(objects), 'object')}{': ' if words else ''}{words}"
    mirrored = " mirrored" if sample["flip"] else ""
    return f"{sample['background']}, {sample['foreground']}{mirrored}, y {sample['y']} x {sample['x']}"
