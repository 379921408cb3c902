"""``fgbgpack stats``: statistics of a dataset, as text, as JSON and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fgbgpack.cli import card, completion, options
from fgbgpack.cli.console import say, say_rows, say_title, show_warning
from fgbgpack.cli.options import command, flag, option
from fgbgpack.cli.output import NOTHING, Output
from fgbgpack.cli.parse import Parser
from fgbgpack.errors import FgbgError
from fgbgpack.sources.names import counted
from fgbgpack.terminal import stdout, visible

if TYPE_CHECKING:
    from fgbgpack.dataset.stats import DepthStats, Shared, Sizes, Stats

app = typer.Typer()

#: Categories that are named one by one.
_SHOWN = 8


@command(
    app,
    "fgbgpack stats lobby.zarr",
    "fgbgpack stats lobby.zarr --split fair -o stats.png",
    "fgbgpack stats https://example.org/lobby.zarr --no-save --json",
)
def stats(
    dataset: str = options.DATASET,
    split: str | None = option(
        "--split NAME",
        "Count each part of this split that is saved in the dataset, too, and say what parts share.",
        completion.splits,
    ),
    output: Path | None = option("--output -o FILE.png", "Draw the statistics as a picture, too."),
    no_save: bool = flag(
        "--no-save", "Leave the dataset as it is (default: it keeps its statistics, if it can be written)."
    ),
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Count all pixels of a dataset: mean and standard deviation, foreground, sizes, places, depth, sources.

    Mean and standard deviation are exact, for Normalize of torchvision. What was counted is kept in the
    dataset until that changes: fgbgpack info and the data card show it, and ds.stats() returns it at once.
    """
    parser = Parser()
    storage_options = parser.storage_options(storage_option)
    parser.check()
    from fgbgpack.dataset.dataset import open_dataset
    from fgbgpack.pipeline.events import OnEvent, Progress
    from fgbgpack.visual.canvas import check_picture_path
    from fgbgpack.visual.stats_picture import write_stats_picture

    if output is not None:
        check_picture_path(output)
    opened = open_dataset(dataset, allow_incomplete=True, storage_options=storage_options)
    if not opened.complete and not quiet:
        show_warning(
            f"{opened.path} is not complete: these are statistics of the samples that are there, and are not "
            "kept."
        )

    def work(on_event: OnEvent) -> Stats:
        return opened.stats(split, on_samples=lambda done, total: on_event(Progress("samples", done, total)))

    shown = Output(as_json, quiet)
    found = shown.run(work, if_stopped=NOTHING)
    kept = ""
    if opened.complete and not no_save:
        try:
            opened.save_stats(found)
            kept = "in the dataset; fgbgpack info shows them"
        except (FgbgError, OSError) as exc:
            kept = f"not in the dataset: {exc}"
    if output is not None:
        write_stats_picture(found, opened.path, output)
    shown.show(found, lambda: _show(opened.path, found, kept))
    if shown.is_text and output is not None:
        say(f"\nWrote {output}")
    card.warn_if_stale(dataset, shown)


def _show(path: str, found: Stats, kept: str) -> None:
    whole = found.whole
    some = "" if whole.samples == found.total else f" of {found.total:,}"
    size = f"{found.width}x{found.height}"
    say_title(f"{path}: statistics of {whole.samples:,}{some} samples of {size}")
    image, mask = whole.image, whole.mask
    rows = [
        ("mean", f"{_values(image.mean)} (red, green, blue; white is 1)"),
        ("std", _values(image.std)),
        ("foreground", f"{mask.share:.2%} of the pixels; {counted(mask.empty, 'sample')} without any"),
        *([] if found.sizes is None else _size_rows(found.sizes)),
        ("depth", "none" if whole.depth is None else _depth(whole.depth)),
        *_source_rows(found),
        *([("kept", kept)] if kept else []),
    ]
    say_rows(rows)
    if found.parts:
        say("")
        _show_parts(found)
    mean, std = (", ".join(f"{one:.4f}" for one in values) for values in (image.mean, image.std))
    say("\nIn torchvision:")
    say(f"  Normalize(mean=[{mean}], std=[{std}])")


def _values(values: tuple[float, ...]) -> str:
    return " ".join(f"{one:.4f}" for one in values)


def _size_rows(sizes: Sizes) -> list[tuple[str, str]]:
    rows = []
    for name, (least, lower, _, upper, greatest) in (("heights", sizes.height), ("widths", sizes.width)):
        if least == greatest:
            rows.append((name, f"all {counted(least, 'pixel')}"))
        else:
            rows.append((name, f"{least} to {greatest} pixels, half of them {lower} to {upper}"))
    if sizes.visible is not None and (sizes.hidden or any(sizes.visible.counts[:-1])):
        whole = sizes.visible.counts[-1] / sizes.objects
        hidden = f"; {counted(sizes.hidden, 'object')} hidden" if sizes.hidden else ""
        rows.append(("seen", f"{whole:.1%} of the objects at least to 95 %{hidden}"))
    return rows


def _depth(depth: DepthStats) -> str:
    kind = "of an unknown kind" if depth.quantity is None else depth.quantity.replace("_", " ")
    unit = f" in {depth.unit}" if depth.unit else ""
    lower, upper = depth.quantiles["0.25"], depth.quantiles["0.75"]
    unknown = depth.unknown / (depth.known + depth.unknown)
    rest = f"; {unknown:.2%} of the pixels have none" if depth.unknown else ""
    return (
        f"{kind}{unit}: {depth.least:.4g} to {depth.greatest:.4g}, half of it {lower:.4g} to {upper:.4g}; "
        f"mean {depth.mean:.4g}, std {depth.std:.4g}{rest}"
    )


def _source_rows(found: Stats) -> list[tuple[str, str]]:
    if (counts := found.counts) is None:
        return [("made of", "pictures that were imported: nothing is known of their sources")]
    objects, rows = sum(counts.foregrounds), []
    if counts.backgrounds:
        rows = [
            ("backgrounds", _each(counts.backgrounds, "sample")),
            ("foregrounds", _each(counts.foregrounds, "object")),
            (
                "mirrored",
                f"{counts.mirrored / objects:.1%} of {counted(objects, 'object')}" if objects else "none",
            ),
        ]
    if len(counts.objects) > 2:
        rows.append(
            ("objects", ", ".join(f"{n} in {many:,}" for n, many in enumerate(counts.objects) if many))
        )
    if len(counts.categories) > 1:
        named = sorted(counts.categories.items(), key=lambda item: (-item[1], item[0]))
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        words = ", ".join(f"{name or 'none'} {many:,}" for name, many in named[:_SHOWN])
        rows.append(("categories", words + more))
    if not counts.backgrounds:
        return [*rows, ("made of", "pictures that were imported: nothing is known of their sources")]
    twice = [
        counted(many, kind)
        for kind, many in (
            ("background", found.same_backgrounds),
            ("foreground", found.same_foregrounds),
            ("sample", found.same_samples),
        )
        if many
    ]
    unknown = "; samples are too many to be compared" if found.same_samples is None else ""
    return [*rows, ("twice there", (", ".join(twice) or "nothing") + unknown)]


def _each(counts: tuple[int, ...], noun: str) -> str:
    """How often there is each of some sources."""
    least, most = min(counts), max(counts)
    each = counted(most, noun) if least == most else f"{least:,} to {counted(most, noun)}"
    return f"{len(counts):,}, {each} each"


def _show_parts(found: Stats) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("part", no_wrap=True)
    for heading in ("samples", "mean", "std", "foreground"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, part in found.parts.items():
        image = (" ".join(f"{one:.3f}" for one in values) for values in (part.image.mean, part.image.std))
        table.add_row(visible(name), f"{part.samples:,}", *image, f"{part.mask.share:.2%}")
    stdout().print(table)
    seen = set[frozenset[str]]()
    for shared in found.shared:
        if frozenset(shared.parts) not in seen:
            say(f"  {shared.parts[0]} and {shared.parts[1]} share {_shared(shared)}")
        seen.add(frozenset(shared.parts))


def _shared(shared: Shared) -> str:
    if shared.backgrounds is None or shared.foregrounds is None:
        return "what is not known: their samples were imported"
    words = [counted(shared.backgrounds, "background"), counted(shared.foregrounds, "foreground")]
    if shared.samples is not None:
        words.append(counted(shared.samples, "sample"))
    return ", ".join(words)
