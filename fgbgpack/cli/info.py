"""``fgbgpack info``, ``preview`` and ``schema``: look at a dataset, and at what describes it."""

from __future__ import annotations

import math
import random
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from fgbgpack.cli import completion, options
from fgbgpack.cli.console import per_sample, print_json, say, say_rows, say_title, show_warning
from fgbgpack.cli.options import argument, command, option
from fgbgpack.cli.output import Output
from fgbgpack.cli.parse import Parser
from fgbgpack.sources.names import counted, listed, pictures_of
from fgbgpack.terminal import amount, stdout
from fgbgpack.version import describe_software

app = typer.Typer()

_SHOWN = 8  # categories that are named


@command(app, "fgbgpack info lobby.zarr", "fgbgpack info lobby.zarr --json")
def info(
    dataset: str = options.DATASET,
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    as_json: bool = options.JSON,
) -> None:
    """Show what a dataset holds, whether it is complete, how large it is, and what made it."""
    parser = Parser()
    storage_options = parser.storage_options(storage_option)
    parser.check()

    from fgbgpack.dataset.dataset import open_dataset
    from fgbgpack.visual.info import describe

    described = describe(open_dataset(dataset, allow_incomplete=True, storage_options=storage_options))
    Output(as_json).show(described, lambda: _show(described))


@command(
    app,
    "fgbgpack preview lobby.zarr -o lobby.png",
    "fgbgpack preview lobby.zarr -o lobby.png --samples 0:5 --columns image,mask",
)
def preview(
    dataset: str = options.DATASET,
    output: Path = option("--output -o FILE.png", "The picture to write.", default=...),
    samples: str | None = option(
        "--samples A:B,I,...",
        "Which samples, counted from 0: numbers, and ranges without their end (default: a random choice).",
    ),
    where: list[str] | None = option(
        "--where FIELD=VALUE",
        "Only samples with this background, foreground, replica or, of objects, category (its name or "
        "number), with flip=yes or flip=no, or, of imported ones, this name; may be given several times.",
    ),
    rows: str | None = option("--rows N", "Number of randomly chosen samples (default 6)."),
    columns: str | None = option(
        "--columns NAME,...",
        "What a row shows of a sample: background, foreground, alpha, image, mask, "
        "instance, depth (default: all that there are).",
    ),
    cell: str | None = option("--cell N", "The longer side of a picture in pixels (default: about 224)."),
    seed: str | None = options.DRAW_SEED,
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
) -> None:
    """Draw a picture of some samples: background, foreground, mask, composite, its mask, depth."""
    parser = Parser()
    ranges = parser.ranges("--samples", samples)
    conditions = parser.conditions("--where", where or ())
    longest = None if cell is None else parser.at_least("--cell", cell, 1, default=1)
    count = parser.at_least("--rows", rows, 1, default=6)
    key = parser.at_least("--seed", seed, 0, default=0)
    storage_options = parser.storage_options(storage_option)
    parser.check()

    from fgbgpack.dataset.dataset import open_dataset
    from fgbgpack.visual.preview import write_preview

    opened = open_dataset(dataset, allow_incomplete=True, storage_options=storage_options)
    if not opened.complete:
        show_warning(f"{opened.path} is not complete: what is missing is drawn as it is read.")
    chosen = None if ranges is None else [i for part in ranges for i in _numbers(part, len(opened))]
    if conditions:
        found = opened.where(**conditions).tolist()
        kept = set(found)
        if chosen is not None:
            chosen = [i for i in chosen if i in kept]
        else:
            chosen = sorted(random.Random(key).sample(found, min(count, len(found))))  # noqa: S311
    drawn = None if columns is None else [name.strip() for name in columns.split(",")]
    write_preview(opened, output, samples=chosen, rows=count, seed=key, columns=drawn, cell=longest)
    say(f"Wrote {output}")


def _numbers(part: slice, count: int) -> range:
    """The numbers of a range, of which the end may be open; no more than are told of where it is too long."""
    return range(part.start, count if part.stop is None else min(part.stop, max(part.start, count) + 1))


@command(app, "fgbgpack schema", "fgbgpack schema spec > spec.schema.json")
def schema(
    name: str | None = argument(
        "NAME",
        "dataset, spec, depth-model, cutout-model, export or stats, or one version, such as spec/1.0.",
        completion.schemas,
        default=None,
    ),
) -> None:
    """List the JSON Schemas of the documents that fgbgpack reads and writes, or print one."""
    from fgbgpack.schema import CURRENT, load_schema

    if name is None:
        say_rows(list(CURRENT.items()))
        say("\nfgbgpack schema NAME prints one.")
    else:
        kind, _, version = name.partition("/")
        print_json(load_schema(kind, version or None))


def _show(info: Mapping[str, Any]) -> None:
    state = "complete" if info["complete"] else "NOT COMPLETE: the command that made it finishes it"
    if info["complete"] and info["faulty"]:
        state = "NOT SOUND"
    say_title(
        f"{info['path']}: {counted(info['samples'], 'sample')} of {info['width']}x{info['height']}, {state}"
    )
    recipe, splits = info["recipe"], info["splits"]
    say_rows(
        [
            *(_import_rows(info["imported"]) if recipe is None else _recipe_rows(info)),
            *_object_rows(info),
            *([("pixels", "virtual: image and mask are composed when they are read")] * info["virtual"]),
            *_depth_rows(info["depth"]),
            ("all files", f"{amount(info['bytes'])}, {per_sample(info['bytes'], info['samples'])}"),
            *_stats_rows(info["stats"]),
            *([("splits", ", ".join(map(_split, splits.items())))] if splits else []),
            *([] if recipe is None else [("recipe", recipe["sha256"])]),
            *_state_rows(info),
            ("schema", info["schema"]),
            ("written by", describe_software(info["software"])),
        ]
    )
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for heading in ("array", "type"):
        table.add_column(heading, no_wrap=True)
    for heading in ("filled", "stored", "per sample", "raw to stored"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, array in info["arrays"].items():
        # Rounded down: an array that is not complete must not read 100 %.
        cells = [f"{math.floor(array['filled'] / info['samples'] * 1000) / 10:g} %", amount(array["stored"])]
        if array["filled"]:
            cells += [f"{array['bytes_per_sample']:,.0f} B", f"{array['ratio']:,.1f} : 1"]
        elif array["composed"]:
            cells = ["virtual", "-", "-", "-"]
        elif info["complete"] and not info["faulty"]:
            # Depth that nobody has asked for.
            cells = ["none", "-", "-", "-"]
        else:
            cells += ["-", "-"]
        table.add_row(name, array["dtype"], *cells)
    say("")
    stdout().print(table)


def _state_rows(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is missing or damaged, as far as that is seen at a glance, and when the dataset was verified."""
    rows = [
        ("faulty", f"{count['objects']:,} of {count['of']:,} objects of /{path} are missing or damaged")
        for path, count in info["faulty"].items()
    ]
    if rows:
        rows.append(("to mend it", f"fgbgpack repair {shlex.quote(info['path'])}"))
    elif (verified := info["verified"]) is not None:
        done = "decoded and recomposed" if verified["recomposed"] else "decoded"
        rows.append(("verified", f"{verified['date']}, all {counted(verified['samples'], 'sample')} {done}"))
    return rows


def _stats_rows(stats: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Statistics that are kept in the dataset."""
    if stats is None:
        return []
    mean, std = (" ".join(f"{one:.4f}" for one in stats[name]) for name in ("mean", "std"))
    return [("statistics", f"mean {mean}; std {std}; foreground {stats['foreground']:.2%}")]


def _split(split: tuple[str, Mapping[str, Any]]) -> str:
    name, how = split
    parts = ", ".join(f"{part} {fraction:g}" for part, fraction in how["parts"].items())
    return f"{name} (by {how['by']}: {parts})"


def _recipe_rows(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    recipe = info["recipe"]
    per_pair = f"{recipe['placements']:,} per pair"
    mirrored = ", and as many mirrored" if recipe["flip"] else ""
    if recipe["samples"] is not None:
        per_pair, mirrored = "of random foregrounds", ", half of them mirrored" if recipe["flip"] else ""
    masks = f", {info['masks']:,} with mask files" if info["masks"] else ""
    return [
        ("pictures", pictures_of(info["backgrounds"], info["foregrounds"]) + masks),
        ("placements", f"{per_pair}{mirrored}; {recipe['placement']}, seed {recipe['seed']}"),
        ("foregrounds", f"{_height_in_words(recipe)} high; backgrounds by {recipe['fit']}"),
        *([("scenes", _scenes_in_words(recipe))] if info["scenes"] else []),
    ]


def _height_in_words(recipe: Mapping[str, Any]) -> str:
    height = recipe["foreground_height"]
    return f"{height} of the height" if "%" in str(height) else f"{height} pixels"


def _scenes_in_words(recipe: Mapping[str, Any]) -> str:
    """What scenes are made of, beyond what other samples are."""
    words = [f"objects {recipe['objects']}", f"edges {recipe['blend']}"]
    words += [
        f"{name} {recipe[name]:g}" for name in ("empty", "truncate", "overlap", "rotation") if recipe[name]
    ]
    words += [name.replace("_", " ") for name in ("light_match", "shadow", "occlude") if recipe[name]]
    return "; ".join(words)


def _import_rows(imported: Mapping[str, Any]) -> list[tuple[str, str]]:
    fit = "" if imported["fit"] is None else f", resized ({imported['fit']})"
    count = imported["left_out"]
    left_out = f"; {count:,} without counterparts were left out" if count else ""
    places = ", ".join(place for place in imported["patterns"].values() if place)
    layout = "" if imported["layout"] == "files" else f", --from {imported['layout']}"
    return [("imported", f"{counted(imported['files'], 'file')} of {places}{layout}{fit}{left_out}")]


def _object_rows(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is said of objects that are told apart: of imported samples, and their categories of all."""
    rows = []
    if info["recipe"] is None and info["objects"] is not None:
        rows.append(("objects", f"up to {info['objects']} a sample, with instances and boxes"))
    if named := [name for name in info["categories"] if name]:
        rows.append(("categories", f"{len(named)}: {listed(named, _SHOWN)}"))
    return rows


def _depth_rows(depth: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if depth is None:
        return [("depth", "not filled")]
    quantity = "unknown quantity" if depth["quantity"] is None else str(depth["quantity"]).replace("_", " ")
    relative = "" if depth["quantity"] is None else ", relative"
    meaning = f"{quantity} in {depth['unit']}" if depth["unit"] else quantity + relative
    # Known once all depth is there.
    error = (depth["rounding"] or {}).get("largest_error")
    largest = f", largest rounding error {error:.2%} of the range" if error is not None else ""
    if depth["mode"] == "imported":
        values = "" if depth["factor"] == 1 else f", {depth['factor']:g} times the values in the files"
        if depth["offset"]:
            values = f"{values or ', the values in the files'} {depth['offset']:+g}"
        return [("depth", f"imported, {meaning}{values}{largest}")]
    rows = [("depth", f"{meaning}; {depth['bits']} bits{largest}")]
    if depth["sha256"] is None:
        rows.append(("depth model", f"none: that of the backgrounds is from files, {depth['mode']}"))
    else:
        where = f"{depth['provider']} in {depth['precision']}"
        rows.append(("depth model", f"{depth['model']} on {where}, {depth['mode']}, scale {depth['scale']}"))
    if (guide := depth["guide"]) is not None:
        rows.append(("depth guide", f"{guide['model']} on {guide['provider']} in {depth['precision']}"))
    used = [*depth["devices"], *(guide["devices"] if guide else ())]
    names = dict.fromkeys(
        f"{one['hardware'] or 'name unknown'}, ONNX Runtime {one['onnxruntime']}" for one in used
    )
    if names:
        rows.append(("device", "; ".join(names)))
    return rows
