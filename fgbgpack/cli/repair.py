"""``fgbgpack repair``: write again what a dataset has lost."""

from __future__ import annotations

import textwrap
from functools import partial
from typing import TYPE_CHECKING

import typer

from fgbgpack.cli import options
from fgbgpack.cli.console import say, say_rows, say_title
from fgbgpack.cli.options import PARTIAL, command
from fgbgpack.cli.output import KEPT, Output
from fgbgpack.cli.parse import DEVICES, Parser
from fgbgpack.sources.names import counted
from fgbgpack.terminal import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fgbgpack.pipeline import Repair

app = typer.Typer()

_COLUMNS = 80


@command(
    app,
    "fgbgpack repair lobby.zarr",
    "fgbgpack repair lobby.zarr --backgrounds bg --foregrounds fg",
)
def repair(
    ctx: typer.Context,
    dataset: str = options.DATASET,
    backgrounds: str | None = options.BACKGROUNDS,
    foregrounds: str | None = options.FOREGROUNDS,
    masks: str | None = options.MASKS,
    device: str | None = options.DEVICE,
    workers: str | None = options.WORKERS,
    dask: str | None = options.DASK,
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Find what is missing or damaged in a dataset, as 'fgbgpack verify' does, and write it again.

    Images, masks and placements come from the recipe, depth from the networks that the dataset names, sources
    from the original pictures, which are looked for where they were when the dataset was made: give their
    folders if they have moved. What is written again has the same bytes as before. What nothing gives back is
    named, and the exit status is 4. A run that was stopped is resumed by the same command.
    """
    parser = Parser()
    where = parser.choice("--device", device, DEVICES)
    threads = parser.workers(workers)
    storage_options = parser.storage_options(storage_option)
    parser.check()

    from fgbgpack import pipeline

    output = Output(as_json, quiet)
    work = partial(
        pipeline.repair,
        dataset,
        backgrounds=backgrounds,
        foregrounds=foregrounds,
        masks=masks,
        device=where,
        workers=threads,
        storage_options=storage_options,
    )
    done = output.run(work, if_stopped=KEPT, dask=dask)
    ctx.meta[PARTIAL] = done.to_dict()
    if not done.left_count:
        output.show(done, lambda: _show(done))
        return
    if output.is_text:
        _show(done)
    done.check()


def _show(done: Repair) -> None:
    if not done.fault_count:
        say_title(f"{done.path}: nothing to do, all {counted(done.samples, 'sample')} are sound")
        return
    state = f"{done.left_count:,} of {done.fault_count:,} faults left" if done.left_count else "repaired"
    say_title(f"{done.path}: {state} in {duration(done.seconds)}")
    rows = [("faults", f"{done.fault_count:,}")]
    rows.append(("written", _counted(done.restored) if done.restored else "nothing"))
    if done.differing:
        rows.append(
            ("differing", f"{_counted(done.differing)}: other bytes than before, as the manifest says now")
        )
    say_rows(rows)
    if done.left:
        say("")
        say_title("Left")
    for one in done.left:
        numbers = "" if one.fault.samples is None else f", {one.fault.shown_samples}"
        say(f"  /{one.fault.key}{numbers}: {one.fault.code}")
        for line in textwrap.wrap(one.advice, _COLUMNS - 6, break_long_words=False):
            say(f"      {line}")
    if done.left_count > len(done.left):
        say(f"  ... {counted(done.left_count, 'fault')} in all")


def _counted(objects: Mapping[str, int]) -> str:
    return ", ".join(f"/{path} ({count:,})" for path, count in objects.items())
