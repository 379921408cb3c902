"""What the commands print on stdout for people to read."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from fgbgpack.cli.console import amount, duration, say, stdout, visible
from fgbgpack.version import describe_software

if TYPE_CHECKING:
    from fgbgpack.pipeline import Conversion, Estimate, Imported, ImportPlan, Report, Transfer


def show_report(report: Report, *, size: str | None, verb: str) -> None:
    """What was made, how fast, how large, and what to do next.

    Args:
        report: What the library says it did.
        size: The size of a sample, as ``"128x128"``, where the command knows it.
        verb: ``"Created"`` or ``"Filled"``.
    """
    samples = f"{report.samples:,} samples" + (f" of {size}" if size else "")
    done = report.created or report.depth_filled
    if done:
        say(f"{verb} {report.path}: {samples} in {duration(report.seconds)}", style="bold")
    else:
        say(f"{report.path}: nothing to do, its {samples} are there", style="bold")
    facts = [("image, mask", _pixel_work(report))]
    if report.depth_model is None:
        facts.append(("depth", "not filled: none was asked for"))
    else:
        facts.append(("depth", _work(report, report.depth_filled, report.depth_seconds, ("depth",))))
        facts.append(("depth model", _networks(report)))
    facts.append(("all files", amount(sum(report.stored_bytes.values()))))
    print_facts(facts)
    path = shlex.quote(report.path)
    commands = [_preview(report.path)]
    if report.depth_model is None:
        commands.insert(0, f"fgbgpack depth {path}")
    batch = "batch.image, batch.mask" + (", batch.depth" if report.depth_model is not None else "")
    say("\nNext:")
    for command in commands:
        say(f"  {command}")
    say("\nIn Python:")
    say("  import fgbgpack")
    say(f"  dataset = fgbgpack.open_dataset({report.path!r})")
    say(f"  batch = dataset[:40]  # {batch}")


def _networks(report: Report) -> str:
    if report.depth_guide is None:
        return f"{report.depth_model} on {report.provider}"
    return f"{report.depth_model} on the backgrounds, then {report.depth_guide} on {report.provider}"


def show_conversion(done: Conversion) -> None:
    """What was stored or left out, and how much that is."""
    kind = "virtual dataset" if done.virtual else "dataset"
    said = f"{done.path}: a {kind} of {done.samples:,} samples"
    if done.checked:
        say(f"Made {said} in {duration(done.seconds)}", style="bold")
    else:
        say(f"{said}, nothing to do", style="bold")
    facts = []
    if done.checked:
        facts.append(("checked", f"the pixels of {done.checked:,} samples are those of the recipe"))
    pixels = f"{amount(done.pixel_bytes)}, {done.pixel_bytes / done.samples:,.0f} bytes a sample"
    facts.append(("image, mask", f"not stored; stored they take {pixels}" if done.virtual else pixels))
    facts.append(("all files", amount(done.total_bytes)))
    print_facts(facts)
    say("\nNext:")
    say(f"  {_preview(done.path)}")


_KINDS = {"images": "pictures", "masks": "masks", "depths": "depth"}


def show_found(found: ImportPlan, out: str) -> None:
    """What an import would make, and what it would make it of."""
    size = f"{found.width}x{found.height}"
    say(
        f"Would import {found.samples:,} samples of {size} to {out} in about {duration(found.seconds)}",
        style="bold",
    )
    facts = [(_KINDS[kind], place or "none") for kind, place in found.patterns.items()]
    if found.left_out:
        facts.append(("left out", f"{found.left_out:,} files that nothing pairs with"))
    facts.append(("compressed", f"{found.chunk:,} samples together"))
    stored = ", ".join(f"{name} {amount(size)}" for name, size in found.bytes.items())
    facts.append(("all files", f"about {amount(sum(found.bytes.values()))}: {stored}"))
    print_facts(facts)
    say("\nThese belong together, for example:")
    for files in found.examples:
        say(f"  {'  '.join(files.values())}")


def show_imported(done: Imported) -> None:
    """What was imported, how fast, how large, and what to do next."""
    said = f"{done.samples:,} samples of {done.width}x{done.height}"
    if done.written or done.depth_written:
        say(f"Imported {said} to {done.path} in {duration(done.seconds)}", style="bold")
    else:
        say(f"{done.path}: nothing to do, its {said} are there", style="bold")
    facts = []
    for title, written, arrays in (
        ("image, mask", done.written, ("image", "mask")),
        ("depth", done.depth_written, ("depth",)),
    ):
        stored = sum(done.stored_bytes.get(name, 0) for name in arrays) / done.samples
        some = "already there, " if not written else ""
        if 0 < written < done.samples:
            some = f"{written:,} of {done.samples:,} in this run, "
        none = title == "depth" and not done.depth
        facts.append((title, "none" if none else f"{some}{stored:,.0f} bytes a sample"))
    if done.left_out:
        facts.append(("left out", f"{done.left_out:,} files that nothing pairs with"))
    facts.append(("all files", amount(sum(done.stored_bytes.values()))))
    print_facts(facts)
    say("\nNext:")
    if not done.depth:
        say(f"  fgbgpack depth {shlex.quote(done.path)}")
    say(f"  {_preview(done.path)}")
    say("\nIn Python:")
    say("  import fgbgpack")
    say(f"  dataset = fgbgpack.open_dataset({done.path!r})")
    say("  dataset.names[:3], dataset[:40].image.shape")


def show_transfer(done: Transfer) -> None:
    """What was copied, how fast, and how it is opened."""
    hdf5 = "a portable HDF5 file" if done.portable else "an HDF5 file"
    kind = "a Zarr dataset" if done.kind == "zarr" else hdf5
    say(f"{done.path}: {kind} of {done.samples:,} samples", style="bold")
    rate = f"{amount(done.total_bytes / done.seconds)}/s" if done.seconds else ""
    facts = [
        ("chunks", f"{done.chunks:,} copied in {duration(done.seconds)}, {rate}"),
        ("size", f"{amount(done.total_bytes)}, the source has {amount(done.source_bytes)}"),
    ]
    print_facts(facts)
    say("\nNext:")
    say(f"  fgbgpack info {shlex.quote(done.path)}")
    if done.kind == "hdf5":
        plugin = "" if done.portable else ", hdf5plugin"
        say(f"  import h5py{plugin}; h5py.File({done.path!r})['image'][0]", style="dim")


def _preview(path: str) -> str:
    picture = f"{PurePath(path).stem or 'preview'}.png"
    return f"fgbgpack preview {shlex.quote(path)} -o {shlex.quote(picture)}"


def _pixel_work(report: Report) -> str:
    if report.virtual:
        return "virtual: made when they are read"
    return _work(report, report.created, report.sample_seconds, ("image", "mask"))


def _work(report: Report, done: int, seconds: float, arrays: Iterable[str]) -> str:
    """The rate of this run, and what each sample takes on disk."""
    stored = sum(report.stored_bytes.get(name, 0) for name in arrays)
    took = f"{stored / report.samples:,.0f} bytes a sample"
    if not done:
        return f"already there, {took}"
    some = "" if done == report.samples else f"{done:,} of {report.samples:,} in this run, "
    rate = f"{done / seconds:,.0f}/s, " if seconds > 0 else ""
    return f"{some}{rate}{took}"


def show_estimate(estimate: Estimate, *, size: str) -> None:
    """What ``create`` would make."""
    say(
        f"Would create {estimate.samples:,} samples of {size} in about {duration(estimate.seconds)}",
        style="bold",
    )
    rates = "image and mask are made when they are read"
    if estimate.sample_rate is not None:
        rates = f"image and mask {estimate.sample_rate:,.0f}/s"
    if estimate.depth_rate is not None:
        rates += f", depth {estimate.depth_rate:,.0f}/s on {estimate.provider}"
    if estimate.background_seconds:
        rates += f", once that of the backgrounds is there ({duration(estimate.background_seconds)})"
    total = sum(estimate.bytes.values())
    files = f" in {estimate.shards:,} files" if estimate.shards else ""
    parts = ", ".join(f"{name} {amount(size)}" for name, size in estimate.bytes.items())
    print_facts(
        [
            ("pictures", f"{estimate.backgrounds:,} backgrounds, {estimate.foregrounds:,} foregrounds"),
            ("on disk", f"about {amount(total)}{files} ({parts})"),
            ("chunk", f"{estimate.chunk:,} samples"),
            ("rates", rates),
        ]
    )
    say("\nNothing was written.")


def show_info(info: Mapping[str, Any]) -> None:
    """What a dataset holds."""
    state = "complete" if info["complete"] else "NOT COMPLETE: the command that made it finishes it"
    say(
        f"{info['path']}: {info['samples']:,} samples of {info['width']}x{info['height']}, {state}",
        style="bold",
    )
    print_facts(
        [
            *(_import_facts(info["imported"]) if info["recipe"] is None else _recipe_facts(info)),
            *([("pixels", "virtual: image and mask are made when they are read")] if info["virtual"] else []),
            *_depth_facts(info["depth"]),
            ("all files", f"{amount(info['bytes'])}, {info['bytes'] / info['samples']:,.0f} bytes a sample"),
            *([("splits", ", ".join(map(_split, info["splits"].items())))] if info["splits"] else []),
            *([] if info["recipe"] is None else [("recipe", info["recipe"]["sha256"])]),
            ("schema", info["schema"]),
            ("written by", describe_software(info["software"])),
        ]
    )
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("array", no_wrap=True)
    table.add_column("type", no_wrap=True)
    for heading in ("filled", "stored", "a sample", "raw to stored"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, array in info["arrays"].items():
        # Rounded down: what is not whole must not read 100 %.
        cells = [f"{math.floor(array['filled'] / info['samples'] * 1000) / 10:g} %", amount(array["stored"])]
        if array["filled"]:
            cells += [f"{array['bytes_per_sample']:,.0f} B", f"{array['ratio']:,.1f} : 1"]
        elif info["virtual"] and name in ("image", "mask"):
            cells = ["virtual", "-", "-", "-"]
        else:
            cells += ["-", "-"]
        table.add_row(name, array["dtype"], *cells)
    say("")
    stdout().print(table)


def _split(split: tuple[str, Mapping[str, Any]]) -> str:
    name, how = split
    parts = ", ".join(f"{part} {fraction:g}" for part, fraction in how["parts"].items())
    return f"{name} (by {how['by']}: {parts})"


def _recipe_facts(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    recipe = info["recipe"]
    placed = f"{recipe['placements']:,} a pair" + (", and as many mirrored" if recipe["flip"] else "")
    masks = f", {info['masks']:,} with masks of their own" if info["masks"] else ""
    return [
        ("pictures", f"{info['backgrounds']:,} backgrounds, {info['foregrounds']:,} foregrounds{masks}"),
        ("placements", f"{placed}; {recipe['placement']}, seed {recipe['seed']}"),
        ("foregrounds", f"{recipe['foreground_height']} pixels high; backgrounds by {recipe['fit']}"),
    ]


def _import_facts(imported: Mapping[str, Any]) -> list[tuple[str, str]]:
    fit = "" if imported["fit"] is None else f", resized ({imported['fit']})"
    left_out = f"; {imported['left_out']:,} that nothing pairs with left out" if imported["left_out"] else ""
    places = ", ".join(place for place in imported["patterns"].values() if place is not None)
    return [("imported", f"{imported['files']:,} files of {places}{fit}{left_out}")]


def _depth_facts(depth: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if depth is None:
        return [("depth", "not filled")]
    unit = f" in {depth['unit']}" if depth["unit"] else ", relative"
    quantity = str(depth["quantity"]).replace("_", " ")
    # Known once all depth is there.
    error = (depth["rounding"] or {}).get("largest_error")
    largest = f", largest rounding error {error:.2%} of the range" if error is not None else ""
    where = f"{depth['provider']} in {depth['precision']}"
    if depth["mode"] == "imported":
        if depth["quantity"] is None:
            quantity, unit = "nobody has told what it is", f" in {depth['unit']}" if depth["unit"] else ""
        values = "" if depth["factor"] == 1 else f", {depth['factor']:g} times the values in the files"
        if depth["offset"]:
            values = f"{values or ', the values in the files'} {depth['offset']:+g}"
        return [("depth", f"imported, {quantity}{unit}{values}{largest}")]
    facts = [
        ("depth", f"{quantity}{unit}; {depth['bits']} bits{largest}"),
        ("depth model", f"{depth['model']} on {where}, {depth['mode']}, scale {depth['scale']}"),
    ]
    if depth["guide"] is not None:
        guide = depth["guide"]
        facts.append(("depth guide", f"{guide['model']} on {guide['provider']} in {depth['precision']}"))
    return facts


def show_samples(folder: str, backgrounds: int, foregrounds: int) -> None:
    """Which sample pictures were made, and what to do with them."""
    say(
        f"Made {backgrounds:,} backgrounds with their true depth and {foregrounds:,} foregrounds",
        style="bold",
    )
    folders = [
        f"--{kind} {shlex.quote(str(PurePath(folder) / kind))}" for kind in ("backgrounds", "foregrounds")
    ]
    say("\nNext:")
    say(f"  fgbgpack create samples.zarr {' '.join(folders)}")


def show_schemas(names: Mapping[str, str]) -> None:
    """The schemas and their newest versions."""
    print_facts(list(names.items()))
    say("\nfgbgpack schema NAME prints one.")


def print_facts(facts: list[tuple[str, str]]) -> None:
    """Lines of a name and what there is to say of it, in two columns."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        line = Text("  ")
        line.append(name.ljust(width), style="dim")
        line.append(f"   {visible(value)}")
        stdout().print(line)
