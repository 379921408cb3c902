"""``fgbgpack card``: what a dataset is, for people and for machines."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fgbgpack.cli import options
from fgbgpack.cli.console import say, say_text, show_warning
from fgbgpack.cli.options import Panel, command, flag, option
from fgbgpack.cli.output import Output
from fgbgpack.cli.parse import Parser

if TYPE_CHECKING:
    from fgbgpack.cards import Cards

app = typer.Typer()


@command(
    app,
    "fgbgpack card lobby.zarr --license CC-BY-4.0 --creator 'Ada Lovelace'",
    "fgbgpack card lobby.zarr --version 1.1.0 --preview",
    "fgbgpack card https://example.org/lobby.zarr -o cards",
)
def card(
    dataset: str = options.DATASET,
    folder: Path | None = option(
        "--output -o FOLDER",
        "Where to write the cards (default: in the dataset's folder, or beside its HDF5 file).",
    ),
    name: str | None = Panel.ABOUT.option(
        "--name TEXT", "Name of the dataset (default: that of its folder)."
    ),
    description: str | None = Panel.ABOUT.option(
        "--description TEXT", "A few sentences (default: made of its numbers)."
    ),
    license: str | None = Panel.ABOUT.option(
        "--license LICENCE", "Licence of the whole dataset: an SPDX identifier such as CC-BY-4.0, or a URL."
    ),
    creators: list[str] | None = Panel.ABOUT.option(
        "--creator NAME", "A person who made it; can be repeated."
    ),
    organizations: list[str] | None = Panel.ABOUT.option(
        "--organization NAME", "An organisation that made it; can be repeated."
    ),
    url: str | None = Panel.ABOUT.option("--url URL", "Its web page."),
    version: str | None = Panel.ABOUT.option("--version X.Y.Z", "Its version, such as 1.0.0."),
    published: str | None = Panel.ABOUT.option("--published DAY", "Date of publication, such as 2024-05-31."),
    citation: str | None = Panel.ABOUT.option("--citation TEXT", "How to cite it, for example in BibTeX."),
    preview: bool = flag("--preview", "Also draw some samples for the data card, as preview.png."),
    overwrite: bool = flag("--overwrite", "Replace cards that were edited by hand."),
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Write DATACARD.md for people and croissant.json (MLCommons Croissant 1.1) for machines.

    They describe what a dataset holds, how it was made, the licences of its pictures, and its limits.
    Options that were given before are kept until they are given again.
    """
    from fgbgpack.cards import About, write_cards

    about = About(
        name=name,
        description=description,
        license=license,
        creators=tuple(creators or ()),
        organizations=tuple(organizations or ()),
        url=url,
        version=version,
        published=published,
        citation=citation,
    )
    parser = Parser()
    storage_options = parser.storage_options(storage_option)
    parser.check()
    written = write_cards(
        dataset,
        about,
        folder=folder,
        preview=preview,
        overwrite=overwrite,
        storage_options=storage_options,
    )
    Output(as_json, quiet).show(written, lambda: show(written))


def warn_if_stale(dataset: str, output: Output) -> None:
    """Warn if the cards of a dataset describe an earlier state of it."""
    from fgbgpack.cards import cards_are_stale

    if not output.quiet and cards_are_stale(dataset):
        show_warning(
            f"The cards of {dataset} describe an earlier state of it. Write them again with: "
            f"fgbgpack card {shlex.quote(dataset)}"
        )


def show(written: Cards) -> None:
    """Print where the cards are, and what to consider before the dataset is published."""
    for path in (written.croissant, written.datacard, written.preview):
        if path is not None:
            say(f"Wrote {path}")
    for line in written.findings:
        say_text(line, indent="  ", hanging="  ")
    if written.unsaid:
        say("")
        say_text(f"Still missing for a publication: {', '.join(f'--{key}' for key in written.unsaid)}")
