"""True depth of a dataset's backgrounds, read from a folder."""

from __future__ import annotations

from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.composition.recipe import Recipe
from fgbgpack.errors import SourceError
from fgbgpack.sources.resizing import crop_box

_FOLDER = "depth"
_MILLIMETRES = 1000


def read_true_depth(
    recipe: Recipe, backgrounds: NDArray[np.int32], given: str | Path | None
) -> tuple[Path, NDArray[np.float32] | None]:
    """The folder, and true depth of the backgrounds of n samples: (n, h, w) float32 metres, or ``None``.

    The files are 16-bit grayscale PNG in millimetres, 0 where unknown, each with the stem of the background
    whose whole picture it shows. They are cut like the background; each pixel has the value at its centre,
    since the mean across an edge is a depth at which there is nothing. Unknown depth is NaN. ``given`` is the
    folder; ``None`` takes the folder ``depth`` beside that of the backgrounds, if its files have this form.

    Raises:
        SourceError: The given folder has none, or files in it cannot be used.
    """
    folder = Path(recipe.spec.backgrounds).parent / _FOLDER if given is None else Path(given)
    names = [source.name for source in recipe.catalog.backgrounds]
    paths = {int(i): folder / f"{PurePath(names[i]).stem}.png" for i in np.unique(backgrounds)}
    files = {index: path for index, path in paths.items() if path.is_file()}
    if given is not None and not files:
        raise SourceError(
            f"There is no true depth in {folder} for the backgrounds of the chosen samples: expected files "
            f"named like the backgrounds, such as {PurePath(names[0]).stem}.png.",
            code="true-depth-missing",
        )
    size = (recipe.height, recipe.width)
    maps: dict[int, NDArray[np.float32]] = {}
    problems = []
    for index, path in files.items():
        try:
            maps[index] = _read(path, size, recipe.spec.fit)
        except (OSError, ValueError, SyntaxError) as exc:  # Pillow raises any of them on damaged files
            problems.append(f"{path}: {exc}; expected a 16-bit grayscale PNG in millimetres")
    if problems and given is not None:
        raise SourceError("These files of true depth cannot be used:", problems, code="true-depth-unusable")
    if problems or not maps:
        return folder, None
    unknown = np.full(size, np.nan, np.float32)
    return folder, np.stack([maps.get(int(index), unknown) for index in backgrounds])


def _read(path: Path, size: tuple[int, int], fit: str) -> NDArray[np.float32]:
    """(h, w) metres, cut like a background."""
    with Image.open(path) as picture:
        if not picture.mode.startswith("I;16"):
            raise ValueError(f"found a picture of mode {picture.mode}")
        millimetres = np.asarray(picture)
    full = (millimetres.shape[1], millimetres.shape[0])
    left, top, right, bottom = crop_box(full, *size) if fit == "crop" else (0.0, 0.0, *full)
    rows = top + (np.arange(size[0]) + 0.5) * ((bottom - top) / size[0])
    columns = left + (np.arange(size[1]) + 0.5) * ((right - left) / size[1])
    nearest = millimetres[np.ix_(rows.astype(np.intp), columns.astype(np.intp))]
    return np.where(nearest == 0, np.nan, nearest / np.float32(_MILLIMETRES)).astype(np.float32)
