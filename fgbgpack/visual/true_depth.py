"""True depth of a dataset's backgrounds, read from a folder."""

from __future__ import annotations

from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.recipe import Recipe
from fgbgpack.errors import SourceError
from fgbgpack.sources.background_depth import MetricValues, read_metres
from fgbgpack.sources.resizing import Frame

_FOLDER = "depth"


def read_true_depth(
    recipe: Recipe, backgrounds: NDArray[np.int32], given: str | Path | None
) -> tuple[Path, NDArray[np.float32] | None]:
    """The folder, and true depth of the backgrounds of n samples: (n, h, w) float32 metres, or ``None``.

    The files are 16-bit grayscale PNG in millimetres, 0 where unknown, each with the stem of the background
    whose whole picture it shows. They are cut and resized as :func:`read_metres` does. Unknown depth is NaN.
    ``given`` is the folder; ``None`` takes the folder ``depth`` beside that of the backgrounds, if its files
    have this form.

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
    frame = Frame(recipe.height, recipe.width, recipe.spec.fit)
    maps: dict[int, NDArray[np.float32]] = {}
    problems: list[str] = []
    for index, path in files.items():
        try:
            maps[index] = read_metres(path, frame, MetricValues(), most_unknown=1)
        except SourceError as exc:
            problems += exc.problems
    if problems and given is not None:
        raise SourceError("These files of true depth cannot be used:", problems, code="true-depth-unusable")
    if problems or not maps:
        return folder, None
    unknown = np.full((recipe.height, recipe.width), np.nan, np.float32)
    return folder, np.stack([maps.get(int(index), unknown) for index in backgrounds])
