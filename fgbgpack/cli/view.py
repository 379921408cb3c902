"""``fgbgpack view``: a page to browse a dataset, or two."""

from __future__ import annotations

import signal
import sys
import traceback
import webbrowser

import typer

from fgbgpack.cli import options
from fgbgpack.cli.console import say, show_warning
from fgbgpack.cli.options import argument, command, flag, option
from fgbgpack.cli.parse import Parser

app = typer.Typer()

_LARGEST_PORT = 65_535


@command(
    app,
    "fgbgpack view lobby.zarr",
    "fgbgpack view lobby.zarr other-depth.zarr",
    "fgbgpack view lobby.zarr --host 0.0.0.0 --port 8300 --no-browser",
)
def view(
    dataset: str = options.DATASET,
    other: str | None = argument(
        "OTHER",
        "A second dataset to compare it with, such as the same recipe with other depth.",
        default=None,
    ),
    port: str | None = option(
        "--port N", "The port of the page; 0 for any (default: the first free one from 8300)."
    ),
    host: str | None = option(
        "--host ADDRESS",
        "The address to listen at (default 127.0.0.1, which only this machine reaches). With another one the "
        "page has a token in its address.",
    ),
    no_browser: bool = flag("--no-browser", "Print the address of the page, and open no browser."),
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    cache: str | None = options.CACHE,
) -> None:
    """Browse a dataset in the browser: samples with their layers, filters, sorting, a map of placements.

    The page is served by this machine until the command is stopped with Ctrl-C. Nothing is uploaded, the
    dataset is not changed, and only what is shown is read. With a second dataset, samples are shown side by
    side with what differs.
    """
    parser = Parser()
    chosen = None if port is None else parser.at_least("--port", port, 0, default=0)
    if chosen is not None and chosen > _LARGEST_PORT:
        parser.problems.append(f"--port: found {chosen}, expected at most {_LARGEST_PORT}")
    storage_options = parser.storage_options(storage_option)
    parser.check()

    from fgbgpack.dataset.dataset import open_dataset
    from fgbgpack.errors import DatasetError
    from fgbgpack.viewer.server import DEFAULT_HOST, Page, Place

    opened = []
    for path in (dataset, *([] if other is None else [other])):
        try:
            found = open_dataset(path, allow_incomplete=True, storage_options=storage_options, cache=cache)
        except DatasetError:
            # Exports know about all formats, which takes time and memory to load.
            from fgbgpack.viewer.locations import refuse_export

            refuse_export(path)
            raise
        opened.append(found)
        if not opened[-1].complete:
            show_warning(f"{opened[-1].path} is not complete: what is missing is shown black.")
    page = Page(opened, Place(host or DEFAULT_HOST, chosen), on_failure=traceback.print_exception)
    # Raised in the middle of the command, like Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        page.prepare()
        say(f"{', '.join(one.path for one in opened)}: {page.address}")
        say("Stop it with Ctrl-C.")
        sys.stdout.flush()
        if not no_browser:
            webbrowser.open(page.address)
        page.serve()
    except KeyboardInterrupt:
        # The usual end of a server.
        raise typer.Exit(0) from None
    finally:
        signal.signal(signal.SIGTERM, before)
