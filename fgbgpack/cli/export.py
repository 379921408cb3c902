"""``fgbgpack export``: samples in formats that other tools read."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import typer

from fgbgpack.cli import completion, options
from fgbgpack.cli.console import per_sample, say_next, say_rows, say_title
from fgbgpack.cli.options import Panel, argument, command
from fgbgpack.cli.output import NOTHING, Output
from fgbgpack.cli.parse import Parser
from fgbgpack.sources.names import counted
from fgbgpack.terminal import amount, duration, per_second

if TYPE_CHECKING:
    from fgbgpack.export import ExportReport

app = typer.Typer()

#: What --to takes: the targets of fgbgpack.export, known without importing it.
FORMATS = ("folder", "webdataset", "mds", "litdata", "coco", "coco-panoptic", "npz", "yolo", "parquet")

_MEGABYTE = 1_000_000
#: As many bytes as fgbgpack.export takes, which would name them in its own unit.
_LARGEST_MEGABYTES = 10**9


@command(
    app,
    "fgbgpack export lobby.zarr pictures --to folder --samples 0:1000,5000",
    "fgbgpack export lobby.zarr tars --to webdataset --split by-background",
    "fgbgpack export lobby.zarr coco --to coco --split fair --part train",
)
def export(
    dataset: str = options.DATASET,
    out: str = argument("OUT", "The folder to create."),
    to: str = Panel.CONTENT.option(
        "--to FORMAT",
        "folder: PNG files in folders of their sources; webdataset: tar files; mds: shards for "
        "mosaicml-streaming; litdata: chunks for LitData; coco: PNG files and JSON for COCO tools; "
        "coco-panoptic: the same with maps of segments; npz: arrays for numpy.load; yolo: PNG files and "
        "labels for Ultralytics; parquet: pictures in Parquet files for Hugging Face datasets.",
        completion.one_of(*FORMATS),
        default=...,
    ),
    samples: str | None = Panel.CONTENT.option(
        "--samples A:B,I,...",
        "Which samples, counted from 0: numbers, and ranges without their end (default: all).",
    ),
    split: str | None = Panel.CONTENT.option(
        "--split NAME",
        "Write the parts of a split that is saved in the dataset separately.",
        completion.splits,
    ),
    part: list[str] | None = Panel.CONTENT.option(
        "--part NAME", "Only this part of the split; can be repeated.", completion.parts
    ),
    fields: str | None = Panel.CONTENT.option(
        "--fields FIELD,...", "Only these of image, mask, instance and depth (default: all)."
    ),
    depth_bits: str | None = Panel.CONTENT.option(
        "--depth-bits 8|16",
        "Bits per pixel of depth pictures, for folder, coco, coco-panoptic and parquet; fgbgpack.json states "
        "their mapping (default 16).",
        completion.one_of("8", "16"),
    ),
    shard_size: str | None = Panel.CONTENT.option(
        "--shard-size MB",
        "Largest size of a file of many samples, for webdataset (default 256), mds and litdata (default 67), "
        "and parquet (default 500).",
    ),
    shard_samples: str | None = Panel.CONTENT.option(
        "--shard-samples N",
        "Most samples in such a file, for webdataset, litdata, parquet and npz (default for npz: 256 MB "
        "before compression).",
    ),
    compression: str | None = Panel.CONTENT.option(
        "--compression CODEC",
        "Compression of shards, for mds (default zstd) and litdata (default none): none, zstd or zstd:LEVEL.",
        completion.one_of("none", "zstd"),
    ),
    category: str | None = Panel.CONTENT.option(
        "--category NAME",
        "What the foregrounds are, for litdata, coco, coco-panoptic, yolo and parquet (default foreground).",
    ),
    segmentation: str | None = Panel.CONTENT.option(
        "--segmentation FORM",
        "How masks are written, for coco: polygons (the default) or rle; both give the same pixels.",
        completion.one_of("polygons", "rle"),
    ),
    workers: str | None = options.WORKERS,
    dask: str | None = options.DASK,
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    cache: str | None = options.CACHE,
    overwrite: bool = Panel.EXECUTION.flag(
        "--overwrite", "Replace another export at OUT; files that are not of it stay."
    ),
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Write all samples of a dataset, or some, in a format that other tools read.

    OUT appears once it is complete. Its fgbgpack.json says what it was made from, its fgbgpack-files.csv
    which files are those of the export.
    """
    parser = Parser()
    threads = parser.workers(workers)
    storage_options = parser.storage_options(storage_option)
    chosen = parser.ranges("--samples", samples)
    bits = parser.integer("--depth-bits", depth_bits)
    megabytes = parser.within("--shard-size", shard_size, 1, _LARGEST_MEGABYTES)
    most = parser.integer("--shard-samples", shard_samples)
    parser.check()
    from fgbgpack.export import export as run

    Output(as_json, quiet).run_and_show(
        partial(
            run,
            dataset,
            out,
            to=to,
            samples=chosen,
            split=split,
            parts=part or None,
            fields=None if fields is None else [name.strip() for name in fields.split(",")],
            depth_bits=bits,
            shard_bytes=None if megabytes is None else megabytes * _MEGABYTE,
            shard_samples=most,
            compression=compression,
            category=category,
            segmentation=segmentation,
            workers=threads,
            overwrite=overwrite,
            storage_options=storage_options,
            cache=cache,
        ),
        _show,
        if_stopped=NOTHING,
        dask=dask,
    )


def _show(report: ExportReport) -> None:
    took = f"Exported {counted(report.samples, 'sample')} to {report.path} in {duration(report.seconds)}"
    say_title(
        took if report.written else f"{report.path} has these {counted(report.samples, 'sample')} already"
    )
    parts = ", ".join(f"{name} {count:,}" for name, count in (report.parts or {}).items())
    size = f"{amount(report.bytes)}, {per_sample(report.bytes, report.samples)}"
    say_rows(
        [
            ("format", f"{report.to}: {', '.join(report.fields)}"),
            *([] if report.parts is None else [("parts", parts)]),
            *([("rate", per_second(report.written / report.seconds, "samples"))] if report.written else []),
            ("all files", f"{report.files:,}, {size}"),
        ]
    )
    say_next([], report.opened_by)
