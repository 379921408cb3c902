"""``fgbgpack explain``: all that a dataset knows of one sample."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from fgbgpack.cli import options
from fgbgpack.cli.console import say, say_next, say_rows, say_title, show_warning
from fgbgpack.cli.options import argument, command, option
from fgbgpack.cli.output import Output
from fgbgpack.cli.parse import Parser
from fgbgpack.errors import SpecError
from fgbgpack.sources.names import counted

app = typer.Typer()


@command(
    app,
    "fgbgpack explain lobby.zarr 5",
    "fgbgpack explain lobby.zarr 5 --picture sample.png",
    "fgbgpack explain lobby.zarr 5 --json",
)
def explain(
    dataset: str = options.DATASET,
    sample: str = argument("SAMPLE", "The number of the sample, counted from 0."),
    picture: Path | None = option(
        "--picture FILE.png",
        "Draw it as layers, too: background, each object, composite, mask, instances, depth.",
    ),
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    as_json: bool = options.JSON,
) -> None:
    """Show all about one sample: its sources and their licences, the draw, objects, depth, bytes."""
    parser = Parser()
    number = parser.integer("SAMPLE", sample)
    storage_options = parser.storage_options(storage_option)
    parser.check()
    from fgbgpack.dataset.dataset import open_dataset
    from fgbgpack.dataset.explanation import explain as explained_by
    from fgbgpack.visual.canvas import check_picture_path
    from fgbgpack.visual.layers_picture import write_layers_picture

    if picture is not None:
        check_picture_path(picture)
    opened = open_dataset(dataset, allow_incomplete=True, storage_options=storage_options)
    if number is None or not 0 <= number < len(opened):
        raise SpecError(
            f"{opened.path} has no sample {number}: it has {len(opened):,}, expected 0 to {len(opened) - 1}.",
            code="sample-unknown",
        )
    if not opened.complete:
        show_warning(f"{opened.path} is not complete: what is missing reads as 0.")
    explained = explained_by(opened, number)
    if picture is not None:
        write_layers_picture(opened, explained["sample"], picture)
    Output(as_json).show(explained, lambda: _show(explained))
    if picture is not None and not as_json:
        say(f"\nWrote {picture}")


def _show(it: Mapping[str, Any]) -> None:
    state = "" if it["complete"] else ", NOT COMPLETE"
    say_title(f"{it['path']}: sample {it['sample']:,} of {it['of']:,}, {it['width']}x{it['height']}{state}")
    mask = it["mask"]
    rows = []
    if (imported := it["imported"]) is not None:
        places = ", ".join(place for place in imported["patterns"].values() if place)
        rows += [("picture", imported["name"]), ("imported", places)]
        if imported["fit"] is not None:
            rows.append(("resized", imported["fit"]))
        rows += _credit_rows(imported)
    rows.append(("foreground", f"{mask['pixels']:,} pixels, {mask['share']:.2%} of the picture"))
    rows += [(f"in {name}", part or "no part") for name, part in it["parts"].items()]
    if it["imported"] is not None:
        rows += [_object_row(number, found) for number, found in enumerate(it["objects"] or (), start=1)]
    if (draw := it["draw"]) is not None:
        rows += [
            ("recipe", it["recipe"]),
            ("drawn by", f"{draw['generator']}, seed {draw['seed']}, placement {draw['placement']}"),
            ("key", " ".join(draw["key"])),
            ("counter", f"{' '.join(draw['counter'])} ({draw['how']})"),
            ("replica", str(draw["replica"])),
        ]
    say_rows(rows)
    if it["background"] is not None:
        _show_sources(it)
    if it["depth"] is not None:
        say("")
        say_title("Depth")
        say_rows(_depth_rows(it["depth"]))
    say("")
    say_title("Bytes")
    say_rows([row for name, array in it["arrays"].items() for row in _array_rows(name, array)])
    path, number = it["path"], it["sample"]
    file = f"sample-{number}.png"
    say_next(
        [f"fgbgpack preview {shlex.quote(path)} -o {file} --samples {number}"],
        ["import fgbgpack", f"sample = fgbgpack.open_dataset({path!r})[{number}]"],
    )


def _object_row(number: int, found: Mapping[str, Any]) -> tuple[str, str]:
    """An object of an imported sample."""
    top, left, bottom, right = found["box"]
    share = "" if found["visible"] is None else f", {found['visible']:.1%} seen"
    place = f"rows {top} to {bottom}, columns {left} to {right}"
    return f"object {number}", f"{found['category'] or 'no category'}, {place}{share}"


def _show_sources(it: Mapping[str, Any]) -> None:
    say("")
    say_title("Background")
    say_rows(_source_rows(it["background"]))
    for number, found in enumerate(it["objects"], start=1):
        say("")
        say_title(f"Object {number} of {len(it['objects'])}" if "edges" in found else "Foreground")
        top, left, bottom, right = found["box"]
        rows = [
            *_source_rows(found["foreground"]),
            *([("category", found["category"])] if found["category"] else []),
            (
                "placed",
                f"y {found['y']}, x {found['x']}, {found['width']}x{found['height']} pixels"
                f"{', mirrored' if found['mirrored'] else ''}"
                f"{_turned(found.get('rotation', 0))}",
            ),
            ("seen", f"{found['visible']:.1%}, rows {top} to {bottom}, columns {left} to {right}"),
        ]
        if "edges" in found:
            gain = " ".join(f"{one:.3f}" for one in found["gain"])
            rows.append(("drawn", f"{found['edges']} edges, colours times {gain}, shadow {found['shadow']}"))
        say_rows(rows)


def _turned(tenths: int) -> str:
    """How far an object is turned, which is said in tenths of a degree."""
    return f", turned by {tenths / 10:g} degrees" if tenths else ""


def _source_rows(source: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("picture", f"{source['number']}: {source['name']}"), ("sha256", source["sha256"])]
    for file in ("mask", "depth"):
        if source[f"{file}_name"] is not None:
            rows += [(file, source[f"{file}_name"]), ("sha256", source[f"{file}_sha256"])]
    return rows + _credit_rows(source)


def _credit_rows(source: Mapping[str, Any]) -> list[tuple[str, str]]:
    more = [(name, source[key]) for name, key in (("author", "author"), ("from", "url")) if source[key]]
    return [("licence", source["license"] or "none stated"), *more]


def _depth_rows(depth: Mapping[str, Any]) -> list[tuple[str, str]]:
    kind = (depth["quantity"] or "of an unknown kind").replace("_", " ")
    unit = f" in {depth['unit']}" if depth["unit"] else ""
    rows = [("kind", f"{kind}{unit}, {depth['mode']}")]
    if depth["least"] is not None:
        rows.append(("range", f"{depth['least']:.4g} to {depth['greatest']:.4g}"))
    if depth["model"] is None:
        rows.append(("values", f"of the file, times {depth['factor']:g}, {depth['offset']:+g}"))
        return rows
    if depth["model"]["sha256"] is None:
        rows.append(("network", "none: that of the background is from its file"))
    else:
        rows += [
            ("network", f"{depth['model']['name']} on {depth['provider']}, scale {depth['scale']}"),
            ("sha256", depth["model"]["sha256"]),
        ]
    if depth["guide"] is not None:
        rows += [("guide", depth["guide"]["name"]), ("sha256", depth["guide"]["sha256"])]
    if depth["step"] is not None:
        rows.append(("stored in", f"multiples of {depth['step']:g}"))
    if depth["objects"]:
        rows.append(("of objects", ", ".join(f"{one:.4g}" for one in depth["objects"])))
    return rows


def _array_rows(name: str, array: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where an array has the sample: a row for each chunk."""
    whole = f"{array['type']}, {array['bytes']:,} bytes decoded"
    if array["composed"]:
        return [(name, f"{whole}; composed when it is read")]
    if not array["chunks"] or array["chunks"][0]["offset"] is None:
        return [(name, f"{whole}; not written yet")]
    first = array["chunks"][0]
    rows = [(name, f"{whole}; sample {first['row']} of {counted(first['samples'], 'sample')} in a chunk")]
    for chunk in array["chunks"]:
        if chunk["offset"] is not None:
            end = chunk["offset"] + chunk["size"] - 1
            rows.append(("", f"{chunk['object']}, chunk {chunk['chunk']},"))
            span = f"bytes {chunk['offset']:,} to {end:,} ({chunk['size']:,})"
            rows.append(("", span + (f", CRC-32C {chunk['checksum']}" if chunk["checksum"] else "")))
    return rows
