"""``fgbgpack card``: what a dataset is, for people and for machines."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from fgbgpack.cli import options
from fgbgpack.cli.console import print_json, say, show_warning

if TYPE_CHECKING:
    from fgbgpack.cards import Cards

EXAMPLES = """Examples:

  fgbgpack card lobby.zarr --license CC-BY-4.0 --creator "Ada Lovelace" --preview
  fgbgpack card lobby.zarr --version 1.1.0
  fgbgpack card https://example.org/lobby.zarr -o cards"""


def card(
    dataset: options.Dataset,
    folder: options.CardFolder = None,
    name: options.CardName = None,
    description: options.Description = None,
    license: options.License = None,
    creators: options.Creators = None,
    organizations: options.Organizations = None,
    url: options.Url = None,
    version: options.DatasetVersion = None,
    published: options.Published = None,
    citation: options.Citation = None,
    preview: options.WithPreview = False,
    overwrite: options.OverwriteCards = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write DATACARD.md for people and croissant.json (MLCommons Croissant 1.1) for machines.

    They tell what a dataset holds, how it was made, under which licences its pictures are, and its limits.
    What you said of it before stays until you say something else.
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
    written = write_cards(dataset, about, folder=folder, preview=preview, overwrite=overwrite)
    if as_json:
        print_json(written.to_dict())
    elif not quiet:
        _show(written)


def write(dataset: str, *, overwrite: bool, quiet: bool) -> None:
    """Write the cards of a dataset that was just made."""
    from fgbgpack.cards import write_cards

    written = write_cards(dataset, overwrite=overwrite)
    if not quiet:
        say("")
        _show(written)


def remind(dataset: str) -> None:
    """Say so if a dataset that has changed has cards of before."""
    from fgbgpack.cards import cards_are_stale

    if cards_are_stale(dataset):
        again = f"fgbgpack card {shlex.quote(dataset)}"
        show_warning(f"The cards of {dataset} tell of it as it was before. Write them again with: {again}")


def _show(written: Cards) -> None:
    """Where the cards are, and what is to be known before the dataset is passed on."""
    for path in (written.croissant, written.datacard, written.preview):
        if path is not None:
            say(f"Wrote {path}")
    for line in written.findings:
        say(f"  {line}")
    if written.unsaid:
        wanted = ", ".join(f"--{key}" for key in written.unsaid)
        say(f"\nNot said yet, and to be said before it is published: {wanted}")
