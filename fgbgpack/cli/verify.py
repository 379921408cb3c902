"""``fgbgpack verify``: read a dataset or an export whole, and say what is wrong with it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import typer

from fgbgpack.cli import options
from fgbgpack.cli.console import say, say_rows, say_title
from fgbgpack.cli.options import PARTIAL, Panel, argument, command, option
from fgbgpack.cli.output import Output
from fgbgpack.cli.parse import DEVICES, Parser
from fgbgpack.errors import SpecError
from fgbgpack.sources.names import counted
from fgbgpack.terminal import amount, duration, per_second, stdout

if TYPE_CHECKING:
    from fgbgpack.export import ExportVerification
    from fgbgpack.pipeline import Fault, Verification

app = typer.Typer()

_COLUMNS = 80


@command(
    app,
    "fgbgpack verify lobby.zarr",
    "fgbgpack verify lobby.zarr --against bg --against fg --depth 8 --record",
    "fgbgpack verify lobby-tars",
    "fgbgpack verify lobby.zarr --accept",
)
def verify(
    ctx: typer.Context,
    dataset: str = argument("DATASET", "A dataset that fgbgpack made, or the folder of an export."),
    against: list[str] = Panel.PICTURES.option(
        "--against DIR",
        "A folder of original pictures, whose digests are compared by name; may be given several times.",
        default=[],
    ),
    depth: str | None = Panel.DEPTH.option(
        "--depth N", "Infer the depth of N samples again, chosen at random, and compare it (default 0)."
    ),
    seed: str | None = options.DRAW_SEED,
    device: str | None = options.DEVICE,
    accept: bool = option(
        "--accept",
        "Take what is stored as right, if it is whole: for arrays that you have changed with another tool.",
        default=False,
    ),
    record: bool = option(
        "--record",
        "If it is sound, say so in the dataset: 'fgbgpack info' shows when it was verified.",
        default=False,
    ),
    workers: str | None = options.WORKERS,
    dask: str | None = options.DASK,
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Read all of a dataset, and say what is wrong with it: exit status 0 if it is sound, 4 if not.

    Every chunk of every array is decoded and compared with the dataset's manifest. Extremes are compared with
    the depth, placements with the recipe, and stored images and masks with those of the recipe, composed
    again. Nothing is written, unless --accept or --record is given. 'fgbgpack repair' mends what it finds.

    Of an export, the files are compared with its list, and decoded, on threads even with --dask.
    """
    parser = Parser()
    where = parser.choice("--device", device, DEVICES)
    threads = parser.workers(workers)
    count = parser.at_least("--depth", depth, 0, default=0)
    key = parser.at_least("--seed", seed, 0, default=0)
    storage_options = parser.storage_options(storage_option)
    parser.check()

    from fgbgpack import pipeline
    from fgbgpack.export import is_export, verify_export

    output = Output(as_json, quiet)
    if is_export(dataset):
        if given := _given(against=against, depth=count, accept=accept, record=record):
            raise SpecError(
                f"{dataset} is an export: {', '.join(given)} is only for datasets.", code="options-invalid"
            )
        found = output.run(partial(verify_export, dataset, workers=threads))
        ctx.meta[PARTIAL] = found.to_dict()
        if found.sound:
            output.show(found, lambda: _show_export(found))
            return
        if output.is_text:
            _show_export(found)
        found.check()
    work = partial(
        pipeline.verify,
        dataset,
        against=against,
        depth=count,
        seed=key,
        device=where,
        workers=threads,
        accept=accept,
        record=record,
        storage_options=storage_options,
    )
    done = output.run(work, dask=dask)
    # What is wrong comes as an error after it, with the exit status.
    ctx.meta[PARTIAL] = done.to_dict()
    if done.sound and done.complete:
        output.show(done, lambda: _show(done))
        return
    if output.is_text:
        _show(done)
    done.check()


def _given(**options: object) -> list[str]:
    return [f"--{name}" for name, value in options.items() if value]


def show_faults(faults: Sequence[Fault], total: int) -> None:
    """Print the first of some faults, each with what is wrong."""
    for fault in faults:
        numbers = "" if fault.samples is None else f", {fault.shown_samples}"
        say(f"  /{fault.key}{numbers}: {fault.code}")
        for line in textwrap.wrap(fault.message, _COLUMNS - 6, break_long_words=False):
            say(f"      {line}")
    if total > len(faults):
        say(f"  ... {counted(total, 'fault')} in all")


def _show(done: Verification) -> None:
    state = "sound" if done.sound else "NOT SOUND"
    state = "taken as it is" if done.changed else state
    state = state if done.complete else f"{state}, NOT COMPLETE"
    say_title(f"{done.path}: {counted(done.samples, 'sample')}, {state}")
    say_rows(_rows(done))
    say("")
    _show_arrays(done)
    if done.faults:
        say("")
        say_title("Faults")
        show_faults(done.faults, done.fault_count)


def _rows(done: Verification) -> list[tuple[str, str]]:
    chunks = sum(counts.chunks for counts in done.arrays.values())
    rate = f", {per_second(done.samples / done.seconds, 'samples')}" if done.seconds else ""
    rows = [("decoded", f"{counted(chunks, 'chunk')} in {duration(done.seconds)}{rate}")]
    if done.placed:
        rows.append(("placements", f"of {counted(done.placed, 'sample')} compared with the recipe"))
    if done.recomposed:
        rows.append(("image, mask", f"of {counted(done.recomposed, 'sample')} composed again and compared"))
    elif done.virtual:
        rows.append(("image, mask", "virtual: composed when they are read"))
    if done.depth_inferred:
        rows.append(("depth", f"of {counted(done.depth_inferred, 'sample')} inferred again and compared"))
    if done.pictures:
        rows.append(("pictures", f"{counted(done.pictures, 'file')} compared with the recorded digests"))
    if done.changed:
        named = ", ".join(f"{name} ({count:,})" for name, count in done.changed.items())
        rows.append(("changed", f"{named}: the manifest is new"))
    elif done.accepted:
        rows.append(("changed", "nothing"))
    if done.recorded:
        rows.append(("recorded", "in the dataset; fgbgpack info shows it"))
    return rows


def _show_arrays(done: Verification) -> None:
    from rich.table import Table

    unwritten = any(counts.unwritten for counts in done.arrays.values())
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("array", no_wrap=True)
    headings = ("objects", "chunks", "faulty", *(("not there yet",) if unwritten else ()))
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, counts in done.arrays.items():
        numbers: Mapping[str, int] = {
            "objects": counts.objects,
            "chunks": counts.chunks,
            "faulty": counts.faulty,
            "not there yet": counts.unwritten,
        }
        table.add_row(name, *(f"{numbers[heading]:,}" for heading in headings))
    stdout().print(table)


def _show_export(done: ExportVerification) -> None:
    state = "sound" if done.sound else "NOT SOUND"
    say_title(f"{done.path}: an export of {counted(done.samples, 'sample')} to {done.to}, {state}")
    say_rows(
        [("decoded", f"{counted(done.files, 'file')}, {amount(done.bytes)}, in {duration(done.seconds)}")]
    )
    if done.faults:
        say("")
        say_title("Faults")
        show_faults(done.faults, done.fault_count)
