"""Writing sample pictures to folders."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from filecmp import cmp
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fgbgpack.errors import SpecError
from fgbgpack.files import FolderSync, locked, make_folders, replacing, require_local, write_atomically
from fgbgpack.rendering.render import check_numbers, render_figure, render_portrait, render_scene

DEPTH_UNITS_PER_METRE = 1000.0

_FOLDERS = ("backgrounds", "foregrounds", "depth")
#: What is known of the backgrounds, beside them.
_TABLE = "sources.csv"
#: Of so many figures, the last is a portrait.
_PORTRAITS = 3
_STAGING = ".fgbgpack-sample"
#: In the folder of unfinished samples: they are all there, and these numbers were asked for.
_FINISHED = "finished.json"


def write_samples(
    directory: Path,
    *,
    backgrounds: int = 12,
    foregrounds: int = 12,
    seed: int = 0,
    on_picture: Callable[[int, int], None] | None = None,
) -> None:
    """Writes ``backgrounds/<kind>-000.png``, ``foregrounds/figure-000.png`` and ``depth/<kind>-000.png``, and
    a ``sources.csv`` with the focal lengths of the backgrounds.

    Backgrounds are 320x240; figures are 320 high, and each third one is a portrait, such as
    ``foregrounds/portrait-002.png``, which ends below in a straight edge. Depth has the name of its
    background and is a grayscale PNG of 16 bits in millimetres, the usual form of depth data sets. The files
    do not depend on the number of processors. They appear when all are rendered; the next call removes what a
    stopped one left. Where these very pictures are already, they stay.

    Args:
        directory: Made if missing. Its three folders must be missing, empty, or hold these pictures.
        backgrounds: Number of rooms, 1..10000.
        foregrounds: Number of figures, 1..10000.
        seed: 0..2**64-1.
        on_picture: Called with (done, total) from the calling thread after each picture.

    Raises:
        SpecError: A number is out of range (``samples-out-of-range``), a folder holds other files
            (``samples-folder-in-use``), or the files cannot be written (``samples-not-writable``).
        DatasetError: Another process is writing samples there (``dataset-locked``).
    """
    require_local(directory, "Sample pictures are")
    check_numbers(backgrounds=backgrounds, foregrounds=foregrounds, seed=seed)
    staging = directory / _STAGING

    def write_background(index: int) -> str:
        """The line of ``sources.csv`` about it."""
        scene = render_scene(index, seed=seed)
        name = f"{scene.kind}-{index:03d}.png"
        millimetres = np.rint(scene.depth.astype(np.float64) * DEPTH_UNITS_PER_METRE).astype(np.uint16)
        Image.fromarray(millimetres).save(staging / "depth" / name)
        Image.fromarray(scene.image).save(staging / "backgrounds" / name)
        return f"{name},{scene.camera.focal:.2f}\n"

    def write_figure(index: int) -> None:
        is_portrait = index % _PORTRAITS == _PORTRAITS - 1
        kind, render = ("portrait", render_portrait) if is_portrait else ("figure", render_figure)
        Image.fromarray(render(index, seed=seed)).save(staging / "foregrounds" / f"{kind}-{index:03d}.png")

    asked_for = json.dumps({"backgrounds": backgrounds, "foregrounds": foregrounds, "seed": seed}).encode()
    refusal = f"Another process is writing sample pictures to {directory}: wait for it, or end it."
    try:
        make_folders(directory)
        with _staged(staging, refusal):
            if _finish(directory, staging) == asked_for:
                return
            there = {name: _names_in(directory / name) for name in _FOLDERS}
            counts = {"backgrounds": backgrounds + 1, "foregrounds": foregrounds, "depth": backgrounds}
            is_used = any(there.values())
            if is_used and any(len(there[name]) != counts[name] for name in _FOLDERS):
                raise _in_use(directory, there)
            folder = FolderSync(staging)
            for name in _FOLDERS:
                (staging / name).mkdir()
            with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
                rooms = [pool.submit(write_background, index) for index in range(backgrounds)]
                jobs: list[Future[Any]] = [
                    *rooms,
                    *(pool.submit(write_figure, index) for index in range(foregrounds)),
                ]
                try:
                    for done, job in enumerate(jobs, start=1):
                        job.result()
                        if on_picture is not None:
                            on_picture(done, len(jobs))
                finally:
                    pool.shutdown(cancel_futures=True)
            table = "".join(["file,focal_length\n", *(room.result() for room in rooms)])
            (staging / "backgrounds" / _TABLE).write_text(table, encoding="utf-8")
            if is_used:
                if not all(_are_same(directory / name, staging / name) for name in _FOLDERS):
                    raise _in_use(directory, there)
                return
            folder.sync()
            write_atomically(staging / _FINISHED, asked_for)
            _finish(directory, staging)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise SpecError(
            f"Sample pictures cannot be written to {directory}: {reason} ({exc.filename or directory}). "
            "Give a folder that can be made and written, with room for them.",
            code="samples-not-writable",
        ) from exc


@contextmanager
def _staged(staging: Path, refusal: str) -> Iterator[None]:
    """Makes and locks the folder in which pictures wait until all are there; it is removed at the end, unless
    they are and could not be moved.
    """
    staging.mkdir(exist_ok=True)
    with locked(staging, refusal):
        try:
            yield
        finally:
            if not (staging / _FINISHED).exists():
                shutil.rmtree(staging, ignore_errors=True)


def _finish(directory: Path, staging: Path) -> bytes | None:
    """Moves pictures that are all there to their folders, durably, and removes what is unfinished; what was
    asked for, if they were all there.
    """
    finished = staging / _FINISHED
    asked_for = finished.read_bytes() if finished.exists() else None
    for name in _FOLDERS:
        if asked_for is not None and (staging / name).exists():
            (directory / name).mkdir(exist_ok=True)
            for path in (staging / name).iterdir():
                _move(path, directory / name / path.name)
            FolderSync(directory / name).sync()
        shutil.rmtree(staging / name, ignore_errors=True)
    finished.unlink(missing_ok=True)
    return asked_for


def _move(path: Path, target: Path) -> None:
    """Moves a file, which appears as a whole."""
    try:
        path.replace(target)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        # The folder is a link to another disk.
        with replacing(target) as partial:
            shutil.copyfile(path, partial)
        path.unlink()


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def _are_same(folder: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""
    names = _names_in(folder)
    return names == _names_in(other) and all(
        (folder / name).is_file() and cmp(folder / name, other / name, shallow=False) for name in names
    )


def _in_use(directory: Path, there: Mapping[str, list[str]]) -> SpecError:
    return SpecError(
        f"Sample pictures are not mixed with other files in {directory}. Give an empty folder.",
        [f"{directory / name}: found files, expected none" for name, names in there.items() if names],
        code="samples-folder-in-use",
    )
