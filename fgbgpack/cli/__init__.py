"""The command line: parse, call the library, print, exit with the code of what happened.

The library is imported inside the commands: ``fgbgpack --help`` has no need of NumPy.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from fgbgpack.cli import card, convert, export, importing, models, options, split
from fgbgpack.cli.console import print_json, say, show_bug, show_error, show_warning
from fgbgpack.cli.convert import resumable
from fgbgpack.cli.parse import Parser
from fgbgpack.errors import DatasetError, FgbgError

_INTERRUPTED = 130
_TERMINATED = 143
_FULL = {errno.ENOSPC, errno.EDQUOT}


class _Terminated(KeyboardInterrupt):
    """SIGTERM: work stops as it does for Ctrl-C, and can be resumed as well."""


class _Commands(typer.core.TyperGroup):
    """The one place that turns what commands raise into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FgbgError as exc:
            show_error("\n".join([exc.message, *_notes(exc)]), exc.problems)
            raise typer.Exit(exc.exit_status) from exc
        except KeyboardInterrupt as exc:
            stopped = "terminated" if isinstance(exc, _Terminated) else "interrupted"
            show_error(" ".join(_notes(exc)), label=stopped)
            raise typer.Exit(_TERMINATED if isinstance(exc, _Terminated) else _INTERRUPTED) from exc
        except OSError as exc:
            if exc.filename is None and exc.errno not in _FULL:
                raise
            show_error(_system_message(exc))
            raise typer.Exit(DatasetError.exit_status) from exc


app = typer.Typer(
    name="fgbgpack",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with:\n  fgbgpack sample pictures\n  fgbgpack COMMAND --help",
)


app.add_typer(models.app)


def main() -> None:
    """Run the command line of this process, and exit."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    warnings.showwarning = _on_warning
    for stream in (sys.stdout, sys.stderr):
        # A file's name may hold bytes that are no text in the terminal's encoding.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code: object = 0
    try:
        app(prog_name="fgbgpack")
    except SystemExit as exc:
        code = exc.code
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except Exception as exc:
        show_bug(exc)
        code = 1
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # From here on a second Ctrl-C ends the process at once, not with a traceback of its shutdown.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_after_flush(code))


def _on_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _on_warning(message: Warning | str, *_: object, **__: object) -> None:
    show_warning(str(message))


def _after_flush(code: Any) -> Any:
    """Write what is still buffered for stdout; a reader that has gone is no error, a full disk is one."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as exc:
        # Else the interpreter tries again while it shuts down, and complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(exc, BrokenPipeError):
            show_error(f"The output could not be written: {exc.strerror}.")
            return code or 1
    return code


def _system_message(error: OSError) -> str:
    what = "The disk is full" if error.errno in _FULL else error.strerror
    where = "" if error.filename is None else f": {os.fsdecode(error.filename)}"
    return " ".join([f"{what}{where}.", *_notes(error)])


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def _version(wanted: bool) -> None:
    if wanted:
        from fgbgpack import __version__

        say(f"fgbgpack {__version__}")
        raise typer.Exit


@app.callback()
def _fgbgpack(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Composite foregrounds on backgrounds into one Zarr dataset of images, masks and depth."""


@app.command(
    epilog="""Examples:

  fgbgpack create lobby.zarr --backgrounds bg --foregrounds fg
  fgbgpack create lobby.zarr --backgrounds bg --foregrounds fg --dry-run
  fgbgpack create lobby.zarr --backgrounds bg --foregrounds fg --depth-model none --virtual
  fgbgpack create wide.zarr --config wide.toml --size 320x192 --seed 7"""
)
def create(
    out: options.Out,
    backgrounds: options.Backgrounds = None,
    foregrounds: options.Foregrounds = None,
    masks: options.Masks = None,
    size: options.Size = None,
    fit: options.Fit = None,
    foreground_height: options.ForegroundHeight = None,
    placements: options.Placements = None,
    flip: options.Flip = None,
    seed: options.Seed = None,
    placement: options.Placement = None,
    depth_model: options.DepthModel = None,
    depth_mode: options.DepthMode = None,
    depth_guide: options.DepthGuide = None,
    depth_scale: options.DepthScale = None,
    depth_bits: options.DepthBits = None,
    precision: options.Precision = None,
    device: options.Device = None,
    config: options.Config = None,
    chunk: options.Chunk = None,
    workers: options.Workers = None,
    virtual: options.Virtual = False,
    cards: options.WithCards = False,
    dry_run: options.DryRun = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a dataset: paste every foreground on every background many times, with masks and depth.

    Two networks that come with fgbgpack fill depth, unless others are asked for, or none.
    A run that was stopped (Ctrl-C, a crash, a full disk) is resumed by the same command.
    """
    parser = Parser()
    where = parser.device(device)
    threads = parser.workers(workers)
    if cards and "://" in out:
        parser.problems.append("--cards: OUT is a URL; write its cards with fgbgpack card OUT -o FOLDER")
    spec = parser.dataset(
        {
            "backgrounds": backgrounds,
            "foregrounds": foregrounds,
            "masks": masks,
            "fit": fit,
            "foreground_height": parser.integer("--foreground-height", foreground_height),
            "placements": parser.integer("--placements", placements),
            "flip": flip,
            "seed": parser.integer("--seed", seed),
            "placement": placement,
            "chunk": parser.integer("--chunk", chunk),
        },
        size=size,
        depth_model=depth_model,
        depth=parser.depth_fields(
            mode=depth_mode, guide=depth_guide, scale=depth_scale, bits=depth_bits, precision=precision
        ),
        config=config,
    )
    from fgbgpack.cli.progress import ProgressDisplay
    from fgbgpack.cli.summary import show_estimate, show_report
    from fgbgpack.pipeline import create as make
    from fgbgpack.pipeline import estimate

    shape = f"{spec.width}x{spec.height}"
    if dry_run:
        with ProgressDisplay(quiet=quiet) as display:
            expected = estimate(spec, device=where, workers=threads, virtual=virtual, on_event=display)
        if as_json:
            print_json(expected.to_dict())
        elif not quiet:
            show_estimate(expected, size=shape)
        return
    with resumable(), ProgressDisplay(quiet=quiet) as display:
        report = make(
            out,
            spec,
            device=where,
            workers=threads,
            overwrite=overwrite,
            virtual=virtual,
            on_event=display,
        )
    if as_json:
        print_json(report.to_dict())
    elif not quiet:
        show_report(report, size=shape, verb="Created")
    if cards:
        card.write(out, overwrite=overwrite, quiet=quiet or as_json)
    elif not quiet:
        card.remind(out)


app.command(name="import", epilog=importing.EXAMPLES)(importing.import_)


@app.command(
    epilog="""Examples:

  fgbgpack depth lobby.zarr
  fgbgpack depth lobby.zarr --depth-model depth-anything-v2-large --depth-mode guided --overwrite
  fgbgpack depth lobby.zarr --depth-model midas.onnx --depth-scale 3 --overwrite"""
)
def depth(
    dataset: options.Dataset,
    depth_model: options.DepthModel = None,
    depth_mode: options.DepthMode = None,
    depth_guide: options.DepthGuide = None,
    depth_scale: options.DepthScale = None,
    depth_bits: options.DepthBits = None,
    precision: options.Precision = None,
    device: options.Device = None,
    backgrounds: options.Backgrounds = None,
    foregrounds: options.Foregrounds = None,
    masks: options.Masks = None,
    workers: options.Workers = None,
    overwrite: options.OverwriteDepth = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fill the depth of a dataset, or replace it with that of another model.

    The original pictures are looked for where they were when the dataset was made; say
    where they are now if they have moved. The network sees samples that were imported as they are stored.
    A run that was stopped is resumed by the same command.
    """
    parser = Parser()
    where = parser.device(device)
    threads = parser.workers(workers)
    fields = parser.depth_fields(
        mode=depth_mode, guide=depth_guide, scale=depth_scale, bits=depth_bits, precision=precision
    )
    spec = parser.depth_spec(depth_model, fields)

    from fgbgpack.cli.progress import ProgressDisplay
    from fgbgpack.cli.summary import show_report
    from fgbgpack.pipeline import fill_depth

    folders = {"backgrounds": backgrounds, "foregrounds": foregrounds, "masks": masks}
    with resumable(), ProgressDisplay(quiet=quiet) as display:
        report = fill_depth(
            dataset,
            spec,
            device=where,
            workers=threads,
            overwrite=overwrite,
            on_event=display,
            **{name: None if folder is None else Path(folder) for name, folder in folders.items()},
        )
    if as_json:
        print_json(report.to_dict())
    elif not quiet:
        show_report(report, size=None, verb="Filled")
    if not quiet:
        card.remind(dataset)


@app.command(epilog="Examples:\n\n  fgbgpack info lobby.zarr\n  fgbgpack info lobby.zarr --json")
def info(dataset: options.Dataset, as_json: options.Json = False) -> None:
    """Say what a dataset holds, how complete and how large it is, and what made it."""
    from fgbgpack.cli.summary import show_info
    from fgbgpack.dataset.dataset import open_dataset
    from fgbgpack.visual.info import describe

    described = describe(open_dataset(dataset, allow_incomplete=True))
    if as_json:
        print_json(described)
    else:
        show_info(described)


@app.command(
    epilog="""Examples:

  fgbgpack preview lobby.zarr -o lobby.png
  fgbgpack preview lobby.zarr -o lobby.png --samples 0,100,2000"""
)
def preview(
    dataset: options.Dataset,
    output: options.Picture,
    samples: options.Samples = None,
    rows: options.Rows = None,
    seed: options.DrawSeed = None,
) -> None:
    """Draw a picture of some samples: background, foreground, mask, composite, its mask, depth."""
    parser = Parser()
    chosen = parser.integers("--samples", samples)
    count = parser.at_least("--rows", rows, 1, default=6)
    draw = parser.at_least("--seed", seed, 0, default=0)
    parser.check()

    from fgbgpack.dataset.dataset import open_dataset
    from fgbgpack.visual.preview import write_preview

    opened = open_dataset(dataset, allow_incomplete=True)
    if not opened.complete:
        show_warning(f"{dataset} is not complete: what is not written yet is drawn as it reads.")
    write_preview(opened, output, samples=chosen, rows=count, seed=draw)
    say(f"Wrote {output}")


app.command(epilog=split.EXAMPLES)(split.split)
app.command(epilog=export.EXAMPLES)(export.export)
app.command(epilog=convert.CONVERT_EXAMPLES)(convert.convert)
app.command(epilog=convert.MATERIALIZE_EXAMPLES)(convert.materialize)
app.command(epilog=convert.VIRTUALIZE_EXAMPLES)(convert.virtualize)
app.command(epilog=card.EXAMPLES)(card.card)


@app.command(
    epilog="Example:\n\n  fgbgpack sample pictures\n  fgbgpack sample pictures --backgrounds 40 --seed 3"
)
def sample(
    folder: options.Folder,
    backgrounds: options.BackgroundCount = None,
    foregrounds: options.ForegroundCount = None,
    seed: options.SceneSeed = None,
) -> None:
    """Make pictures to try fgbgpack with: indoor scenes with their true depth, and cut-out people."""
    parser = Parser()
    scenes = parser.at_least("--backgrounds", backgrounds, 1, default=12)
    people = parser.at_least("--foregrounds", foregrounds, 1, default=12)
    key = parser.at_least("--seed", seed, 0, default=0)
    parser.check()

    from fgbgpack.cli.progress import ProgressDisplay
    from fgbgpack.cli.summary import show_samples
    from fgbgpack.pipeline import Progress
    from fgbgpack.rendering import write_samples

    with ProgressDisplay() as display:
        display(Progress("sources", 0, scenes + people))
        write_samples(
            Path(folder),
            backgrounds=scenes,
            foregrounds=people,
            seed=key,
            on_picture=lambda done, total: display(Progress("sources", done, total)),
        )
    show_samples(folder, scenes, people)


@app.command(epilog="Examples:\n\n  fgbgpack schema\n  fgbgpack schema spec > spec.schema.json")
def schema(name: options.SchemaName = None) -> None:
    """List the JSON Schemas of the documents that fgbgpack reads and writes, or print one."""
    from fgbgpack.schema import CURRENT, load_schema

    if name is None:
        from fgbgpack.cli.summary import show_schemas

        show_schemas(CURRENT)
    else:
        wanted, _, version = name.partition("/")
        print_json(load_schema(wanted, version or None))
