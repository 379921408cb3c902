"""``fgbgpack export``: samples in forms that other tools read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fgbgpack.cli import options
from fgbgpack.cli.console import amount, duration, print_json, say
from fgbgpack.cli.convert import not_resumable
from fgbgpack.cli.parse import Parser

if TYPE_CHECKING:
    from fgbgpack.export import ExportReport

EXAMPLES = """Examples:

  fgbgpack export lobby.zarr pictures --to folder --samples 0:1000,5000
  fgbgpack export lobby.zarr tars --to webdataset --split by-background
  fgbgpack export lobby.zarr coco --to coco --split by-background --part train --category person"""

_MEGABYTE = 1_000_000


def export(
    dataset: options.Dataset,
    out: options.ExportFolder,
    to: options.ExportTo,
    samples: options.ExportSamples = None,
    split: options.ExportSplit = None,
    part: options.ExportParts = None,
    fields: options.ExportFields = None,
    depth_bits: options.ExportDepthBits = None,
    shard_size: options.ShardSize = None,
    shard_samples: options.ShardSamples = None,
    compression: options.Compression = None,
    category: options.Category = None,
    workers: options.Workers = None,
    overwrite: options.OverwriteExport = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write all samples of a dataset, or some, in a form that other tools read.

    OUT appears when it is whole. Its fgbgpack.json says what it was made of.
    """
    parser = Parser()
    threads = parser.workers(workers)
    chosen = _ranges(parser, samples)
    bits = parser.integer("--depth-bits", depth_bits)
    megabytes = parser.integer("--shard-size", shard_size)
    most = parser.integer("--shard-samples", shard_samples)
    parser.check()
    from fgbgpack.cli.progress import ProgressDisplay
    from fgbgpack.export import export as run

    with not_resumable(), ProgressDisplay(quiet=quiet) as display:
        report = run(
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
            workers=threads,
            overwrite=overwrite,
            on_event=display,
        )
    if as_json:
        print_json(report.to_dict())
    elif not quiet:
        _show(report)


def _ranges(parser: Parser, text: str | None) -> list[slice] | None:
    """Numbers and ranges such as ``0:1000``, separated by commas."""
    if text is None:
        return None
    found = []
    for one in text.split(","):
        match = re.fullmatch(r"\s*(?:([0-9]{1,18})|([0-9]{0,18}):([0-9]{0,18}))\s*", one)
        if match is None:
            parser.problems.append(
                f"--samples: {one.strip()!r} is neither the number of a sample nor a range such as 0:1000"
            )
        elif match[1]:
            found.append(slice(int(match[1]), int(match[1]) + 1))
        else:
            found.append(slice(int(match[2] or 0), int(match[3]) if match[3] else None))
    return found


def _show(report: ExportReport) -> None:
    """What was written, and how to open it."""
    from fgbgpack.cli.summary import print_facts

    say(
        f"Exported {report.samples:,} samples to {report.path} in {duration(report.seconds)}",
        style="bold",
    )
    facts = [("form", f"{report.to}: {', '.join(report.fields)}")]
    if report.parts is not None:
        facts.append(("parts", ", ".join(f"{name} {count:,}" for name, count in report.parts.items())))
    facts += [
        ("rate", f"{report.samples / report.seconds:,.0f} samples/s"),
        (
            "all files",
            f"{report.files:,}, {amount(report.bytes)}, {report.bytes / report.samples:,.0f} bytes a sample",
        ),
    ]
    print_facts(facts)
    say("\nIn Python:")
    for line in report.opened_by:
        say(f"  {line}")
