"""``fgbgpack convert``, ``materialize`` and ``virtualize``: the same dataset, stored otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fgbgpack.cli import options
from fgbgpack.cli.console import print_json
from fgbgpack.cli.parse import Parser

if TYPE_CHECKING:
    from fgbgpack.pipeline import Conversion

CONVERT_EXAMPLES = """Examples:

  fgbgpack convert lobby.zarr lobby.h5
  fgbgpack convert lobby.h5 lobby.zarr
  fgbgpack convert lobby.zarr portable.h5 --portable"""

MATERIALIZE_EXAMPLES = """Examples:

  fgbgpack materialize virtual.zarr
  fgbgpack materialize virtual.zarr lobby.zarr"""

VIRTUALIZE_EXAMPLES = "Example:\n\n  fgbgpack virtualize lobby.zarr virtual.zarr"


@contextmanager
def resumable() -> Iterator[None]:
    """Tells who stops the work that it is not lost."""
    try:
        yield
    except (KeyboardInterrupt, OSError) as exc:
        exc.add_note("What is written is kept: run the same command again to resume.")
        raise


@contextmanager
def not_resumable() -> Iterator[None]:
    """Tells who stops the work what is left of it."""
    try:
        yield
    except KeyboardInterrupt as exc:
        if not getattr(exc, "__notes__", []):
            exc.add_note("Nothing was written.")
        raise


def convert(
    source: options.Dataset,
    target: options.ConvertTarget,
    portable: options.Portable = False,
    workers: options.Workers = None,
    overwrite: options.OverwriteTarget = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Copy a dataset from Zarr to HDF5, or from HDF5 to Zarr.

    Compressed chunks are copied as they are, once their checksums are found right: a copy of the copy has the
    same bytes. Readers of HDF5 then need the filters zstd and blosc (Python: import hdf5plugin), unless it is
    made with --portable.
    """
    parser = Parser()
    threads = parser.workers(workers)
    parser.check()
    from fgbgpack.cli.progress import ProgressDisplay
    from fgbgpack.cli.summary import show_transfer
    from fgbgpack.pipeline import convert as run
    from fgbgpack.storage.hdf5 import is_hdf5

    # Zarr is resumed; of HDF5 nothing is left.
    kept = not_resumable() if is_hdf5(target) else resumable()
    with kept, ProgressDisplay(quiet=quiet) as display:
        done = run(source, target, portable=portable, workers=threads, overwrite=overwrite, on_event=display)
    if as_json:
        print_json(done.to_dict())
    elif not quiet:
        show_transfer(done)


def materialize(
    source: options.VirtualSource,
    target: options.OptionalTarget = None,
    workers: options.Workers = None,
    overwrite: options.OverwriteTarget = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Store the pixels of a virtual dataset, in it or in a new one.

    The result has the same files as if it had never been virtual. All pixels are read back and compared;
    until then SRC stays virtual. A run that was stopped is resumed by the same command.
    """
    parser = Parser()
    threads = parser.workers(workers)
    parser.check()
    from fgbgpack.cli.progress import ProgressDisplay
    from fgbgpack.pipeline import materialize as run

    with resumable(), ProgressDisplay(quiet=quiet) as display:
        done = run(source, target, workers=threads, overwrite=overwrite, on_event=display)
    _show(done, as_json=as_json, quiet=quiet)


def virtualize(
    source: options.StoredSource,
    target: options.Target,
    workers: options.Workers = None,
    overwrite: options.OverwriteTarget = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a virtual dataset of one that stores its pixels.

    Every stored pixel is compared with the recipe first; if any differs, nothing is made. SRC stays as it is.
    """
    parser = Parser()
    threads = parser.workers(workers)
    parser.check()
    from fgbgpack.cli.progress import ProgressDisplay
    from fgbgpack.pipeline import virtualize as run

    with resumable(), ProgressDisplay(quiet=quiet) as display:
        done = run(source, target, workers=threads, overwrite=overwrite, on_event=display)
    _show(done, as_json=as_json, quiet=quiet)


def _show(done: Conversion, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json(done.to_dict())
    elif not quiet:
        from fgbgpack.cli.summary import show_conversion

        show_conversion(done)
