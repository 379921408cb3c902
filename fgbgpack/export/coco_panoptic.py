"""PNG files, maps of segments, and JSON with what each segment is, for COCO panoptic segmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fgbgpack.document import INSTANCE, MASK
from fgbgpack.export.coco import ANNOTATIONS, FIRST_CATEGORY, CocoTarget
from fgbgpack.export.naming import distinct_names
from fgbgpack.export.objects import MASK_ABOVE, categories_of, category_names, measures_in, measures_of
from fgbgpack.export.png import png
from fgbgpack.export.target import Run

_BACKGROUND = "background"
#: The segment of all pixels without an object; those of objects are their numbers, 1 to 255.
_BACKGROUND_ID = 256
_BACKGROUND_COLOUR = [0, 1, 0]
#: The colour in which tools draw the first category, and how each next one differs.
_COLOUR, _STEPS = (220, 20, 60), (67, 101, 151)


class CocoPanopticTarget(CocoTarget):
    """``images/<part>/<sample>.png``, ``annotations/panoptic_<part>.json``, maps of segments
    ``annotations/panoptic_<part>/<sample>.png``, and with depth ``depth/<part>/<sample>.png``.

    A segment is an object of which a pixel is seen, or the background, which is a category of "stuff". Its
    number in the map is red + 256 green + 65536 blue.
    """

    OPTIONS: ClassVar = frozenset({"category", "depth_bits"})
    _KIND: ClassVar = "panoptic"

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes the pictures and maps of a run together, and the JSON in order."""
        super().write(folder)
        return {"mask_above": MASK_ABOVE}

    def how_to_open(self, out: str, details: Mapping[str, Any]) -> list[str]:
        """With NumPy and panopticapi."""
        path = Path(out) / ANNOTATIONS / self._json_name(self._job.parts[0].slug)
        return [
            "import json, numpy, PIL.Image",
            "from panopticapi.utils import rgb2id",
            f"path = {str(path)!r}",
            'segments = json.load(open(path))["annotations"][0]',
            'picture = PIL.Image.open(path.removesuffix(".json") + "/" + segments["file_name"])',
            "ids = rgb2id(numpy.asarray(picture))",
        ]

    def _categories(self) -> list[dict[str, Any]]:
        things = [
            {**one, "isthing": 1, "color": _colour(number)}
            for number, one in enumerate(super()._categories())
        ]
        # Things may be called so, too.
        (name,) = distinct_names([_BACKGROUND], taken=[one["name"] for one in things])
        stuff = {
            "id": FIRST_CATEGORY + len(things),
            "name": name,
            "supercategory": name,
            "isthing": 0,
            "color": _BACKGROUND_COLOUR,
        }
        return [*things, stuff]

    def _maps(self, folder: Path, slug: str) -> Path:
        return folder / ANNOTATIONS / self._json_name(slug).removesuffix(".json")

    def _prepare(self, folder: Path, slug: str) -> None:
        self._maps(folder, slug).mkdir()

    def _annotations(self, folder: Path, slug: str, run: Run) -> Iterator[dict[str, Any]]:
        """Writes the maps; one annotation for each."""
        numbers = run.arrays[INSTANCE] if INSTANCE in run.arrays else run.arrays[MASK] > MASK_ABOVE
        backgrounds = measures_in(numbers == 0)
        stuff = FIRST_CATEGORY + len(category_names(self._job))
        categories = categories_of(self._job, run)
        for i, measures in enumerate(measures_of(self._job, run)):
            sample = int(run.samples[i])
            name = f"{self._job.ids.key(sample)}.png"
            (self._maps(folder, slug) / name).write_bytes(png(_ids_as_colours(numbers[i])))
            segments = [
                {"id": number, "category_id": FIRST_CATEGORY + categories[i][number - 1], **one}
                for number, one in enumerate(measures, start=1)
                if one["area"]
            ]
            if backgrounds[i]["area"]:
                segments.append({"id": _BACKGROUND_ID, "category_id": stuff, **backgrounds[i]})
            yield {"image_id": sample, "file_name": name, "segments_info": segments}


def _ids_as_colours(numbers: NDArray[Any]) -> NDArray[np.uint8]:
    """(h, w) numbers of objects, 0 to 255, as (h, w, 3) colours of their segments."""
    colours = np.zeros((*numbers.shape, 3), np.uint8)
    colours[..., 0] = numbers
    colours[..., 1] = numbers == 0
    return colours


def _colour(number: int) -> list[int]:
    return [(first + step * number) % 256 for first, step in zip(_COLOUR, _STEPS, strict=True)]
