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

if TYPE_CHECKING:
    from fgbgpack.build import Conversion, Estimate, Report


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
    recipe = info["recipe"]
    placed = f"{recipe['placements']:,} a pair" + (", and as many mirrored" if recipe["flip"] else "")
    masks = f", {info['masks']:,} with masks of their own" if info["masks"] else ""
    print_facts(
        [
            ("pictures", f"{info['backgrounds']:,} backgrounds, {info['foregrounds']:,} foregrounds{masks}"),
            ("placements", f"{placed}; {recipe['placement']}, seed {recipe['seed']}"),
            ("foregrounds", f"{recipe['foreground_height']} pixels high; backgrounds by {recipe['fit']}"),
            *([("pixels", "virtual: image and mask are made when they are read")] if info["virtual"] else []),
            *_depth_facts(info["depth"]),
            ("all files", f"{amount(info['bytes'])}, {info['bytes'] / info['samples']:,.0f} bytes a sample"),
            ("recipe", recipe["sha256"]),
            ("schema", info["schema"]),
            ("written by", ", ".join(f"{name} {version}" for name, version in info["software"].items())),
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


def _depth_facts(depth: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if depth is None:
        return [("depth", "not filled")]
    unit = f" in {depth['unit']}" if depth["unit"] else ", relative"
    quantity = str(depth["quantity"]).replace("_", " ")
    # Known once all depth is there.
    error = (depth["rounding"] or {}).get("largest_error")
    largest = f", largest rounding error {error:.2%} of the range" if error is not None else ""
    where = f"{depth['provider']} in {depth['precision']}"
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
