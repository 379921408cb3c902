"""``fgbgpack pack``: a dataset as one file to carry."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING

import typer

from fgbgpack.cli import options
from fgbgpack.cli.console import say_next, say_rows, say_title
from fgbgpack.cli.options import Panel, argument, command
from fgbgpack.cli.output import NOTHING, Output
from fgbgpack.cli.parse import Parser
from fgbgpack.sources.names import counted
from fgbgpack.terminal import amount, duration

if TYPE_CHECKING:
    from fgbgpack.pipeline import Packed

app = typer.Typer()


@command(
    app,
    "fgbgpack pack lobby.zarr lobby.zip",
    "fgbgpack pack s3://bucket/a.zarr a.zip",
)
def pack(
    dataset: str = options.DATASET,
    out: str = argument("OUT.zip", "The zip file to write."),
    overwrite: bool = Panel.EXECUTION.flag("--overwrite", "Replace another file."),
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Pack a dataset into one zip file, which all commands and Python read in place, from a URL as well.

    Files in it are stored as they are, so nothing is unpacked or slower. The same dataset gives the same
    bytes. HDF5 files are one file already.
    """
    parser = Parser()
    storage_options = parser.storage_options(storage_option)
    parser.check()
    from fgbgpack import pipeline

    work = partial(pipeline.pack, dataset, out, overwrite=overwrite, storage_options=storage_options)
    Output(as_json, quiet).run_and_show(work, _show, if_stopped=NOTHING)


def _show(done: Packed) -> None:
    state = "" if done.written else ", there already"
    say_title(f"{done.path}: a zip file of {counted(done.samples, 'sample')}{state}")
    took = f" in {duration(done.seconds)}" if done.written else ""
    say_rows([("files", f"{done.files:,}, {amount(done.total_bytes)}{took}")])
    say_next(
        [f"fgbgpack info {shlex.quote(done.path)}"],
        ["import fgbgpack", f"dataset = fgbgpack.open_dataset({done.path!r})"],
    )
