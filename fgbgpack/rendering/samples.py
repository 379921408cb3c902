"""Writing sample pictures to folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from fgbgpack.errors import SpecError
from fgbgpack.files import replacing
from fgbgpack.rendering.render import check_numbers, render_figure, render_scene

DEPTH_UNITS_PER_METRE = 1000.0


def write_samples(
    directory: Path,
    *,
    backgrounds: int = 12,
    foregrounds: int = 12,
    seed: int = 0,
    on_picture: Callable[[int, int], None] | None = None,
) -> None:
    """Writes ``backgrounds/<kind>-000.png``, ``foregrounds/figure-000.png`` and ``depth/<kind>-000.png``.

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
        SpecError: A number is out of range (``samples-out-of-range``), a folder is not empty
            (``samples-folder-in-use``), or the files cannot be written (``samples-not-writable``).
    """
    check_numbers(backgrounds=backgrounds, foregrounds=foregrounds, seed=seed)
    folders = {name: directory / name for name in ("backgrounds", "foregrounds", "depth")}

    def write_background(index: int) -> None:
        scene = render_scene(index, seed=seed)
        name = f"{scene.kind}-{index:03d}.png"
        millimetres = np.rint(scene.depth.astype(np.float64) * DEPTH_UNITS_PER_METRE).astype(np.uint16)
        _save(Image.fromarray(millimetres), folders["depth"] / name)
        _save(Image.fromarray(scene.image), folders["backgrounds"] / name)

    def write_figure(index: int) -> None:
        figure = render_figure(index, seed=seed)
        _save(Image.fromarray(figure), folders["foregrounds"] / f"figure-{index:03d}.png")

    try:
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        full = [f"{path}: found files, expected none" for path in folders.values() if any(path.iterdir())]
        if full:
            message = f"Sample pictures are not mixed with other files in {directory}. Give an empty folder."
            raise SpecError(message, full, code="samples-folder-in-use")
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            jobs = [pool.submit(write_background, index) for index in range(backgrounds)]
            jobs += [pool.submit(write_figure, index) for index in range(foregrounds)]
            try:
                for done, job in enumerate(jobs, start=1):
                    job.result()
                    if on_picture is not None:
                        on_picture(done, len(jobs))
            finally:
                pool.shutdown(cancel_futures=True)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise SpecError(
            f"Sample pictures cannot be written to {directory}: {reason} ({exc.filename or directory}). "
            "Give a folder that can be made and written, with room for them.",
            code="samples-not-writable",
        ) from exc


def _save(picture: Image.Image, path: Path) -> None:
    with replacing(path) as partial:
        picture.save(partial, format="PNG")
