"""``fgbgpack create`` and ``depth``: make a dataset, fill its depth."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fgbgpack.cli import card, completion, estimate, options, scene_options
from fgbgpack.cli.console import say, say_next, say_next_of_dataset, say_rows, say_title, work_done
from fgbgpack.cli.options import Panel, command
from fgbgpack.cli.output import KEPT, NOTHING, Output
from fgbgpack.cli.parse import DEVICES, FITS, Parser
from fgbgpack.scene_spec import PLACEMENT_NAMES
from fgbgpack.sources.names import counted
from fgbgpack.spec import FILES_MODEL
from fgbgpack.terminal import amount, duration, per_second

if TYPE_CHECKING:
    from fgbgpack.pipeline import PartReport, Report

app = typer.Typer()


@command(
    app,
    "fgbgpack create lobby.zarr --backgrounds bg --foregrounds fg",
    "fgbgpack create lobby.zarr --backgrounds bg --foregrounds fg --dry-run",
    "fgbgpack create small.zarr --config small.toml --depth-model none --virtual",
    "fgbgpack create wide.zarr --config wide.toml --size 320x192 --seed 7",
    "fgbgpack create lobby.zarr --shards 17/100",
)
def create(
    ctx: typer.Context,
    out: str = options.OUT,
    backgrounds: str | None = options.BACKGROUNDS,
    foregrounds: str | None = options.FOREGROUNDS,
    masks: str | None = options.MASKS,
    mask_pattern: str | None = Panel.PICTURES.option(
        "--mask-pattern PATTERN",
        "What masks are called, such as '{name}_mask.png' with {name} for the foreground's name; without "
        "--masks they lie beside the foregrounds.",
    ),
    mask_value: str | None = options.MASK_VALUE,
    mask_threshold: str | None = options.MASK_THRESHOLD,
    invert_masks: bool | None = options.INVERT_MASKS,
    premultiplied: bool | None = Panel.PICTURES.option(
        "--premultiplied/--no-premultiplied",
        "The foregrounds' colours were multiplied by their alpha (default: they were not).",
    ),
    exif: str | None = options.EXIF,
    strict: bool | None = options.STRICT,
    frame: str | None = options.FRAME,
    size: str | None = Panel.COMPOSITION.option(
        "--size WIDTHxHEIGHT", "Size of every sample in pixels, or one number for both (default 128x128)."
    ),
    fit: str | None = Panel.COMPOSITION.option(
        "--fit crop|stretch",
        "How backgrounds get that size: cropped to the aspect first, or only resized (default crop).",
        completion.one_of(*FITS),
    ),
    foreground_height: str | None = Panel.COMPOSITION.option(
        "--foreground-height N|LOW-HIGH",
        "Height of every pasted foreground in pixels; its aspect is kept. Or a range, such as 26-110, or "
        "20%-86% of the samples' height (default 50).",
    ),
    placements: str | None = Panel.COMPOSITION.option(
        "--placements N", "Number of times each foreground is pasted on each background (default 20)."
    ),
    flip: bool | None = Panel.COMPOSITION.option(
        "--flip/--no-flip",
        "Add as many placements with the foreground mirrored; with --samples, mirror half of all objects "
        "(default --flip).",
    ),
    seed: str | None = Panel.COMPOSITION.option(
        "--seed N",
        "Key of the random positions, 0 to 2^64 - 1; the same seed and pictures give the same samples "
        "(default 0).",
    ),
    vary_copies: bool | None = Panel.COMPOSITION.option(
        "--vary-copies/--no-vary-copies",
        "Give pictures that are copies of each other placements of their own (default: the same).",
    ),
    placement: str | None = Panel.COMPOSITION.option(
        "--placement inside|floor|anchored|auto",
        "Where foregrounds are pasted; inside: anywhere they fit completely; anchored: edges where they are "
        "cut at the border or beyond, whole ones at the lower border; floor: cut ones anchored, whole ones "
        "on the floor, as high as persons there, or inside where a background has none; auto: the same, but "
        "no error if nothing can stand anywhere (default inside).",
        completion.one_of(*PLACEMENT_NAMES),
    ),
    preset: str | None = scene_options.PRESET,
    samples: str | None = scene_options.SAMPLES,
    objects: str | None = scene_options.OBJECTS,
    empty: str | None = scene_options.EMPTY,
    truncate: str | None = scene_options.TRUNCATE,
    overlap: str | None = scene_options.OVERLAP,
    rotation: str | None = scene_options.ROTATION,
    blend: str | None = scene_options.BLEND,
    light_match: bool | None = scene_options.LIGHT_MATCH,
    shadow: bool | None = scene_options.SHADOW,
    occlude: bool | None = scene_options.OCCLUDE,
    classes: bool | None = scene_options.CLASSES,
    depth_model: str | None = options.DEPTH_MODEL,
    depth_mode: str | None = options.DEPTH_MODE,
    depth_guide: str | None = options.DEPTH_GUIDE,
    depth_scale: str | None = options.DEPTH_SCALE,
    depth_bits: str | None = options.DEPTH_BITS,
    background_depth: str | None = options.BACKGROUND_DEPTH,
    depth_factor: str | None = Panel.DEPTH.option(
        "--depth-factor NUMBER",
        "What the numbers in these files are multiplied by to be metres (default 0.001 for whole numbers, "
        "else 1).",
    ),
    depth_invalid: str | None = Panel.DEPTH.option(
        "--depth-invalid VALUE",
        "The number in these files for unknown depth, beside 0 (default: none).",
    ),
    precision: str | None = options.PRECISION,
    device: str | None = options.DEVICE,
    config: Path | None = Panel.EXECUTION.option(
        "--config FILE",
        "TOML or JSON file with these options, as 'fgbgpack schema spec' describes them; options given here "
        "override it.",
    ),
    chunk: str | None = Panel.EXECUTION.option(
        "--chunk N", "Samples that are compressed together (default: about 40, of one background)."
    ),
    workers: str | None = options.WORKERS,
    dask: str | None = options.DASK,
    virtual: bool = Panel.EXECUTION.flag(
        "--virtual",
        "Do not store images and masks: they are composed when they are read, with the same bytes.",
    ),
    cards: bool = Panel.EXECUTION.flag(
        "--cards", "Also write croissant.json and DATACARD.md, as 'fgbgpack card' does."
    ),
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    dry_run: bool = Panel.EXECUTION.flag(
        "--dry-run",
        "Write nothing; estimate the number of samples, their size and the time. With more --workers than "
        "this machine has cores, of that many cores of a cluster.",
    ),
    assume: list[str] | None = Panel.EXECUTION.option(
        "--assume NAME=VALUE",
        "For --dry-run: what machines, the store and prices are, such as core-speed=1.5 or "
        "price-core-hour=0.04; may be repeated. docs/scale.md lists the names.",
    ),
    overwrite: bool = options.OVERWRITE,
    begin: bool = Panel.PARTS.flag(
        "--begin", "Write all but the shards, which several processes then write with --shards."
    ),
    shards: str | None = Panel.PARTS.option(
        "--shards K/N",
        "Write one of N parts of the shards of a dataset that has begun, 0/N to N-1/N: at once or not, on "
        "any machine, in any order. Takes neither pictures nor options: they are in OUT.",
    ),
    finish: bool = Panel.PARTS.flag(
        "--finish", "Check that all shards are there and whole, and complete the dataset."
    ),
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Create a dataset: paste every foreground on every background many times, with masks and depth. With the
    options of scenes, samples have several objects of several sizes, and a map of their instances.

    Depth is filled by a network that comes with fgbgpack, unless --depth-model names another or none.
    A run that was stopped (Ctrl-C, a crash, a full disk) is resumed by the same command. With --begin,
    --shards and --finish many processes, on one machine or several, make one dataset.
    """
    parser = Parser()
    where = parser.choice("--device", device, DEVICES)
    threads = parser.workers(workers)
    phases = {"--begin": begin, "--shards": shards is not None, "--finish": finish}
    phase = parser.at_most_one_of(phases)
    part = (0, 1) if shards is None else parser.part("--shards", shards)
    output = Output(as_json, quiet)
    storage_options = parser.storage_options(storage_option)
    assumptions = parser.assumptions(assume, dry_run=dry_run)
    if phase is not None:
        _refuse_others(ctx, parser, phase)
    if phase == "--shards" or phase == "--finish" or sum(phases.values()) > 1:
        parser.check()
        from fgbgpack import pipeline

        if phase == "--shards":
            output.run_and_show(
                partial(
                    pipeline.create_part,
                    out,
                    *part,
                    device=where,
                    workers=threads,
                    storage_options=storage_options,
                ),
                _show_part,
                if_stopped=KEPT,
            )
        else:
            finishing = partial(pipeline.finish_create, out, workers=threads, storage_options=storage_options)
            _run_and_show(finishing, out, output, cards=cards, overwrite=False, done="Finished")
        return
    if cards and "://" in out:
        parser.problems.append("--cards: OUT is a URL; write its cards with fgbgpack card OUT -o FOLDER")
    spec = parser.dataset(
        {
            "backgrounds": backgrounds,
            "foregrounds": foregrounds,
            "masks": masks,
            "mask_pattern": mask_pattern,
            **parser.reading_fields(
                mask_value=mask_value,
                mask_threshold=mask_threshold,
                frame=frame,
                invert_masks=invert_masks,
                premultiplied=premultiplied,
                exif=exif,
                strict=strict,
            ),
            "background_depth": background_depth,
            "depth_factor": parser.number("--depth-factor", depth_factor),
            "depth_invalid": parser.number("--depth-invalid", depth_invalid),
            "fit": fit,
            "foreground_height": scene_options.number_or_range(
                parser, "--foreground-height", foreground_height
            ),
            "placements": parser.integer("--placements", placements),
            "flip": flip,
            "seed": parser.integer("--seed", seed),
            "vary_copies": vary_copies,
            "placement": placement,
            "chunk": parser.integer("--chunk", chunk),
            **scene_options.scene_fields(
                parser,
                samples=samples,
                objects=objects,
                empty=empty,
                truncate=truncate,
                overlap=overlap,
                rotation=rotation,
                blend=blend,
                light_match=light_match,
                shadow=shadow,
                occlude=occlude,
                classes=classes,
            ),
        },
        preset=scene_options.preset_fields(parser, preset),
        size=size,
        depth_model=depth_model,
        depth=parser.depth_fields(
            mode=depth_mode, guide=depth_guide, scale=depth_scale, bits=depth_bits, precision=precision
        ),
        config=config,
    )
    from fgbgpack import pipeline

    shape = f"{spec.width}x{spec.height}"
    if dry_run:
        output.run_and_show(
            partial(
                pipeline.estimate,
                spec,
                device=where,
                workers=threads,
                virtual=virtual,
                out=out,
                assume=assumptions,
            ),
            lambda found: estimate.show(found, shape, in_full=bool(assume) or found.scale.is_cluster),
            if_stopped=NOTHING,
        )
        return
    making = partial(
        pipeline.create if phase is None else pipeline.begin_create,
        out,
        spec,
        device=where,
        workers=threads,
        overwrite=overwrite,
        virtual=virtual,
        storage_options=storage_options,
    )
    if phase is None:
        size = f" of {shape}"
        _run_and_show(making, out, output, cards=cards, overwrite=overwrite, size=size, dask=dask)
    else:
        output.run_and_show(making, _show_begun, if_stopped=KEPT)


#: What may be given with each part of a job array, besides OUT.
_WITH_PART = ("--workers", "--storage-option", "--json", "--quiet")
_WITH: Mapping[str, tuple[str, ...]] = {
    "--shards": ("--device", *_WITH_PART),
    "--finish": ("--cards", *_WITH_PART),
}
_NOT_WITH_BEGIN = ("--cards", "--dask", "--dry-run")


def _refuse_others(ctx: typer.Context, parser: Parser, phase: str) -> None:
    """Note a problem for each option that is given and cannot be with this one."""
    for option in ctx.command.params:
        flag = max(option.opts, key=len)
        if flag == phase or not flag.startswith("--") or option.name is None:
            continue
        source = ctx.get_parameter_source(option.name)
        if source is None or source.name == "DEFAULT" or flag in ("--begin", "--shards", "--finish"):
            continue
        if phase == "--begin" and flag in _NOT_WITH_BEGIN:
            parser.problems.append(f"{flag}: not allowed with {phase}")
        elif phase != "--begin" and flag not in _WITH[phase]:
            parser.problems.append(f"{flag}: not allowed with {phase}, which takes what OUT was begun with")


def _run_and_show(
    work: Callable[..., Report],
    out: str,
    output: Output,
    *,
    cards: bool,
    overwrite: bool,
    size: str = "",
    done: str = "Created",
    dask: str | None = None,
) -> None:
    """Make or finish a dataset, and print what was done."""
    from fgbgpack.cards import write_cards

    report = output.run(work, if_stopped=KEPT, dask=dask)
    written = write_cards(out, overwrite=overwrite) if cards else None
    output.show(report, lambda: _show_report(report, f"{done} {report.path}", size))
    if written is None:
        card.warn_if_stale(out, output)
    elif output.is_text:
        say("")
        card.show(written)


@command(
    app,
    "fgbgpack depth lobby.zarr",
    "fgbgpack depth lobby.zarr --depth-model midas-v2.1 --depth-mode guided --overwrite",
    "fgbgpack depth lobby.zarr --depth-model midas.onnx --depth-scale 3 --overwrite",
)
def depth(
    dataset: str = options.DATASET,
    depth_model: str | None = options.DEPTH_MODEL,
    depth_mode: str | None = options.DEPTH_MODE,
    depth_guide: str | None = options.DEPTH_GUIDE,
    depth_scale: str | None = options.DEPTH_SCALE,
    depth_bits: str | None = options.DEPTH_BITS,
    precision: str | None = options.PRECISION,
    device: str | None = options.DEVICE,
    backgrounds: str | None = options.BACKGROUNDS,
    foregrounds: str | None = options.FOREGROUNDS,
    masks: str | None = options.MASKS,
    background_depth: str | None = options.BACKGROUND_DEPTH,
    workers: str | None = options.WORKERS,
    dask: str | None = options.DASK,
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    overwrite: bool = Panel.EXECUTION.flag(
        "--overwrite", "Replace depth of another model or of other options."
    ),
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Fill the depth of a dataset, or replace it by that of another model.

    The network sees samples rendered from the original pictures, which are looked for where they were when
    the dataset was made; give their folders if they have moved. Imported samples are used as they are stored.
    A run that was stopped is resumed by the same command.
    """
    parser = Parser()
    where = parser.choice("--device", device, DEVICES)
    threads = parser.workers(workers)
    storage_options = parser.storage_options(storage_option)
    fields = parser.depth_fields(
        mode=depth_mode, guide=depth_guide, scale=depth_scale, bits=depth_bits, precision=precision
    )
    spec = parser.depth_spec(depth_model, fields)

    from fgbgpack.pipeline import fill_depth

    output = Output(as_json, quiet)
    output.run_and_show(
        partial(
            fill_depth,
            dataset,
            spec,
            device=where,
            workers=threads,
            overwrite=overwrite,
            backgrounds=backgrounds,
            foregrounds=foregrounds,
            masks=masks,
            background_depth=background_depth,
            storage_options=storage_options,
        ),
        lambda report: _show_report(report, f"Filled the depth of {report.path}"),
        if_stopped=KEPT,
        dask=dask,
    )
    card.warn_if_stale(dataset, output)


def _show_begun(report: Report) -> None:
    if report.complete:
        say_title(f"{report.path}: nothing to do, all {counted(report.samples, 'sample')} are there")
        return
    say_title(f"{report.path}: {counted(report.samples, 'sample')} begun in {duration(report.seconds)}")
    say_rows([("all files", amount(sum(report.stored_bytes.values())))])
    create = f"fgbgpack create {shlex.quote(report.path)}"
    say_next([f"{create} --shards 0/10  # and so on to 9/10, at once or not", f"{create} --finish"])


def _show_part(report: PartReport) -> None:
    part = f"Part {report.part}/{report.parts} of {report.path}"
    if report.complete:
        say_title(f"{report.path}: nothing to do, all {counted(report.samples, 'sample')} are there")
    elif report.created or report.depth_filled:
        say_title(f"{part}: written in {duration(report.seconds)}")
    else:
        say_title(f"{part}: nothing to do, all its shards are there")
    made = (
        ("image, mask", report.created, report.sample_seconds),
        ("depth", report.depth_filled, report.depth_seconds),
    )
    rows = [(what, f"{counted(n, 'sample')}, {per_second(n / seconds)}") for what, n, seconds in made if n]
    if rows:
        say_rows(rows)


def _show_report(report: Report, done: str, size: str = "") -> None:
    samples = f"{counted(report.samples, 'sample')}{size}"
    has_depth = report.depth_model is not None
    if report.created or report.depth_filled or done.startswith("Finished"):
        say_title(f"{done}: {samples} in {duration(report.seconds)}")
    else:
        say_title(f"{report.path}: nothing to do, all {samples} are there")
    work = (
        report.created,
        report.samples,
        _stored(report, "image", "mask", "instance"),
        report.sample_seconds,
    )
    planes = ("image", "mask", *(("instance",) if report.objects else ()))
    rows = [
        (", ".join(planes), "virtual: composed when they are read" if report.virtual else work_done(*work))
    ]
    if has_depth:
        guide = "" if report.depth_guide is None else f" on the backgrounds, then {report.depth_guide}"
        model = "none (depth of files)" if report.depth_model == FILES_MODEL else report.depth_model
        networks = f"{model}{guide}" + (f" on {report.provider}" if report.provider else "")
        work = (report.depth_filled, report.samples, _stored(report, "depth"), report.depth_seconds)
        rows += [("depth", work_done(*work)), ("depth model", networks)]
    else:
        rows.append(("depth", "not filled"))
    say_rows([*rows, ("all files", amount(sum(report.stored_bytes.values())))])
    python = f"batch = dataset[:40]  # batch.image, batch.mask{', batch.depth' if has_depth else ''}"
    say_next_of_dataset(report.path, has_depth=has_depth, python=python)


def _stored(report: Report, *arrays: str) -> int:
    return sum(report.stored_bytes.get(name, 0) for name in arrays)
