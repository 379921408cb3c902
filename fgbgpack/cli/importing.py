"""``fgbgpack import``: a dataset of composites, masks and depth that exist as files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from fgbgpack.cli import completion, options
from fgbgpack.cli.console import say, say_next_of_dataset, say_rows, say_title, work_done
from fgbgpack.cli.options import Panel, argument, command
from fgbgpack.cli.output import KEPT, NOTHING, Output
from fgbgpack.cli.parse import FITS, Parser
from fgbgpack.errors import redacted
from fgbgpack.sources.names import counted
from fgbgpack.terminal import amount, duration

if TYPE_CHECKING:
    from fgbgpack.pipeline import Imported, ImportPlan

app = typer.Typer()

QUANTITIES = ("depth", "inverse_depth")
#: What the split is called that a folder has.
SPLIT = "imported"
LAYOUTS = ("files", "folder", "coco", "yolo", "parquet", "instance-masks")


@command(
    app,
    "fgbgpack import fgbg-2020 fgbg.zarr --dry-run",
    "fgbgpack import fgbg-2020 fgbg.zarr --size 128x128",
    "fgbgpack import data fgbg.zarr --images 'fgbg/{bg}/{n}.jpg' --masks 'm/{n}.png'",
    "fgbgpack import data fgbg.zarr --images composites --depths none",
    "fgbgpack import exported again.zarr",
    "fgbgpack import coco2017 coco.zarr --from coco --size 256x256",
    name="import",
)
def import_(
    folder: str = argument("FOLDER", "The folder of the pictures, masks and depth."),
    out: str = options.OUT,
    layout: str | None = Panel.FILES.option(
        "--from LAYOUT",
        "What FOLDER holds: files of pictures, masks and depth; folder, as export --to folder writes it; "
        "coco, yolo (Ultralytics) or parquet (of the Hugging Face Hub); or instance-masks: pictures, each "
        "with one whose pixels have the numbers of objects, as Penn-Fudan has them (default: what is "
        "recognised).",
        completion.one_of(*LAYOUTS),
    ),
    images: str | None = Panel.FILES.option(
        "--images PATTERN|DIR",
        "Where in FOLDER the composites are: a folder, or a pattern such as 'fgbg/{bg}/{n}.jpg'. Fields in "
        "braces, and *, match anything but a slash; files with equal fields belong together (default: a "
        "folder named images, composites, fg_bg or the like). With --from parquet a column.",
    ),
    masks: str | None = Panel.FILES.option(
        "--masks PATTERN|none",
        "The same for their masks, grey from 0 to 255 or alpha (default: a folder named masks, fg_bg_mask or "
        "the like). With --from instance-masks of the pictures of instances.",
        completion.one_of("none"),
    ),
    depths: str | None = Panel.FILES.option(
        "--depths PATTERN|none",
        "The same for their depth, of annotated pictures too: grey pictures of 8 or 16 bits, or .npy files "
        "(default: a folder named depth, fg_bg_depth or the like, if there is one). With --from parquet a "
        "column, or a folder.",
        completion.one_of("none"),
    ),
    mask_value: str | None = options.MASK_VALUE,
    mask_threshold: str | None = options.MASK_THRESHOLD,
    invert_masks: bool | None = options.INVERT_MASKS,
    exif: str | None = options.EXIF,
    strict: bool | None = options.STRICT,
    frame: str | None = options.FRAME,
    size: str | None = Panel.COMPOSITION.option(
        "--size WIDTHxHEIGHT",
        "Resize all files to this size in pixels, or one number for both (default: all must have the same "
        "size, which is kept).",
    ),
    fit: str | None = Panel.COMPOSITION.option(
        "--fit crop|stretch",
        "How files get that size: cropped to the aspect first, or only resized (default crop).",
        completion.one_of(*FITS),
    ),
    depth_quantity: str | None = Panel.DEPTH.option(
        "--depth-quantity QUANTITY",
        "What the values are: depth, or inverse_depth (larger is nearer) (default: unknown).",
        completion.one_of(*QUANTITIES),
    ),
    depth_unit: str | None = Panel.DEPTH.option(
        "--depth-unit UNIT", "Their unit after factor and offset, such as m (default: none, relative)."
    ),
    depth_factor: str | None = Panel.DEPTH.option(
        "--depth-factor NUMBER",
        "Multiplies the values in files; 0.001 converts millimetres to metres (default 1).",
    ),
    depth_offset: str | None = Panel.DEPTH.option(
        "--depth-offset NUMBER",
        "Then added to them: depth is value x factor + offset (default 0). For a folder that fgbgpack export "
        "wrote, its fgbgpack.json states all of this; options given here override it.",
    ),
    depth_invalid: str | None = Panel.DEPTH.option(
        "--depth-invalid VALUE",
        "The value in files for unknown depth, which is stored as NaN (default: none).",
    ),
    chunk: str | None = Panel.EXECUTION.option(
        "--chunk N", "Samples that are compressed together (default: 40 where neighbours look alike, else 8)."
    ),
    skip_unmatched: bool = Panel.FILES.flag(
        "--skip-unmatched", "Leave out files without counterparts, and name them (default: an error)."
    ),
    workers: str | None = options.WORKERS,
    dask: str | None = options.DASK,
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    dry_run: bool = Panel.EXECUTION.flag(
        "--dry-run", "Write nothing; show what was found and what pairs with what."
    ),
    overwrite: bool = options.OVERWRITE,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Make a dataset of composites, masks and depth that exist as files, or of annotated pictures.

    Each picture is paired with its mask, and with its depth if there is any, by name. Folders are recognised
    by name (images, masks, depth, fg_bg, fg_bg_mask, ...); otherwise, patterns with fields in braces say
    where files are and which belong together. Sets of annotated pictures (COCO, YOLO, Parquet, pictures of
    instances), and what export wrote in the first three or to a folder, are recognised by their files; their
    objects become instances with categories and boxes, and their parts a split. Licences are what sources.csv
    and files of COCO state. A run that was stopped is resumed by the same command.
    """
    parser = Parser()
    threads = parser.workers(workers)
    storage_options = parser.storage_options(storage_option)
    width, height = parser.size(size) or (None, None)
    given: dict[str, Any] = {
        "layout": layout,
        "images": images,
        "masks": masks,
        "depths": depths,
        **parser.reading_fields(
            mask_value=mask_value,
            mask_threshold=mask_threshold,
            frame=frame,
            invert_masks=invert_masks,
            exif=exif,
            strict=strict,
        ),
        "width": width,
        "height": height,
        "fit": fit,
        "depth_quantity": depth_quantity,
        "depth_unit": depth_unit,
        "depth_factor": parser.number("--depth-factor", depth_factor),
        "depth_offset": parser.number("--depth-offset", depth_offset),
        "depth_invalid": parser.number("--depth-invalid", depth_invalid),
        "chunk": parser.integer("--chunk", chunk),
        "skip_unmatched": skip_unmatched,
    }
    if fit is not None and size is None:
        parser.problems.append("--fit: needs --size")
    parser.check()

    from fgbgpack.pipeline import ImportSpec, import_folder, scan

    spec = ImportSpec(folder, **{name: value for name, value in given.items() if value is not None})
    output = Output(as_json, quiet)
    if dry_run:
        output.run_and_show(
            partial(scan, spec, workers=threads),
            lambda plan: _show_plan(plan, out),
            if_stopped=NOTHING,
        )
        return
    output.run_and_show(
        partial(
            import_folder,
            out,
            spec,
            workers=threads,
            overwrite=overwrite,
            storage_options=storage_options,
        ),
        _show_imported,
        if_stopped=KEPT,
        dask=dask,
    )


def _set_rows(objects: int | None, parts: Mapping[str, int], split: str) -> list[tuple[str, str]]:
    """What is said of objects and parts, where there are any."""
    rows = [] if objects is None else [("objects", f"{objects:,}")]
    named = ", ".join(f"{name} {count:,}" for name, count in parts.items())
    return [*rows, ("split", f"{split}: {named}")] if parts else rows


def _left_out(files: int) -> list[tuple[str, str]]:
    return [("left out", f"{counted(files, 'file')} without counterparts")] if files else []


def _show_plan(plan: ImportPlan, out: str) -> None:
    say_title(
        f"Would import {counted(plan.samples, 'sample')} of {plan.width}x{plan.height} to {redacted(out)} "
        f"in about {duration(plan.seconds)}"
    )
    names = {"images": "pictures", "masks": "masks", "depths": "depth", "instances": "instances"}
    counts = ", ".join(f"{name or 'none'} {count:,}" for name, count in plan.categories.items())
    arrays = ", ".join(f"{name} {amount(size)}" for name, size in plan.bytes.items())
    say_rows(
        [
            ("from", plan.layout),
            *((names[kind], place or "none") for kind, place in plan.patterns.items()),
            *_set_rows(plan.objects, plan.parts, SPLIT),
            *([("categories", counts)] if counts else []),
            *_left_out(plan.left_out),
            ("chunk", f"{counted(plan.chunk, 'sample')}"),
            ("on disk", f"about {amount(sum(plan.bytes.values()))} ({arrays})"),
        ]
    )
    say("\nThese belong together, for example:")
    for files in plan.examples:
        say(f"  {'  '.join(files.values())}")


def _show_imported(done: Imported) -> None:
    samples = f"{counted(done.samples, 'sample')} of {done.width}x{done.height}"
    if done.written or done.depth_written:
        say_title(f"Imported {samples} to {done.path} in {duration(done.seconds)}")
    else:
        say_title(f"{done.path}: nothing to do, all {samples} are there")
    stored = done.stored_bytes
    depth = work_done(done.depth_written, done.samples, stored.get("depth", 0)) if done.depth else "none"
    pixels = sum(stored.get(name, 0) for name in ("image", "mask", "instance"))
    planes = "image, mask" if done.objects is None else "image, mask, instance"
    say_rows(
        [
            (planes, work_done(done.written, done.samples, pixels)),
            ("depth", depth),
            *_set_rows(done.objects, done.parts, SPLIT),
            *_left_out(done.left_out),
            ("all files", amount(sum(stored.values()))),
        ]
    )
    python = "dataset.names[:3], dataset[:40].image.shape"
    if done.objects is not None:
        python = "dataset.names[:3], dataset.categories, dataset[:40].objects.box.shape"
    say_next_of_dataset(done.path, has_depth=bool(done.depth), python=python)
