"""``fgbgpack import``: a dataset of composites, masks and depth that are there as files."""

from __future__ import annotations

import math
from typing import Any

from fgbgpack.cli import options
from fgbgpack.cli.console import print_json
from fgbgpack.cli.convert import resumable
from fgbgpack.cli.parse import Parser

EXAMPLES = """Examples:

  fgbgpack import fgbg-2020 fgbg.zarr --dry-run
  fgbgpack import fgbg-2020 fgbg.zarr --size 128x128 --depth-quantity inverse_depth
  fgbgpack import data fgbg.zarr --images "fgbg/{bg}/{n}.jpg" --masks "masks/{bg}/{n}_mask.png"
  fgbgpack import data fgbg.zarr --images composites --depths none
  fgbgpack import exported again.zarr"""


def import_(
    folder: options.ImportFolder,
    out: options.Out,
    images: options.ImportImages = None,
    masks: options.ImportMasks = None,
    depths: options.ImportDepths = None,
    size: options.ImportSize = None,
    fit: options.ImportFit = None,
    depth_quantity: options.DepthQuantity = None,
    depth_unit: options.DepthUnit = None,
    depth_factor: options.DepthFactor = None,
    depth_offset: options.DepthOffset = None,
    depth_invalid: options.DepthInvalid = None,
    chunk: options.ImportChunk = None,
    skip_unmatched: options.SkipUnmatched = False,
    workers: options.Workers = None,
    dry_run: options.ImportDryRun = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a dataset of composites, masks and depth that are there as files, without a recipe.

    Each picture is paired with its mask, and with its depth if there is any, by name. Folders are known
    by what they are called (images, masks, depth, fg_bg, fg_bg_mask, ...); otherwise, patterns with fields in
    braces say where files are and what they share. A run that was stopped is resumed by the same command.
    """
    parser = Parser()
    threads = parser.workers(workers)
    width, height = parser.size(size) or (None, None)
    given: dict[str, Any] = {
        "images": images,
        "masks": masks,
        "depths": depths,
        "width": width,
        "height": height,
        "fit": fit,
        "depth_quantity": depth_quantity,
        "depth_unit": depth_unit,
        "depth_factor": _number(parser, "--depth-factor", depth_factor),
        "depth_offset": _number(parser, "--depth-offset", depth_offset),
        "depth_invalid": _number(parser, "--depth-invalid", depth_invalid),
        "chunk": parser.integer("--chunk", chunk),
        "skip_unmatched": skip_unmatched,
    }
    if fit is not None and size is None:
        parser.problems.append("--fit: of no use without --size")
    parser.check()

    from fgbgpack.cli.progress import ProgressDisplay
    from fgbgpack.cli.summary import show_found, show_imported
    from fgbgpack.pipeline import ImportSpec, import_folder, scan

    spec = ImportSpec(folder, **{name: value for name, value in given.items() if value is not None})
    if dry_run:
        with ProgressDisplay(quiet=quiet) as display:
            found = scan(spec, workers=threads, on_event=display)
        if as_json:
            print_json(found.to_dict())
        elif not quiet:
            show_found(found, out)
        return
    with resumable(), ProgressDisplay(quiet=quiet) as display:
        done = import_folder(out, spec, workers=threads, overwrite=overwrite, on_event=display)
    if as_json:
        print_json(done.to_dict())
    elif not quiet:
        show_imported(done)


def _number(parser: Parser, option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        parser.problems.append(f"{option}: {text[:80]!r} is not a number")
        return None
    return value
