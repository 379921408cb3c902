"""``fgbgpack convert``, ``materialize`` and ``virtualize``: the same dataset, stored in another way."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from fgbgpack.cli import options
from fgbgpack.cli.console import per_sample, preview_command, say_next, say_rows, say_title
from fgbgpack.cli.options import Panel, argument, command, flag
from fgbgpack.cli.output import KEPT, NOTHING, Output
from fgbgpack.cli.parse import Parser
from fgbgpack.sources.names import counted
from fgbgpack.terminal import amount, duration

if TYPE_CHECKING:
    from fgbgpack.pipeline import Conversion, Transfer

app = typer.Typer()


_OVERWRITE = Panel.EXECUTION.flag("--overwrite", "Replace another dataset at DST.")


def _how(workers: str | None, storage_option: Sequence[str] | None, overwrite: bool) -> dict[str, Any]:
    """What all of these commands pass on."""
    parser = Parser()
    how = {"workers": parser.workers(workers), "storage_options": parser.storage_options(storage_option)}
    parser.check()
    return {**how, "overwrite": overwrite}


@command(
    app,
    "fgbgpack convert lobby.zarr lobby.h5",
    "fgbgpack convert lobby.h5 lobby.zarr",
    "fgbgpack convert lobby.zarr portable.h5 --portable",
)
def convert(
    source: str = options.DATASET,
    target: str = argument(
        "DST", "The dataset to create: HDF5 if its name ends with .h5 or .hdf5, else Zarr."
    ),
    portable: bool = flag(
        "--portable", "Compress HDF5 with gzip, which needs no plugin to read; several times as large."
    ),
    workers: str | None = options.WORKERS,
    dask: str | None = options.DASK,
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    overwrite: bool = _OVERWRITE,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Copy a dataset from Zarr to HDF5, or from HDF5 to Zarr.

    Compressed chunks are copied as they are, after their checksums are verified: a copy of the copy has the
    same bytes. Readers of the HDF5 file need the filters zstd and blosc (in Python: import hdf5plugin),
    unless it is written with --portable.
    """
    how = _how(workers, storage_option, overwrite)
    from fgbgpack import pipeline
    from fgbgpack.storage.hdf5 import is_hdf5

    Output(as_json, quiet).run_and_show(
        partial(pipeline.convert, source, target, portable=portable, **how),
        _show_transfer,
        if_stopped=NOTHING if is_hdf5(target) else KEPT,
        dask=dask,
    )


@command(app, "fgbgpack materialize virtual.zarr", "fgbgpack materialize virtual.zarr lobby.zarr")
def materialize(
    source: str = argument("SRC", "A virtual dataset."),
    target: str | None = argument("DST", "The dataset to create (default: SRC itself).", default=None),
    workers: str | None = options.WORKERS,
    dask: str | None = options.DASK,
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    overwrite: bool = _OVERWRITE,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Store the pixels of a virtual dataset, in place or in a new dataset.

    The result has the same files as if it had never been virtual. All pixels are read back and compared
    before SRC stops being virtual. A run that was stopped is resumed by the same command.
    """
    how = _how(workers, storage_option, overwrite)
    from fgbgpack import pipeline

    Output(as_json, quiet).run_and_show(
        partial(pipeline.materialize, source, target, **how),
        _show_conversion,
        if_stopped=KEPT,
        dask=dask,
    )


@command(app, "fgbgpack virtualize lobby.zarr virtual.zarr")
def virtualize(
    source: str = argument("SRC", "A dataset that stores its pixels."),
    target: str = argument("DST", "The dataset to create."),
    workers: str | None = options.WORKERS,
    dask: str | None = options.DASK,
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    overwrite: bool = _OVERWRITE,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Make a virtual dataset of one that stores its pixels.

    Every stored pixel is compared with the recipe first; if any differs, nothing is written. SRC is not
    changed.
    """
    how = _how(workers, storage_option, overwrite)
    from fgbgpack import pipeline

    Output(as_json, quiet).run_and_show(
        partial(pipeline.virtualize, source, target, **how),
        _show_conversion,
        if_stopped=KEPT,
        dask=dask,
    )


def _show_conversion(done: Conversion) -> None:
    result = (
        f"{done.path}: a {'virtual ' if done.virtual else ''}dataset of {counted(done.samples, 'sample')}"
    )
    pixels = f"{amount(done.pixel_bytes)}, {per_sample(done.pixel_bytes, done.samples)}"
    rows = [
        ("image, mask", f"not stored; they would take {pixels}" if done.virtual else pixels),
        ("all files", amount(done.total_bytes)),
    ]
    if done.checked:
        say_title(f"Made {result} in {duration(done.seconds)}")
        rows.insert(
            0, ("checked", f"the pixels of {counted(done.checked, 'sample')} are those of the recipe")
        )
    else:
        say_title(f"{result}, nothing to do")
    say_rows(rows)
    say_next([preview_command(done.path)])


def _show_transfer(done: Transfer) -> None:
    is_hdf5 = done.kind == "hdf5"
    kind = f"{'a portable' if done.portable else 'an'} HDF5 file" if is_hdf5 else "a Zarr dataset"
    say_title(f"{done.path}: {kind} of {counted(done.samples, 'sample')}")
    rate = f", {amount(done.total_bytes / done.seconds)}/s" if done.seconds else ""
    say_rows(
        [
            ("chunks", f"{done.chunks:,} copied in {duration(done.seconds)}{rate}"),
            ("size", f"{amount(done.total_bytes)}; the source has {amount(done.source_bytes)}"),
        ]
    )
    plugin = "" if done.portable else ", hdf5plugin"
    python = [f"import h5py{plugin}", f"h5py.File({done.path!r})['image'][0]"] if is_hdf5 else []
    say_next([f"fgbgpack info {shlex.quote(done.path)}"], python)
