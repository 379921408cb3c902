"""``fgbgpack merge``: one dataset of several."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING

import typer

from fgbgpack.cli import options
from fgbgpack.cli.console import per_sample, say_next, say_rows, say_title
from fgbgpack.cli.options import Panel, argument, command
from fgbgpack.cli.output import KEPT, Output
from fgbgpack.cli.parse import DEVICES, Parser
from fgbgpack.sources.names import counted, pictures_of
from fgbgpack.terminal import amount, duration

if TYPE_CHECKING:
    from fgbgpack.pipeline import Merged

app = typer.Typer()


@command(
    app,
    "fgbgpack merge malls.zarr lobbies.zarr all.zarr",
    "fgbgpack merge malls.zarr lobbies.zarr streets.zarr all.zarr --without-depth",
)
def merge(
    datasets: list[str] = argument("DATASET", "The datasets, two or more."),
    out: str = options.OUT,
    without_depth: bool = Panel.CONTENT.flag("--without-depth", "Leave depth out."),
    device: str | None = options.DEVICE,
    workers: str | None = options.WORKERS,
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    overwrite: bool = Panel.EXECUTION.flag("--overwrite", "Replace another dataset at OUT."),
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Make one dataset of several that were made with the same options, of other pictures.

    The result is that of one run with all of their pictures, in the order of their names. Compressed chunks
    are copied as they are wherever they fit. Together the datasets must have every foreground on every
    background, and depth of the same networks. A run that was stopped is resumed by the same command.
    """
    parser = Parser()
    where = parser.choice("--device", device, DEVICES)
    threads = parser.workers(workers)
    storage_options = parser.storage_options(storage_option)
    parser.check()
    from fgbgpack import pipeline

    merging = partial(
        pipeline.merge,
        datasets,
        out,
        with_depth=not without_depth,
        device=where,
        workers=threads,
        overwrite=overwrite,
        storage_options=storage_options,
    )
    Output(as_json, quiet).run_and_show(merging, _show, if_stopped=KEPT)


def _show(done: Merged) -> None:
    kind = "a virtual dataset" if done.virtual else "a dataset"
    result = f"{done.path}: {kind} of {counted(done.samples, 'sample')}"
    if done.written:
        say_title(f"Merged {done.datasets} datasets into {result} in {duration(done.seconds)}")
    else:
        say_title(f"{result}, nothing to do")
    say_rows(
        [
            ("pictures", pictures_of(done.backgrounds, done.foregrounds)),
            ("depth", done.depth_mode or "not filled"),
            ("all files", f"{amount(done.total_bytes)}, {per_sample(done.total_bytes, done.samples)}"),
        ]
    )
    say_next([f"fgbgpack info {shlex.quote(done.path)}"])
