"""Writing sample pictures to folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from fgbgpack.errors import SpecError
from fgbgpack.rendering.limits import check
from fgbgpack.rendering.render import render_figure, render_scene

DEPTH_UNITS_PER_METRE = 1000.0


def write_samples(
    directory: Path,
    *,
    backgrounds: int = 12,
    foregrounds: int = 12,
    seed: int = 0,
    on_picture: Callable[[int, int], None] | None = None,
) -> None:
    """Write ``backgrounds/<kind>-000.png``, ``foregrounds/figure-000.png`` and ``depth/<kind>-000.png``.

    Backgrounds are 320x240; figures are 320 high. Depth has the name of its background and is a grayscale
    PNG of 16 bits in millimetres, the usual form of depth data sets. The files do not depend on the number of
    processors.

    Args:
        directory: Made if missing. Its three folders must be missing or empty.
        backgrounds: Number of rooms, 1..10000.
        foregrounds: Number of figures, 1..10000.
        seed: 0..2**64-1.
        on_picture: Called with (done, total) from the calling thread after each picture.

    Raises:
        SpecError: If a number is out of range or the folders cannot be written.
    """
    check(backgrounds=backgrounds, foregrounds=foregrounds, seed=seed)
    folders = {name: directory / name for name in ("backgrounds", "foregrounds", "depth")}
    try:
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        full = [
            f"{folder}: found files, expected none" for folder in folders.values() if any(folder.iterdir())
        ]
    except OSError as exc:
        raise _unwritable(directory, exc) from exc
    if full:
        message = f"Sample pictures are not mixed with other files in {directory}. Give an empty folder."
        raise SpecError(message, full)

    def write(job: tuple[str, int]) -> None:
        what, index = job
        if what == "background":
            scene = render_scene(index, seed=seed)
            name = f"{scene.kind}-{index:03d}.png"
            millimetres = np.rint(scene.depth.astype(np.float64) * DEPTH_UNITS_PER_METRE).astype(np.uint16)
            _save(Image.fromarray(millimetres), folders["depth"] / name)
            _save(Image.fromarray(scene.image), folders["backgrounds"] / name)
        else:
            figure = render_figure(index, seed=seed)
            _save(Image.fromarray(figure), folders["foregrounds"] / f"figure-{index:03d}.png")

    jobs = [("background", i) for i in range(backgrounds)] + [("figure", i) for i in range(foregrounds)]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        try:
            for done, _ in enumerate(pool.map(write, jobs), start=1):
                if on_picture is not None:
                    on_picture(done, len(jobs))
        except OSError as exc:
            raise _unwritable(directory, exc) from exc
        finally:
            pool.shutdown(cancel_futures=True)


def _unwritable(directory: Path, cause: OSError) -> SpecError:
    reason = cause.strerror or str(cause)
    return SpecError(
        f"Sample pictures cannot be written to {directory}: {reason} ({cause.filename or directory}). "
        "Give a folder that can be made and written, with room for them."
    )


def _save(picture: Image.Image, path: Path) -> None:
    """Write a PNG aside, then put it in place, so that no picture is ever seen half-written."""
    aside = path.with_name(f".{path.name}.part")
    try:
        picture.save(aside, format="PNG")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
