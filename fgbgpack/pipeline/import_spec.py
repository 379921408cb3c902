"""What to import, and as what."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from fgbgpack.document import Quantity
from fgbgpack.errors import SpecError
from fgbgpack.import_info import ImportLayout
from fgbgpack.sources.pairing import NONE
from fgbgpack.sources.resizing import Fit
from fgbgpack.spec import LARGEST_ALPHA, LARGEST_MASK_VALUE, Exif, Reading

_LARGEST_SIDE = 8192
_LAYOUTS = ", ".join(get_args(ImportLayout))


@dataclass(frozen=True)
class ImportSpec:
    """What to import, and as what.

    Attributes:
        folder: The folder of all files.
        layout: What it holds: ``"files"`` of pictures, masks and depth, what ``fgbgpack export --to folder``
            wrote (``"folder"``), or a set of annotated pictures, as ``"coco"``, ``"yolo"``, ``"parquet"`` (of
            the Hugging Face Hub) or ``"instance-masks"`` (pictures, each with one whose pixels have the
            numbers of objects); ``None`` for what is recognised.
        images: Where the composites are: a pattern below ``folder`` such as ``"fgbg/{bg}/{n}.jpg"``, or a
            folder; ``None`` for a folder that is recognised by its name. Of tables a column.
        masks: The same of their masks, or of pictures of instances; ``"none"``: not at all, so that ``/mask``
            is 0.
        depths: The same of their depth; ``None``: where there is such a folder (of tables, such a column),
            ``"none"``: not at all.
        mask_value: The number in masks that is the object, 0 to 65535; ``None`` where they are alpha.
        mask_threshold: The least alpha, 1 to 255, that becomes 255, while the rest becomes 0.
        invert_masks: Whether masks are 0 where the object is.
        exif: ``"apply"`` turns files as their EXIF orientation says, ``"ignore"`` does not.
        strict: Whether files are refused whose data is damaged, where decoders pass over that.
        frame: Which frame of animations is the picture, from 0; ``None`` refuses them.
        width: Width of every sample in pixels; ``None``, with ``height``, for that of all files.
        height: Height of every sample in pixels.
        fit: How files of another size get this one: ``"crop"`` or ``"stretch"``.
        depth_quantity: ``"depth"`` or ``"inverse_depth"``; ``None`` where that is not known. Of files that
            fgbgpack exported, the document beside them states this and the next four where they are ``None``.
        depth_unit: The unit of depth once factor and offset are applied; ``None`` for none.
        depth_factor: What values in files are multiplied by, above 0; ``None`` for 1.
        depth_offset: What is then added to them; ``None`` for 0.
        depth_invalid: The value in files that stands for unknown depth; ``None`` for none.
        chunk: Samples that are compressed together, 1 or more; ``None`` to choose by their similarity.
        skip_unmatched: Whether files without partners are left out; otherwise they are an error.

    Raises:
        SpecError: A field is out of range; all problems are named together.
    """

    folder: str
    images: str | None = None
    masks: str | None = None
    depths: str | None = None
    mask_value: int | None = None
    mask_threshold: int | None = None
    invert_masks: bool = False
    exif: Exif = "apply"
    strict: bool = True
    frame: int | None = None
    width: int | None = None
    height: int | None = None
    fit: Fit = "crop"
    depth_quantity: Quantity | None = None
    depth_unit: str | None = None
    depth_factor: float | None = None
    depth_offset: float | None = None
    depth_invalid: float | None = None
    chunk: int | None = None
    skip_unmatched: bool = False
    layout: ImportLayout | None = None

    def __post_init__(self) -> None:
        def is_number(value: float | None) -> bool:
            return value is None or math.isfinite(value)

        sides, factor, chunk = (self.width, self.height), self.depth_factor, self.chunk
        is_factor = factor is None or (is_number(factor) and factor > 0)
        is_depth_left_out = self.depths == NONE and bool(self.depth_quantity or self.depth_unit)
        is_quantity = self.depth_quantity in (None, *get_args(Quantity))
        option = f"--from {self.layout}"
        names_masks = self.layout in ("coco", "yolo", "folder")
        # The pictures are where data.yaml or metadata.csv says; patterns tell which depth is theirs.
        is_pattern = self.depths is not None and "{" in self.depths
        says_pictures = self.layout in ("yolo", "folder") and self.images is not None and not is_pattern
        checks: tuple[tuple[bool, str, object, str], ...] = (
            ((sides[0] is None) == (sides[1] is None), "size", "one side", "both, or neither"),
            *(
                (side is None or 2 <= side <= _LARGEST_SIDE, "size", side, f"2 to {_LARGEST_SIDE} pixels")
                for side in sides
            ),
            (
                self.mask_value is None or 0 <= self.mask_value <= LARGEST_MASK_VALUE,
                "mask-value",
                self.mask_value,
                f"0 to {LARGEST_MASK_VALUE}",
            ),
            (
                self.mask_threshold is None or 1 <= self.mask_threshold <= LARGEST_ALPHA,
                "mask-threshold",
                self.mask_threshold,
                f"1 to {LARGEST_ALPHA}",
            ),
            (self.exif in get_args(Exif), "exif", repr(self.exif), "apply or ignore"),
            (self.frame is None or self.frame >= 0, "frame", self.frame, "0 or more"),
            (self.fit in get_args(Fit), "fit", repr(self.fit), "crop or stretch"),
            (is_quantity, "depth-quantity", repr(self.depth_quantity), "depth or inverse_depth"),
            (is_factor, "depth-factor", factor, "a number above 0"),
            (is_number(self.depth_offset), "depth-offset", self.depth_offset, "a number"),
            (is_number(self.depth_invalid), "depth-invalid", self.depth_invalid, "a number"),
            (self.layout in (None, *get_args(ImportLayout)), "from", repr(self.layout), _LAYOUTS),
            (
                not says_pictures,
                "images",
                self.images,
                f"nothing with {option} but with a pattern of --depths",
            ),
            (not names_masks or self.masks is None, "masks", self.masks, f"nothing with {option}"),
            (chunk is None or chunk >= 1, "chunk", chunk, "1 or more samples"),
            (self.images != NONE, "images", NONE, "where they are"),
            (not is_depth_left_out, "depths", NONE, "somewhere: the quantity or unit of depth is given"),
        )
        problems = [
            f"--{option}: found {found}, expected {expected}"
            for ok, option, found, expected in checks
            if not ok
        ]
        problems += [f"--{line.replace('_', '-')}" for line in self.reading.problems]
        if problems:
            raise SpecError("These options of an import are not valid:", problems)

    @property
    def reading(self) -> Reading:
        """How pictures and masks are read."""
        return Reading(
            mask_value=self.mask_value,
            mask_threshold=self.mask_threshold,
            invert_masks=self.invert_masks,
            frame=self.frame,
            exif=self.exif,
            strict=self.strict,
        )
